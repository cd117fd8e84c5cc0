//! What a table has for a key, as it travels: each datum of its definition in turn, servers abbreviated.

use super::definition::{DATA_TYPES, Field, Form};
use super::wire::{Reader, put_counted, put_integer};
use std::collections::HashMap;

/// Servers that are abbreviated at a time, in each direction: HAProxy's bound.
const SERVERS_MAX: usize = 128;

/// A datum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Datum {
    Number(u64),
    Rate(Rate),
    Server(Option<Vec<u8>>),
}

/// A rate as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rate {
    /// How long ago the present period began, ms.
    pub(super) age_ms: u64,
    /// What was counted in it.
    pub(super) current: u64,
    /// What was counted in the one before.
    pub(super) previous: u64,
}

/// Servers that the peer has told under a number, which it may repeat alone.
#[derive(Debug)]
pub(super) struct Told(Vec<Option<Vec<u8>>>);

impl Default for Told {
    fn default() -> Self {
        Self(vec![None; SERVERS_MAX])
    }
}

impl Told {
    fn read(&mut self, body: &mut Reader<'_>) -> Option<Option<Vec<u8>>> {
        let mut body = Reader(body.counted()?);
        if body.is_empty() {
            return Some(None);
        }
        let number = usize::try_from(body.integer()?).ok()?.checked_sub(1)?;
        let place = self.0.get_mut(number)?;
        if !body.is_empty() {
            *place = Some(body.counted()?.to_vec());
        }
        Some(place.clone())
    }
}

/// Servers that we have told the peer under a number; the oldest number is used again.
#[derive(Debug, Default)]
pub(super) struct Telling {
    numbers: HashMap<Vec<u8>, usize>,
    servers: Vec<Vec<u8>>,
    oldest: usize,
}

impl Telling {
    fn write(&mut self, output: &mut Vec<u8>, server: &[u8]) {
        if let Some(number) = self.numbers.get(server) {
            put_integer(output, 1);
            return put_integer(output, *number as u64 + 1);
        }
        let number = if self.servers.len() < SERVERS_MAX {
            self.servers.push(server.to_owned());
            self.servers.len() - 1
        } else {
            let number = self.oldest;
            self.oldest = (number + 1) % SERVERS_MAX;
            let before = std::mem::replace(&mut self.servers[number], server.to_owned());
            self.numbers.remove(&before);
            number
        };
        self.numbers.insert(server.to_owned(), number);
        let mut body = Vec::with_capacity(server.len() + 4);
        put_integer(&mut body, number as u64 + 1);
        put_counted(&mut body, server);
        put_counted(output, &body);
    }
}

/// Reads the data of an entry. `None`: it ends early, or names a server that was not told.
pub(super) fn read(fields: &[Field], told: &mut Told, body: &mut Reader<'_>) -> Option<Vec<Vec<Datum>>> {
    let datum = |form, body: &mut Reader<'_>, told: &mut Told| {
        Some(match form {
            Form::Number | Form::Total(_) => Datum::Number(body.integer()?),
            Form::Rate => Datum::Rate(Rate {
                age_ms: body.integer()?,
                current: body.integer()?,
                previous: body.integer()?,
            }),
            Form::Server => Datum::Server(told.read(body)?),
        })
    };
    fields.iter().map(|field| (0..field.count).map(|_| datum(field.form(), body, told)).collect()).collect()
}

/// Writes the data of an entry, which are in the order of its fields.
pub(super) fn write(output: &mut Vec<u8>, telling: &mut Telling, data: impl Iterator<Item = Datum>) {
    for datum in data {
        match datum {
            Datum::Number(number) => put_integer(output, number),
            Datum::Rate(Rate { age_ms, current, previous }) => {
                [age_ms, current, previous].into_iter().for_each(|part| put_integer(output, part));
            }
            Datum::Server(None) => put_integer(output, 0),
            Datum::Server(Some(server)) => telling.write(output, &server),
        }
    }
}

/// Where among the fields of a table stands which server an entry belongs to: its name, else its number.
pub(super) fn server_position(fields: &[Field]) -> Option<usize> {
    let named = |name: &str| fields.iter().position(|field| DATA_TYPES[field.number].name == name);
    named("server_key").or_else(|| named("server_id"))
}

#[cfg(test)]
mod tests;
