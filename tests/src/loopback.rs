//! Loopback addresses that belong to one test alone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Whoever holds this UDP port of an address has claimed the address. Below the ephemeral range, used by nothing else.
const CLAIM_PORT: u16 = 1988;

/// An address of 127.0.0.0/8 that no other test holds while this value lives.
///
/// Binding port 0 and closing it again would leave a race; here the operating system keeps the claim, across processes,
/// and releases it even when the test is killed.
#[derive(Debug)]
pub struct Loopback {
    ip: Ipv4Addr,
    _claim: UdpSocket,
}

impl Loopback {
    /// Claims a free address, starting from one that depends on the process id so that parallel processes rarely meet.
    ///
    /// # Panics
    /// If no address is free.
    pub fn claim() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // 127.1.0.0 ..= 127.254.255.255, spread by an odd multiplier; 127.0.0.x is left to people.
        const SPAN: u32 = 254 << 16;
        let start = std::process::id().wrapping_mul(0x9E37_79B1) % SPAN;
        for _ in 0..SPAN {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let ip = Ipv4Addr::from(0x7F01_0000 + (start.wrapping_add(step)) % SPAN);
            let last = ip.octets()[3];
            if last == 0 || last == 255 {
                continue;
            }
            if let Ok(claim) = UdpSocket::bind((ip, CLAIM_PORT)) {
                return Self { ip, _claim: claim };
            }
        }
        panic!("no free address in 127.0.0.0/8");
    }

    /// Claims 127.0.0.1, which is in documents.
    ///
    /// # Errors
    /// If another test has it.
    pub fn claim_of_people() -> Result<Self, String> {
        let ip = Ipv4Addr::LOCALHOST;
        let claim = UdpSocket::bind((ip, CLAIM_PORT)).map_err(|e| format!("{ip}:{CLAIM_PORT}: {e}"))?;
        Ok(Self { ip, _claim: claim })
    }

    /// The address.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// The address with a port.
    pub fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.ip), port)
    }
}
