//! One suite of frames, over every transport.

use std::time::Duration;

use bytes::Bytes;
use sync_transport::{Address, ConnectionOptions, Error, Framing};
use tokio::time::timeout;

use crate::link::{Transport, frame};

/// Long enough that running into it is a failure, even on a busy machine.
const NEVER: Duration = Duration::from_secs(60);
/// What is under way arrives within it, though a busy machine may give nobody a turn for a while; it is waited for in full.
const IDLE: Duration = Duration::from_millis(500);

macro_rules! over_every_transport {
    ($($test:ident),+ $(,)?) => {
        over_every_transport!(@transport tcp, Tcp, $($test),+);
        over_every_transport!(@transport tls13, Tls13, $($test),+);
        over_every_transport!(@transport tls12, Tls12, $($test),+);
        over_every_transport!(@transport unix, Unix, $($test),+);
        over_every_transport!(@transport unix_tls, UnixTls, $($test),+);
        #[cfg(feature = "quic")]
        over_every_transport!(@transport quic, Quic, $($test),+);
    };
    (@transport $module:ident, $transport:ident, $($test:ident),+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(super::Transport::$transport).await;
                }
            )+
        }
    };
}

over_every_transport!(
    frames_are_echoed,
    large_frames_arrive_whole,
    many_frames_go_in_one_send,
    a_frame_above_the_bound_is_refused_before_its_body,
    a_frame_cut_short_is_told_from_a_clean_end,
    silence_runs_into_the_idle_timeout,
    restarting_recv_does_not_restart_the_idle_timeout,
    without_an_idle_timeout_silence_is_waited_out,
    a_peer_that_does_not_read_runs_into_the_write_timeout,
    a_clean_close_ends_the_stream,
    one_direction_stays_open_when_the_other_is_closed,
    a_peer_that_vanishes_is_told_from_a_clean_close_where_that_can_be_told,
    sending_to_a_peer_that_is_gone_fails,
    a_dropped_recv_loses_nothing,
    an_interrupted_send_is_the_last,
    the_peer_is_described,
);

fn options() -> ConnectionOptions {
    ConnectionOptions { idle_timeout: Some(NEVER), write_timeout: NEVER, ..ConnectionOptions::default() }
}

/// `length` bytes that differ from frame to frame and from place to place.
fn body(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((seed * 31 + at * 7 + at / 251) % 256).unwrap()).collect()
}

async fn frames_are_echoed(transport: Transport) {
    let pair = transport.pair(options()).await;
    let (here, there) = (pair.dialing.counters(), pair.accepting.counters());
    let echo = tokio::spawn(async move {
        let (mut sender, mut receiver) = pair.accepting.split();
        while let Some(body) = receiver.recv().await.unwrap() {
            sender.send(&[frame(body)]).await.unwrap();
        }
        sender.close().await.unwrap();
    });
    let (mut sender, mut receiver) = pair.dialing.split();
    let lengths: Vec<usize> = (0..300).map(|at| at * at % 5000).collect();
    let bytes: u64 = lengths.iter().map(|&length| 4 + length as u64).sum();
    let expected = lengths.clone();
    let receiving = tokio::spawn(async move {
        for (seed, &length) in expected.iter().enumerate() {
            assert_eq!(receiver.recv().await.unwrap().unwrap(), body(seed, length));
        }
        assert!(receiver.recv().await.unwrap().is_none());
    });
    for (seed, &length) in lengths.iter().enumerate() {
        sender.send(&[frame(body(seed, length))]).await.unwrap();
    }
    sender.close().await.unwrap();
    receiving.await.unwrap();
    echo.await.unwrap();
    for counters in [here, there] {
        assert_eq!(counters.frames_in(), lengths.len() as u64);
        assert_eq!(counters.frames_out(), lengths.len() as u64);
        assert_eq!(counters.bytes_in(), bytes);
        assert_eq!(counters.bytes_out(), bytes);
    }
}

async fn large_frames_arrive_whole(transport: Transport) {
    const FRAMES: usize = 8;
    let pair = transport.pair(options()).await;
    let (mut sender, _receiver) = pair.dialing.split();
    let sending = tokio::spawn(async move {
        for seed in 0..FRAMES / 2 {
            let frames = [frame(body(seed, 1 << 20)), frame(body(seed + FRAMES / 2, (1 << 20) - 1))];
            sender.send(&frames).await.unwrap();
        }
        sender.close().await.unwrap();
    });
    let (_sender, mut receiver) = pair.accepting.split();
    for seed in 0..FRAMES / 2 {
        assert!(receiver.recv().await.unwrap().unwrap() == body(seed, 1 << 20), "frame {seed} differs");
        let seed = seed + FRAMES / 2;
        assert!(receiver.recv().await.unwrap().unwrap() == body(seed, (1 << 20) - 1), "frame {seed} differs");
    }
    assert!(receiver.recv().await.unwrap().is_none());
    sending.await.unwrap();
}

