//! The harness itself: what the other tests rely on.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use tests::{Dns, Loopback, Process, Signal, fences, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn addresses_are_claimed_by_one_alone() {
    let claimed: Vec<Loopback> = (0..300).map(|_| Loopback::claim()).collect();
    let distinct: BTreeSet<Ipv4Addr> = claimed.iter().map(Loopback::ip).collect();
    assert_eq!(distinct.len(), claimed.len());
    for loopback in &claimed {
        TcpListener::bind(loopback.port(9000)).expect("ports of a claimed address are free");
    }
}

#[test]
#[should_panic(expected = "waited 1ms for the moon; last seen: clouds")]
fn a_wait_that_ends_in_vain_says_what_for() {
    wait_for("the moon", Duration::from_millis(1), || Err::<(), _>("clouds".to_owned()));
}

#[test]
fn a_process_ends_with_its_handle() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$; echo aside >&2; exec sleep 600"]);
    let mut process = Process::start("sleeper", command, &log);
    process.wait_log("both streams", LIMIT, |line| line == "aside");
    let id = process.log().lines().next().expect("the process wrote its id").to_owned();
    assert!(std::path::Path::new(&format!("/proc/{id}")).exists());
    drop(process);
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists(), "{id} outlived its handle");
}

#[test]
fn a_process_that_is_killed_tells_how_it_ended() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new("sleep");
    command.arg("600");
    let mut process = Process::start("sleeper", command, &folder.path().join("log"));
    assert_eq!(process.status(), None);
    process.signal(Signal::Terminate);
    assert!(!process.wait_end(LIMIT).success());
}

#[test]
fn the_dns_server_follows_its_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [one, two, three] = [1, 2, 3].map(|last| IpAddr::from([127, 0, 9, last]));
    // Starting and setting wait until the server answers with as many addresses.
    let mut dns = Dns::start("sync.test", &[one], folder.path());
    dns.set(&[one, two, three]);
    dns.set(&[three]);
    dns.set(&[]);
    dns.set(&[two]);
}

#[test]
fn fences_of_markdown_are_found() {
    let found = fences("text\n```sh tested\none\ntwo\n```\n\n```\nthree\n```\n");
    let found: Vec<(usize, &str, &str)> = found.iter().map(|f| (f.line, &*f.info, &*f.text)).collect();
    assert_eq!(found, [(2, "sh tested", "one\ntwo\n"), (7, "", "three\n")]);
}
