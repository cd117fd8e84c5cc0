//! What the benchmarks share; they live in `benches/` and `src/bin/`.

use std::net::Ipv4Addr;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Where nodes of the cluster harness find each other on a way that loses packets.
pub const WAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// An authority of the moment, and the certificate of a node of the loopback, or of that way, that it has signed, PEM.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub authority: String,
    /// The node's certificate, for both directions.
    pub node: String,
    /// The node's key.
    pub key: String,
}

impl Certificates {
    /// # Panics
    /// If the system has no randomness.
    #[expect(clippy::new_without_default, reason = "every one is another")]
    pub fn new() -> Self {
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than the node's, or OpenSSL takes the node's certificate for one that signs itself.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        let authority = authority.self_signed(&authority_key).expect("a certificate").pem();
        let issuer = Issuer::from_ca_cert_pem(&authority, authority_key).expect("an issuer");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), WAY.to_string()]).expect("a name");
        let node = params.signed_by(&key, &issuer).expect("a certificate").pem();
        Self { authority, node, key: key.serialize_pem() }
    }
}

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
/// figures; and as one number, because whoever reads a word of which a part was just written waits for the other part, which keys of real requests do to nobody.
pub fn key(index: u32) -> [u8; 16] {
    const KEY: u128 = u128::from_le_bytes(*b"key-\x00\x00\x00\x0000000000");
    (KEY | u128::from(index.to_be()) << 32).to_le_bytes()
}

/// The 32 bytes of a session, like the hexadecimal digest that a proxy puts into a cookie; made as a key is.
pub fn session(index: u32) -> [u8; 32] {
    const SESSION: [u128; 2] =
        [u128::from_le_bytes(*b"session-\x00\x00\x00\x000000"), u128::from_le_bytes([b'0'; 16])];
    let first = SESSION[0] | u128::from(index.to_be()) << 64;
    let mut session = [0; 32];
    session[..16].copy_from_slice(&first.to_le_bytes());
    session[16..].copy_from_slice(&SESSION[1].to_le_bytes());
    session
}

/// The 20 bytes of a session's server.
pub const SERVER: &[u8; 20] = b"192.168.100.100:8080";
