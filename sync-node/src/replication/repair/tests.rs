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
    repair.completed(0, asked[0].1.request, GRACE * 2);
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
        repair.progress(0, 0, origin(101), now);
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
        for (_, wanted) in all(&mut repair, &ours, now) {
            requests += 1;
            repair.completed(0, wanted.request, now);
        }
        now += GRACE / 4;
    }
    assert!((4..10).contains(&requests), "{requests} requests in 200 grace periods");
}
