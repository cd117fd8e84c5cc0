//! Which limit is in force for a descriptor: domains, and in each a tree of keys and values.
//!
//! A descriptor's entries are followed from the root. At each level the rule for the very value counts, else the first wildcard of the file that fits, else the rule for the
//! key alone; the limit is that of the rule at which the last entry ends. This is how Envoy's reference service reads the same files.

mod reader;

pub use reader::RulesError;

use super::schema::{Entry, RateLimitDescriptor, Unit, unit};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use sync_store::Rate;

/// The rules of all domains, read from files; an empty set limits nobody.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    domains: HashMap<String, Level>,
}

/// The rules at one level of the tree.
#[derive(Debug, Clone, Default)]
struct Level {
    keys: HashMap<String, Values>,
}

/// The rules for one key.
#[derive(Debug, Clone, Default)]
struct Values {
    exact: HashMap<String, Rule>,
    /// By what a value begins with, in the order of the file.
    wildcards: Vec<(String, Rule)>,
    any: Option<Rule>,
}

#[derive(Debug, Clone, Default)]
struct Rule {
    limit: Option<Limit>,
    /// Whether all values that a wildcard fits count together.
    is_shared: bool,
    level: Level,
}

/// What a rule admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) measure: Measure,
    pub(super) name: String,
    /// Names of limits that do not count where this one does.
    pub(super) replaces: HashSet<String>,
    /// Whether it counts and refuses nobody.
    pub(super) is_shadow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Everything passes and nothing is counted.
    Unlimited,
    /// So many requests in a unit. `rate` is `None` for 0, which admits nothing.
    Counted { requests: u32, unit: Unit, rate: Option<Rate> },
}

impl Measure {
    pub(super) fn counted(requests: u32, unit: Unit) -> Result<Self, sync_store::Error> {
        let rate = match requests {
            0 => None,
            requests => Some(Rate::per_seconds(requests.into(), seconds(unit))?),
        };
        Ok(Self::Counted { requests, unit, rate })
    }
}

/// Of a unit; a month has 30 days and a year 365.
pub(super) const fn seconds(unit: Unit) -> u64 {
    const DAY: u64 = 86_400;
    match unit {
        Unit::Unknown | Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 3_600,
        Unit::Day => DAY,
        Unit::Week => 7 * DAY,
        Unit::Month => 30 * DAY,
        Unit::Year => 365 * DAY,
    }
}

/// A limit that is in force for a descriptor, and the key under which it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found<'r> {
    pub(super) limit: Cow<'r, Limit>,
    pub(super) key: Vec<u8>,
}

impl Rules {
    /// The limit of a descriptor; `None`: no rule matches.
    ///
    /// # Errors
    ///
    /// What is wrong with the limit that the descriptor brings along.
    pub(super) fn find(
        &self,
        domain: &str,
        descriptor: &RateLimitDescriptor,
    ) -> Result<Option<Found<'_>>, String> {
        let Some(root) = self.domains.get(domain) else { return Ok(None) };
        let mut key = Vec::new();
        part(&mut key, domain);
        if let Some(own) = &descriptor.limit {
            for entry in &descriptor.entries {
                part(&mut key, &entry.key);
                part(&mut key, &entry.value);
            }
            let unit = unit(own.unit()).ok_or("a descriptor brings along a limit without a unit")?;
            let measure = Measure::counted(own.requests_per_unit, unit)
                .map_err(|error| format!("a descriptor brings along a limit that cannot be: {error}"))?;
            let limit = Limit { measure, name: String::new(), replaces: HashSet::new(), is_shadow: false };
            return Ok(Some(Found { limit: Cow::Owned(limit), key }));
        }
        let mut level = root;
        let mut last = None;
        for entry in &descriptor.entries {
            let Some((rule, pattern)) = level.rule(&entry.key, &entry.value) else { return Ok(None) };
            part(&mut key, &entry.key);
            match pattern {
                Some(pattern) if rule.is_shared => part(&mut key, &format!("{pattern}*")),
                _ => part(&mut key, &entry.value),
            }
            level = &rule.level;
            last = Some(rule);
        }
        Ok(last.and_then(|rule| rule.limit.as_ref()).map(|limit| Found { limit: Cow::Borrowed(limit), key }))
    }

    /// The limit of a bucket of the quota service, whose entries have no order: of the orders that lead to a limit, the first by the alphabet counts. It is the limit of
    /// the descriptor in that order, with its key.
    pub(super) fn find_unordered(
        &self,
        domain: &str,
        bucket: &BTreeMap<String, String>,
    ) -> Option<Found<'_>> {
        let mut left = bucket.iter().collect();
        let mut ordered = Vec::new();
        if !self.domains.get(domain)?.order(&mut left, &mut ordered) {
            return None;
        }
        let entry = |(key, value): (&String, &String)| Entry { key: key.clone(), value: value.clone() };
        let entries = ordered.into_iter().map(entry).collect();
        // Only a limit that a descriptor brings along can be wrong.
        self.find(domain, &RateLimitDescriptor { entries, ..RateLimitDescriptor::default() }).ok()?
    }
}

impl Level {
    /// The rule for an entry, with the wildcard that fits if it is one's.
    fn rule(&self, key: &str, value: &str) -> Option<(&Rule, Option<&str>)> {
        let values = self.keys.get(key)?;
        if let Some(rule) = values.exact.get(value) {
            return Some((rule, None));
        }
        if let Some((prefix, rule)) = values.wildcards.iter().find(|(prefix, _)| value.starts_with(prefix)) {
            return Some((rule, Some(prefix)));
        }
        values.any.as_ref().map(|rule| (rule, None))
    }

    /// Moves entries from `left` to the end of `ordered`, in an order that leads from here to a limit. Answers whether there is one; if not, both are as they were.
    fn order<'e>(
        &self,
        left: &mut Vec<(&'e String, &'e String)>,
        ordered: &mut Vec<(&'e String, &'e String)>,
    ) -> bool {
        for at in 0..left.len() {
            let (key, value) = left[at];
            let Some((rule, _)) = self.rule(key, value) else { continue };
            ordered.push(left.remove(at));
            if if left.is_empty() { rule.limit.is_some() } else { rule.level.order(left, ordered) } {
                return true;
            }
            ordered.pop();
            left.insert(at, (key, value));
        }
        false
    }
}

/// Appends a text with its length, so that no two sequences of texts make one key.
fn part(key: &mut Vec<u8>, text: &str) {
    key.extend_from_slice(&(text.len() as u64).to_le_bytes());
    key.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;
