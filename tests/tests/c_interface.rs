//! A C program reads, writes and counts in zones of a node that replicates them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::json;
use tests::{Cluster, c_libraries, root, wait_for};

/// Compiles an example against a library.
fn compile(directory: &Path, example: &str, library: &Path) -> PathBuf {
    let program = directory.join(format!("{example}-{}", library.extension().expect("one").display()));
    let folder = root().join("sync-store-c");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-O1", "-o"])
        .arg(&program)
        .arg("-I")
        .arg(folder.join("include"))
        .arg(folder.join(format!("examples/{example}.c")))
        .arg(library)
        .args(["-lm", "-lpthread", "-ldl"])
        .arg(format!("-Wl,-rpath,{}", library.parent().expect("a folder").display()))
        .output()
        .expect("a C compiler");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    program
}

#[test]
fn a_c_program_has_the_zones_of_a_node() {
    let libraries = c_libraries();
    let cluster = Cluster::new(&["a", "b"], "");
    let folder = cluster.directory().to_owned();
    let zones = |name: &str| {
        format!(
            r#"
            [[keyval_zone]]
            name = "blocked"
            size = "1m"
            type = "ip"
            map_file = "{name}-blocked"
            [[keyval_zone]]
            name = "one"
            size = "1m"
            map_file = "{name}-one"
            [[sticky_zone]]
            name = "sessions"
            size = "1m"
            map_file = "{name}-sessions"
            [[limit_req_zone]]
            name = "req"
            size = "1m"
            rate = "1r/h"
            burst = 4
            nodelay = true
            map_file = "{name}-req"
            "#
        )
    };
    let mut nodes = ["a", "b"].map(|name| {
        let mut config = cluster.config(name);
        config.zones = zones(name);
        cluster.start_with(config)
    });
    nodes.iter_mut().for_each(|node| node.wait_ready());
    let [a, b] = nodes;
    b.api.add("blocked", "198.51.100.0/24", "spam");

    for library in &libraries {
        let program = compile(&folder, "zones", library);
        let run = |words: &[&str]| -> Output {
            let mut command = Command::new(&program);
            command.args(words).current_dir(&folder).output().expect("it runs")
        };
        let says = |words: &[&str]| {
            let output = run(words);
            assert!(output.status.success(), "{words:?}: {output:?}");
            String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
        };
        // What the other node wrote is there, by the rules of the zone.
        wait_for("the pair of the other node", Duration::from_secs(30), || {
            let output = run(&["get", "a-blocked", "198.51.100.7"]);
            if output.stdout == b"spam\n" { Ok(()) } else { Err(format!("{output:?}")) }
        });
        assert_eq!(run(&["get", "a-blocked", "192.0.2.1"]).status.code(), Some(1));

        // What the program does reaches the other node.
        let kind = library.extension().expect("one").to_string_lossy().into_owned();
        let server = format!("10.0.0.{}", kind.len());
        says(&["learn", "a-sessions", &kind, &server]);
        says(&["set", "a-blocked", "203.0.113.9", &kind]);
        wait_for("what the program wrote", Duration::from_secs(30), || {
            let (session, value) =
                (run(&["server", "b-sessions", &kind]), b.api.value("blocked", "203.0.113.9"));
            let has = session.stdout == format!("{server}\n").as_bytes() && value.as_deref() == Some(&*kind);
            if has { Ok(()) } else { Err(format!("{session:?} {value:?}")) }
        });
        says(&["remove", "a-blocked", "203.0.113.9"]);
        assert_eq!(run(&["remove", "a-blocked", "203.0.113.9"]).status.code(), Some(1));

        // Five at once, whoever counts.
        let left = |n: u64| format!("admitted remaining={n} retry_after_ns=0");
        assert_eq!(says(&["check", "a-req", &kind, "1"]), left(4));
        assert_eq!(says(&["check", "a-req", &kind, "4"]), left(0));
        assert!(says(&["check", "a-req", &kind, "1"]).starts_with("refused remaining=0 retry_after_ns=3"));
        let reply = a.api.post("/v1/limit_req/req", &json!({ "key": kind }));
        assert_eq!(reply.status, 429, "the node counts the same: {reply:?}");

        // Errors say what is wrong, and with which file.
        for (words, part) in [
            (vec!["get", "nowhere", "k"], "nowhere"),
            (vec!["get", "a-req", "k"], "kind of zone"),
            (vec!["set", "a-blocked", "no address", "v"], "no address"),
            (vec!["learn", "a-sessions", "", "v"], "empty"),
        ] {
            let output = run(&words);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code() == Some(2) && error.contains(part), "{words:?}: {error}");
        }

        // The benchmark does what it says, and checks each answer.
        let bench = compile(&folder, "bench", library);
        let output = Command::new(bench)
            .args(["100", "1000", "a-one", "a-sessions", "a-req"])
            .current_dir(&folder)
            .output();
        let output = output.expect("it runs");
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && table.lines().count() == 5, "{output:?}");
    }
}
