//! What the benchmarks share; they live in `benches/`.

/// Bytes of a zone that each record of a 16-byte key and a 32-byte value is given.
const BYTES_PER_RECORD: u64 = 192;

/// Bytes of a zone that each session of 32 bytes and its server of 20 are given.
const BYTES_PER_SESSION: u64 = 192;

/// What a record of a larger value has beside it: its key, its header, and what rounding up to whole blocks takes.
const BYTES_BESIDE_VALUE: u64 = 96;

/// Bytes of a limit zone for each key. An entry has 64; a limit drops keys that it has no place for, so nobody runs one full.
const BYTES_PER_LIMIT: u64 = 128;

/// What a zone sets aside whatever it holds.
const BYTES_FIXED: u64 = 4 << 20;

/// The size of a zone for so many records with values of so many bytes. The index, which is sized for small records, adds a
/// quarter to larger ones.
pub const fn zone_size(records: u32, value_len: usize) -> u64 {
    let larger = (value_len as u64 + BYTES_BESIDE_VALUE) * 5 / 4;
    BYTES_FIXED + records as u64 * if value_len <= 32 { BYTES_PER_RECORD } else { larger }
}

/// The size of a zone for so many sessions.
pub const fn session_zone_size(sessions: u32) -> u64 {
    BYTES_FIXED + sessions as u64 * BYTES_PER_SESSION
}

/// The size of a zone for so many limits.
pub const fn limit_zone_size(keys: u32) -> u64 {
    BYTES_FIXED + keys as u64 * BYTES_PER_LIMIT
}

/// The 16 bytes of a key. Made from its index, because keys looked up in a table would put the table's cache misses into the
/// figures.
pub fn key(index: u32) -> [u8; 16] {
    let mut key = *b"key-000000000000";
    key[4..8].copy_from_slice(&index.to_be_bytes());
    key
}

/// The 32 bytes of a session, like the hexadecimal digest that a proxy puts into a cookie.
pub fn session(index: u32) -> [u8; 32] {
    let mut session = *b"session-000000000000000000000000";
    session[8..12].copy_from_slice(&index.to_be_bytes());
    session
}

/// The 20 bytes of a session's server.
pub const SERVER: &[u8; 20] = b"192.168.100.100:8080";
