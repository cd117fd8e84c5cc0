//! wrk.

use std::net::SocketAddr;
use std::process::Command;

use tests::{Cluster, Elapsed, Process, root, wait_for};

use crate::{IMPATIENCE, LIMIT, LIMITS, Place};

/// What wrk was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) admitted: u64,
    pub(crate) limited: u64,
    /// Answers with any other status.
    pub(crate) other: u64,
    /// Connections that failed, and requests that were not answered.
    pub(crate) broken: u64,
    pub(crate) latency_us_p50: u64,
    pub(crate) latency_us_p99: u64,
}

/// Loads addresses at once, with 16 connections each.
pub(crate) fn load(
    cluster: &Cluster,
    targets: &[SocketAddr],
    path: &str,
    header: &str,
    seconds: u32,
) -> Vec<Counted> {
    let start = |target: &SocketAddr| {
        let mut command = Command::new("wrk");
        command.args(["-t1", "-c16", "--timeout", "30s", "-d", &format!("{seconds}s"), "-H", header, "-s"]);
        command.arg(root().join("tests/tests/nginx_door/wrk.lua")).arg(format!("http://{target}{path}"));
        let log = format!("wrk-{target}.log");
        Process::start("wrk", command, &cluster.directory().join(log))
    };
    let mut running: Vec<_> = targets.iter().map(start).collect();
    running
        .iter_mut()
        .map(|wrk| {
            assert!(wrk.wait_end(LIMIT).success(), "{}", wrk.log());
            let log = wrk.log();
            let line =
                log.lines().find_map(|line| line.strip_prefix("counted ")).unwrap_or_else(|| panic!("{log}"));
            let figures: Vec<u64> = line.split(' ').map(|figure| figure.parse().expect("a number")).collect();
            let [admitted, limited, other, broken, latency_us_p50, latency_us_p99] = figures[..] else {
                panic!("{line}")
            };
            Counted { admitted, limited, other, broken, latency_us_p50, latency_us_p99 }
        })
        .collect()
}

#[test]
fn two_nginxes_under_load_admit_what_the_formula_allows() {
    const RATE: f64 = 100.0;
    const BURST: f64 = 20.0;
    // Between the nodes, on a machine that is busy with this load.
    const DELAY: f64 = 1.0;
    let place = Place::new(&[], LIMITS, &[(IMPATIENCE, "read_timeout 30s".to_owned())]);
    let time = Elapsed::start();
    let counted = load(&place.cluster, &[place.address(0), place.address(1)], "/", "x-sync-cost: 0", 4);
    let time = time.seconds();
    println!("{counted:?} in {time} s");
    for counted in &counted {
        assert_eq!((counted.other, counted.broken), (0, 0), "{counted:?}");
        assert!(counted.limited > 0, "{counted:?}");
    }
    let admitted: u64 = counted.iter().map(|counted| counted.admitted).sum();
    let allowed = RATE * time + 2.0 * (BURST + 1.0) + RATE * DELAY;
    assert!((admitted as f64) <= allowed, "{admitted} of {allowed}: {counted:?}");
    // More than two full buckets: it was the rate that admitted.
    assert!((admitted as f64) > 2.0 * (BURST + 1.0), "{counted:?}");
    // What nginx let pass is what the nodes admitted: nobody was served undecided.
    wait_for("the nodes' counts", LIMIT, || {
        let passed =
            |n: usize| place.nodes[n].api.get("/api/9/http/limit_reqs/clients").json()["passed"].as_u64();
        let passed = passed(0).zip(passed(1)).map(|(a, b)| a + b).ok_or("no count")?;
        // wrk hangs up with up to 16 requests under way at each.
        if (admitted..=admitted + 32).contains(&passed) {
            Ok(())
        } else {
            Err(format!("{passed}, not {admitted}"))
        }
    });
}