async fn many_frames_go_in_one_send(transport: Transport) {
    const FRAMES: usize = 10_000;
    let pair = transport.pair(options()).await;
    let (mut sender, _receiver) = pair.dialing.split();
    let sending = tokio::spawn(async move {
        // Empty pieces in between: what is sent is bytes, however they are cut.
        let frames: Vec<Bytes> =
            (0..FRAMES).flat_map(|seed| [frame(body(seed, seed % 90)), Bytes::new()]).collect();
        sender.send(&frames).await.unwrap();
        sender.send(&[]).await.unwrap();
        sender
    });
    let (_sender, mut receiver) = pair.accepting.split();
    for seed in 0..FRAMES {
        assert_eq!(receiver.recv().await.unwrap().unwrap(), body(seed, seed % 90));
    }
    drop(sending.await.unwrap());
}

async fn a_frame_above_the_bound_is_refused_before_its_body(transport: Transport) {
    let framing = Framing { max_frame: 1000, ..Framing::default() };
    let pair = transport.pair(ConnectionOptions { framing, ..options() }).await;
    let (mut sender, _receiver) = pair.dialing.split();
    sender.send(&[frame(body(1, 1000)), Bytes::copy_from_slice(&1001u32.to_be_bytes())]).await.unwrap();
    let (_sender, mut receiver) = pair.accepting.split();
    assert_eq!(receiver.recv().await.unwrap().unwrap().len(), 1000);
    let error = receiver.recv().await.unwrap_err();
    assert!(matches!(error, Error::FrameTooLarge { length: 1001, max_frame: 1000, .. }), "{error}");
}

async fn a_frame_cut_short_is_told_from_a_clean_end(transport: Transport) {
    let pair = transport.pair(options()).await;
    let (mut sender, _receiver) = pair.dialing.split();
    sender.send(&[frame("whole"), frame("cut short").slice(..7)]).await.unwrap();
    sender.close().await.unwrap();
    let (_sender, mut receiver) = pair.accepting.split();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "whole");
    for _ in 0..2 {
        let error = receiver.recv().await.unwrap_err();
        assert!(matches!(error, Error::FrameTruncated { received: 7, .. }), "{error}");
    }
}

async fn silence_runs_into_the_idle_timeout(transport: Transport) {
    let pair = transport.pair(ConnectionOptions { idle_timeout: Some(IDLE), ..options() }).await;
    let (mut sender, _receiver) = pair.dialing.split();
    let (_sender, mut receiver) = pair.accepting.split();
    // Half a frame is silence too.
    sender.send(&[frame("whole"), frame("half").slice(..3)]).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "whole");
    let error = receiver.recv().await.unwrap_err();
    assert!(matches!(error, Error::IdleTimeout { after, .. } if after == IDLE), "{error}");
}

async fn restarting_recv_does_not_restart_the_idle_timeout(transport: Transport) {
    let pair = transport.pair(ConnectionOptions { idle_timeout: Some(IDLE), ..options() }).await;
    let (_sender, mut receiver) = pair.accepting.split();
    let restarting = async {
        loop {
            // Shorter than the idle time-out: each recv alone would wait for ever.
            if let Ok(result) = timeout(IDLE / 10, receiver.recv()).await {
                return result;
            }
        }
    };
    let error = timeout(NEVER, restarting).await.expect("the idle time-out never came").unwrap_err();
    assert!(matches!(error, Error::IdleTimeout { .. }), "{error}");
}

async fn without_an_idle_timeout_silence_is_waited_out(transport: Transport) {
    let pair = transport.pair(ConnectionOptions { idle_timeout: None, ..options() }).await;
    let (mut sender, _receiver) = pair.dialing.split();
    let (_sender, mut receiver) = pair.accepting.split();
    assert!(timeout(Duration::from_millis(50), receiver.recv()).await.is_err(), "gave up");
    sender.send(&[frame("late")]).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "late");
}

async fn a_peer_that_does_not_read_runs_into_the_write_timeout(transport: Transport) {
    let after = Duration::from_millis(100);
    let pair = transport.pair(ConnectionOptions { write_timeout: after, ..options() }).await;
    let (mut sender, _receiver) = pair.dialing.split();
    let block = frame(vec![0; 1 << 20]);
    let fill = async {
        loop {
            if let Err(error) = sender.send(std::slice::from_ref(&block)).await {
                return error;
            }
        }
    };
    let error = timeout(NEVER, fill).await.expect("the write time-out never came");
    assert!(matches!(error, Error::WriteTimeout { after: waited, .. } if waited == after), "{error}");
    let error = sender.send(&[frame("more")]).await.unwrap_err();
    assert!(matches!(error, Error::SendInterrupted { .. }), "{error}");
}

