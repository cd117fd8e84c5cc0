use super::*;

fn origin(raw: u64) -> Origin {
    Origin::from_raw(raw).expect("not zero")
}

fn vector(entries: &[(u64, u64)]) -> VersionVector {
    entries.iter().map(|&(raw, seq)| (origin(raw), seq)).collect()
}

const GRACE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(5);

fn repair() -> Repair {
    let mut repair = Repair::new(1, GRACE, PATIENCE);
    // Links 1 and 2 come from origins 101 and 102; origin 7 is gone.
    repair.heard(0, 1, origin(101), vector(&[(101, 10), (7, 50)]));
    repair.heard(0, 2, origin(102), vector(&[(102, 10), (7, 50)]));
    repair
}

fn all(repair: &mut Repair, ours: &VersionVector, now: Duration) -> Vec<(LinkId, Wanted)> {
    [1, 2].into_iter().filter_map(|link| Some((link, repair.poll(0, link, ours, now)?))).collect()
}

#[test]
fn departed_origin_is_requested_once_after_the_grace_period() {
    let (mut repair, ours) = (repair(), vector(&[(101, 10), (102, 10)]));
    assert!(repair.lacks_departed(0, &ours));
    assert_eq!(all(&mut repair, &ours, Duration::ZERO), []);
    assert_eq!(all(&mut repair, &ours, GRACE / 2), []);
    let asked = all(&mut repair, &ours, GRACE);
    assert_eq!(asked.len(), 1, "one peer is asked, not both");
    assert_eq!(asked[0].1.origins, [origin(7)]);
    assert_eq!(all(&mut repair, &ours, GRACE * 2), [], "it is being answered");
    let ours = vector(&[(101, 10), (102, 10), (7, 50)]);
    let (link, wanted) = &asked[0];
    assert_eq!(repair.completed(0, *link, wanted.request, GRACE * 2), Some(vec![origin(7)]));
    assert_eq!(all(&mut repair, &ours, GRACE * 3), []);
    assert!(!repair.lacks_departed(0, &ours));
}

#[test]
fn another_peer_is_asked_when_the_first_one_goes() {
    let (mut repair, ours) = (repair(), vector(&[(101, 10), (102, 10)]));
    all(&mut repair, &ours, Duration::ZERO);
    let first = all(&mut repair, &ours, GRACE)[0].0;
    repair.link_closed(first);
    let again = all(&mut repair, &ours, GRACE * 4);
    assert_eq!(again.len(), 1);
    assert_ne!(again[0].0, first);
}

#[test]
fn connected_origin_is_left_in_peace_while_it_delivers() {
    let (mut repair, ours) = (repair(), vector(&[(101, 4), (102, 10), (7, 50)]));
    let mut now = Duration::ZERO;
    for _ in 0..20 {
        assert_eq!(all(&mut repair, &ours, now), []);
        now += PATIENCE / 2;
        repair.progress(0, 1, 0, origin(101), now);
    }
    now += PATIENCE;
    let asked = all(&mut repair, &ours, now);
    assert_eq!(asked.len(), 1, "silence for as long as the patience: ask");
    assert_eq!(asked[0].1.origins, [origin(101)]);
}

#[test]
fn attempts_back_off() {
    let (mut repair, ours) = (repair(), vector(&[(101, 10), (102, 10)]));
    let mut now = Duration::ZERO;
    let mut requests = 0;
    while now < GRACE * 200 {
        for (link, wanted) in all(&mut repair, &ours, now) {
            requests += 1;
            repair.completed(0, link, wanted.request, now);
        }
        now += GRACE / 4;
    }
    assert!((4..10).contains(&requests), "{requests} requests in 200 grace periods");
}

