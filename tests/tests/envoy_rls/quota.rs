//! Quotas: Envoys that decide by themselves and report, by the filter of the document.

use std::process::Command;
use std::thread;
use std::time::Duration;

use tests::{Cluster, Elapsed, Loopback, Node, Process, run, wait_for};

use crate::envoy::{Envoy, start_app};
use crate::operation::HASH;
use crate::{LIMIT, block, config, door, one_node, programs, two_nodes, write_rules};

/// An Envoy that has let no request pass for so long is out of quota: Envoy reports every five seconds, whatever its configuration says.
const QUIET: Duration = Duration::from_secs(12);

/// What the filter of quotas stands in place of.
fn filters() -> (String, String) {
    let whole = block("yaml", 1, &[]);
    let begin = whole.find("          - name: envoy.filters.http.ratelimit\n").expect("the filter");
    let end = begin + whole[begin..].find("          - name: envoy.filters.http.router\n").expect("the next");
    let indented = block("yaml", 2, &[]).lines().map(|line| format!("          {line}\n")).collect();
    (whole[begin..end].to_owned(), indented)
}

/// Rules with another limit of an API key.
fn rules(limit: &str) -> String {
    block("yaml", 0, &[("unit: hour\n    requests_per_unit: 600", limit.to_owned())])
}

fn passes(envoy: &Envoy, key: &str) -> bool {
    let reply = envoy.http.request_with("GET", "/", &[("x-api-key", key)], None).expect("an answer");
    assert!([200, 429].contains(&reply.status), "{reply:?}");
    reply.status == 200
}

/// Asks until nothing passes any more; how many passed.
fn use_up(envoy: &Envoy, key: &str) -> u64 {
    let (mut passed, mut last) = (0, Elapsed::start());
    while last.get() < QUIET {
        if passes(envoy, key) {
            (passed, last) = (passed + 1, Elapsed::start());
        }
    }
    passed
}

/// How many passed of as many as go in that time.
fn hammer(envoy: &Envoy, key: &str, time: Duration) -> u64 {
    let begun = Elapsed::start();
    let mut passed = 0;
    while begun.get() < time {
        passed += u64::from(passes(envoy, key));
    }
    passed
}

#[test]
fn two_envoys_with_quotas_have_one_limit() {
    let cluster = Cluster::new(&["a", "b"], "");
    write_rules(&cluster, &rules("unit: day\n    requests_per_unit: 600"));
    let nodes = two_nodes(&cluster);
    let app = Loopback::claim();
    start_app(&app);
    let (old, new) = filters();
    let [first, second] =
        [0, 1].map(|n: usize| Envoy::start(&cluster, &nodes[n], &app, &[(old.as_str(), new.as_str())]));

    // What passes before the first assignment has come is no matter of the limit: one request.
    let mut passed = u64::from(passes(&first, "one"));
    wait_for("the first assignment to be charged", LIMIT, || {
        match nodes[0].api.status()?.zones["clients"].records_total {
            0 => Err("nothing is counted".to_owned()),
            _ => Ok(()),
        }
    });
    passed += use_up(&first, "one");
    println!("of 600, {passed} passed");
    // All of it, and nothing beyond but what passed before the first assignment came, which is counted as well.
    assert!((590..=605).contains(&passed), "{passed}");
    // The other one lets pass what it does not know yet: ten a second, or a node that is slow to say so would let too many pass.
    let mut further = 0;
    wait_for("the other Envoy to refuse as well", LIMIT, || {
        if passes(&second, "one") {
            further += 1;
            thread::sleep(Duration::from_millis(100));
            return Err(format!("{further} passed"));
        }
        Ok(())
    });
    further += use_up(&second, "one");
    assert!(further < 60, "{further}");
    // Others have their own.
    assert!(passes(&second, "two"));

    // A node that is gone: Envoy does as it was told for this.
    let [node, _other] = nodes;
    let node = node.kill();
    wait_for("the assignment to expire", LIMIT, || {
        if (0..20).all(|_| passes(&first, "one")) { Ok(()) } else { Err("refused".to_owned()) }
    });
    // One that is back has heard of the limit from the other one.
    let mut node = cluster.start_with(config(&cluster, &node.name, &[]));
    node.wait_ready();
    wait_for("the limit to be in force again", LIMIT, || {
        if (0..20).any(|_| passes(&first, "one")) { Err("passed".to_owned()) } else { Ok(()) }
    });
}

