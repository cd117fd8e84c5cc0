//! What the subrequest costs. Shows the figures of docs/integrations/nginx.md; asserts no time.

use crate::load::{Counted, load};
use crate::{IMPATIENCE, LIMITS, Place};

#[test]
fn the_cost_of_the_subrequest_is_shown() {
    // Everybody is admitted.
    let zones = [("100r/s", "10000000r/s".to_owned()), ("burst = 20", "burst = 10000000".to_owned())];
    let plain = "location = /plain { proxy_pass http://app; } location = /_decide {".to_owned();
    let changes = [(IMPATIENCE, "read_timeout 30s".to_owned()), ("location = /_decide {", plain)];
    let place = Place::new(&zones, LIMITS, &changes);
    const SECONDS: u32 = 1;
    const ROUNDS: usize = 9;
    let run = |path| {
        let counted = load(&place.cluster, &[place.address(0)], path, "a: b", SECONDS)[0];
        assert!(counted.admitted > 0 && counted.limited + counted.other + counted.broken == 0, "{counted:?}");
        counted
    };
    let rounds: Vec<[Counted; 2]> = (0..ROUNDS).map(|_| ["/plain", "/"].map(run)).collect();
    // Every request with the subrequest was decided by the node; wrk hangs up with up to 16 under way.
    let asked: u64 = rounds.iter().map(|[_, asked]| asked.admitted).sum();
    let passed = place.nodes[0].api.get("/api/9/http/limit_reqs/clients").json()["passed"].as_u64();
    assert!(passed >= Some(asked), "{passed:?} of {asked}");
    let median = |of: &dyn Fn(&[Counted; 2]) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(of).collect();
        figures.sort_by(f64::total_cmp);
        figures[ROUNDS / 2]
    };
    for (n, name) in ["without", "with"].iter().enumerate() {
        let rate = median(&|round| round[n].admitted as f64) / f64::from(SECONDS);
        let [p50, p99] = [|of: &Counted| of.latency_us_p50, |of: &Counted| of.latency_us_p99]
            .map(|of| median(&|round| of(&round[n]) as f64));
        println!("{name}: {rate} requests a second, p50 {p50} µs, p99 {p99} µs");
    }
    println!(
        "times fewer, round by round: {:.2}",
        median(&|[plain, asked]| plain.admitted as f64 / asked.admitted as f64)
    );
}
