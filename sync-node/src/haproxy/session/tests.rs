use super::super::definition::tests::clients;
use super::super::tables::Servers;
use super::super::wire::put_counted;
use super::*;
use proptest::prelude::*;
use sync_store::KeyvalZone;

const ROOM: usize = 1 << 10;
const HELLO: &str = "HAProxyS 2.1\nedge-1\nlb-1 4711 1\n";
/// The greeting of a node, with its wish for a lesson.
const GREETING: &[u8] = b"200\n\0\0";

fn at(seconds: u64) -> Time {
    Time::from_millis(1_700_000_000_000 + seconds * 1_000)
}

/// A node's zones, and HAProxies that say what a test wants.
struct Zones {
    sessions: Arc<StickyZone>,
    counters: Arc<KeyvalZone>,
}

impl Zones {
    fn new() -> Self {
        let sessions =
            StickyZone::builder("sessions").timeout(Duration::from_secs(600)).build().expect("a zone");
        let counters = KeyvalZone::builder("counters").build().expect("a zone");
        Self { sessions: Arc::new(sessions), counters: Arc::new(counters) }
    }

    fn session(&self) -> Session {
        let zone = Arc::clone(&self.counters);
        let servers = Servers([("one".to_owned(), 1), ("two".to_owned(), 7)].into());
        let roles = [
            ("app", Role::Sessions(Arc::clone(&self.sessions), Arc::default())),
            ("old", Role::Sessions(Arc::clone(&self.sessions), Arc::new(servers))),
            ("clients", Role::Counters(Arc::clone(&zone))),
            ("sum", Role::Sums { of: "clients".to_owned(), zone }),
        ];
        let roles = roles.into_iter().map(|(name, role)| (name.to_owned(), role)).collect();
        Session::new("edge-1".into(), Arc::new(roles))
    }

    fn connected(&self, peer: &str) -> Peer {
        let mut peer =
            Peer { session: self.session(), name: peer.to_owned(), servers: Told::default(), table: None };
        let hello = HELLO.replace("lb-1", &peer.name);
        assert_eq!(peer.say(hello.as_bytes(), at(0)), GREETING);
        peer
    }
}

/// An HAProxy.
struct Peer {
    session: Session,
    name: String,
    servers: Told,
    /// The table that it was told last.
    table: Option<Definition>,
}

impl Peer {
    fn try_say(&mut self, bytes: &[u8], now: Time) -> (Vec<u8>, Result<Received, Ended>) {
        let (mut input, mut output) = (BytesMut::from(bytes), Vec::new());
        let received = self.session.receive(&mut input, now, &mut output);
        assert!(received.is_err() || input.is_empty());
        (output, received)
    }

    fn say(&mut self, bytes: &[u8], now: Time) -> Vec<u8> {
        let (output, received) = self.try_say(bytes, now);
        received.expect("taken");
        output
    }

    /// Everything that it is taught now, in pieces; definitions by their names.
    fn taught(&mut self, now: Time) -> Vec<String> {
        let mut output = Vec::new();
        while !self.session.teach(now, true, &mut output, ROOM) {}
        let (mut input, mut said) = (BytesMut::from(&output[..]), Vec::new());
        while let Some(message) = Message::take(&mut input).expect("good messages") {
            let mut body = Reader(&message.body);
            said.push(match (message.class, message.kind) {
                (wire::CONTROL, control::FINISHED) => "finished".to_owned(),
                (wire::CONTROL, control::CONFIRMED) => "confirmed".to_owned(),
                (wire::TABLE, table::DEFINITION) => {
                    let definition = self.table.insert(Definition::read(body).expect("a good definition"));
                    definition.name.clone()
                }
                (wire::TABLE, table::UPDATE_TIMED) => {
                    let definition = self.table.as_ref().expect("a definition first");
                    let (_, left_ms) = (body.fixed().expect("a number"), body.fixed().expect("a time"));
                    let key = definition.read_key(&mut body).expect("a key");
                    let data = entry::read(&definition.fields, &mut self.servers, &mut body).expect("data");
                    let key = String::from_utf8(key).expect("text");
                    let data = data.concat().into_iter().map(|datum| match datum {
                        Datum::Number(number) => number.to_string(),
                        Datum::Rate(rate) => format!("{}/{}", rate.current, rate.previous),
                        Datum::Server(server) => String::from_utf8(server.expect("a server")).expect("text"),
                    });
                    format!("{key}={} {}s", data.collect::<Vec<_>>().join(","), left_ms / 1_000)
                }
                other => panic!("{other:?}"),
            });
        }
        assert!(input.is_empty());
        said
    }
}

