//! A full disk under the state file of a node that is part of a cluster.

use serde_json::json;
use tests::{Cluster, Config, SmallDisk, digests_equal, wait_for};

use crate::{LIMIT, impatient, start_all};

const ONE: &str = "/api/9/http/keyvals/one";

/// What the node may need beside what it has when the disk gets full: a copy of its zone, twice.
const MEMORY_MAX: u64 = 2 * (4 << 20) + (8 << 20);

#[test]
fn a_full_disk_costs_neither_the_cluster_nor_the_file_anything() {
    let disk = match SmallDisk::mount("2m") {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: {why}"),
    };
    let cluster = Cluster::new(&["a", "b"], "");
    let config = |name: &str, file| Config {
        zones: format!("[[keyval_zone]]\nname = \"one\"\nsize = \"4m\"\nstate = {file:?}\n"),
        ..impatient(&cluster, name)
    };
    let on_disk = disk.path().join("one.keyval");
    let configs = [config("a", on_disk), config("b", cluster.directory().join("b.keyval"))];
    let [mut a, b] = start_all(&cluster, configs.clone());
    a.api.add("one", "early", "there is room");
    digests_equal(&[&a, &b]);

    // Somebody else fills the disk, and everybody writes on.
    let ballast = disk.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![1; 4 << 20]);
    let value = "v".repeat(8_000);
    let full =
        (0..300).find(|number| a.api.post(ONE, &json!({ format!("of-a-{number}"): value })).status == 507);
    assert!(full.is_some(), "the disk is full");
    a.wait_complaint(&["state file", "one.keyval", "cannot be written"]);
    let before = a.usage().memory_bytes;
    for number in 0..100 {
        b.api.add("one", &format!("of-b-{number}"), &value);
        // Every write is refused, and counts all the same.
        a.api.post(ONE, &json!({ format!("refused-{number}"): "x" })).expect(507);
    }
    digests_equal(&[&a, &b]);
    let pairs = b.api.pairs("one");
    assert_eq!(a.api.pairs("one"), pairs);
    let grown = a.usage().memory_bytes.saturating_sub(before);
    assert!(grown < MEMORY_MAX, "{grown} bytes more");

    // It is killed while the disk is full: the file is whole, and the others have what is not in it.
    a.kill();
    let mut a = cluster.start_with(configs[0].clone());
    a.wait_ready();
    digests_equal(&[&a, &b]);
    assert_eq!(a.api.pairs("one"), pairs);

    // Room again: everything gets into the file, without a further write.
    std::fs::remove_file(&ballast).expect("removed");
    wait_for("writes to be taken again", LIMIT, || {
        let reply = a.api.post("/v1/keyval/one", &json!({"late": "there is room again"}));
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    let pairs = a.api.pairs("one");
    a.kill();
    b.quit();
    let mut a = cluster.start_with(Config { servers: vec![], ..configs[0].clone() });
    a.wait_ready();
    assert_eq!(a.api.pairs("one"), pairs, "all of it was in the file");
}
