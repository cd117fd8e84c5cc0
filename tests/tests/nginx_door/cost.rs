//! What the subrequest costs. Shows the figures of docs/integrations/nginx.md; asserts no time.

use crate::load::load;
use crate::{IMPATIENCE, LIMITS, Place};

#[test]
fn the_cost_of_the_subrequest_is_shown() {
    // Everybody is admitted.
    let zones = [("100r/s", "10000000r/s".to_owned()), ("burst = 20", "burst = 10000000".to_owned())];
    let plain = "location = /plain { proxy_pass http://app; } location = /_decide {".to_owned();
    let changes = [(IMPATIENCE, "read_timeout 30s".to_owned()), ("location = /_decide {", plain)];
    let place = Place::new(&zones, LIMITS, &changes);
    const SECONDS: u32 = 1;
    for path in ["/plain", "/", "/plain", "/"] {
        let [counted] = load(&place.cluster, &[place.address(0)], path, "a: b", SECONDS)[..] else {
            unreachable!()
        };
        assert!(counted.admitted > 0 && counted.limited + counted.other + counted.broken == 0, "{counted:?}");
        println!("{path}: {} requests in {SECONDS} s, {counted:?}", counted.admitted);
    }
}
