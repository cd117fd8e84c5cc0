//! Greetings, good and bad, to either side of a link: the node answers with a Hello or a refusal, never with silence, and takes no second one.

#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use fuzz::{Say, act, check, look_at_sent, moment, node};
use libfuzzer_sys::fuzz_target;
use sync_node::simulation::Action;
use sync_proto::Message;

#[derive(Arbitrary, Debug)]
struct Input {
    dialled: bool,
    before: Vec<Say>,
    greeting: Say,
    flip: Option<(u8, u8)>,
}

fuzz_target!(|input: Input| {
    let now = moment(Duration::ZERO);
    let mut node = node();
    node.poll(now);
    let dialled = node.poll_action().and_then(|action| act(&mut node, now, action));
    let link = if input.dialled { dialled.expect("a target is dialled") } else { node.accept(now) };
    let mut greeting = input.greeting.body().to_vec();
    if let Some((at, bits)) = input.flip
        && let Some(byte) = greeting.get_mut(usize::from(at))
    {
        *byte ^= bits;
    }
    let mut hellos = 0;
    let bodies = input.before.iter().take(3).map(Say::body).chain([greeting.into()]);
    for body in bodies {
        node.handle_frame(now, link, Some(body));
        while let Some((_, frame)) = node.poll_transmit(now, link, &|_| true) {
            hellos += usize::from(matches!(look_at_sent(&frame), Message::Hello(_)));
        }
    }
    assert!(hellos <= 1, "a side greets once");
    let mut ended = false;
    while let Some(action) = node.poll_action() {
        if let Action::Close(_, last_words) = &action {
            ended = true;
            let refusals =
                last_words.iter().filter(|frame| matches!(look_at_sent(frame), Message::Refuse(_)));
            assert!(refusals.count() <= 1);
        }
        act(&mut node, now, action);
    }
    if !ended && hellos == 0 && !input.dialled {
        assert_eq!(node.nodes_online(), 0, "who was not greeted is nobody");
    }
    check(&node);
});
