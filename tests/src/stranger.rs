//! Whoever dials a node without being one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sync_proto::framing::FrameBuffer;
use sync_proto::wire::refuse::Code;
use sync_proto::{DEFAULT_FRAME_LIMIT, Message, decode};

/// More than a node takes to answer, or to give up on a handshake where the test sets a short time-out.
const LIMIT: Duration = Duration::from_secs(30);

/// A connection that speaks frames, or anything else, with a time-out on every read.
#[derive(Debug)]
pub struct Stranger {
    /// For what is no frame.
    pub socket: TcpStream,
    frames: FrameBuffer,
}

impl Stranger {
    /// Takes a connection that was accepted.
    ///
    /// # Panics
    /// If it is not connected.
    pub fn new(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
        Self { socket, frames: FrameBuffer::new(DEFAULT_FRAME_LIMIT) }
    }

    /// Connects to a node.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn dial(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).expect("the node listens"))
    }

    /// The node may hang up while we still talk.
    pub fn say(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// The next frame; `None` when the node hangs up.
    ///
    /// # Panics
    /// If the node speaks no protocol, or not for long.
    pub fn hear(&mut self) -> Option<Message> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(body) = self.frames.next_frame().expect("nodes speak the protocol") {
                return Some(decode(body).expect("nodes speak the protocol"));
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.frames.push(&buffer[..count]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("waited {LIMIT:?} for the node to answer or hang up: {e}"),
            }
        }
    }

    /// What the node says when it refuses, after whatever it says before; then it hangs up.
    ///
    /// # Panics
    /// If it hangs up without a word.
    pub fn hear_refusal(&mut self) -> (Code, String) {
        loop {
            match self.hear() {
                Some(Message::Refuse(refuse)) => {
                    assert!(self.hear().is_none(), "Refuse is the last frame");
                    return (refuse.code(), refuse.message);
                }
                Some(_) => {}
                None => panic!("the node hung up without saying why"),
            }
        }
    }

    /// The address that the node sees.
    ///
    /// # Panics
    /// If the connection is gone.
    pub fn local(&self) -> String {
        self.socket.local_addr().expect("a connected socket").to_string()
    }
}