/// `stick-table type string len 64 expire 10m store server_id,server_key`.
fn app() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(b"app\x06\x41");
    put_integer(&mut body, 1 | 1 << 19);
    put_integer(&mut body, 600_000);
    message(table::DEFINITION, &body)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put_message(&mut message, kind, body);
    message
}

/// A session that is used now, or was last used so that it has so many seconds left.
fn session(number: u32, left_s: Option<u32>, key: &str, server: &str) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    if let Some(left_s) = left_s {
        body.extend_from_slice(&(left_s * 1_000).to_be_bytes());
    }
    put_counted(&mut body, key.as_bytes());
    put_integer(&mut body, 1);
    let mut told = vec![1];
    put_counted(&mut told, server.as_bytes());
    put_counted(&mut body, &told);
    message(if left_s.is_some() { table::UPDATE_TIMED } else { table::UPDATE }, &body)
}

/// `gpc0` of a key, and the same in the present period of its rate.
fn counted(number: u32, key: &str, count: u64) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    put_counted(&mut body, key.as_bytes());
    [count, 0, 100, count, 0].into_iter().for_each(|part| put_integer(&mut body, part));
    message(table::UPDATE, &body)
}

fn acknowledgement(number: u8, update: u32) -> Vec<u8> {
    message(table::ACKNOWLEDGEMENT, &[&[number][..], &update.to_be_bytes()].concat())
}

const FINISHED: [u8; 2] = [wire::CONTROL, control::FINISHED];

#[test]
fn who_takes_us_for_another_is_turned_away() {
    let zones = Zones::new();
    for (hello, answer, ended) in [
        ("HAProxyS 2.1\nother\nlb-1 1 1\n", "503\n", Ended::Misnamed("other".to_owned())),
        ("HAProxyS 9.1\nedge-1\nlb-1 1 1\n", "502\n", Ended::Refused(Status::WrongVersion)),
        ("GET / HTTP/1.1\nHost: a\n\n", "501\n", Ended::Refused(Status::Malformed)),
    ] {
        let mut peer =
            Peer { session: zones.session(), name: String::new(), servers: Told::default(), table: None };
        let (said, end) = peer.try_say(hello.as_bytes(), at(0));
        assert_eq!((String::from_utf8(said).expect("text").as_str(), end), (answer, Err(ended)));
        assert_eq!(peer.session.peer(), None);
    }
}

#[test]
fn sessions_are_learned_and_acknowledged_and_not_told_back() {
    let zones = Zones::new();
    let mut peer = zones.connected("lb-1");
    let said = [app(), session(7, None, "ann", "one"), session(8, None, "bob", "two")].concat();
    assert_eq!(peer.say(&said, at(1)), acknowledgement(3, 8));
    assert_eq!(zones.sessions.peek("ann", at(1)).as_deref(), Some(&b"one"[..]));
    assert_eq!(peer.taught(at(1)), [""; 0]);
    // The next number by itself, and the server by its number: as HAProxy does.
    let next = message(table::UPDATE_NEXT, b"\x03cid\x01\x01\x01");
    assert_eq!(peer.say(&next, at(1)), acknowledgement(3, 9));
    assert_eq!(zones.sessions.peek("cid", at(1)).as_deref(), Some(&b"two"[..]), "the last server 1");
    assert_eq!(peer.say(&[wire::CONTROL, control::HEARTBEAT], at(1)), b"");
    // What others learn, it is told; with the time that is left since then.
    zones.sessions.learn("dan", "one", at(100)).expect("room");
    zones.sessions.learn("ann", "three", at(100)).expect("room");
    let mut taught = peer.taught(at(200));
    taught.sort();
    assert_eq!(taught, ["ann=three 500s", "app", "dan=one 500s"]);
    // Said of a key before the others changed it.
    assert_eq!(peer.say(&session(10, None, "ann", "one"), at(201)), acknowledgement(3, 10));
    zones.sessions.learn("ann", "two", at(202)).expect("room");
    assert_eq!(peer.taught(at(202)), ["ann=two 600s"]);
}

