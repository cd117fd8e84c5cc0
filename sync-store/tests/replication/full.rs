//! Full zones: what they give up, and what they keep for their peers.

use std::time::Duration;

use sync_store::{Error, Expiry, KeyvalZone, Replica, Time};

use crate::support::{deliver, publish};

const NOW: Time = Time::from_millis(1_000_000);

/// Room for some hundred records.
fn zone() -> KeyvalZone {
    KeyvalZone::builder("z").size(32 << 10).build().expect("a zone")
}

/// Writes records that stay until there is no room; how many.
fn fill(zone: &KeyvalZone, now: Time) -> usize {
    let set = |number: usize| zone.set(format!("{now:?}-{number:05}"), "stays", now, Expiry::Never);
    let refused = (0..).find_map(|number| Some((number, set(number).err()?)));
    let (number, error) = refused.expect("it has a bound");
    assert!(matches!(error, Error::ZoneFull { .. }), "{error}");
    number
}

#[test]
fn what_expired_before_it_was_published_is_kept_until_peers_have_heard_of_it() {
    let (zone, peer) = (zone(), zone());
    zone.set("k", "for ever", NOW, Expiry::Never).expect("room");
    deliver(&peer, NOW, &publish(&zone, NOW, usize::MAX));
    zone.set("k", "for a moment", NOW, Expiry::After(Duration::from_millis(1))).expect("room");
    let now = NOW.saturating_add(Duration::from_secs(1));
    fill(&zone, now);
    zone.sweep(now, usize::MAX);
    // The peer has room for that one record.
    let mut batch = publish(&zone, now, usize::MAX);
    batch.rows.retain(|row| row.key == b"k");
    let count = batch.rows.len() as u64;
    assert_eq!(count, 1, "it is published");
    batch.through_seq = batch.from_seq_excluded + count;
    deliver(&peer, now, &batch);
    assert_eq!(peer.get("k", now), None);
    assert!(fill(&zone, now.saturating_add(Duration::from_secs(1))) > 0, "then it goes");
}

#[test]
fn what_expired_long_ago_or_is_never_published_makes_room() {
    let patience = Duration::from_secs(60);
    for (is_published, waits) in [(false, Duration::from_secs(1)), (true, patience + Duration::from_secs(1))]
    {
        let zone = zone();
        zone.set("first", "stays", NOW, Expiry::Never).expect("room");
        if is_published {
            publish(&zone, NOW, usize::MAX);
        }
        zone.set("k", "for a moment", NOW, Expiry::After(Duration::from_millis(1))).expect("room");
        fill(&zone, NOW);
        assert!(fill(&zone, NOW.saturating_add(waits)) > 0, "published: {is_published}");
    }
}
