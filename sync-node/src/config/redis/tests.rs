use super::super::Config;
use crate::redis::{CONNECTIONS, TIMEOUT};
use std::path::Path;
use std::time::Duration;

const ZONES: &str = "name = 'a'\n[[keyval_zone]]\nname = 'one'\nsize = '1m'\n[[limit_req_zone]]\nname = 'req'\nsize = '1m'\nrate = '1r/s'\n[redis]\n";

fn parse(lines: &str) -> Result<Config, String> {
    let file = Path::new("/etc/sync-node/n.toml");
    let config = Config::parse(&format!("{ZONES}{lines}"), file);
    config.map_err(|errors| errors.to_string().replace("/etc/sync-node/n.toml:", ""))
}

#[test]
fn what_is_not_written_has_its_default() {
    let config = parse("databases = 'one'").expect("good");
    let redis = config.redis.expect("a table");
    assert_eq!(redis.listen.to_string(), "127.0.0.1:6379");
    let options = redis.options;
    assert_eq!((options.databases, options.limit), (vec!["one".to_owned()], None));
    assert!(!options.grants.write && !options.grants.decide && options.grants.users.is_none());
    assert_eq!((options.connections, options.timeout), (CONNECTIONS, Some(TIMEOUT)));
}

#[test]
fn everything_can_be_written() {
    let text =
        "listen = 'unix:redis.sock'\nprefixes = { 's:' = 'one' }\nlimit = 'req'\nwrite = true\ndecide = false
allow = '127.0.0.1'\nconnections = 7\ntimeout = '0s'";
    let redis = parse(text).expect("good").redis.expect("a table");
    assert_eq!(redis.listen.to_string(), "unix:/etc/sync-node/redis.sock");
    let options = &redis.options;
    assert_eq!(options.prefixes.get("s:").map(String::as_str), Some("one"));
    assert_eq!(options.limit.as_deref(), Some("req"));
    assert!(options.grants.write && !options.grants.decide);
    assert!(!options.grants.access.allows(None));
    assert_eq!((options.connections, options.timeout), (7, None::<Duration>));
    // Of these a running node can take over who may do what, and nothing else.
    for (change, is_same) in [("write = true", "write = false", true), ("limit = 'req'\n", "", false)]
        .map(|(old, new, is_same)| (text.replace(old, new), is_same))
    {
        let other = parse(&change).expect("good").redis.expect("a table");
        assert_eq!(redis.has_same_door(&other), is_same, "{change}");
    }
}

#[test]
fn errors_name_the_way_out() {
    for (lines, expected) in [
        (
            "",
            "9:1: [redis] shows no zone; add databases = \"…\" with a keyval zone, or limit = \"…\" with a limit zone",
        ),
        (
            "databases = ['one', 'two']",
            "10:13: `databases` names \"two\", and there is no [[keyval_zone]] of that name; add one, or name another",
        ),
        (
            "limit = 'one'",
            "10:9: `limit` names \"one\", and there is no [[limit_req_zone]] of that name; add one, or name another",
        ),
        (
            "prefixes = 'one'",
            "10:12: `prefixes` must be a table of prefixes and keyval zones; write prefixes = { \"session:\" = \"sessions\" }",
        ),
        (
            "prefixes = { '' = 'one' }",
            "10:12: `prefixes` has an empty prefix, which every key has; use `databases`",
        ),
        (
            "prefixes = { 'a' = 'req' }",
            "10:12: `prefixes` names \"req\", and there is no [[keyval_zone]] of that name; add one, or name another",
        ),
        ("limit = 'req'\nconnections = 0", "11:15: `connections` is 0; from 1 to 1048576 are possible"),
        (
            "limit = 'req'\nread_only_users = 'ann'",
            "11:19: `read_only_users` means nothing without `auth_basic_user_file`; add that, or remove it",
        ),
        (
            "limit = 'req'\npassword = 'x'",
            "11:1: unknown key `password` in [redis]; it knows listen, databases, prefixes, limit, write, decide, allow, deny, auth_basic_user_file, read_only_users, connections, timeout",
        ),
    ] {
        assert_eq!(parse(lines).expect_err(lines), expected, "{lines}");
    }
}

#[test]
fn a_reader_has_to_be_a_user() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("users"), "ann:$5$abc$qsg6EHbUzHQzF1POlD7zUwBINSELQxypPaeDcZe6vH0\n")
        .expect("written");
    let parse = |reader: &str| {
        let text =
            format!("{ZONES}limit = 'req'\nauth_basic_user_file = 'users'\nread_only_users = ['{reader}']");
        Config::parse(&text, &folder.path().join("n.toml"))
    };
    assert!(parse("ann").is_ok());
    let error = parse("bob").expect_err("no such user").to_string();
    assert!(error.contains(":12:19: `read_only_users`: there is no user \"bob\" in "), "{error}");
    assert!(error.ends_with("users; add one, or remove it here"), "{error}");
}
