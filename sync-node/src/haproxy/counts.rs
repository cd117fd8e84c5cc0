//! What one HAProxy has counted for a key, and the sum over several.
//!
//! A record of the keyval zone is what one HAProxy has for one key of one table, in words: `gpc0=17 http_req_rate/10000=1700000000000:12:40`. A rate is named with its period
//! and has the moment when the present period began, what was counted in it, and what in the one before, as in HAProxy. A record has one writer, the node that this HAProxy speaks to, so
//! nothing is lost however many count at once.

use super::definition::{DATA_TYPES, Field, Form};
use super::entry::{Datum, Rate};
use std::fmt::Write as _;
use sync_store::Time;

/// Counts of one HAProxy for one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Counts(Vec<(Field, Vec<Count>)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Total(u64),
    Rate(Window),
}

/// A rate, with the moment of which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    began_ms: u64,
    current: u64,
    previous: u64,
}

impl Counts {
    /// Takes what can be added from an entry that came just now.
    pub(super) fn new(fields: &[Field], data: &[Vec<Datum>], now: Time) -> Self {
        let count = |datum: &Datum| match datum {
            Datum::Number(number) => Some(Count::Total(*number)),
            Datum::Rate(Rate { age_ms, current, previous }) => Some(Count::Rate(Window {
                began_ms: now.as_millis().saturating_sub(*age_ms),
                current: *current,
                previous: *previous,
            })),
            Datum::Server(_) => None,
        };
        let summable = fields.iter().zip(data).filter(|(field, _)| field.is_summable());
        Self(summable.map(|(field, data)| (*field, data.iter().filter_map(count).collect())).collect())
    }

    /// As a value of the zone.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for (field, counts) in &self.0 {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(DATA_TYPES[field.number].name);
            // Writing to a string succeeds.
            if field.form() == Form::Rate {
                let _ = write!(text, "/{}", field.period_ms);
            }
            let mut before = '=';
            for count in counts {
                text.push(before);
                before = ',';
                let _ = match count {
                    Count::Total(total) => write!(text, "{total}"),
                    Count::Rate(Window { began_ms, current, previous }) => {
                        write!(text, "{began_ms}:{current}:{previous}")
                    }
                };
            }
        }
        text
    }

    /// Reads a value of the zone. What is not understood is left out: others may write to the zone, or a later version.
    pub(super) fn parse(value: &[u8]) -> Self {
        let words = std::str::from_utf8(value).unwrap_or_default().split(' ');
        Self(words.filter_map(parse_word).collect())
    }

    fn get(&self, field: &Field) -> impl Iterator<Item = &Count> {
        let is_same = |known: &Field| known.number == field.number && known.period_ms == field.period_ms;
        self.0.iter().find(|(known, _)| is_same(known)).into_iter().flat_map(|(_, counts)| counts)
    }
}

fn parse_word(word: &str) -> Option<(Field, Vec<Count>)> {
    let (name, counts) = word.split_once('=')?;
    let (name, period_ms) = match name.split_once('/') {
        Some((name, period_ms)) => (name, period_ms.parse().ok()?),
        None => (name, 0),
    };
    let number = DATA_TYPES.iter().position(|data_type| data_type.name == name)?;
    let count = |text: &str| match DATA_TYPES[number].form {
        Form::Total(_) => text.parse().ok().map(Count::Total),
        Form::Rate => {
            let mut parts = text.splitn(3, ':').map(|part| part.parse().ok());
            let mut part = || parts.next().flatten();
            Some(Count::Rate(Window { began_ms: part()?, current: part()?, previous: part()? }))
        }
        Form::Number | Form::Server => None,
    };
    let counts: Vec<_> = counts.split(',').map(count).collect::<Option<_>>()?;
    Some((Field { number, count: counts.len(), period_ms }, counts))
}

/// The data of an entry with these fields, each the sum of what all have counted.
pub(super) fn sum(fields: &[Field], all: &[Counts], now: Time) -> Vec<Datum> {
    let sum_of = |field: &Field, at: usize| {
        let counts = all.iter().filter_map(|counts| counts.get(field).nth(at));
        match field.form() {
            Form::Rate => {
                let windows = counts.filter_map(|count| match count {
                    Count::Rate(window) => Some(*window),
                    Count::Total(_) => None,
                });
                Datum::Rate(sum_rates(windows, field.period_ms, now))
            }
            Form::Total(most) => {
                let totals = counts.map(|count| match count {
                    Count::Total(total) => *total,
                    Count::Rate(_) => 0,
                });
                Datum::Number(totals.fold(0, u64::saturating_add).min(most))
            }
            Form::Number | Form::Server => Datum::Number(0),
        }
    };
    fields
        .iter()
        .flat_map(|field| (0..field.count).map(move |at| (field, at)))
        .map(|(f, at)| sum_of(f, at))
        .collect()
}

/// The sum of rates whose periods do not begin together: what HAProxy reads from it now is the sum of what it reads from each.
///
/// It has the moment of the one that began first, so that whatever was counted in a present period stays in it, whole. Of the periods before those, HAProxy reads as much as reaches into a period that
/// ends now; where that is more than the moment leaves, the rest counts as present. Of requests that come evenly both parts are right, so that it stays right.
fn sum_rates(windows: impl Iterator<Item = Window>, period_ms: u64, now: Time) -> Rate {
    let rates: Vec<Rate> = windows.filter_map(|window| at(window, period_ms, now)).collect();
    let age_ms = rates.iter().map(|rate| rate.age_ms).max().unwrap_or_default();
    let (mut current, mut previous) = (0.0, 0.0);
    for rate in &rates {
        let rest = (age_ms - rate.age_ms) as f64 / period_ms as f64;
        current += rate.current as f64 + rate.previous as f64 * rest;
        previous += rate.previous as f64;
    }
    // Casts saturate. HAProxy keeps either in 32 bits.
    let whole = |count: f64| u64::from(count.round() as u32);
    Rate { age_ms, current: whole(current), previous: whole(previous) }
}

/// A rate as it is now: a period that is over is the one before, and `None` is what is longer ago than that.
fn at(window: Window, period_ms: u64, now: Time) -> Option<Rate> {
    // The clock of another node may be ahead of ours.
    let age_ms = now.as_millis().saturating_sub(window.began_ms);
    match age_ms.checked_sub(period_ms) {
        None => Some(Rate { age_ms, current: window.current, previous: window.previous }),
        Some(age_ms) if age_ms < period_ms => Some(Rate { age_ms, current: 0, previous: window.current }),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
