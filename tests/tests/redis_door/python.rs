//! redis-py, of a fixed version, in an environment of its own in the folder for temporary files of tests, where it stays.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Cluster, root};

use crate::two_nodes;

const PACKAGE: &str = "redis==7.1.0";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} can be started: {e}"));
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}\n{complained}");
    said.trim_end().to_owned()
}

/// A Python that has the package.
fn python() -> PathBuf {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PACKAGE);
    let (python, done) = (environment.join("bin/python3"), environment.join("done"));
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
        run(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PACKAGE,
        ]));
        // Last, so that half an environment is made anew.
        std::fs::write(done, "").expect("the folder is writable");
    }
    python
}

#[test]
fn redis_py_works_on_both_nodes() {
    let python = python();
    let cluster = Cluster::new(&["a", "b"], "");
    let [a, b] = two_nodes(&cluster);
    let script = root().join("tests/tests/redis_door/client.py");
    let mut command = Command::new(python);
    let said = run(command.arg(script).args([a.config.ip.to_string(), b.config.ip.to_string()]));
    assert_eq!(said, "all well", "{}", a.log_end());
}
