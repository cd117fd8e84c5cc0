//! A TCP proxy on the way from a node to a peer, which can be cut, blocked one way, delayed, and limited in its rate.
//!
//! It stands in for what a kernel may lack (netem) and a user may not do (change links and routes). What it cannot do is lose
//! packets: a blocked way holds what is sent on it, as a network that drops everything looks to a program.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use crate::Elapsed;

/// Bytes read at once.
const PIECE: usize = 16 << 10;
/// Pieces under way in one direction at the most: a delay of 200 ms at 5 MB/s. A sender that is faster has to wait.
const PIECES: usize = 64;
/// Between two looks at whether a blocked way is open again.
const PAUSE: Duration = Duration::from_millis(5);

/// What is wrong with the way. The default: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Connections end, and new ones are closed at once.
    pub cut: bool,
    /// What the dialling side sends does not arrive.
    pub blocked_forth: bool,
    /// What the dialled side sends does not arrive.
    pub blocked_back: bool,
    /// Time from one end to the other, each way.
    pub delay: Duration,
    /// What passes in a second, each way; 0 is no limit.
    pub bytes_per_second: u64,
}

/// A running proxy. Dropping it ends it and its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    way: Arc<Way>,
    acceptor: Option<JoinHandle<()>>,
}

/// What the threads of a proxy share.
#[derive(Debug)]
struct Way {
    to: SocketAddr,
    clock: Elapsed,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fault: Fault,
    stopped: bool,
    /// Both sockets of each connection, by its number.
    open: BTreeMap<u64, [TcpStream; 2]>,
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Forth,
    Back,
}

impl Proxy {
    /// Listens on `address` and passes connections on to `to`.
    ///
    /// # Panics
    /// If the address is taken.
    pub fn start(address: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        let way = Arc::new(Way { to, clock: Elapsed::start(), state: Mutex::default() });
        let acceptor = Some(spawn({
            let way = Arc::clone(&way);
            move || accept(&way, &listener)
        }));
        Self { address, way, acceptor }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the way has this fault and no other.
    pub fn set(&self, fault: Fault) {
        let mut state = self.way.state();
        state.fault = fault;
        if fault.cut {
            state.end_all();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.way.state();
            state.stopped = true;
            state.end_all();
        }
        // Wakes the thread that accepts; if that fails, the thread has ended.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Way {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_all(&self) {
        for socket in self.open.values().flatten() {
            // One that has ended already cannot be ended.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn accept(way: &Arc<Way>, listener: &TcpListener) {
    let mut number = 0;
    for near in listener.incoming() {
        let Fault { cut, .. } = {
            let state = way.state();
            if state.stopped {
                return;
            }
            state.fault
        };
        let Ok(near) = near else { continue };
        if cut {
            continue;
        }
        number += 1;
        let way = Arc::clone(way);
        // Dialling may take long, where the other side does not answer.
        spawn(move || {
            if let Ok(far) = TcpStream::connect(way.to) {
                serve(&way, number, near, far);
            }
        });
    }
}

/// Passes on what both sides send, until both have ended.
fn serve(way: &Arc<Way>, number: u64, near: TcpStream, far: TcpStream) {
    let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else { return };
    for socket in [&near, &far] {
        let _ = socket.set_nodelay(true);
    }
    {
        let mut state = way.state();
        if state.stopped || state.fault.cut {
            return;
        }
        state.open.insert(number, [near_again, far_again]);
    }
    std::thread::scope(|scope| {
        for (direction, from, to) in [(Direction::Forth, &near, &far), (Direction::Back, &far, &near)] {
            let (sender, receiver) = sync_channel(PIECES);
            scope.spawn(move || read(way, from, &sender));
            scope.spawn(move || write(way, direction, to, &receiver));
        }
    });
    way.state().open.remove(&number);
}

fn read(way: &Way, mut from: &TcpStream, pieces: &SyncSender<(Duration, Vec<u8>)>) {
    let mut buffer = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if pieces.send((way.clock.get(), buffer[..count].to_vec())).is_err() {
            break;
        }
    }
}

fn write(way: &Way, direction: Direction, mut to: &TcpStream, pieces: &Receiver<(Duration, Vec<u8>)>) {
    // `None` once the sender has ended: that arrives as late as its bytes.
    while let Some(fault) = pass(way, direction) {
        let Ok((sent_at, piece)) = pieces.recv() else { break };
        sleep((sent_at + fault.delay).saturating_sub(way.clock.get()));
        let Some(fault) = pass(way, direction) else { break };
        if let Some(time) = (piece.len() as u64 * 1_000_000).checked_div(fault.bytes_per_second) {
            sleep(Duration::from_micros(time));
        }
        if to.write_all(&piece).is_err() {
            // The other thread of this direction waits for more that nobody will take.
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Waits while the way is blocked in this direction. `None` if the proxy has stopped or the way is cut.
fn pass(way: &Way, direction: Direction) -> Option<Fault> {
    loop {
        let fault = {
            let state = way.state();
            if state.stopped || state.fault.cut {
                return None;
            }
            state.fault
        };
        let blocked = match direction {
            Direction::Forth => fault.blocked_forth,
            Direction::Back => fault.blocked_back,
        };
        if !blocked {
            return Some(fault);
        }
        sleep(PAUSE);
    }
}
