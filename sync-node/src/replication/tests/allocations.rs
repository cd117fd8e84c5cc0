//! Records cost no allocation, on neither side: batches do, a few each.

use allocation_counter::measure;

use super::*;

const RECORDS: usize = 20_000;
/// Allocations for each record that batches of some 250 records may come to. One by each record would be ten times as many.
const SHARE: f64 = 0.1;

/// Everything that moves does so within what is counted: publishing, encoding, framing, checking, applying and acknowledging.
fn allocations_each(net: &mut Net) -> f64 {
    let counted = measure(|| while net.step(usize::MAX).expect("no link fails") {});
    counted.count_total as f64 / RECORDS as f64
}

#[test]
fn records_are_published_applied_and_caught_up_with_without_an_allocation_each() {
    let settings = Settings { batch_bytes: 16 << 10, log_batches: 1_024, ..settings() };
    let node = |raw| node_with(raw, "test", 16 << 20, settings.clone());
    let mut net = Net::new(vec![node(1), node(2)]);
    net.mesh();
    net.settle();
    // New records first, then changes of them.
    for value in ["a value of thirty-two bytes, new", "a value of thirty-two bytes, old"] {
        for record in 0..RECORDS {
            net.set(0, &format!("key-{record:012}"), value);
        }
        let each = allocations_each(&mut net);
        assert!(each > 0.0 && each < SHARE, "{each} a record in the stream");
        assert_eq!(net.get(1, "key-000000000007").as_deref(), Some(value));
    }
    // The log forgets them, so that the next node has to catch up.
    net.nodes[0].shared.zones[0]
        .log
        .lock()
        .forget_old(Now { elapsed: Duration::from_secs(7_200), ..net.now() }, Duration::from_secs(3_600));
    net.nodes.push(node(3));
    net.mesh();
    let each = allocations_each(&mut net);
    assert!(each > 0.0 && each < SHARE, "{each} a record in catch-up");
    assert_eq!(net.nodes[2].keyval.len(net.now().time), RECORDS);
}
