use super::super::Config;
use crate::haproxy::{CONNECTIONS, Mapping, TIMEOUT};
use std::path::Path;
use std::time::Duration;

const ZONES: &str = "name = 'a'\n[[keyval_zone]]\nname = 'counters'\nsize = '1m'\n[[sticky_zone]]\nname = 'sessions'\nsize = '1m'\n[haproxy_peers]\n";

fn parse(lines: &str) -> Result<Config, String> {
    let file = Path::new("/etc/sync-node/n.toml");
    let config = Config::parse(&format!("{ZONES}{lines}"), file);
    config.map_err(|errors| errors.to_string().replace("/etc/sync-node/n.toml:", ""))
}

#[test]
fn what_is_not_written_has_its_default() {
    let config = parse("tables = { app = { zone = 'sessions' } }").expect("good");
    let door = config.haproxy_peers.expect("a table");
    assert_eq!(door.listen.to_string(), "127.0.0.1:10000");
    assert_eq!(
        door.options.tables["app"],
        Mapping::Sessions { zone: "sessions".to_owned(), servers: [].into() }
    );
    assert_eq!(door.options.name, None);
    assert!(door.options.access.allows(None));
    assert_eq!((door.options.connections, door.options.timeout), (CONNECTIONS, TIMEOUT));
}

#[test]
fn everything_can_be_written() {
    let text =
        "listen = 'unix:peers.sock'\nname = 'edge'\nallow = '127.0.0.1'\nconnections = 7\ntimeout = '20s'
tables = { 'mesh/app' = { zone = 'sessions', servers = { one = 1 } }, c = { zone = 'counters', sum = 'c_sum' } }";
    let door = parse(text).expect("good").haproxy_peers.expect("a table");
    assert_eq!(door.listen.to_string(), "unix:/etc/sync-node/peers.sock");
    let options = &door.options;
    assert_eq!(options.name.as_deref(), Some("edge"));
    let counters = Mapping::Counters { zone: "counters".to_owned(), sum: "c_sum".to_owned() };
    assert_eq!(options.tables["c"], counters);
    let servers = [("one".to_owned(), 1)].into();
    assert_eq!(options.tables["mesh/app"], Mapping::Sessions { zone: "sessions".to_owned(), servers });
    assert!(!options.access.allows(None));
    assert_eq!((options.connections, options.timeout), (7, Duration::from_secs(20)));
    // Of these a running node can take over who may connect, and nothing else.
    for (change, is_same) in [("allow = '127.0.0.1'", "allow = 'all'", true), ("c_sum", "sum", false)]
        .map(|(old, new, is_same)| (text.replace(old, new), is_same))
    {
        let other = parse(&change).expect("good").haproxy_peers.expect("a table");
        assert_eq!(door.has_same_door(&other), is_same, "{change}");
    }
}

#[test]
fn errors_name_the_way_out() {
    for (lines, expected) in [
        ("", "8:1: [haproxy_peers] has no stick-table; write tables = "),
        ("tables = {}", "9:10: `tables` must be a table of stick-tables and zones; write tables = "),
        ("tables = { a = 'sessions' }", "9:10: `tables` must be a table of stick-tables and zones; write"),
        ("tables = { a = { sum = 'b' } }", "9:10: `tables` has no zone for \"a\"; write tables = "),
        (
            "tables = { a = { zone = 'sessions', key = 1 } }",
            "9:10: `tables` has \"key\" for \"a\"; a stick-table knows zone, sum and servers",
        ),
        (
            "tables = { a = { zone = 'sessions', servers = { one = 1, two = 1 } } }",
            "9:10: `tables` has `servers` for \"a\" with 1 twice; write servers = { one = 1, two = 2 }",
        ),
        (
            "tables = { a = { zone = 'sessions', servers = { one = 0 } } }",
            "9:10: `tables` has `servers` for \"a\" with a number of \"one\" that cannot be; write servers",
        ),
        (
            "tables = { a = { zone = 'counters', sum = 'b', servers = {} } }",
            "9:10: `tables` has `servers` for \"a\", whose counters have none; leave it out",
        ),
        (
            "tables = { a = { zone = 'counters' } }",
            "9:10: `tables` names \"counters\" for \"a\", and there is no [[sticky_zone]] of that name; add one, or name another (sessions lie in one; with `sum` it is for counters)",
        ),
        (
            "tables = { a = { zone = 'sessions', sum = 'b' } }",
            "9:10: `tables` names \"sessions\" for \"a\", and there is no [[keyval_zone]] of that name; add one, or name another (counters lie in one; without `sum` it is for sessions)",
        ),
        (
            "tables = { 'a b' = { zone = 'sessions' } }",
            "9:10: `tables` has the stick-table \"a b\", and no HAProxy can: it is empty or has a space in it",
        ),
        (
            "tables = { a = { zone = 'counters', sum = 'a' } }",
            "9:10: `tables` fills \"a\" with sums, which has a zone itself; name another table",
        ),
        (
            "tables = { a = { zone = 'counters', sum = 's' }, b = { zone = 'counters', sum = 's' } }",
            "9:10: `tables` fills \"s\" with two sums; name another table for one of them",
        ),
        (
            "tables = { a = { zone = 'sessions' } }\ntimeout = '3s'",
            "10:11: `timeout` is less than \"4s\", and an HAProxy says something every three seconds only",
        ),
        (
            "tables = { a = { zone = 'sessions' } }\nwrite = true",
            "10:1: unknown key `write` in [haproxy_peers]; it knows listen, name, tables, allow, deny, connections, timeout",
        ),
    ] {
        let errors = parse(lines).expect_err(lines);
        assert!(errors.starts_with(expected), "{lines}: {errors}");
    }
}