#[test]
fn a_lesson_brings_no_old_server_back_and_is_confirmed_when_ours_is_over() {
    let zones = Zones::new();
    zones.sessions.learn("ann", "new", at(100)).expect("room");
    for n in 0..500 {
        zones.sessions.learn(format!("s{n}"), "one", at(100)).expect("room");
    }
    let mut peer = zones.connected("lb-1");
    peer.say(&[wire::CONTROL, control::REQUEST], at(300));
    assert_eq!(peer.taught(at(300)), [""; 0], "no table is defined, and what it has is not known yet");
    // Last used at 50 s, and at 250 s.
    let said =
        [app(), session(1, Some(350), "ann", "old"), session(2, Some(550), "bob", "one"), FINISHED.into()];
    assert_eq!(peer.say(&said.concat(), at(300)), acknowledgement(3, 2));
    assert_eq!(zones.sessions.peek("ann", at(300)).as_deref(), Some(&b"new"[..]));
    let bob = zones.sessions.entry("bob", at(300)).expect("learned");
    assert_eq!(bob.last_access, at(250));
    let taught = peer.taught(at(300));
    assert_eq!(taught.len(), 504);
    assert!(taught.contains(&"ann=new 400s".to_owned()), "it has another server: {taught:?}");
    assert_eq!(taught[502..], ["confirmed", "finished"]);
    assert_eq!(peer.taught(at(300)), [""; 0]);
    // One that was asked later is answered with everything.
    peer.say(&[wire::CONTROL, control::REQUEST], at(300));
    let again = peer.taught(at(300));
    assert_eq!((again.len(), again.last().map(String::as_str)), (503, Some("finished")));
    // Later than what is known.
    peer.say(&session(3, Some(550), "ann", "newer"), at(300));
    assert_eq!(zones.sessions.peek("ann", at(300)).as_deref(), Some(&b"newer"[..]));
}

#[test]
fn a_node_that_does_not_know_everything_says_so() {
    let zones = Zones::new();
    let mut peer = zones.connected("lb-1");
    peer.say(&[wire::CONTROL, control::REQUEST, FINISHED[0], FINISHED[1]], at(1));
    let mut output = Vec::new();
    assert!(peer.session.teach(at(1), false, &mut output, ROOM));
    assert_eq!(output, [wire::CONTROL, control::CONFIRMED, wire::CONTROL, control::PARTIAL]);
}

#[test]
fn counts_of_several_add_up_in_the_other_table() {
    let zones = Zones::new();
    let [mut one, mut two] = ["lb-1", "lb-2"].map(|name| zones.connected(name));
    let source = message(table::DEFINITION, &clients());
    let mut sum = clients();
    sum.splice(0..9, *b"\x02\x03sum");
    let sum = message(table::DEFINITION, &sum);
    for (peer, count) in [(&mut one, 5), (&mut two, 7)] {
        let said = [sum.clone(), source.clone(), counted(1, "ann", count), counted(2, "bob", 1)].concat();
        assert_eq!(peer.say(&said, at(1)), acknowledgement(1, 2));
    }
    for peer in [&mut one, &mut two] {
        let mut taught = peer.taught(at(1));
        taught.sort();
        assert_eq!(taught, ["ann=12,0,12/0 600s", "bob=2,0,2/0 600s", "sum"]);
        assert_eq!(peer.taught(at(1)), [""; 0]);
    }
    // One begins anew: what it says replaces what it said. The other's record is left as it is, and is gone when it is over.
    one.say(&counted(3, "ann", 1), at(301));
    assert_eq!(two.taught(at(301)), ["ann=8,0,1/0 600s"]);
    one.say(&counted(4, "ann", 2), at(700));
    assert_eq!(two.taught(at(700)), ["ann=2,0,2/0 600s"]);
    let value = zones.counters.get("clients lb-1 ann", at(700)).expect("a record");
    assert_eq!(value[..], *b"gpc0=2 http_req_cnt=0 http_req_rate/10000=1700000699900:2:0");
    // Its own copy of the sum is no count.
    let definition = message(table::SWITCH, &[2]);
    one.say(&[definition, counted(9, "ann", 100)].concat(), at(700));
    assert_eq!(two.taught(at(700)), [""; 0]);
}

#[test]
fn a_table_without_what_it_is_for_is_passed_over() {
    let zones = Zones::new();
    let mut peer = zones.connected("lb-1");
    let mut body = vec![3, 3];
    body.extend_from_slice(b"app\x06\x41");
    put_integer(&mut body, 1);
    put_integer(&mut body, 600_000);
    let update = message(table::UPDATE, b"\0\0\0\x01\x03ann\x01");
    let said = [message(table::DEFINITION, &body), update].concat();
    assert_eq!(peer.say(&said, at(1)), acknowledgement(3, 1));
    assert!(zones.sessions.is_empty(at(1)));
}

#[test]
fn what_a_zone_does_not_take_is_counted() {
    let zones = Zones::new();
    let mut peer = zones.connected("lb-1");
    let said = [app(), session(1, None, "", "one"), session(2, None, "ann", "one")].concat();
    let (output, received) = peer.try_say(&said, at(1));
    assert_eq!(received, Ok(Received { messages: 3, errors: 1 }));
    assert_eq!(output, acknowledgement(3, 2));
}

