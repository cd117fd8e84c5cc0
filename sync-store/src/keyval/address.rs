//! The keys of `ip` zones: address ranges.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::lengths::{V4_KEY, V6_KEY};

/// A range of addresses as a key: the length of the common part in bits, then the address with all other bits cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    bytes: [u8; V6_KEY],
    len: usize,
}

/// An address in text form; an IPv4 address mapped into IPv6 is an IPv4 address.
pub(super) fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

/// Bits of an IPv4 address mapped into IPv6 that are the same for all.
const MAPPED_BITS: u8 = 96;

impl Range {
    /// A range or an address in text form, normalised.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if let Some(address) = parse_address(text) {
            return Some(Self::host(address));
        }
        let net: IpNet = str::from_utf8(text).ok()?.parse().ok()?;
        let bits = net.prefix_len();
        Some(match net.addr() {
            IpAddr::V6(address) if bits >= MAPPED_BITS && address.to_ipv4_mapped().is_some() => {
                Self::host(IpAddr::V6(address).to_canonical()).widened(bits - MAPPED_BITS)
            }
            address => Self::host(address).widened(bits),
        })
    }

    /// Just this address.
    pub(super) fn host(address: IpAddr) -> Self {
        let mut bytes = [0; V6_KEY];
        let len = match address {
            IpAddr::V4(address) => {
                bytes[0] = 32;
                bytes[1..V4_KEY].copy_from_slice(&address.octets());
                V4_KEY
            }
            IpAddr::V6(address) => {
                bytes[0] = 128;
                bytes[1..].copy_from_slice(&address.octets());
                V6_KEY
            }
        };
        Self { bytes, len }
    }

    /// How many bits its addresses have in common.
    pub(super) const fn bits(&self) -> u8 {
        self.bytes[0]
    }

    /// The range of addresses that have the first `bits` bits in common with this one; no more than it has itself.
    pub(super) fn widened(mut self, bits: u8) -> Self {
        for (at, byte) in self.bytes[1..].iter_mut().enumerate() {
            let kept = usize::from(bits).saturating_sub(8 * at).min(8);
            *byte &= !(0xff_u16 >> kept) as u8;
        }
        self.bytes[0] = bits.min(self.bits());
        self
    }

    /// The key.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The range that such a key stands for; `None` if it is not a normalised one.
    pub(super) fn from_bytes(key: &[u8]) -> Option<Self> {
        let address = match key.len() {
            V4_KEY => IpAddr::from(<[u8; 4]>::try_from(&key[1..]).ok()?),
            V6_KEY => IpAddr::from(<[u8; 16]>::try_from(&key[1..]).ok()?),
            _ => return None,
        };
        // A range of IPv4 addresses mapped into IPv6 is one of IPv4 addresses; nobody would look for it here.
        if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) && key[0] >= MAPPED_BITS {
            return None;
        }
        let host = Self::host(address);
        let range = (key[0] <= host.bits()).then(|| host.widened(key[0]))?;
        (range.bytes() == key).then_some(range)
    }

    fn address(&self) -> IpAddr {
        match <[u8; 4]>::try_from(&self.bytes()[1..]) {
            Ok(octets) => IpAddr::from(octets),
            Err(_) => {
                let mut octets = [0; 16];
                octets.copy_from_slice(&self.bytes[1..]);
                IpAddr::V6(Ipv6Addr::from(octets))
            }
        }
    }
}

impl fmt::Display for Range {
    /// The canonical text: an address alone for a range of one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address();
        if self.bits() == Self::host(address).bits() {
            write!(f, "{address}")
        } else {
            write!(f, "{address}/{}", self.bits())
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
