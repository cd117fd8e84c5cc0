//! What the accepting side does about too many and too slow peers.

use std::time::Duration;

use sync_transport::{Address, ConnectOptions, Connector, Error, ListenOptions, Listener, Target};
use tokio::net::{TcpSocket, TcpStream};

use crate::link::{Transport, any_port, meet};

async fn silent_peer(listener: &Listener) -> TcpStream {
    let Address::Tcp(address) = listener.address() else { panic!("not TCP") };
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn peers_above_the_limit_are_refused_until_one_leaves() {
    let options = ListenOptions { max_connections: 2, ..ListenOptions::default() };
    let listener = Listener::bind(&any_port(), options).await.unwrap();
    let connector = Connector::new(ConnectOptions::default());
    let (first, first_accepted) = meet(&connector, &listener).await;
    let (second, second_accepted) = meet(&connector, &listener).await;

    let (third, refused) = meet(&connector, &listener).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::TooManyConnections { limit: 2, .. }), "{error}");
    let (_sender, mut receiver) = third.unwrap().split();
    assert!(receiver.recv().await.unwrap().is_none(), "the refused peer notices");

    // A connection counts until both of its directions are gone.
    let (sender, receiver) = first_accepted.unwrap().split();
    drop(sender);
    let (_fourth, refused) = meet(&connector, &listener).await;
    assert!(matches!(refused, Err(Error::TooManyConnections { .. })), "{refused:?}");
    drop(receiver);
    let (_fifth, accepted) = meet(&connector, &listener).await;
    accepted.unwrap();
    drop((first, second, second_accepted));
}

async fn dial_from(ip: [u8; 4], listener: &Listener) -> TcpStream {
    let Address::Tcp(address) = listener.address() else { panic!("not TCP") };
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((ip, 0).into()).unwrap();
    socket.connect(*address).await.unwrap()
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let options = ListenOptions { max_connections_per_address: 2, ..ListenOptions::default() };
    let listener = Listener::bind(&any_port(), options).await.unwrap();
    let mut open = Vec::new();
    for (last, is_refused) in [(2, false), (2, false), (2, true), (3, false), (2, true)] {
        let dialed = dial_from([127, 0, 0, last], &listener).await;
        match listener.accept().await.unwrap().handshake().await {
            Ok(accepted) => open.push((dialed, accepted)),
            Err(Error::TooManyFromAddress { limit: 2, .. }) => assert!(is_refused, "127.0.0.{last}"),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(open.len(), 3);
    drop(open.remove(0));
    let _dialed = dial_from([127, 0, 0, 2], &listener).await;
    listener.accept().await.unwrap().handshake().await.expect("one has left");
}

#[tokio::test]
async fn addresses_that_are_listened_on_together_share_their_limits() {
    let options =
        ListenOptions { max_connections: 2, max_connections_per_address: 1, ..ListenOptions::default() };
    let listeners = Listener::bind_all(&[any_port(), any_port(), any_port()], options).await.unwrap();
    let mut open = Vec::new();
    for (listener, last, refusal) in [
        (0, 2, None),
        (1, 2, Some("address_limit")),
        (1, 3, None),
        (2, 4, Some("limit")),
        (2, 2, Some("limit")),
    ] {
        let listener = &listeners[listener];
        let dialed = dial_from([127, 0, 0, last], listener).await;
        match listener.accept().await.unwrap().handshake().await {
            Ok(accepted) => {
                assert_eq!(refusal, None, "127.0.0.{last}");
                open.push((dialed, accepted));
            }
            Err(error) => assert_eq!(error.refusal(), refusal, "127.0.0.{last}: {error}"),
        }
    }
    assert_eq!(open.len(), 2);
    drop(open.remove(0));
    let _dialed = dial_from([127, 0, 0, 4], &listeners[0]).await;
    listeners[0].accept().await.unwrap().handshake().await.expect("one has left");
}

#[tokio::test]
async fn a_crowd_from_one_address_gives_up_its_own_handshakes() {
    let tls = Transport::Tls13.tls();
    let options = ListenOptions { tls, max_handshakes: 3, ..ListenOptions::default() };
    let listener = Listener::bind(&any_port(), options).await.unwrap();
    let quiet = dial_from([127, 0, 0, 2], &listener).await;
    let slow = tokio::spawn(listener.accept().await.unwrap().handshake());
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(dial_from([127, 0, 0, 3], &listener).await);
        tokio::spawn(listener.accept().await.unwrap().handshake());
    }
    // Though it is the oldest by far, its place was not taken: it ends as it chooses.
    drop(quiet);
    let error = slow.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::HandshakeClosed { .. }), "{error}");
}

