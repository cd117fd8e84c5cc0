use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

const BASE: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(5);

#[test]
fn waits_stay_between_base_and_bound_and_reach_the_bound() {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut longest = Duration::ZERO;
    for _ in 0..100 {
        let mut backoff = Backoff::new(BASE, MAX).unwrap();
        for _ in 0..50 {
            let wait = backoff.next(&mut rng);
            assert!(wait >= BASE && wait <= MAX, "{wait:?}");
            longest = longest.max(wait);
        }
    }
    assert!(longest > MAX / 2, "never grew beyond {longest:?}");
}

#[test]
fn two_nodes_do_not_wait_in_step() {
    let mut one = Backoff::new(BASE, MAX).unwrap();
    let mut two = one.clone();
    let first = one.next(&mut SmallRng::seed_from_u64(1));
    let second = two.next(&mut SmallRng::seed_from_u64(2));
    assert_ne!(first, second);
}

#[test]
fn reset_starts_from_the_base() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut backoff = Backoff::new(BASE, MAX).unwrap();
    for _ in 0..20 {
        backoff.next(&mut rng);
    }
    backoff.reset();
    assert!(backoff.next(&mut rng) <= BASE * GROWTH);
}

#[test]
fn bounds_are_validated() {
    assert!(Backoff::new(Duration::ZERO, MAX).unwrap_err().to_string().contains("zero"));
    let error = Backoff::new(MAX, BASE).unwrap_err().to_string();
    assert!(error.contains("100ms") && error.contains("5s"), "{error}");
    assert!(Backoff::new(BASE, BASE).is_ok());
    let mut huge = Backoff::new(Duration::MAX, Duration::MAX).unwrap();
    assert_eq!(huge.next(&mut SmallRng::seed_from_u64(0)), Duration::MAX);
}
