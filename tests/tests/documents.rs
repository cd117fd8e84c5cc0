//! What documents tell people to type works. Blocks marked `sh tested` are run here, each in an empty folder, with the
//! binary on the `PATH`; `tidy` sees to it that other commands are those of CI.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tests::{Elapsed, Fence, Loopback, fences, files, sync_node, wait_for};

/// More than any block takes that a reader would wait for.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a block as one script that stops at the first failure; whatever it leaves running is ended.
fn run(document: &Path, block: &Fence) {
    let name = format!("{}:{}", document.display(), block.line);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = std::fs::File::create(folder.path().join("output")).expect("a file");
    let binaries = sync_node().parent().expect("a file lies in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &block.text])
        .env("PATH", format!("{}:{path}", binaries.display()))
        .current_dir(&folder)
        .stdin(std::process::Stdio::null())
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .process_group(0)
        .spawn()
        .expect("bash can be started");
    let waited = Elapsed::start();
    let status = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break Some(status),
            None if waited.get() > LIMIT => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    // The group is ours: it was made for this child. It is empty if the block left nothing behind.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    let _ = child.wait();
    let output = std::fs::read_to_string(folder.path().join("output")).unwrap_or_default();
    match status {
        Some(status) => assert!(status.success(), "{name}: {status}\n{output}"),
        None => panic!("{name} has not ended within {LIMIT:?}\n{output}"),
    }
}

#[test]
fn commands_marked_as_tested_work() {
    // Their addresses are those of people. Another run of this test on the machine has them for no longer than this one.
    let _people = wait_for("nobody else to run documents", 5 * LIMIT, Loopback::claim_of_people);
    let mut count = 0;
    for (path, text) in files(&["md"]) {
        for block in fences(&text).iter().filter(|block| block.info == "sh tested") {
            run(&path, block);
            count += 1;
        }
    }
    assert!(count > 0, "the README has a cluster by hand");
}

/// The tests that a row of a table names, as (file, test); a file alone as (file, "").
fn named_tests(row: &str) -> Vec<(&str, &str)> {
    let mut file = "";
    let mut named = Vec::new();
    for span in row.split('`').skip(1).step_by(2) {
        if span.ends_with(".rs") {
            file = span;
            named.push((file, ""));
        } else if !file.is_empty() {
            named.push((file, span));
        }
    }
    named
}

#[test]
fn each_promise_names_tests_that_exist() {
    let semantics = std::fs::read_to_string(tests::root().join("docs/semantics.md")).expect("the document");
    let contract =
        semantics.split("## The contract, promise by promise").nth(1).expect("the section is there");
    let rows: Vec<_> = contract.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10, "the table is there");
    for row in rows {
        let named = named_tests(row);
        assert!(!named.is_empty() || row.contains("simulation"), "{row}");
        for (file, test) in named {
            let text = std::fs::read_to_string(tests::root().join(file));
            let text = text.unwrap_or_else(|error| panic!("{file}: {error}, named in: {row}"));
            assert!(test.is_empty() || text.contains(&format!("fn {test}(")), "{file} has no {test}: {row}");
        }
    }
    assert_eq!(
        named_tests("| `state` | `a/b.rs` `c` `d`; `e.rs` |"),
        [("a/b.rs", ""), ("a/b.rs", "c"), ("a/b.rs", "d"), ("e.rs", "")]
    );
}
