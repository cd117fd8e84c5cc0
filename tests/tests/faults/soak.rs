//! The soak, for seconds instead of hours.

use std::time::Duration;

use tests::soak::{Options, soak};

#[test]
fn a_short_soak_has_faults_and_writes_and_no_violation() {
    let options = Options { duration: Duration::from_secs(12), nodes: 3, seed: 1 };
    let report = soak(options, |line| println!("{line}"));
    println!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    // It was one: an idle machine does twenty times as much.
    assert!(report.faults >= 2 && report.writes >= 100, "{report}");
}
