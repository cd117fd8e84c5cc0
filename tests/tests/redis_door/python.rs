//! redis-py, of a fixed version.

use std::path::Path;
use std::process::Command;

use tests::{Cluster, python, root, run};

use crate::two_nodes;

#[test]
fn redis_py_works_on_both_nodes() {
    let programs = python(Path::new(env!("CARGO_TARGET_TMPDIR")), &["redis==7.1.0"]);
    let cluster = Cluster::new(&["a", "b"], "");
    let [a, b] = two_nodes(&cluster);
    let script = root().join("tests/tests/redis_door/client.py");
    let mut command = Command::new(programs.join("python3"));
    let said = run(command.arg(script).args([a.config.ip.to_string(), b.config.ip.to_string()]));
    assert_eq!(said, "all well", "{}", a.log_end());
}