#[tokio::test]
async fn above_the_limit_of_handshakes_the_oldest_gives_way() {
    let tls = Transport::Tls13.tls();
    let options = ListenOptions { tls: tls.clone(), max_handshakes: 2, ..ListenOptions::default() };
    let listener = Listener::bind(&any_port(), options).await.unwrap();
    let mut silent = Vec::new();
    let mut given_up = Vec::new();
    for _ in 0..5 {
        silent.push(silent_peer(&listener).await);
        given_up.push(tokio::spawn(listener.accept().await.unwrap().handshake()));
    }
    // Whoever speaks gets in, however many are silent.
    let connector = Connector::new(ConnectOptions { tls, ..ConnectOptions::default() });
    let (dialed, accepted) = meet(&connector, &listener).await;
    dialed.unwrap();
    accepted.unwrap();

    let last = given_up.pop().unwrap();
    for handshake in given_up {
        let error = handshake.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::TooManyHandshakes { limit: 2, .. }), "{error}");
    }
    drop(silent);
    let error = last.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::HandshakeClosed { .. }), "{error}");
}

#[tokio::test]
async fn a_slow_peer_delays_nobody_and_is_given_up() {
    let tls = Transport::Tls13.tls();
    // The handshake of the other one has to be through within it, too.
    let after = Duration::from_secs(3);
    let options = ListenOptions { tls: tls.clone(), handshake_timeout: after, ..ListenOptions::default() };
    let listener = Listener::bind(&any_port(), options).await.unwrap();
    let silent = silent_peer(&listener).await;
    let slow = tokio::spawn(listener.accept().await.unwrap().handshake());

    let connector = Connector::new(ConnectOptions { tls, ..ConnectOptions::default() });
    let (dialed, accepted) = meet(&connector, &listener).await;
    dialed.unwrap();
    accepted.unwrap();

    let error = slow.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::HandshakeTimeout { after: waited, .. } if waited == after), "{error}");
    drop(silent);
}

#[tokio::test]
async fn a_listener_that_does_not_speak_runs_into_the_connect_timeout() {
    let listener = Listener::bind(&any_port(), ListenOptions::default()).await.unwrap();
    let after = Duration::from_millis(100);
    let tls = Transport::Tls13.tls();
    let connector =
        Connector::new(ConnectOptions { tls, connect_timeout: after, ..ConnectOptions::default() });
    let error = connector.connect(&listener.address().clone().into()).await.unwrap_err();
    assert!(matches!(error, Error::HandshakeTimeout { after: waited, .. } if waited == after), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_called_that() {
    // Bound, so that nobody else gets the port, and not listened on.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let target: Target = Address::Tcp(socket.local_addr().unwrap()).into();
    let error = Connector::new(ConnectOptions::default()).connect(&target).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("connection refused") && text.contains(&target.address.to_string()), "{text}");
}

#[tokio::test]
async fn an_address_in_use_and_limits_of_zero_are_refused() {
    let listener = Listener::bind(&any_port(), ListenOptions::default()).await.unwrap();
    let error = Listener::bind(listener.address(), ListenOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");

    let options = ListenOptions { max_handshakes: 0, ..ListenOptions::default() };
    let error = Listener::bind(&any_port(), options).await.unwrap_err();
    assert!(error.to_string().contains("max_handshakes"), "{error}");
}
