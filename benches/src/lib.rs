//! What the benchmarks share; they live in `benches/`.

/// Bytes of a zone that go with a block of so many at half load of the index: two slots with their dots and bits, a bit for each 32 bytes.
const fn beside_block(block: u64) -> u64 {
    34 + block.div_ceil(256)
}

/// Words of a record before its key: two, and in a sticky zone the last access.
const HEADER: u64 = 16;

/// Bytes of a session's block: a header, a last access, 32 bytes and a server of 20.
const SESSION_BLOCK: u64 = 96;

/// Bytes of a limit zone for each key. An entry has 64; four fifths full, it keeps all but one key in five hundred.
const BYTES_PER_LIMIT: u64 = 80;

/// What a zone sets aside whatever it holds.
const BYTES_FIXED: u64 = 256 << 10;

/// The rated size of a zone for so many records of `record_size` bytes of key and value, which the zone has to be told as well.
pub const fn zone_size(records: u32, record_size: usize) -> u64 {
    // Key and value are padded one by one: a word more than their sum, at most.
    let block = (HEADER + record_size.next_multiple_of(8) as u64).next_multiple_of(32);
    BYTES_FIXED + records as u64 * (block + beside_block(block))
}

/// The rated size of a zone for so many sessions.
pub const fn session_zone_size(sessions: u32) -> u64 {
    BYTES_FIXED + sessions as u64 * (SESSION_BLOCK + beside_block(SESSION_BLOCK))
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
