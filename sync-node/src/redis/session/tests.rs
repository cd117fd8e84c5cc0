use super::super::request::Parser;
use super::super::{Options, Redis};
use super::*;
use crate::Node;
use crate::api::Grants;
use proptest::prelude::*;
use sync_store::{KeyvalZone, LimitZone, Rate};
use tokio::runtime::Runtime;

/// Of `secret`, by `openssl passwd -5`.
const HASH: &str = "$5$abc$qsg6EHbUzHQzF1POlD7zUwBINSELQxypPaeDcZe6vH0";

/// A node of its own, and a client of it. The runtime is what the node lives in.
struct Client {
    session: Session,
    redis: Redis,
    replies: Replies,
    now: Time,
    _runtime: Runtime,
}

fn options() -> Options {
    Options {
        databases: vec!["one".to_owned(), "two".to_owned()],
        prefixes: [("s:".to_owned(), "sessions".to_owned())].into(),
        limit: Some("req".to_owned()),
        grants: Grants { write: true, decide: true, ..Grants::default() },
        ..Options::default()
    }
}

impl Client {
    fn new(options: Options) -> Self {
        let runtime = Runtime::new().expect("threads");
        let node = runtime.block_on(async {
            let keyval = |name: &str| KeyvalZone::builder(name).size(64 << 10);
            let two = keyval("two").timeout(Duration::from_secs(10));
            let rate = Rate::per_second(1).expect("a rate");
            let limit = LimitZone::builder("req").size(64 << 10).rate(rate);
            let builder = Node::builder("a").plain_text();
            let builder = builder.keyval(keyval("one")).keyval(two).keyval(keyval("sessions"));
            builder.limit(limit).start().await.expect("a node")
        });
        // Ahead of the node's own clock, by which it sweeps all the while: what a test has expire is not gone before the test says so.
        let now = node.now().saturating_add(Duration::from_secs(3600));
        let redis = Redis::new(node, options).expect("a door");
        let client = crate::door::Client::new(None);
        let session = Session::new(Arc::clone(&redis.inner), client).expect("allowed");
        Self { session, redis, replies: Replies::default(), now, _runtime: runtime }
    }

    /// What a line is answered, in one line; what has to be waited for is waited for.
    fn say(&mut self, line: &str) -> String {
        // A line may begin with what announces an array; not behind a space.
        let bytes = format!(" {line}\n").into_bytes();
        let mut parser = Parser::default();
        parser.read(&bytes, self.session.bounds()).expect("well-formed").expect("whole");
        let begin = self.replies.len();
        match self.session.execute(parser.request(&bytes), self.now, &mut self.replies) {
            Step::Verify(users, attempt) => {
                let is_right = users.verify(&attempt.user, &attempt.password);
                self.session.verified(attempt, is_right, &mut self.replies);
            }
            Step::Walk(walk) => self.replies.append(walk.run(&self.redis.inner, self.replies.protocol)),
            Step::Next | Step::Close | Step::Save(_) => {}
        }
        let said = String::from_utf8_lossy(&self.replies.bytes()[begin..]).into_owned();
        said.trim_end().replace("\r\n", " ")
    }

