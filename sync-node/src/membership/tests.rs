use super::*;

const RETRY: Duration = Duration::from_secs(1);
const LEFT: &str = "your address left this node's list of servers";

fn membership() -> Membership {
    Membership::new(Backoff::new(RETRY, RETRY * 8).expect("a back-off"), 7)
}

fn target(port: u16) -> Target {
    format!("127.0.0.1:{port}").parse::<sync_transport::Address>().expect("an address").into()
}

fn origin(raw: u64) -> Origin {
    Origin::from_raw(raw).expect("not zero")
}

/// Dials what is due, and says which links lead to which port.
fn dial(membership: &mut Membership, now: Duration) -> Vec<(LinkId, Target)> {
    let commands = membership.poll(now).into_iter();
    commands
        .filter_map(|c| if let Command::Dial(link, target) = c { Some((link, target)) } else { None })
        .collect()
}

#[test]
fn targets_are_dialled_once_and_again_after_a_failure() {
    let mut m = membership();
    m.handle_targets(Duration::ZERO, &[target(1), target(2)], true);
    let dialled = dial(&mut m, Duration::ZERO);
    assert_eq!(dialled.len(), 2);
    assert_eq!(dial(&mut m, RETRY * 100), [], "both are being dialled");
    assert!(m.handle_connected(dialled[0].0, origin(1), "one"));
    let refused = || Some("connection refused".to_owned());
    assert!(m.handle_disconnected(Duration::ZERO, dialled[1].0, None, refused()));
    let due = m.poll_timeout().expect("a retry");
    assert!(due >= RETRY);
    assert_eq!(dial(&mut m, due - Duration::from_nanos(1)), []);
    let again = dial(&mut m, due);
    assert_eq!(again.len(), 1);
    assert!(!m.handle_disconnected(due, again[0].0, None, refused()), "the same error is no news");
    let views: Vec<_> = m.targets().map(|t| (t.name.to_owned(), t.error.map(str::to_owned))).collect();
    assert_eq!(views, [("one".to_owned(), None), (String::new(), Some("connection refused".to_owned()))]);
}

#[test]
fn a_node_stops_dialling_itself() {
    let mut m = membership();
    m.handle_targets(Duration::ZERO, &[target(1)], true);
    let link = dial(&mut m, Duration::ZERO)[0].0;
    m.handle_disconnected(Duration::ZERO, link, Some(Code::Self_), None);
    assert_eq!(m.poll_timeout(), None);
    assert_eq!(m.targets().count(), 0);
    assert_eq!(m.unjoined(), None);
}

#[test]
fn two_names_of_one_node_make_one_link_and_the_second_takes_over() {
    let mut m = membership();
    m.handle_targets(Duration::ZERO, &[target(1), target(2)], true);
    let dialled = dial(&mut m, Duration::ZERO);
    assert!(m.handle_connected(dialled[0].0, origin(5), "five"));
    assert!(!m.handle_connected(dialled[1].0, origin(5), "five"), "the second link is not wanted");
    m.handle_disconnected(Duration::ZERO, dialled[1].0, None, None);
    assert_eq!(m.nodes_online(), 1);
    assert_eq!(dial(&mut m, RETRY * 100), []);
    m.handle_disconnected(RETRY, dialled[0].0, None, Some("lost".to_owned()));
    assert_eq!(dial(&mut m, RETRY), [(3, target(2))]);
}

#[test]
fn who_leaves_the_list_is_disconnected_both_ways_until_it_is_listed_again() {
    let mut m = membership();
    m.handle_targets(Duration::ZERO, &[target(1)], true);
    let out = dial(&mut m, Duration::ZERO)[0].0;
    assert!(m.handle_connected(out, origin(5), "five"));
    let into = m.link_id();
    assert_eq!(m.handle_accepted(into, origin(5), "five"), Ok(()));
    m.handle_targets(Duration::ZERO, &[], true);
    assert_eq!(m.poll(Duration::ZERO), [Command::Close(out, LEFT), Command::Close(into, LEFT)]);
    m.handle_disconnected(Duration::ZERO, out, None, None);
    m.handle_closed(into);
    assert_eq!(m.handle_accepted(9, origin(5), "five"), Err((Code::Departed, LEFT)));
    assert_eq!(m.nodes_online(), 0);
    m.handle_targets(RETRY, &[target(1)], true);
    let out = dial(&mut m, RETRY)[0].0;
    assert!(m.handle_connected(out, origin(5), "five"));
    assert_eq!(m.handle_accepted(11, origin(5), "five"), Ok(()));
}

#[test]
fn a_newer_link_from_the_same_origin_takes_the_place_of_the_older() {
    let mut m = membership();
    assert_eq!(m.handle_accepted(1, origin(5), "five"), Ok(()));
    assert_eq!(m.handle_accepted(2, origin(5), "five"), Ok(()));
    assert_eq!(m.poll(Duration::ZERO), [Command::Close(1, "a newer link from the same node took its place")]);
    m.handle_closed(1);
    assert_eq!(m.nodes_online(), 1, "closing the older one does not end the newer");
}

