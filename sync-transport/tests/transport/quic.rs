//! What only QUIC does: lanes, a peer whose address changes, a peer that is started again, and what is refused for being no QUIC or no TLS.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sync_transport::{
    Address, ConnectOptions, ConnectionOptions, Connector, Error, FrameReceiver, FrameSender, ListenOptions,
    Listener, TlsConfig, TlsOptions, TlsVersion,
};
use tokio::time::timeout;

use crate::certificates::Authority;
use crate::link::{Transport, any_quic_port, frame, meet};

/// Long enough that running into it is a failure, even on a busy machine.
const NEVER: Duration = Duration::from_secs(60);

fn options() -> ConnectionOptions {
    ConnectionOptions { idle_timeout: Some(NEVER), write_timeout: NEVER, ..ConnectionOptions::default() }
}

/// A frame that says which of a lane's it is.
fn numbered(lane: u32, number: u32, length: usize) -> bytes::Bytes {
    let mut body = [lane.to_be_bytes(), number.to_be_bytes()].concat();
    body.resize(length.max(8), b'x');
    frame(body)
}

fn read_numbers(body: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
    (number(0), number(4))
}

/// Sends `count` frames on each lane as fast as it takes them.
async fn fill(sender: &mut FrameSender, lanes: &[(u32, u32, usize)]) {
    let mut sent = vec![0; lanes.len()];
    loop {
        for (sent, &(lane, count, length)) in sent.iter_mut().zip(lanes) {
            while *sent < count && sender.has_room(lane) {
                let until = count.min(*sent + 4);
                let frames: Vec<_> = (*sent..until).map(|number| numbered(lane, number, length)).collect();
                sender.push(lane, &frames);
                *sent = until;
            }
        }
        if sent.iter().zip(lanes).all(|(sent, (_, count, _))| sent == count) {
            return;
        }
        sender.room().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lane_keeps_its_order_whatever_the_others_carry() {
    let pair = Transport::Quic.pair(options()).await;
    let (mut sender, _receiver) = pair.dialing.split();
    let (_sender, mut receiver) = pair.accepting.split();
    // Much on some, little on others, frames larger than a window, and more lanes than data for each.
    let mut lanes = vec![(0, 40, 1 << 20), (1, 4_000, 16 << 10), (2, 50_000, 90), (3, 1, 8)];
    lanes.extend((4..40).map(|lane| (lane, lane, 1_000)));
    receiver.open_lanes(lanes.len() as u32);
    assert!(sender.has_lanes());
    let expected = lanes.clone();
    let sending = tokio::spawn(async move {
        fill(&mut sender, &lanes).await;
        sender.close().await.unwrap();
    });
    let mut next = vec![0; expected.len()];
    while let Some(body) = receiver.recv().await.unwrap() {
        let (lane, number) = read_numbers(&body);
        assert_eq!(number, next[lane as usize], "lane {lane}");
        assert_eq!(body.len(), expected[lane as usize].2.max(8));
        next[lane as usize] += 1;
    }
    assert_eq!(next, expected.iter().map(|(_, count, _)| *count).collect::<Vec<_>>());
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_is_not_opened_waits_and_holds_nothing_else_up() {
    let pair = Transport::Quic.pair(options()).await;
    let (mut sender, _receiver) = pair.dialing.split();
    let (_sender, mut receiver) = pair.accepting.split();
    sender.push(7, &[numbered(7, 0, 8)]);
    assert!(timeout(Duration::from_millis(50), sender.room()).await.is_err(), "nobody has opened the lane");
    assert!(!sender.has_room(7) && sender.has_room(8));
    sender.send(&[frame("control")]).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "control");
    receiver.open_lanes(1);
    timeout(NEVER, sender.room()).await.expect("the lane is open").unwrap();
    assert_eq!(read_numbers(&receiver.recv().await.unwrap().unwrap()), (7, 0));
}

#[tokio::test]
async fn a_lane_that_is_never_opened_runs_into_the_write_timeout() {
    let after = Duration::from_millis(100);
    let pair = Transport::Quic.pair(ConnectionOptions { write_timeout: after, ..options() }).await;
    let (mut sender, _receiver) = pair.dialing.split();
    sender.push(0, &[numbered(0, 0, 8)]);
    let error = timeout(NEVER, sender.room()).await.expect("never").unwrap_err();
    assert!(matches!(error, Error::WriteTimeout { after: waited, .. } if waited == after), "{error}");
}

#[tokio::test]
async fn a_lane_that_waits_while_another_moves_is_not_a_silent_peer() {
    const FRAMES: u32 = 150;
    // Time for a machine that stands still for a while: nothing moves then.
    let after = Duration::from_secs(3);
    let pair = Transport::Quic.pair(ConnectionOptions { write_timeout: after, ..options() }).await;
    let (mut sender, _receiver) = pair.dialing.split();
    let (_sender, mut receiver) = pair.accepting.split();
    receiver.open_lanes(1);
    let sending = tokio::spawn(async move {
        // Only one of them is opened. It moves for longer than the time-out, and then no more.
        sender.push(0, &[numbered(0, 0, 8)]);
        sender.room().await.unwrap();
        sender.push(1, &[numbered(1, 0, 8)]);
        for number in 1..FRAMES {
            sender.push(0, &[numbered(0, number, 128 << 10)]);
            while !sender.has_room(0) {
                sender.room().await.unwrap();
            }
        }
        sender.room().await.unwrap_err()
    });
    for number in 0..FRAMES {
        assert_eq!(read_numbers(&receiver.recv().await.unwrap().unwrap()), (0, number));
        tokio::time::sleep(after / 100).await;
    }
    let error = timeout(NEVER, sending).await.expect("never").unwrap();
    assert!(matches!(error, Error::WriteTimeout { after: waited, .. } if waited == after), "{error}");
}

#[tokio::test]
async fn a_frame_of_a_lane_that_is_cut_short_or_too_long_is_told() {
    for (bytes, is_long) in
        [(frame("cut short").slice(..7), false), (bytes::Bytes::from_static(&[255; 4]), true)]
    {
        let pair = Transport::Quic.pair(options()).await;
        let (mut sender, _receiver) = pair.dialing.split();
        let (_sender, mut receiver) = pair.accepting.split();
        receiver.open_lanes(1);
        sender.push(0, &[frame("whole"), bytes]);
        sender.room().await.unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "whole");
        let closing = tokio::spawn(sender.close());
        let error = receiver.recv().await.unwrap_err();
        match is_long {
            true => assert!(matches!(error, Error::FrameTooLarge { .. }), "{error}"),
            false => assert!(matches!(error, Error::FrameTruncated { received: 7, .. }), "{error}"),
        }
        closing.abort();
    }
}

/// Passes datagrams on between one client and a server, from a port that [changes](Self::rebind) as that of an address translation that was restarted.
struct Translation {
    address: SocketAddr,
    rebind: Arc<AtomicBool>,
}

impl Translation {
    fn start(to: SocketAddr) -> Self {
        const TURN: Duration = Duration::from_millis(1);
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = near.local_addr().unwrap();
        let rebind = Arc::new(AtomicBool::new(false));
        let wanted = Arc::clone(&rebind);
        near.set_read_timeout(Some(TURN)).unwrap();
        // Ends when the test has dropped its handle.
        std::thread::spawn(move || {
            let outside = || {
                let far = UdpSocket::bind("127.0.0.1:0").unwrap();
                far.set_read_timeout(Some(TURN)).unwrap();
                far
            };
            let (mut far, mut client, mut buffer) = (outside(), None, [0; 65536]);
            while Arc::strong_count(&wanted) > 1 {
                if wanted.swap(false, Ordering::Relaxed) {
                    far = outside();
                }
                // The probe for a refusal comes from another socket; it is no packet.
                if let Ok((length, from)) = near.recv_from(&mut buffer)
                    && length > 1
                {
                    client = Some(from);
                    far.send_to(&buffer[..length], to).unwrap();
                }
                if let (Ok(length), Some(client)) = (far.recv(&mut buffer), client) {
                    near.send_to(&buffer[..length], client).unwrap();
                }
            }
        });
        Self { address, rebind }
    }

    fn rebind(&self) {
        self.rebind.store(true, Ordering::Relaxed);
    }
}

async fn ping(
    dialing: (&mut FrameSender, &mut FrameReceiver),
    accepting: (&mut FrameSender, &mut FrameReceiver),
    text: &'static str,
) {
    dialing.0.send(&[frame(text)]).await.unwrap();
    assert_eq!(timeout(NEVER, accepting.1.recv()).await.unwrap().unwrap().unwrap(), text);
    accepting.0.send(&[frame(text)]).await.unwrap();
    assert_eq!(timeout(NEVER, dialing.1.recv()).await.unwrap().unwrap().unwrap(), text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_outlives_a_change_of_the_peers_address() {
    let tls = Transport::Quic.tls();
    let listen = ListenOptions { tls: tls.clone(), connection: options(), ..ListenOptions::default() };
    let listener = Listener::bind(&any_quic_port(), listen).await.unwrap();
    let Address::Quic(to) = *listener.address() else { panic!("not QUIC") };
    let translation = Translation::start(to);
    let connector =
        Connector::new(ConnectOptions { tls, connection: options(), ..ConnectOptions::default() });
    let target = Address::Quic(translation.address).into();
    let (dialed, accepted) =
        tokio::join!(connector.connect(&target), async { listener.accept().await?.handshake().await });
    let ((mut a, mut b), (mut c, mut d)) = (dialed.unwrap().split(), accepted.unwrap().split());
    ping((&mut a, &mut b), (&mut c, &mut d), "before").await;
    for _ in 0..3 {
        translation.rebind();
        ping((&mut a, &mut b), (&mut c, &mut d), "after").await;
    }
}

#[test]
fn whoever_was_killed_and_starts_again_resets_old_connections() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (killed, living) = (runtime(), runtime());
    let authority = Authority::new("test");
    let node = authority.node(&["127.0.0.1"]).options(&authority);
    // Each start reads the files anew.
    let load = || Some(TlsConfig::load(&node).unwrap());
    let listen = || ListenOptions { tls: load(), connection: options(), ..ListenOptions::default() };
    let listener = killed.block_on(Listener::bind(&any_quic_port(), listen())).unwrap();
    let address = listener.address().clone();
    let accepting = killed.spawn(async move {
        let accepted = listener.accept().await.unwrap().handshake().await.unwrap();
        (listener, accepted)
    });
    let connector =
        Connector::new(ConnectOptions { tls: load(), connection: options(), ..ConnectOptions::default() });
    let dialed = living.block_on(connector.connect(&address.clone().into())).unwrap();
    let accepted = living.block_on(accepting).unwrap();
    // Nothing runs any more when the ends are dropped: nobody is told.
    killed.shutdown_timeout(NEVER);
    drop(accepted);
    living.block_on(async {
        let _again = Listener::bind(&address, listen()).await.unwrap();
        let (mut sender, mut receiver) = dialed.split();
        sender.send(&[frame(vec![0; 1_000])]).await.unwrap();
        let error = timeout(NEVER, receiver.recv()).await.expect("it is told").unwrap_err();
        assert!(matches!(error, Error::Reset { .. }) && error.to_string().contains("reset"), "{error}");
    });
}

#[tokio::test]
async fn quic_is_never_without_tls_1_3() {
    let plain = Listener::bind(&any_quic_port(), ListenOptions::default()).await.unwrap_err();
    assert!(matches!(plain, Error::NoQuic { .. }) && plain.to_string().contains("certificates"), "{plain}");
    let authority = Authority::new("test");
    let old = TlsOptions {
        protocols: vec![TlsVersion::Tls12],
        ..authority.node(&["127.0.0.1"]).options(&authority)
    };
    let tls = Some(TlsConfig::load(&old).unwrap());
    let options = ListenOptions { tls: tls.clone(), ..ListenOptions::default() };
    let error = Listener::bind(&any_quic_port(), options).await.unwrap_err();
    assert!(error.to_string().contains("TLSv1.3"), "{error}");
    let connector = Connector::new(ConnectOptions { tls, ..ConnectOptions::default() });
    let error =
        connector.connect(&"quic://127.0.0.1:9".parse::<Address>().unwrap().into()).await.unwrap_err();
    assert!(error.to_string().contains("TLSv1.3"), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_told_at_once() {
    // Bound, so that nobody else gets the port; and connected elsewhere, so that it takes nothing from us.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect("127.0.0.1:9").unwrap();
    let closed = socket.local_addr().unwrap();
    let connector = Connector::new(ConnectOptions {
        tls: Transport::Quic.tls(),
        connect_timeout: NEVER,
        ..ConnectOptions::default()
    });
    let error = connector.connect(&Address::Quic(closed).into()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(error.to_string().contains("nothing listens there"), "{error}");
}

#[tokio::test]
async fn limits_of_connections_hold_and_garbage_costs_nobody_anything() {
    let tls = Transport::Quic.tls();
    let options =
        ListenOptions { tls: tls.clone(), max_connections_per_address: 2, ..ListenOptions::default() };
    let listener = Listener::bind(&any_quic_port(), options).await.unwrap();
    let Address::Quic(to) = *listener.address() else { panic!("not QUIC") };
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 20, 1_200] {
        for byte in [0, 0x40, 0xc0, 0xff] {
            stranger.send_to(&vec![byte; length], to).unwrap();
        }
    }
    let connector = Connector::new(ConnectOptions { tls, ..ConnectOptions::default() });
    let (first, first_accepted) = meet(&connector, &listener).await;
    let (second, second_accepted) = meet(&connector, &listener).await;
    let (third, refused) = meet(&connector, &listener).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::TooManyFromAddress { limit: 2, .. }), "{error}");
    assert!(matches!(third, Err(Error::HandshakeClosed { .. })), "{third:?}");
    drop((first.unwrap(), first_accepted.unwrap()));
    let (fourth, accepted) = meet(&connector, &listener).await;
    drop((fourth.unwrap(), accepted.unwrap(), second.unwrap(), second_accepted.unwrap()));
}

#[tokio::test]
async fn a_silent_peer_is_given_up_and_a_newer_one_takes_its_place() {
    let tls = Transport::Quic.tls();
    let after = Duration::from_millis(200);
    let options = ListenOptions { tls: tls.clone(), handshake_timeout: after, ..ListenOptions::default() };
    let listener = Listener::bind(&any_quic_port(), options).await.unwrap();
    let Address::Quic(to) = *listener.address() else { panic!("not QUIC") };
    // A way on which nothing comes back after the address was validated: the handshake has begun, and does not end.
    let mute = Mute::start(to);
    let connector =
        Connector::new(ConnectOptions { tls, connect_timeout: NEVER, ..ConnectOptions::default() });
    let target = Address::Quic(mute.0).into();
    let dialing = tokio::spawn(async move { connector.connect(&target).await });
    let error = listener.accept().await.unwrap().handshake().await.unwrap_err();
    assert!(matches!(error, Error::HandshakeTimeout { after: waited, .. } if waited == after), "{error}");
    dialing.abort();
}

/// Passes on what the client sends, and of the server's answers only the first, a Retry.
struct Mute(SocketAddr);

impl Mute {
    fn start(to: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = near.local_addr().unwrap();
        near.set_read_timeout(Some(NEVER)).unwrap();
        std::thread::spawn(move || {
            let far = UdpSocket::bind("127.0.0.1:0").unwrap();
            far.set_read_timeout(Some(NEVER)).unwrap();
            let (mut buffer, mut answered) = ([0; 65536], false);
            while let Ok((length, client)) = near.recv_from(&mut buffer) {
                if length > 1 {
                    far.send_to(&buffer[..length], to).unwrap();
                    if !answered && let Ok(length) = far.recv(&mut buffer) {
                        near.send_to(&buffer[..length], client).unwrap();
                        answered = true;
                    }
                }
            }
        });
        Self(address)
    }
}

#[tokio::test]
async fn the_cause_of_a_refusal_is_kept_where_quinn_keeps_only_words() {
    let authority = Authority::new("test");
    let node = authority.node(&["127.0.0.1"]).options(&authority);
    let choosy = TlsOptions { allowed_names: vec!["*.edge.test".parse().unwrap()], ..node.clone() };
    let load = |options: &TlsOptions| Some(TlsConfig::load(options).unwrap());
    let options = ListenOptions { tls: load(&choosy), ..ListenOptions::default() };
    let listener = Listener::bind(&any_quic_port(), options).await.unwrap();
    let connector = Connector::new(ConnectOptions { tls: load(&node), ..ConnectOptions::default() });
    let (dialed, accepted) = meet(&connector, &listener).await;
    let error = accepted.unwrap_err();
    assert_eq!(error.refusal(), Some("name_not_allowed"), "{error}");
    // As with TLS 1.3: who dials learns of it when it reads.
    let (_sender, mut receiver) = dialed.unwrap().split();
    let error = receiver.recv().await.unwrap_err();
    assert!(
        matches!(error, Error::RefusedByPeer { .. }) && error.to_string().contains("allowed_names"),
        "{error}"
    );
}