    fn expect(&mut self, lines: &[(&str, &str)]) {
        for (line, expected) in lines {
            assert_eq!(self.say(line), *expected, "{line}");
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now = self.now.saturating_add(Duration::from_millis(millis));
    }
}

#[test]
fn values_are_set_read_and_removed() {
    let mut client = Client::new(options());
    client.expect(&[
        ("get a", "$-1"),
        ("set a 1", "+OK"),
        ("get a", "$1 1"),
        ("mget a b a", "*3 $1 1 $-1 $1 1"),
        ("exists a a b", ":2"),
        ("dbsize", ":1"),
        ("set a \"two words\"", "+OK"),
        ("get a", "$9 two words"),
        ("del a b a", ":1"),
        ("del a", ":0"),
        ("del \"\"", ":0"),
        ("set \"\" x", "-ERR zone `one`: the key is empty"),
        ("select 1", "+OK"),
        ("get a", "$-1"),
        ("select 2", "-ERR DB index is out of range"),
        ("select -1", "-ERR DB index is out of range"),
        ("select x", "-ERR value is not an integer or out of range"),
    ]);
}

#[test]
fn times_to_live_are_those_of_redis() {
    let mut client = Client::new(options());
    client.expect(&[
        ("ttl a", ":-2"),
        ("set a 1", "+OK"),
        ("ttl a", ":-1"),
        ("expire a 10", ":1"),
        ("ttl a", ":10"),
        ("pttl a", ":10000"),
        ("set a 2 keepttl", "+OK"),
        ("pttl a", ":10000"),
        ("set a 2", "+OK"),
        ("pttl a", ":-1"),
        ("set a 3 px 1600", "+OK"),
        ("ttl a", ":2"),
        ("pexpire a 1400", ":1"),
        ("ttl a", ":1"),
        ("get a", "$1 3"),
    ]);
    client.wait(1_400);
    client.expect(&[("get a", "$-1"), ("ttl a", ":-2"), ("expire a 10", ":0"), ("set a 1 ex 5", "+OK")]);
    // A time that is over removes.
    client.expect(&[("expire a -1", ":1"), ("exists a", ":0"), ("expire a 0", ":0")]);
    // In a zone with a time-out that is what counts for who says nothing.
    client.expect(&[
        ("select 1", "+OK"),
        ("set b 1", "+OK"),
        ("ttl b", ":10"),
        ("set c 1 keepttl", "+OK"),
        ("ttl c", ":10"),
    ]);
    client.expect(&[
        ("set a 1 ex 0", "-ERR invalid expire time in 'set' command"),
        ("set a 1 px -5", "-ERR invalid expire time in 'set' command"),
        ("set a 1 ex 9223372036854775807", "-ERR invalid expire time in 'set' command"),
        ("set a 1 ex x", "-ERR value is not an integer or out of range"),
        ("expire b 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
        ("expire b 1 nx", "-ERR wrong number of arguments for 'expire' command"),
    ]);
}

#[test]
fn conditions_of_set_hold() {
    let mut client = Client::new(options());
    client.expect(&[
        ("set a 1 xx", "$-1"),
        ("set a 1 nx", "+OK"),
        ("set a 2 nx", "$-1"),
        ("set a 2 xx", "+OK"),
        ("set a 3 get", "$1 2"),
        ("set a 4 nx get", "$1 3"),
        ("get a", "$1 3"),
        ("set b 1 get ex 5", "$-1"),
        ("set b 2 xx keepttl get", "$1 1"),
        ("ttl b", ":5"),
        ("set a 1 nx xx", "-ERR syntax error"),
        ("set a 1 ex 5 keepttl", "-ERR syntax error"),
        ("set a 1 ex", "-ERR syntax error"),
        ("set a 1 ex 5 px 5", "-ERR syntax error"),
        ("set a 1 what", "-ERR syntax error"),
    ]);
}

#[test]
fn a_prefix_chooses_a_zone_in_the_first_database() {
    let mut client = Client::new(options());
    client.expect(&[("set s:1 x", "+OK"), ("set t 1", "+OK"), ("dbsize", ":2")]);
    let sessions = client.redis.inner.door.node().keyval("sessions").expect("the zone");
    assert_eq!(sessions.get("s:1", client.now).as_deref(), Some(&b"x"[..]));
    // Others may have put there what this database would not find there.
    sessions.set("hidden", "x", client.now, sync_store::Expiry::Never).expect("room");
    client.expect(&[
        ("get hidden", "$-1"),
        ("select 1", "+OK"),
        ("get s:1", "$-1"),
        ("set s:1 other", "+OK"),
        ("select 0", "+OK"),
        ("get s:1", "$1 x"),
        ("scan 0 count 100 match *", "*2 $1 0 *2 $1 t $3 s:1"),
        ("scan 0 count 100 match s:*", "*2 $1 0 *1 $3 s:1"),
        ("scan 0 count 100 type hash", "*2 $1 0 *0"),
        ("flushdb", "+OK"),
        ("dbsize", ":0"),
        ("select 1", "+OK"),
        ("dbsize", ":1"),
    ]);
}

#[test]
fn a_scan_meets_every_key_once() {
    let mut client = Client::new(options());
    for n in 0..200 {
        let prefix = if n % 2 == 0 { "s:" } else { "" };
        assert_eq!(client.say(&format!("set {prefix}{n} x")), "+OK");
    }
    let (mut cursor, mut keys, mut parts) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let part = client.say(&format!("scan {cursor} count 7"));
        let words: Vec<&str> = part.split(' ').filter(|word| !word.starts_with(['$', '*'])).collect();
        keys.extend(words[1..].iter().map(|key| (*key).to_owned()));
        parts += 1;
        cursor = words[0].to_owned();
        if cursor == "0" {
            break;
        }
    }
    assert!(parts >= 200 / 7, "{parts} parts");
    let met = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!((met, keys.len()), (200, 200));
    client.expect(&[
        ("scan x", "-ERR invalid cursor"),
        ("scan 0 count 0", "-ERR syntax error"),
        ("scan 0 count", "-ERR syntax error"),
        ("scan 18446744073709551615", "*2 $1 0 *0"),
    ]);
}

#[test]
fn what_is_not_understood_is_said() {
    let mut client = Client::new(Options { limit: None, databases: vec![], ..options() });
    client.expect(&[
        ("eval \"return 1\" 0", "-ERR unknown command 'eval', with args beginning with: 'return 1' '0'"),
        ("get", "-ERR wrong number of arguments for 'get' command"),
        ("get a b", "-ERR wrong number of arguments for 'get' command"),
        ("client kill x", "-ERR unknown subcommand or wrong number of arguments for 'kill'. Known of CLIENT are GETNAME, ID, INFO, SETINFO and SETNAME"),
        ("get a", "-ERR there is no zone for this key; name one in databases or prefixes of [redis]"),
        ("get s:1", "$-1"),
        ("mget s:1 a", "-ERR there is no zone for this key; name one in databases or prefixes of [redis]"),
        ("cl.throttle a 1 1 1", "-ERR there is no limit zone for CL.THROTTLE; name one as limit in [redis]"),
        ("\"a\\r\\nb\"", "-ERR unknown command 'a  b', with args beginning with:"),
    ]);
}

#[test]
fn a_full_zone_refuses_with_what_clients_take_for_it() {
    let mut client = Client::new(options());
    let value = "x".repeat(1_000);
    let refused = (0..100).map(|n| client.say(&format!("set key-{n} {value}"))).find(|said| said != "+OK");
    let refused = refused.expect("64 KiB do not hold 100 KB");
    assert!(refused.starts_with("-OOM command not allowed: zone `one` is full"), "{refused}");
    let refused = client.say(&format!("set a {}", "x".repeat(60_000)));
    assert!(
        refused.starts_with("-ERR zone `one`: a record of 60001 bytes (key and value) is larger than"),
        "{refused}"
    );
}

#[test]
fn an_answer_is_bounded() {
    let mut client = Client::new(options());
    assert_eq!(client.say(&format!("set a {}", "x".repeat(10_000))), "+OK");
    let many = "a ".repeat(500);
    assert_eq!(
        client.say(&format!("mget {many}")),
        "-ERR the answer is larger than 4194304 bytes; ask for fewer keys at a time"
    );
    assert!(client.say("mget a a").starts_with("*2 $10000 x"));
}

#[test]
fn the_third_protocol_has_maps_and_one_null() {
    let mut client = Client::new(options());
    let version = super::super::VERSION;
    client.expect(&[
        ("hello", &format!("*14 $6 server $5 redis $7 version $5 {version} $5 proto :2 $2 id :1 $4 mode $10 standalone $4 role $6 master $7 modules *0")),
        ("hello 4", "-NOPROTO unsupported protocol version"),
        ("hello x", "-ERR Protocol version is not an integer or out of range"),
        ("hello 3 what", "-ERR Syntax error in HELLO option"),
        ("hello 3 setname me", &format!("%7 $6 server $5 redis $7 version $5 {version} $5 proto :3 $2 id :1 $4 mode $10 standalone $4 role $6 master $7 modules *0")),
        ("get a", "_"),
        ("client getname", "$2 me"),
        ("client setname \"a b\"", "-ERR Client names cannot contain spaces, newlines or special characters, or be longer than 256 bytes."),
        ("client setinfo lib-name x", "+OK"),
        ("client id", ":1"),
        ("command count", ":22"),
        ("echo x", "$1 x"),
        ("command docs get nothing", "%1 $3 get %2 $7 summary $18 The value of a key $5 group $6 string"),
        ("command info nothing get", "*2 _ *10 $3 get :2 ~2 +readonly +fast :1 :1 :1 ~1 +@read *0 *0 *0"),
        ("hello 2", &format!("*14 $6 server $5 redis $7 version $5 {version} $5 proto :2 $2 id :1 $4 mode $10 standalone $4 role $6 master $7 modules *0")),
        ("get a", "$-1"),
    ]);
    let info = client.say("info server keyspace");
    assert!(
        info.contains("redis_version:7.") && info.contains("# Keyspace") && !info.contains("# Stats"),
        "{info}"
    );
}

/// A password file; the password of everybody is `secret`.
fn users(names: &[&str]) -> UsersFile {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("users");
    let lines: String = names.iter().map(|name| format!("{name}:{HASH}\n")).collect();
    std::fs::write(&file, lines).expect("written");
    UsersFile::load(&file).expect("a good file")
}

#[test]
fn nobody_gets_anything_without_a_password() {
    let mut options = options();
    options.grants.users = Some(users(&["default", "reader"]));
    options.read_only_users = ["reader".to_owned()].into();
    let mut client = Client::new(options.clone());
    client.expect(&[
        ("get a", "-NOAUTH Authentication required."),
        ("ping", "-NOAUTH Authentication required."),
        ("eval x", "-NOAUTH Authentication required."),
        ("auth wrong", "-WRONGPASS invalid username-password pair or user is disabled."),
        ("auth nobody secret", "-WRONGPASS invalid username-password pair or user is disabled."),
        ("get a", "-NOAUTH Authentication required."),
        ("auth secret", "+OK"),
        ("set a 1", "+OK"),
        ("auth reader secret", "+OK"),
        ("get a", "$1 1"),
        ("set a 2", "-NOPERM User reader has no permissions to run the 'set' command: the user is one of read_only_users"),
        ("cl.throttle a 1 1 1", "-NOPERM User reader has no permissions to run the 'cl.throttle' command: the user is one of read_only_users"),
        ("flushdb", "-NOPERM User reader has no permissions to run the 'flushdb' command: the user is one of read_only_users"),
    ]);
    // Other users leave this one alone; without it, it has to go.
    let grants = |names: &[&str]| Grants { users: Some(users(names)), ..options.grants.clone() };
    client.redis.set_grants(grants(&["reader", "other"]), options.read_only_users.clone());
    assert_eq!(client.say("get a"), "$1 1");
    client.redis.set_grants(grants(&["other"]), options.read_only_users.clone());
    assert_eq!(client.say("get a"), "");

    let mut second = Client::new(options);
    assert!(second.say("hello 3").starts_with("-NOAUTH HELLO must be called"));
    assert!(second.say("hello 3 auth default wrong").starts_with("-WRONGPASS"));
    assert!(second.say("hello 3 auth default secret").starts_with("%7"));
    assert_eq!(second.say("get a"), "_");
}

#[test]
fn what_is_not_granted_is_refused() {
    let options = Options { grants: Grants { decide: true, ..Grants::default() }, ..options() };
    let mut client = Client::new(options);
    client.expect(&[
        ("auth x", NO_PASSWORD_LINE),
        ("get a", "$-1"),
        ("set a 1", "-NOPERM User default has no permissions to run the 'set' command: it needs write = true in [redis]"),
        ("cl.throttle a 0 1 60", "*5 :0 :1 :0 :-1 :60"),
        ("cl.throttle a 0 1 60", "*5 :1 :1 :0 :60 :60"),
    ]);
    client.redis.set_grants(Grants::default(), Default::default());
    client.expect(&[(
        "cl.throttle a 1 1 1",
        "-NOPERM User default has no permissions to run the 'cl.throttle' command: it needs decide = true in [redis]",
    )]);
}

const NO_PASSWORD_LINE: &str = "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";

#[test]
fn a_node_that_stops_takes_no_changes() {
    let mut client = Client::new(options());
    assert_eq!(client.say("set a 1"), "+OK");
    client.redis.stop_changes();
    for change in ["set a 2", "del a", "expire a 1", "cl.throttle a 1 1 1", "flushdb"] {
        assert_eq!(client.say(change), "-READONLY the node is stopping and takes no changes", "{change}");
    }
    assert_eq!(client.say("get a"), "$1 1");
}

/// The length of the answer that begins here.
fn answer(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..end - 2]).ok()?.parse::<i64>().ok();
    let several = |count: i64| (0..count.max(0)).try_fold(end, |at, _| Some(at + answer(&bytes[at..])?));
    match bytes[0] {
        b'+' | b'-' | b'_' => Some(end),
        b':' => number().map(|_| end),
        b'$' | b'=' => match number()? {
            -1 => Some(end),
            length => {
                let whole = end + usize::try_from(length).ok()? + 2;
                (bytes.get(whole - 2..whole)? == b"\r\n").then_some(whole)
            }
        },
        b'*' | b'~' => several(number()?),
        b'%' => several(2 * number()?),
        _ => None,
    }
}