#[test]
fn joined_means_every_reachable_peer_has_sent_its_records() {
    let mut m = membership();
    assert!(m.unjoined().is_some(), "nothing is known yet");
    m.handle_targets(Duration::ZERO, &[target(1), target(2)], true);
    assert!(m.unjoined().is_some(), "nobody was dialled yet");
    let dialled = dial(&mut m, Duration::ZERO);
    m.handle_disconnected(Duration::ZERO, dialled[1].0, None, Some("connection refused".to_owned()));
    assert!(m.handle_connected(dialled[0].0, origin(5), "five"));
    assert!(m.unjoined().expect("a reason").contains("has not dialled this node"));
    assert_eq!(m.handle_accepted(9, origin(5), "five"), Ok(()));
    assert!(m.unjoined().expect("a reason").contains("catch-up"));
    m.handle_joined(9);
    assert_eq!(m.unjoined(), None, "whoever cannot be reached is not waited for");
}

#[test]
fn a_catch_up_that_was_interrupted_is_waited_for() {
    let mut m = membership();
    m.handle_targets(Duration::ZERO, &[target(1)], true);
    let link = dial(&mut m, Duration::ZERO)[0].0;
    assert!(m.handle_connected(link, origin(5), "five"));
    m.handle_disconnected(Duration::ZERO, link, None, Some("lost".to_owned()));
    assert!(m.unjoined().expect("a reason").contains("still to be dialled"));
    assert_eq!(m.handle_accepted(9, origin(5), "five"), Ok(()));
    let due = m.poll_timeout().expect("a retry");
    let link = dial(&mut m, due)[0].0;
    m.handle_disconnected(due, link, None, Some("connection refused".to_owned()));
    assert!(m.unjoined().expect("a reason").contains("catch-up"), "it has dialled us all the same");
    m.handle_closed(9);
    assert_eq!(m.unjoined(), None);
}

#[test]
fn who_is_refused_after_each_handshake_is_dialled_less_and_less_often() {
    let mut m = membership();
    m.handle_targets(Duration::ZERO, &[target(1)], true);
    let (mut now, mut waits) = (Duration::ZERO, Vec::new());
    for _ in 0..30 {
        let link = dial(&mut m, now)[0].0;
        assert!(m.handle_connected(link, origin(5), "five"));
        m.handle_disconnected(now, link, Some(Code::Limit), Some("a record is too large".to_owned()));
        let due = m.poll_timeout().expect("a retry");
        waits.push(due - now);
        now = due;
    }
    assert!(waits.iter().any(|wait| *wait > RETRY * 3), "{waits:?}");
}

#[test]
fn a_node_that_stops_neither_dials_nor_accepts() {
    let mut m = membership();
    m.handle_targets(Duration::ZERO, &[target(1)], true);
    m.stop();
    assert_eq!(dial(&mut m, RETRY), []);
    assert_eq!(m.poll_timeout(), None, "or its driver would spin");
    assert_eq!(m.handle_accepted(9, origin(5), "five"), Err((Code::ShuttingDown, "the node is stopping")));
}

#[test]
fn a_node_that_dials_us_is_dialled_soon() {
    let mut m = membership();
    m.handle_targets(Duration::ZERO, &[target(1)], true);
    let mut now = Duration::ZERO;
    for _ in 0..5 {
        let link = dial(&mut m, now)[0].0;
        m.handle_disconnected(now, link, None, Some("connection refused".to_owned()));
        now = m.poll_timeout().expect("a retry");
    }
    let link = dial(&mut m, now)[0].0;
    m.handle_disconnected(now, link, None, Some("connection refused".to_owned()));
    assert!(m.poll_timeout().expect("a retry") >= now + RETRY);
    assert_eq!(m.handle_accepted(99, origin(5), "five"), Ok(()));
    assert_eq!(m.poll_timeout(), Some(now + RETRY_PAUSE_MIN));
}

#[test]
fn whom_every_peer_refuses_is_not_ready() {
    let mut m = membership();
    m.handle_targets(Duration::ZERO, &[target(1), target(2)], true);
    let dialled = dial(&mut m, Duration::ZERO);
    m.handle_disconnected(Duration::ZERO, dialled[0].0, None, Some("connection refused".to_owned()));
    m.handle_disconnected(
        Duration::ZERO,
        dialled[1].0,
        Some(Code::Cluster),
        Some("another cluster".to_owned()),
    );
    assert!(m.unjoined().expect("a reason").contains("another cluster"));
    assert_eq!(m.handle_accepted(9, origin(5), "five"), Ok(()));
    m.handle_joined(9);
    assert_eq!(m.unjoined(), None, "one peer is enough");
}