async fn a_clean_close_ends_the_stream(transport: Transport) {
    let pair = transport.pair(options()).await;
    let (mut sender, _receiver) = pair.dialing.split();
    sender.send(&[frame("last")]).await.unwrap();
    sender.close().await.unwrap();
    let (_sender, mut receiver) = pair.accepting.split();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "last");
    assert!(receiver.recv().await.unwrap().is_none());
    assert!(receiver.recv().await.unwrap().is_none(), "the end stays the end");
}

async fn one_direction_stays_open_when_the_other_is_closed(transport: Transport) {
    let pair = transport.pair(options()).await;
    let (sender, mut receiver) = pair.dialing.split();
    sender.close().await.unwrap();
    let (mut back, mut there) = pair.accepting.split();
    assert!(there.recv().await.unwrap().is_none());
    for seed in 0..100 {
        back.send(&[frame(body(seed, 1000))]).await.unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), body(seed, 1000));
    }
    back.close().await.unwrap();
    assert!(receiver.recv().await.unwrap().is_none());
}

async fn a_peer_that_vanishes_is_told_from_a_clean_close_where_that_can_be_told(transport: Transport) {
    let pair = transport.pair(options()).await;
    drop(pair.dialing);
    let (_sender, mut receiver) = pair.accepting.split();
    match receiver.recv().await {
        #[cfg(feature = "quic")]
        Err(Error::Reset { .. }) if matches!(transport, Transport::Quic) => {}
        Err(Error::TlsTruncated { .. }) if transport.is_tls() => {}
        Ok(None) if !transport.is_tls() => {}
        other => panic!("{other:?}"),
    }
}

async fn sending_to_a_peer_that_is_gone_fails(transport: Transport) {
    let pair = transport.pair(options()).await;
    drop(pair.dialing);
    let (mut sender, _receiver) = pair.accepting.split();
    let send = async {
        loop {
            if let Err(error) = sender.send(&[frame("anybody?")]).await {
                return error;
            }
        }
    };
    let error = timeout(NEVER, send).await.expect("sent for ever");
    assert!(matches!(error, Error::Reset { .. }), "{error}");
}

async fn a_dropped_recv_loses_nothing(transport: Transport) {
    let pair = transport.pair(options()).await;
    let (mut sender, _receiver) = pair.dialing.split();
    let stream: Vec<u8> = (0..50).flat_map(|seed| frame(body(seed, seed * 40))).collect();
    let sending = tokio::spawn(async move {
        for piece in stream.chunks(333) {
            sender.send(&[Bytes::copy_from_slice(piece)]).await.unwrap();
            tokio::task::yield_now().await;
        }
        sender.close().await.unwrap();
    });
    let (_sender, mut receiver) = pair.accepting.split();
    let mut frames = Vec::new();
    loop {
        tokio::select! {
            biased;
            frame = receiver.recv() => match frame.unwrap() {
                Some(frame) => frames.push(frame),
                None => break,
            },
            // Ready at once: drops the recv at every point where it waits.
            () = tokio::task::yield_now() => {}
        }
    }
    sending.await.unwrap();
    assert_eq!(frames.len(), 50);
    for (seed, frame) in frames.iter().enumerate() {
        assert_eq!(*frame, body(seed, seed * 40));
    }
}

async fn an_interrupted_send_is_the_last(transport: Transport) {
    let pair = transport.pair(options()).await;
    let (mut sender, _receiver) = pair.dialing.split();
    let block = frame(vec![0; 1 << 20]);
    // Nobody reads, so at some point a send has to wait, and is dropped there.
    while timeout(Duration::from_millis(50), sender.send(std::slice::from_ref(&block))).await.is_ok() {}
    let error = sender.send(&[frame("more")]).await.unwrap_err();
    assert!(matches!(error, Error::SendInterrupted { .. }), "{error}");
}

async fn the_peer_is_described(transport: Transport) {
    let pair = transport.pair(options()).await;
    for end in [&pair.dialing, &pair.accepting] {
        let peer = end.peer();
        match (transport, &peer.address) {
            (Transport::Unix | Transport::UnixTls, Address::Unix(path)) => assert!(path.ends_with("socket")),
            #[cfg(feature = "quic")]
            (Transport::Quic, Address::Quic(address)) => assert!(address.ip().is_loopback()),
            (_, Address::Tcp(address)) => assert!(address.ip().is_loopback()),
            other => panic!("{other:?}"),
        }
        assert_eq!(peer.tls.is_some(), transport.is_tls());
        let names: &[&str] = if transport.is_tls() { &["127.0.0.1", "localhost"] } else { &[] };
        assert_eq!(peer.names, names);
    }
}