#[test]
fn envoys_that_want_all_share_a_rate() {
    const RATE: u64 = 300;
    const TIME: Duration = Duration::from_secs(10);
    let cluster = Cluster::new(&["a", "b"], "");
    write_rules(&cluster, &rules(&format!("unit: second\n    requests_per_unit: {RATE}")));
    let nodes = two_nodes(&cluster);
    let app = Loopback::claim();
    start_app(&app);
    let (old, new) = filters();
    let envoys =
        [0, 1].map(|n: usize| Envoy::start(&cluster, &nodes[n], &app, &[(old.as_str(), new.as_str())]));
    // Until it has been reported how much they want.
    thread::scope(|scope| envoys.iter().for_each(|envoy| _ = scope.spawn(|| hammer(envoy, "one", QUIET))));
    let begun = Elapsed::start();
    let passed = thread::scope(|scope| {
        let running = envoys.each_ref().map(|envoy| scope.spawn(|| hammer(envoy, "one", TIME)));
        running.map(|envoy| envoy.join().expect("no panic"))
    });
    let time = begun.get();
    let (all, limit) = (passed[0] + passed[1], (RATE as f64 * time.as_secs_f64()) as u64 + RATE);
    println!("{passed:?} passed in {time:?}, of {limit} that the limit admits");
    // What passes in the first moment, at each, is charged later.
    assert!(all <= limit + RATE, "{passed:?} of {limit}");
    assert!(passed.iter().all(|&passed| passed * 5 >= all), "{passed:?}");
}

/// Reports one bucket, by Google's client, and waits; says what becomes of it.
const STREAM: &str = r#"
import sys, threading, grpc
def field(number, data): return bytes([number << 3 | 2, len(data)]) + data
entry = field(1, b"api_key") + field(2, b"one")
usage = field(1, field(1, entry)) + bytes([3 << 3, 1])
metadata = [("authorization", sys.argv[2])] if sys.argv[2] else []
domains = [domain.encode() for domain in sys.argv[3:]]
def reports():
    for domain in domains: yield field(1, domain) + field(2, usage)
    threading.Event().wait()
channel = grpc.insecure_channel(sys.argv[1])
call = channel.stream_stream("/envoy.service.rate_limit_quota.v3.RateLimitQuotaService/StreamRateLimitQuotas")
try:
    for answer in call(reports(), metadata=metadata): print("assigned", flush=True)
except grpc.RpcError as error: print(error.code().name, flush=True)
sys.stdout.flush()
import os; os._exit(0)
"#;

/// Google's client with a stream of these domains.
fn stream(node: &Node, authorization: &str, domains: &[&str]) -> Command {
    let mut command = Command::new(programs().join("python3"));
    command.args(["-c", STREAM, &door(&node.config).to_string(), authorization]).args(domains);
    command
}

#[test]
fn a_stream_ends_with_the_node_and_with_nonsense() {
    let cluster = Cluster::new(&["a"], "");
    write_rules(&cluster, &block("yaml", 0, &[]));
    let node = one_node(&cluster, &[]);
    assert_eq!(run(&mut stream(&node, "", &[""])), "INVALID_ARGUMENT");
    assert!(run(&mut stream(&node, "", &["web", "other"])).ends_with("INVALID_ARGUMENT"));
    let log = cluster.directory().join("stream.log");
    let mut stream = Process::start("stream", stream(&node, "", &["web"]), &log);
    stream.wait_log("an assignment", LIMIT, |line| line == "assigned");
    // It keeps nobody waiting.
    node.quit();
    stream.wait_log("the end", LIMIT, |line| line == "UNAVAILABLE");
}

#[test]
fn a_stream_outlasts_reloads_until_its_client_is_let_in_no_more() {
    let cluster = Cluster::new(&["a"], "");
    write_rules(&cluster, &block("yaml", 0, &[]));
    let users = cluster.directory().join("users");
    let of = |names: &[&str]| names.iter().map(|name| format!("{name}:{HASH}\n")).collect::<String>();
    std::fs::write(&users, of(&["envoy", "other"])).expect("written");
    let table = "response_headers = \"draft\"";
    let with = |further: &str| format!("{table}\nauth_basic_user_file = \"users\"\n{further}");
    let mut node = one_node(&cluster, &[(table, &with(""))]);
    assert_eq!(run(&mut stream(&node, "", &["web"])), "UNAUTHENTICATED");
    // `envoy:secret` and `other:secret`.
    let streams = ["ZW52b3k6c2VjcmV0", "b3RoZXI6c2VjcmV0"].map(|password| {
        let log = cluster.directory().join(format!("{password}.log"));
        let command = stream(&node, &format!("Basic {password}"), &["web"]);
        let mut stream = Process::start("stream", command, &log);
        stream.wait_log("an assignment", LIMIT, |line| line == "assigned");
        stream
    });
    std::fs::write(&users, of(&["other"])).expect("written");
    node.reload(node.config.clone(), cluster.directory());
    let [mut gone, mut other] = streams;
    gone.wait_log("the end", LIMIT, |line| line == "UNAUTHENTICATED");
    // Its password is as it was: it hears more.
    let heard = other.log().lines().count();
    wait_for("a further assignment", LIMIT, || match other.log().lines().nth(heard) {
        Some("assigned") => Ok(()),
        line => Err(format!("{line:?}")),
    });
    node.reload(config(&cluster, "a", &[(table, &with("deny = \"all\""))]), cluster.directory());
    other.wait_log("the end", LIMIT, |line| line == "PERMISSION_DENIED");
}