#[test]
fn what_was_answered_is_not_asked_again_though_the_zone_has_no_room_to_note_the_origin() {
    let (mut repair, ours) = (repair(), vector(&[(101, 10), (102, 10)]));
    all(&mut repair, &ours, Duration::ZERO);
    let (link, wanted) = all(&mut repair, &ours, GRACE).remove(0);
    repair.completed(0, link, wanted.request, GRACE).expect("it was asked");
    repair.covered(0, origin(101), &ours, &vector(&[(7, 50)]));
    assert!(!repair.lacks_departed(0, &ours));
    for i in 0..200 {
        assert_eq!(all(&mut repair, &ours, GRACE * i), []);
    }
    repair.heard(0, 1, origin(101), vector(&[(101, 10), (7, 51)]));
    assert!(repair.lacks_departed(0, &ours), "there is more of it");
}

#[test]
fn a_peer_that_is_slow_to_answer_is_not_asked_twice() {
    let (mut repair, ours) = (repair(), vector(&[(101, 10), (102, 10)]));
    repair.link_closed(2);
    let requests = (0..200).filter_map(|i| repair.poll(0, 1, &ours, PATIENCE * i)).count();
    assert_eq!(requests, 1);
    assert_eq!(repair.completed(0, 1, 99, GRACE), None, "nobody asked that");
}

#[test]
fn who_knows_the_next_most_is_asked_when_the_one_with_the_most_does_not_answer() {
    let (mut repair, ours) = (repair(), vector(&[(101, 10), (102, 10)]));
    repair.heard(0, 1, origin(101), vector(&[(101, 10), (7, u64::MAX)]));
    assert_eq!(all(&mut repair, &ours, Duration::ZERO), []);
    assert_eq!(all(&mut repair, &ours, GRACE)[0].0, 1);
    assert_eq!(all(&mut repair, &ours, GRACE + PATIENCE), [], "its time to answer is not over");
    let asked = all(&mut repair, &ours, GRACE + PATIENCE * 2);
    assert_eq!(
        asked.iter().map(|(link, wanted)| (*link, wanted.origins.clone())).collect::<Vec<_>>(),
        [(2, vec![origin(7)])]
    );
    // Nor does it keep another origin from being asked for.
    let ours = vector(&[(101, 10), (102, 10), (7, 50)]);
    repair.completed(0, 2, asked[0].1.request, GRACE + PATIENCE * 2).expect("it was asked");
    repair.heard(0, 1, origin(101), vector(&[(101, 10), (7, u64::MAX), (8, u64::MAX)]));
    repair.heard(0, 2, origin(102), vector(&[(102, 10), (7, 50), (8, 50)]));
    let later = GRACE + PATIENCE * 3;
    assert_eq!(all(&mut repair, &ours, later), []);
    assert_eq!(all(&mut repair, &ours, later + PATIENCE)[0].1.origins, [origin(8)]);
}

#[test]
fn orphans_are_adopted_when_nobody_can_deliver_them_any_more() {
    let (mut repair, ours) = (repair(), vector(&[(101, 10), (102, 10)]));
    assert_eq!(repair.poll_adopt(0, &ours, Duration::ZERO), None);
    repair.link_closed(2);
    repair.suspect_orphans(0);
    assert_eq!(repair.poll_adopt(0, &ours, Duration::ZERO), None, "it may come back");
    let mut spared = repair.poll_adopt(0, &ours, PATIENCE).expect("time is over");
    spared.sort_unstable();
    assert_eq!(spared, [origin(7), origin(101)], "one can be requested, one is connected");
    assert_eq!(repair.poll_adopt(0, &ours, PATIENCE), None);
    assert!(repair.poll_adopt(0, &ours, PATIENCE * 2).is_some(), "again, until none is left");
    repair.adopted(0);
    assert_eq!(repair.poll_adopt(0, &ours, PATIENCE * 9), None);
}

#[test]
fn an_origin_that_is_there_but_has_not_dialled_us_yet_is_waited_for() {
    let (mut repair, ours) = (repair(), vector(&[(101, 10), (102, 10)]));
    repair.dialled(origin(7));
    assert_eq!(all(&mut repair, &ours, Duration::ZERO), []);
    assert_eq!(all(&mut repair, &ours, GRACE * 3), []);
    assert_eq!(all(&mut repair, &ours, PATIENCE).len(), 1);
    repair.lost(origin(7));
}
