//! The three lines by which an HAProxy says who it is and whom it takes us for, and the line that answers them.

use super::wire::Fault;
use bytes::BytesMut;

/// The longest hello that is taken: two names, as long as names of hosts can be, and numbers.
const HELLO_MAX: usize = 1024;
const LINES: usize = 3;
/// A name ends at a space in the hello, and becomes part of keys.
const NAME_MAX: usize = 255;

/// What a hello is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Success = 200,
    TryAgain = 300,
    Malformed = 501,
    WrongVersion = 502,
    WrongName = 503,
    NotAllowed = 504,
}

impl Status {
    pub(super) fn line(self) -> String {
        format!("{}\n", self as u16)
    }
}

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    /// The name that the peer takes us to have.
    pub(super) to: String,
    /// Its own.
    pub(super) from: String,
    /// Whether it understands updates with the time that an entry has left: from version 2.1 on.
    pub(super) is_timed: bool,
}

impl Hello {
    /// Takes the hello from what was read; `None` if it is not whole yet.
    pub(super) fn take(input: &mut BytesMut) -> Result<Option<Self>, Status> {
        let ends = input.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        match ends.take(HELLO_MAX).nth(LINES - 1) {
            Some(end) if end < HELLO_MAX => Self::parse(&input.split_to(end + 1)).map(Some),
            None if input.len() < HELLO_MAX => Ok(None),
            _ => Err(Status::Malformed),
        }
    }

    fn parse(lines: &[u8]) -> Result<Self, Status> {
        let text = std::str::from_utf8(lines).map_err(|_| Status::Malformed)?;
        let mut lines = text.lines();
        let mut line = || lines.next().ok_or(Status::Malformed);
        let version = line()?.strip_prefix("HAProxyS ").ok_or(Status::Malformed)?;
        let is_timed = match version {
            "2.1" => true,
            "2.0" => false,
            _ => return Err(Status::WrongVersion),
        };
        let to = line()?.to_owned();
        let from = line()?.split_once(' ').ok_or(Status::Malformed)?.0.to_owned();
        if from.is_empty() || from.len() > NAME_MAX || from.contains(char::is_control) {
            return Err(Status::Malformed);
        }
        Ok(Self { to, from, is_timed })
    }
}

/// Why a peer is turned away, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    /// Its hello.
    #[error("its hello was answered with {}", *.0 as u16)]
    Refused(Status),
    /// It takes us for another.
    #[error(
        "it takes this node for the peer {0:?}; give the node that name, or the peer of the HAProxy's configuration the name of the node"
    )]
    Misnamed(String),
    /// What it sent later.
    #[error("{0}")]
    Fault(#[from] Fault),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(text: &str) -> Result<Option<Hello>, Status> {
        Hello::take(&mut BytesMut::from(text))
    }

    #[test]
    fn a_hello_says_who_is_there() {
        let hello = take("HAProxyS 2.1\nedge-1\nlb-1 4711 1\n").expect("good").expect("whole");
        assert_eq!(hello, Hello { to: "edge-1".to_owned(), from: "lb-1".to_owned(), is_timed: true });
        assert!(!take("HAProxyS 2.0\na\nb 1 1\n").expect("good").expect("whole").is_timed);
        assert_eq!(take("HAProxyS 2.1\nedge-1\nlb-1 4711 1"), Ok(None));
    }

    #[test]
    fn what_is_no_hello_is_answered_as_by_haproxy() {
        for (text, status) in [
            ("HAProxyS 3.0\na\nb 1 1\n", Status::WrongVersion),
            ("HAProxyS 2.2\na\nb 1 1\n", Status::WrongVersion),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", Status::Malformed),
            ("HAProxyS 2.1\na\nb\n", Status::Malformed),
            ("HAProxyS 2.1\na\n 1 1\n", Status::Malformed),
            (&"x".repeat(HELLO_MAX), Status::Malformed),
            (&format!("HAProxyS 2.1\na\n{} 1 1\n", "n".repeat(256)), Status::Malformed),
        ] {
            assert_eq!(take(text), Err(status), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes: Vec<u8>, tail in "HAProxyS 2.1\n.{0,9}\n.{0,9} .{0,9}\n") {
            let _ = Hello::take(&mut BytesMut::from(&bytes[..]));
            let mut input = BytesMut::from(tail.as_bytes());
            input.extend_from_slice(&bytes);
            if let Ok(Some(hello)) = Hello::take(&mut input) {
                prop_assert!(!hello.from.contains(' '));
            }
        }
    }
}
