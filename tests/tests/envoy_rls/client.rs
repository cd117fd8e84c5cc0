//! Google's gRPC client for Python.

use std::process::Command;

use tests::{Cluster, root, run};

use crate::{block, door, programs, two_nodes, write_rules};

#[test]
fn a_grpc_client_finds_decisions_health_and_reflection() {
    let programs = programs();
    let cluster = Cluster::new(&["a", "b"], "");
    write_rules(&cluster, &block("yaml", 0, &[]));
    let [a, b] = two_nodes(&cluster);
    let script = root().join("tests/tests/envoy_rls/client.py");
    let mut command = Command::new(programs.join("python3"));
    let said = run(command.arg(script).args([&a, &b].map(|node| door(&node.config).to_string())));
    assert_eq!(said, "all well", "{}", a.log_end());
}
