use super::super::Config;
use crate::envoy_rls::{CONNECTIONS, Form, TIMEOUT};
use std::path::Path;

const TABLES: &str =
    "name = 'a'\n[[limit_req_zone]]\nname = 'req'\nsize = '1m'\nrate = '1r/s'\n[envoy_rls]\n";
const RULES: &str =
    "domain: web\ndescriptors:\n- key: path\n  rate_limit: {unit: day, requests_per_unit: 10}\n";

/// In a folder with these files of rules.
fn parse(folder: &Path, files: &[(&str, &str)], lines: &str) -> Result<Config, String> {
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("written");
    }
    let shown = format!("{}/", folder.display());
    Config::parse(&format!("{TABLES}{lines}"), &folder.join("n.toml"))
        .map_err(|errors| errors.to_string().replace(&shown, ""))
}

#[test]
fn what_is_not_written_has_its_default() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = parse(folder.path(), &[("r.yaml", RULES)], "rules = 'r.yaml'\nlimit = 'req'").expect("good");
    let door = config.envoy_rls.expect("a table");
    assert_eq!(door.listen.to_string(), "127.0.0.1:8081");
    let options = door.options;
    assert!(options.users.is_none() && options.access.allows(None) && options.response_headers.is_empty());
    assert_eq!((options.connections, options.timeout), (CONNECTIONS, Some(TIMEOUT)));
}

#[test]
fn everything_can_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = [("r.yaml", RULES), ("s.yaml", "domain: other")];
    let text = "listen = 'unix:rls.sock'\nrules = ['r.yaml', 's.yaml']\nlimit = 'req'
response_headers = ['draft', 'x']\nallow = '127.0.0.1'\nconnections = 7\ntimeout = '0s'";
    let door = parse(folder.path(), &files, text).expect("good").envoy_rls.expect("a table");
    assert_eq!(door.listen.to_string(), format!("unix:{}/rls.sock", folder.path().display()));
    assert_eq!(door.options.response_headers, [Form::Draft, Form::X]);
    assert!(!door.options.access.allows(None));
    assert_eq!((door.options.connections, door.options.timeout), (7, None));
    for (old, new, is_same) in
        [("'draft', 'x'", "", true), (", 's.yaml'", "", true), ("connections = 7", "connections = 8", false)]
    {
        let other = parse(folder.path(), &files, &text.replace(old, new)).expect("good").envoy_rls;
        assert_eq!(door.has_same_door(&other.expect("a table")), is_same, "{new}");
    }
}

#[test]
fn errors_name_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    for (rules, lines, expected) in [
        (RULES, "limit = 'req'", "n.toml:6:1: [envoy_rls] needs `rules`; add rules = \"envoy-rules.yaml\""),
        (
            RULES,
            "rules = 'r.yaml'",
            "n.toml:6:1: [envoy_rls] needs `limit`; add limit = \"clients\", a limit zone",
        ),
        (
            RULES,
            "rules = 'r.yaml'\nlimit = 'one'",
            "n.toml:8:9: `limit` names \"one\", and there is no [[limit_req_zone]] of that name; add one, or name another",
        ),
        (
            RULES,
            "rules = 'absent.yaml'\nlimit = 'req'",
            "n.toml:7:9: `rules`: absent.yaml: cannot be read: No such file or directory (os error 2)",
        ),
        (
            "domain: web\ndescriptors:\n- kye: a\n- key: b\n  rate_limit: {}\n",
            "rules = 'r.yaml'\nlimit = 'req'",
            "n.toml:7:9: `rules`: r.yaml:3:3: a descriptor needs `key`; add key: NAME
n.toml:7:9: `rules`: r.yaml:3:3: unknown key `kye` in a descriptor; did you mean `key`?
n.toml:7:9: `rules`: r.yaml:5:15: `rate_limit` needs `unit`; add unit: minute
n.toml:7:9: `rules`: r.yaml:5:15: `rate_limit` needs `requests_per_unit`; add requests_per_unit: 100",
        ),
        (
            RULES,
            "rules = 'r.yaml'\nlimit = 'req'\nresponse_headers = 'rfc'",
            "n.toml:9:20: `response_headers` \"rfc\" is not a form of headers; write \"draft\" or \"x\"",
        ),
        (
            RULES,
            "rules = 'r.yaml'\nlimit = 'req'\nconnections = 0",
            "n.toml:9:15: `connections` is 0; from 1 to 1048576 are possible",
        ),
        (
            RULES,
            "rules = 'r.yaml'\nlimit = 'req'\nrule = 'x'",
            "n.toml:9:1: unknown key `rule` in [envoy_rls]; did you mean `rules`?",
        ),
    ] {
        assert_eq!(parse(folder.path(), &[("r.yaml", rules)], lines).expect_err(lines), expected);
    }
}
