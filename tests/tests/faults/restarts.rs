//! Rolling restarts of five nodes under load: gracefully one after the other, and killed one after the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use tests::{Api, Cluster, Config, Elapsed, Node, Writers, digests_equal};

use crate::{impatient, start_all};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Acknowledged writes before, during and after each restart.
const WRITES: u64 = 150;

const BURST: u64 = 9;

/// δ of docs/semantics.md on a busy machine. Of ten an hour next to nothing drains in it.
const DELAY_SECONDS: f64 = 0.5;

/// Admissions of a key of 100 requests a second, and of a key of ten an hour.
#[derive(Debug, Default)]
struct Admitted {
    steady: AtomicU64,
    rare: AtomicU64,
    refused: AtomicU64,
}

/// Checks both keys over and over on one node, until stopped or the node does not answer with a decision any more.
fn press(api: &Api, admitted: &Admitted, stop: &AtomicBool) {
    let keys = [(&admitted.steady, "steady", "100r/s"), (&admitted.rare, "rare", "10r/h")];
    while !stop.load(Ordering::Relaxed) {
        for (count, key, rate) in &keys {
            let body = json!({"key": key, "rate": rate, "burst": BURST, "nodelay": true}).to_string();
            match api.request("POST", "/v1/limit_req/req", Some(&body)) {
                Ok(reply) if reply.status == 200 => count.fetch_add(1, Ordering::Relaxed),
                Ok(reply) if reply.status == 429 => admitted.refused.fetch_add(1, Ordering::Relaxed),
                _ => return,
            };
        }
    }
}

/// What a node keeps when it ends.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Nothing,
    StateFile,
    MappedZones,
}

impl Kept {
    fn zones(self, cluster: &Cluster, name: &str) -> String {
        let file = |zone: &str| cluster.directory().join(format!("{name}.{zone}"));
        let [keyval, limit] = match self {
            Self::Nothing => [String::new(), String::new()],
            Self::StateFile => [format!("state = {:?}", file("one")), String::new()],
            Self::MappedZones => ["one", "req"].map(|zone| format!("map_file = {:?}", file(zone))),
        };
        format!(
            "[[keyval_zone]]\nname = \"one\"\nsize = \"8m\"\n{keyval}\n
            [[limit_req_zone]]\nname = \"req\"\nsize = \"1m\"\nrate = \"100r/s\"\n{limit}\n"
        )
    }

    /// How often a whole burst may be admitted anew: what a node had admitted within the delay when it was killed is lost with it, unless the zone is mapped.
    fn bursts_lost(self) -> u64 {
        match self {
            Self::Nothing | Self::MappedZones => 0,
            Self::StateFile => NAMES.len() as u64,
        }
    }
}

/// Restarts every node in turn while all are written to and asked for limits.
fn roll(kept: Kept, restart: impl Fn(&Cluster, Node) -> Node) {
    let cluster = Cluster::new(&NAMES, "");
    let config = |name: &str| Config { zones: kept.zones(&cluster, name), ..impatient(&cluster, name) };
    let mut nodes = Vec::from(start_all(&cluster, NAMES.map(config)));

    let (clock, admitted) = (Elapsed::start(), Admitted::default());
    let mut expected = BTreeMap::new();
    for turn in 0..nodes.len() {
        let apis: Vec<(String, Api)> =
            nodes.iter().map(|node| (format!("{}{turn}", node.config.name), node.api.clone())).collect();
        let named: Vec<(&str, &Api)> = apis.iter().map(|(name, api)| (name.as_str(), api)).collect();
        let writers = Writers::start(&named, "one", 1);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (_, api) in &apis {
                scope.spawn(|| press(api, &admitted, &stop));
            }
            writers.wait_more(WRITES);
            let node = nodes.remove(turn);
            let mut node = restart(&cluster, node);
            writers.wait_more(WRITES);
            node.wait_ready();
            let (name, api) = &apis[turn];
            scope.spawn(|| press(api, &admitted, &stop));
            let again = format!("{name}-again");
            let of_new = Writers::start(&[(&again, api)], "one", 1);
            of_new.wait_more(WRITES / 5);
            expected.extend(of_new.stop().pairs);
            nodes.insert(turn, node);
            stop.store(true, Ordering::Relaxed);
        });
        let acknowledged = writers.stop();
        // Only who writes to the node that stops is refused.
        let of_stopped = format!("{}-", apis[turn].0);
        assert!(
            acknowledged.failures.iter().all(|failure| failure.starts_with(&of_stopped)),
            "{:?}",
            acknowledged.failures
        );
        expected.extend(acknowledged.pairs);
    }
    let seconds = clock.seconds();
    for node in &nodes {
        node.wait_online(NAMES.len() as u64 - 1);
    }
    digests_equal(&nodes.iter().collect::<Vec<_>>());
    for node in &nodes {
        let pairs = node.api.pairs("one");
        let lost: Vec<&String> = expected
            .iter()
            .filter(|(key, value)| pairs.get(*key) != Some(value))
            .map(|(key, _)| key)
            .collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged writes are not on {}: {lost:?}",
            lost.len(),
            expected.len(),
            node.name()
        );
    }

    // docs/semantics.md: r·t + (b + 1) + (N − 1)·(b + 1 + r·δ) at the most, however many are restarted meanwhile.
    let allowance = (BURST + 1) * (NAMES.len() as u64 + kept.bursts_lost());
    let [steady, rare, refused] =
        [&admitted.steady, &admitted.rare, &admitted.refused].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{} writes; in {seconds:.1} s admitted: {steady} of 100r/s, {rare} of 10r/h, {refused} refused",
        expected.len()
    );
    assert!(refused > 0, "there was demand above the rate");
    let while_unheard = 100.0 * DELAY_SECONDS * (NAMES.len() - 1) as f64;
    assert!(steady as f64 <= 100.0 * seconds + allowance as f64 + while_unheard, "{steady} in {seconds} s");
    assert!((BURST + 1..=allowance).contains(&rare), "{rare} of ten an hour");
    // What was spent before the first restart is spent after the last, on every node.
    for node in &nodes {
        node.api
            .post(
                "/v1/limit_req/req",
                &json!({"key": "rare", "rate": "10r/h", "burst": BURST, "nodelay": true}),
            )
            .expect(429);
    }
}

fn gracefully(cluster: &Cluster, node: Node) -> Node {
    let config = node.config.clone();
    node.quit();
    cluster.start_with(config)
}

fn killed(cluster: &Cluster, node: Node) -> Node {
    cluster.start_with(node.kill())
}

#[test]
fn a_rolling_restart_loses_no_write_and_no_limit() {
    roll(Kept::Nothing, gracefully);
}

#[test]
fn kills_one_after_the_other_lose_no_write_with_state_files() {
    roll(Kept::StateFile, killed);
}

#[test]
fn kills_one_after_the_other_lose_no_write_with_mapped_zones() {
    roll(Kept::MappedZones, killed);
}