fn word() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "get",
        "set",
        "mget",
        "del",
        "exists",
        "expire",
        "pexpire",
        "ttl",
        "pttl",
        "scan",
        "dbsize",
        "select",
        "ping",
        "auth",
        "hello",
        "client",
        "info",
        "command",
        "cl.throttle",
        "flushdb",
        "nx",
        "xx",
        "ex",
        "px",
        "keepttl",
        "match",
        "count",
        "type",
        "docs",
        "setname",
        "getname",
        "setinfo",
        "id",
        "0",
        "1",
        "2",
        "3",
        "-1",
        "10",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "a",
        "s:a",
        "\"\"",
        "*",
    ];
    prop_oneof![8 => proptest::sample::select(KNOWN).prop_map(str::to_owned), 1 => "[a-z0-9:*?\\[]{1,6}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Every request has exactly one answer, and that is well-formed, whatever is asked.
    #[test]
    fn every_request_has_one_answer(lines in proptest::collection::vec(proptest::collection::vec(word(), 1..7), 1..120)) {
        let mut client = Client::new(options());
        for line in lines {
            let begin = client.replies.len();
            client.say(&line.join(" "));
            let said = &client.replies.bytes()[begin..];
            prop_assert_eq!(answer(said), Some(said.len()), "{:?}: {}", line, String::from_utf8_lossy(said));
        }
    }
}
