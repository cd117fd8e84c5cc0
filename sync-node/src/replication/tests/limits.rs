//! Limits are counted once, whether they come as debts or as states.

use super::*;

#[test]
fn spent_limits_survive_the_replacement_of_every_node() {
    let mut net = three();
    net.settle();
    assert_eq!(net.admitted(0, "client", 20), 20);
    assert_eq!(net.admitted(1, "client", 20), 20);
    for replacement in 0..3 {
        quiesce(&mut net);
        net.cut(replacement);
        net.nodes[replacement] = node(10 + replacement as u64);
        net.mesh();
        quiesce(&mut net);
    }
    let left = net.admitted(1, "client", 100);
    assert_eq!(left, 100 - 40);
}

/// The log of the one still has all it published, that of the other does not: a new node is sent debts that the state from the other contains.
#[test]
fn a_new_node_does_not_count_again_what_it_was_told_as_a_state() {
    let mut net = Net::new(vec![node(1), node(2)]);
    net.mesh();
    quiesce(&mut net);
    assert_eq!(net.admitted(0, "client", 30), 30);
    for _ in 0..10 {
        assert_eq!(net.admitted(1, "client", 1), 1);
        net.step(usize::MAX).expect("no link fails");
    }
    quiesce(&mut net);
    net.nodes.push(node(3));
    net.connect(1, 2);
    quiesce(&mut net);
    net.mesh();
    quiesce(&mut net);
    assert_eq!(net.admitted(2, "client", 100), 100 - 40);
}

/// A node that knows some nodes and not others is sent states by those that it does not know, and they contain what it then is sent as debts.
#[test]
fn debts_that_a_state_of_another_contained_are_not_added() {
    let mut net = three();
    quiesce(&mut net);
    assert_eq!(net.admitted(1, "client", 1), 1);
    quiesce(&mut net);
    net.links.retain(|link| (link.from, link.to) != (1, 2));
    for _ in 0..10 {
        assert_eq!(net.admitted(1, "client", 1), 1);
        net.step(usize::MAX).expect("no link fails");
    }
    // In its new run nobody knows it.
    net.cut(0);
    net.nodes[0] = node(10);
    net.connect(0, 1);
    net.connect(1, 0);
    quiesce(&mut net);
    assert_eq!(net.admitted(0, "client", 1), 1);
    net.connect(0, 2);
    quiesce(&mut net);
    net.mesh();
    quiesce(&mut net);
    // And what is admitted from now on counts again.
    assert_eq!(net.admitted(1, "client", 5), 5);
    quiesce(&mut net);
    assert_eq!(net.admitted(2, "client", 200), 100 - 17);
}

/// The same while the link from that origin has begun but not yet caught up: its stream goes on beyond a gap.
#[test]
fn debts_beyond_a_gap_that_a_state_of_another_contained_are_not_added() {
    let mut net = Net::new(vec![node(1), node(2)]);
    net.mesh();
    assert_eq!(net.admitted(0, "client", 10), 10);
    quiesce(&mut net);
    net.nodes.push(node(3));
    net.connect(0, 2);
    net.step(1).expect("no link fails");
    let held = net.links.pop().expect("the link that has greeted");
    assert_eq!(net.admitted(0, "client", 5), 5);
    quiesce(&mut net);
    net.connect(1, 2);
    quiesce(&mut net);
    net.links.push(held);
    // Of this the state did not tell.
    assert_eq!(net.admitted(0, "client", 2), 2);
    quiesce(&mut net);
    net.mesh();
    quiesce(&mut net);
    assert_eq!(net.admitted(2, "client", 100), 100 - 17);
}
