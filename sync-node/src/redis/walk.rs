//! Commands that go through a whole zone, which is not for a thread that serves others: `SCAN` and `FLUSHDB`.

use super::Inner;
use super::databases::Database;
use super::keys::{NOT_AN_INTEGER, Refusal, SYNTAX, integer};
use super::pattern;
use super::reply::{Protocol, Replies};
use super::request::Request;
use sync_store::Time;

/// Keys that a part of a scan has if the client does not say.
const COUNT: u64 = 10;
/// Keys that it has at the most.
const COUNT_MAX: u64 = 10_000;
/// Bytes after which a part ends, however many keys it has.
const PART_MAX: usize = 1 << 20;
/// A cursor is the number of a zone in its lowest bits, and above it the place in that zone. Places are far below 2⁵⁶; the file allows no more zones.
const ZONE_BITS: u32 = 8;

/// Prefixes whose zones are told apart by a cursor, beside the usual zone of the database.
pub(super) const PREFIXES_MAX: usize = (1 << ZONE_BITS) - 1;

/// What to do, with the number of the database.
#[derive(Debug)]
pub(super) enum Walk {
    Scan(usize, Scan),
    Flush(usize),
}

/// A part of the keys of a database.
#[derive(Debug)]
pub(super) struct Scan {
    cursor: u64,
    pattern: Option<Vec<u8>>,
    count: u64,
    /// Of another type than all keys have.
    is_other_type: bool,
}

impl Scan {
    /// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`.
    pub(super) fn read(request: Request<'_>) -> Result<Self, Refusal> {
        let cursor = std::str::from_utf8(request.get(1)).ok().and_then(|text| text.parse().ok());
        let cursor = cursor.ok_or(Refusal::Plain("ERR invalid cursor"))?;
        let mut scan = Self { cursor, pattern: None, count: COUNT, is_other_type: false };
        let mut words = request.from(2);
        while let Some(word) = words.next() {
            let value = words.next().ok_or(SYNTAX)?;
            match word.to_ascii_uppercase().as_slice() {
                b"MATCH" => scan.pattern = Some(value.to_owned()),
                b"COUNT" => match u64::try_from(integer(value)?) {
                    Ok(0) => return Err(SYNTAX),
                    Ok(count) => scan.count = count.min(COUNT_MAX),
                    Err(_) => return Err(NOT_AN_INTEGER),
                },
                b"TYPE" => scan.is_other_type = !value.eq_ignore_ascii_case(b"string"),
                _ => return Err(SYNTAX),
            }
        }
        Ok(scan)
    }

    /// The next keys, as many as were asked for are looked at, and the cursor to go on with; 0 at the end.
    fn run(&self, database: &Database, now: Time) -> (u64, Vec<u8>, usize) {
        let (mut keys, mut found, mut looked_at) = (Replies::default(), 0, 0);
        let first = (self.cursor & ((1 << ZONE_BITS) - 1)) as usize;
        let mut place = self.cursor >> ZONE_BITS;
        for (number, zone) in database.zones().iter().enumerate().skip(first) {
            for (behind, key, _) in zone.keyval.iter_from(now, place) {
                let matches = self.pattern.as_ref().is_none_or(|pattern| pattern::matches(pattern, &key));
                // Of what others have put into a zone, this database shows what it would find there.
                if matches && !self.is_other_type && database.place(&key) == Some(number) {
                    keys.bulk(&key);
                    found += 1;
                }
                looked_at += 1;
                if looked_at >= self.count || keys.len() >= PART_MAX {
                    return (behind << ZONE_BITS | number as u64, keys.bytes().to_vec(), found);
                }
            }
            place = 0;
        }
        (0, keys.bytes().to_vec(), found)
    }
}

impl Walk {
    /// Does it.
    pub(super) fn run(&self, redis: &Inner, protocol: Protocol) -> Replies {
        let mut replies = Replies::new(protocol);
        let now = redis.door.node().now();
        match self {
            Self::Scan(number, scan) => {
                let (cursor, keys, found) = scan.run(redis.databases.get(*number), now);
                replies.array(2);
                replies.bulk(cursor.to_string().as_bytes());
                replies.array(found);
                replies.raw(&keys);
            }
            Self::Flush(number) => match redis.door.begin_change() {
                None => replies.error(super::STOPPING),
                Some(_changing) => {
                    let zones = redis.databases.get(*number).zones().iter();
                    match zones.map(|zone| zone.keyval.clear(now)).find_map(Result::err) {
                        None => replies.ok(),
                        Some(error) => replies.error(Refusal::from(error)),
                    }
                }
            },
        }
        replies
    }
}
