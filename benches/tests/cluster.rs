//! The harness does what it says, with little of everything: that nothing is lost, and every figure is there. How large they are is not for a test.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn cluster(arguments: &[&str], json: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.args(arguments).arg("--json").arg(json).env("PATH", path());
    command.output().expect("the harness can be started")
}

/// Where Debian puts servers, too.
fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/sbin"
}

/// What each scenario has to report, on both sides.
const FIGURES: [(&str, &[&str]); 6] = [
    (
        "convergence",
        &[
            "p50_us",
            "p99_us",
            "cpu_us_per_write_send",
            "cpu_us_per_write_apply",
            "p50_us_loaded",
            "p99_us_loaded",
            "records_per_s_loaded",
        ],
    ),
    (
        "throughput",
        &["records_per_s", "cpu_us_per_record_send", "cpu_us_per_record_apply", "wire_bytes_over_payload"],
    ),
    (
        "bootstrap",
        &[
            "seconds",
            "records_per_s",
            "cpu_us_per_record_send",
            "cpu_us_per_record_apply",
            "wire_bytes_over_payload",
        ],
    ),
    ("fanout", &["cpu_us_per_record_send_1", "p99_us_one_of_them_stopped"]),
    ("limit-accuracy", &["requests", "lost_share", "p50_us_check"]),
    ("mixed", &["p50_us", "p99_us", "operations_per_s", "cpu_us_per_operation"]),
];

/// Runs all scenarios; what the file says, scenario by scenario.
fn run(arguments: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = folder.path().join("figures.json");
    let output = cluster(&[&["--quick", "--rate", "5000"], arguments].concat(), &json);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(json).expect("the harness has written its figures");
    let results: Vec<Value> = serde_json::from_str(&text).expect("the figures are JSON");
    assert_eq!(results.len(), FIGURES.len());
    results
}

fn check(arguments: &[&str], has_peer: bool) {
    for (result, (scenario, figures)) in run(arguments).iter().zip(FIGURES) {
        assert_eq!(result["scenario"], scenario);
        for figure in figures {
            let sides = if has_peer { &["ours", "peer"][..] } else { &["ours"] };
            for side in sides {
                assert!(result[side][figure].is_f64(), "{scenario}: {figure} of {side} in {result}");
            }
        }
        if has_peer && scenario == "convergence" {
            let [ours, peer, ratio] = ["ours", "peer", "ratio"].map(|side| result[side]["p50_us"].as_f64());
            let (ours, peer) = (ours.expect("a figure"), peer.expect("a figure"));
            assert!((ratio.expect("a figure") - ours / peer).abs() < 1e-6, "{result}");
        }
        if scenario == "fanout" && arguments.contains(&"3") {
            assert!(result["ours"]["cpu_us_per_record_and_peer"].is_f64(), "{result}");
        }
        if scenario == "limit-accuracy" {
            assert_eq!(result["ours"]["lost_share"], 0.0, "every request is counted on both nodes");
        }
        if scenario == "bootstrap" {
            let sends = result["ours"]["sends_per_record"].as_f64().expect("our nodes count them");
            assert!((1.0..1.05).contains(&sends), "{sends} sends of each record");
        }
    }
}

#[test]
fn our_nodes_alone() {
    check(&["--nodes", "3"], false);
}

#[test]
fn our_nodes_over_quic() {
    check(&["--nodes", "2", "--transport", "quic"], false);
}

#[test]
fn beside_redis() {
    check(&["--peer", "redis", "--nodes", "3"], true);
}

#[test]
fn beside_haproxy() {
    // With three processes that all count, a single write is now and then lost to an older one that another passes on.
    check(&["--peer", "haproxy", "--nodes", "2", "--transport", "plain"], true);
}

#[test]
fn what_is_not_possible_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let refused = |arguments: &[&str], words: &str| {
        let output = cluster(arguments, &folder.path().join("none.json"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(words), "{arguments:?}: {errors}");
    };
    refused(&["--transport", "quic", "--peer", "redis"], "QUIC");
    refused(&["--records", "1"], "--records");
    refused(&["--scenario", "absent"], "possible values");
    let output = Command::new(env!("CARGO_BIN_EXE_cluster"))
        .args(["--quick", "--scenario", "limit-accuracy", "--peer", "redis"])
        .env("PATH", "/absent")
        .output()
        .expect("the harness can be started");
    // Unless it is where servers usually are.
    if !Path::new("/usr/sbin/redis-server").exists() && !Path::new("/usr/local/sbin/redis-server").exists() {
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("apt-get install redis-server"), "{errors}");
    }
}