#[test]
fn nonsense_is_answered_with_an_error_and_ends_it() {
    let zones = Zones::new();
    for (said, answer) in [
        (&[255, 0][..], [1, 0]),
        (&[1, 0], [1, 0]),
        (&[10, 130, 1, 9], [1, 0]),
        (&[10, 131, 0], [1, 0]),
        (&[10, 128, 0xff, 0xff, 0xff, 0xff, 0x7f], [1, 1]),
        (&[&app()[..], &[10, 128, 3, 0, 0, 0]].concat(), [1, 0]),
    ] {
        let (output, received) = zones.connected("lb-1").try_say(said, at(1));
        assert!(matches!(received, Err(Ended::Fault(_))), "{received:?}");
        assert_eq!(output, answer);
    }
    // What nobody has defined, and what a later version may say.
    let said = [&[10, 128, 1, 0][..], &[10, 140, 1, 0], &[0, 9], &[7, 7]].concat();
    assert_eq!(zones.connected("lb-1").say(&said, at(1)), b"");
    let mut peer = zones.connected("lb-1");
    let (_, ended) = (0..2_000_u64).fold((Vec::new(), Ok(Received::default())), |(_, ended), number| {
        let mut body = Vec::new();
        put_integer(&mut body, number);
        body.extend_from_slice(&clients()[1..]);
        if ended.is_err() {
            (Vec::new(), ended)
        } else {
            peer.try_say(&message(table::DEFINITION, &body), at(1))
        }
    });
    assert_eq!(ended, Err(Ended::Fault(Fault::Malformed("more tables than are followed"))));
}

/// Messages that are nearly right.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        Just(app()),
        Just(message(table::DEFINITION, &clients())),
        (any::<u32>(), "[a-z]{0,3}", "[a-z]{0,3}").prop_map(|(n, key, server)| session(
            n,
            Some(n % 600),
            &key,
            &server
        )),
        (any::<u32>(), "[a-z]{0,3}", any::<u64>()).prop_map(|(n, key, count)| counted(n, &key, count)),
        (0_u8..6).prop_map(|kind| vec![wire::CONTROL, kind]),
        (128_u8..136, body).prop_map(|(kind, body)| message(kind, &body)),
    ]
}

proptest! {
    #[test]
    fn no_conversation_is_too_odd(
        said in prop::collection::vec((nearly(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..30),
    ) {
        let zones = Zones::new();
        let mut peer = zones.connected("lb-1");
        let mut input = BytesMut::new();
        for (mut bytes, at_byte, byte, is_changed) in said {
            if is_changed {
                let place = at_byte.index(bytes.len());
                bytes[place] = byte;
            }
            input.extend_from_slice(&bytes);
            let mut output = Vec::new();
            if peer.session.receive(&mut input, at(1), &mut output).is_err() {
                break;
            }
            // An acknowledgement for each table at the most.
            prop_assert!(output.len() <= 64 * peer.session.theirs.len());
            output.clear();
            while !peer.session.teach(at(1), true, &mut output, ROOM) {}
        }
    }
}

#[test]
fn numbers_of_servers_stand_for_names_where_a_table_has_nothing_else() {
    let zones = Zones::new();
    let mut peer = zones.connected("lb-1");
    // `stick-table type string len 64 expire 10m store server_id`.
    let mut body = vec![3, 3];
    body.extend_from_slice(b"old\x06\x41");
    put_integer(&mut body, 1);
    put_integer(&mut body, 600_000);
    peer.say(&message(table::DEFINITION, &body), at(0));
    let numbered = |update: u32, key: &str, number: u64| {
        let mut body = update.to_be_bytes().to_vec();
        put_counted(&mut body, key.as_bytes());
        put_integer(&mut body, number);
        message(table::UPDATE, &body)
    };
    for (update, key, number) in [(1, "ann", 7), (2, "bob", 3), (3, "cas", 0)] {
        peer.say(&numbered(update, key, number), at(0));
    }
    assert_eq!(zones.sessions.lookup("ann", at(0)).as_deref(), Some(&b"two"[..]));
    assert!(["bob", "cas"].iter().all(|key| zones.sessions.lookup(key, at(0)).is_none()));
    zones.sessions.learn("dan", "one", at(1)).expect("learned");
    zones.sessions.learn("eve", "elsewhere", at(1)).expect("learned");
    assert_eq!(peer.taught(at(1)), ["old", "dan=1 600s"]);
}
