use super::*;
use crate::StateSync;
use std::time::Duration;
use sync_store::{Prefault, Region};

const API: &str = "[api]\nlisten = \"127.0.0.1:8080\"\n";

/// The errors of a text, one a line, as `line:column: message`.
fn errors(text: &str) -> String {
    let errors = Config::parse(text, Path::new("n.toml")).expect_err("errors");
    errors
        .to_string()
        .lines()
        .map(|line| line.strip_prefix("n.toml:").expect("the file"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn good(text: &str) -> Config {
    match Config::parse(text, Path::new("/etc/sync-node/n.toml")) {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    }
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = good("[zone_sync]\nlisten = \"10.0.0.1:9000\"\nssl = false");
    assert_eq!(config.cluster, "default");
    assert_eq!(config.log_level, LogLevel::Info);
    assert!(!config.name.is_empty());
    assert!(config.api.is_none());
    let sync = config.zone_sync.expect("a table");
    assert!(sync.servers.is_empty() && sync.resolve && sync.resolver.is_empty() && sync.valid.is_none());
    assert_eq!(sync.interval, Duration::from_millis(1));
    assert_eq!(sync.connect_timeout, Duration::from_secs(5));
    assert_eq!(sync.connect_retry_interval, Duration::from_secs(1));
    assert_eq!(sync.timeout, Duration::from_secs(5));
    assert_eq!((sync.buffers.number, sync.buffers.size), (256, 16 << 10));
    assert_eq!(sync.recv_buffer_size, 64 << 10);
    assert_eq!(sync.max_frame, 1 << 20);
    assert_eq!(sync.max_connections_per_address, 128);
    assert_eq!(sync.threads, 1);
    assert_eq!(sync.max_clock_skew, Duration::from_secs(5));
    assert_eq!(sync.shutdown_timeout, Duration::from_secs(10));
    assert_eq!(sync.tombstone_retention, Duration::from_secs(3600));
    assert!(sync.ssl.is_none());
}

#[test]
fn zones_say_what_they_are() {
    let config = good(&format!(
        "{API}
        [zone_sync]
        listen = 'unix:/run/sync.sock'
        tombstone_retention = '2h'
        ssl = false
        [[keyval_zone]]
        name = 'one'
        size = '32k'
        timeout = '1h30m'
        type = 'ip'
        [[keyval_zone]]
        name = 'two'
        size = 40000
        sync = false
        tombstone_retention = '1m'
        [[sticky_zone]]
        name = 'sessions'
        size = '1m'
        [[limit_req_zone]]
        name = 'req'
        size = '1g'
        rate = '10r/h'
        burst = 9
        nodelay = true
        [[limit_req_zone]]
        name = 'req2'
        size = '1G'
        rate = '100r/s'
        delay = 3
        dry_run = true"
    ));
    let [one, two] = &config.keyval_zones[..] else { panic!("two zones") };
    assert_eq!((one.size, one.kind, one.sync), (32 << 10, KeyvalType::Ip, true));
    assert_eq!(one.timeout, Some(Duration::from_secs(5400)));
    assert_eq!(one.tombstone_retention, Duration::from_secs(7200));
    assert_eq!((two.size, two.kind, two.sync, two.timeout), (40_000, KeyvalType::String, false, None));
    assert_eq!(two.tombstone_retention, Duration::from_secs(60));
    assert_eq!(config.sticky_zones[0].timeout, Duration::from_secs(600));
    let [req, req2] = &config.limit_req_zones[..] else { panic!("two zones") };
    assert_eq!((req.rate.to_string().as_str(), req.burst, req.delay), ("10r/h", 9, Delay::Nodelay));
    assert_eq!((req2.size, req2.delay, req2.dry_run), (1 << 30, Delay::After(3), true));
    let api = config.api.expect("a table");
    assert!(!api.grants.write && !api.grants.decide && api.grants.users.is_none());
}

#[test]
fn write_grants_decisions_unless_they_are_withheld() {
    let switches = |lines: &str| {
        let grants = good(&format!("{API}{lines}")).api.expect("a table").grants;
        (grants.write, grants.decide)
    };
    assert_eq!(switches("write = true"), (true, true));
    assert_eq!(switches("decide = true"), (false, true));
    assert_eq!(switches("write = true\ndecide = false"), (true, false));
}

#[test]
fn all_errors_come_at_once_with_their_places_and_fixes() {
    let text = r#"nmae = "edge-1"
cluster = "two words"
log_level = "loud"

[zone_sync]
servers = ["sync.example.com"]
resolver = "ns1"
interval = 5
conect_timeout = "5s"
timeout = "5 s"
buffers = { number = 0, size = "1k", sice = "2k" }
tls = true

[[keyval_zone]]
name = "one"
size = "32kb"
state = ""
type = "cidr"

[[keyval_zone]]
size = "0"
timeout = "0s"

[[sticky_zone]]
name = "one"
size = -5

[[limit_req_zone]]
name = "req/s"
size = "1m"
rate = "100/s"
burst = "many"
delay = 1
nodelay = true

[api]
listen = "8080"
write = "on"
deny = ["10.0.0.0/99"]
auth_basic_user_file = "/nonexistent/users"
"#;
    let expected = r#"1:1: unknown key `nmae` in the file; did you mean `name`?
2:11: `cluster` "two words" contains ' '; use letters, digits and _ - . : only
3:13: `log_level` "loud" is not a log level; write error, warn, info, debug or trace
5:1: [zone_sync] needs `listen`; add listen = "0.0.0.0:9000"
5:1: [zone_sync] needs certificates; add a table [zone_sync.ssl], or ssl = false for plain TCP, which lets anybody in who reaches the port
6:11: `servers` "sync.example.com": the port is missing: write host:port
7:12: `resolver` "ns1" is not an address; write "10.0.0.53" or "10.0.0.53:5353"
8:12: `interval` needs a unit; write it in quotes, such as "500ms" or "10s"
9:1: unknown key `conect_timeout` in [zone_sync]; did you mean `connect_timeout`?
10:11: `timeout` "5 s" is not a time; write numbers with w, d, h, m, s or ms, such as "10ms", "5s" or "1h30m"
11:22: `number` must be 1 or more
11:32: `size` must be at least 4k
11:38: unknown key `sice` in [zone_sync.buffers]; did you mean `size`?
12:1: unknown key `tls` in [zone_sync]; it knows transport, listen, servers, resolve, resolver, valid, interval, connect_timeout, connect_retry_interval, timeout, buffers, max_frame, recv_buffer_size, max_connections_per_address, threads, max_clock_skew, shutdown_timeout, tombstone_retention, ssl
16:8: `size` "32kb" is not a size; write a number with k, m or g, such as "32k", "1m" or "1g"
17:9: `state` must name a file, such as "one.keyval"
18:8: `type` "cidr" is not a type of keys; write string, ip or prefix
20:1: [[keyval_zone]] needs `name`; add name = "one"
21:8: `size` must be larger than 0
22:11: `timeout` must be longer than 0
25:8: zone `one` exists already, at line 15; give this one another name
26:8: `size` must be a whole number of 0 or more, not -5
29:8: `name` "req/s" contains '/'; use letters, digits and _ - . : only
31:8: `rate` "100/s" is not a rate; it must be a whole number and r/s, r/m, r/h or r/d, such as 100r/s
32:9: `burst` must be a whole number, not a string
34:11: `nodelay` contradicts `delay`; remove one of them
37:10: `listen` "8080": neither address:port, [IPv6 address]:port nor unix:/path
38:9: `write` must be true or false without quotes
39:8: `deny` "10.0.0.0/99" is not a range of clients; write an address, a network such as "10.0.0.0/8", "unix:" or "all"
40:24: `auth_basic_user_file` cannot be used: /nonexistent/users: No such file or directory (os error 2)"#;
    let found = errors(text);
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found, expected);
}

#[test]
fn syntax_errors_have_places_too() {
    let found = errors("[zone_sync\nlisten = \"x\"\n[api]\nlisten = 'y\n");
    assert!(found.lines().all(|line| line.contains(": not valid TOML: ")), "{found}");
    assert!(found.starts_with("1:"), "{found}");
    assert!(
        errors("name = \"a\"\nname = \"b\"").starts_with("2:1: not valid TOML: duplicate key"),
        "{}",
        errors("name = \"a\"\nname = \"b\"")
    );
}

#[test]
fn a_file_that_does_nothing_is_an_error() {
    assert_eq!(
        errors("name = 'edge-1'"),
        "1:1: neither [zone_sync] nor [api]: the node would have nothing to do; add one of them"
    );
}

#[test]
fn a_list_whose_tables_are_written_with_one_bracket_is_explained() {
    assert_eq!(
        errors(&format!("{API}[keyval_zone]\nname = 'one'")),
        "3:1: `keyval_zone` may stand more than once; write it with two brackets on each side, as [[keyval_zone]]"
    );
    assert_eq!(
        errors(&format!("{API}zone_sync = 1")),
        "3:1: unknown key `zone_sync` in [api]; it knows listen, write, decide, allow, deny, auth_basic_user_file"
    );
    assert_eq!(errors("api = 1"), "1:7: `api` must be a table; write [api]");
}

#[test]
fn going_without_tls_has_to_be_written() {
    let with = |line: &str| errors(&format!("[zone_sync]\nlisten = '10.0.0.1:9000'\n{line}"));
    assert!(with("").starts_with("1:1: [zone_sync] needs certificates"));
    assert!(with("ssl = true").starts_with("3:7: TLS needs certificates; write a table [zone_sync.ssl]"));
    assert_eq!(with("ssl = 'off'"), "3:7: `ssl` must be true or false without quotes");
    assert_eq!(
        with("[zone_sync.ssl]"),
        "3:1: [zone_sync.ssl] needs `certificate`; add certificate = \"node.pem\"
3:1: [zone_sync.ssl] needs `certificate_key`; add certificate_key = \"node.key\"
3:1: [zone_sync.ssl] needs `trusted_certificate`; add trusted_certificate = \"ca.pem\", or verify = false to trust everybody"
    );
}

#[test]
fn files_are_looked_for_beside_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    let text = "[zone_sync]\nlisten = '10.0.0.1:9000'\n[zone_sync.ssl]\ncertificate = 'n.pem'\ncertificate_key = 'n.key'\ntrusted_certificate = 'ca.pem'";
    std::fs::write(&file, text).expect("written");
    for name in ["n.pem", "n.key"] {
        std::fs::write(folder.path().join(name), "").expect("written");
    }
    let error = Config::load(&file).expect_err("no ca.pem").to_string();
    let path = folder.path().display();
    assert_eq!(
        error,
        format!(
            "{path}/node.toml:6:23: `trusted_certificate` cannot be read: {path}/ca.pem: No such file or directory (os error 2)"
        )
    );
    std::fs::write(folder.path().join("ca.pem"), "").expect("written");
    let ssl = Config::load(&file).expect("good").zone_sync.and_then(|sync| sync.ssl).expect("a table");
    assert_eq!(ssl.certificate, folder.path().join("n.pem"));
    assert!(ssl.verify);
    assert_eq!(ssl.verify_depth, 1);
    let missing = folder.path().join("absent.toml");
    let error = Config::load(&missing).expect_err("no file").to_string();
    assert_eq!(
        error,
        format!(
            "{}: cannot read the configuration: No such file or directory (os error 2)",
            missing.display()
        )
    );
}

#[test]
fn tls_is_what_the_file_says_and_the_defaults_are_safe() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["n.pem", "n.key", "ca.pem", "d.pem", "d.key", "crl.pem", "passwords"] {
        std::fs::write(folder.path().join(name), "").expect("written");
    }
    let ssl = |lines: &str| {
        let text = format!(
            "[zone_sync]\nlisten = '10.0.0.1:9000'\n[zone_sync.ssl]\ncertificate = 'n.pem'\ncertificate_key = 'n.key'\ntrusted_certificate = 'ca.pem'\n{lines}"
        );
        let config = Config::parse(&text, &folder.path().join("n.toml")).expect("good");
        config.zone_sync.and_then(|sync| sync.ssl).expect("a table")
    };
    let at = |name: &str| folder.path().join(name);
    let defaults = ssl("");
    assert!(defaults.verify && defaults.allowed_names.is_empty() && defaults.crl.is_none());
    assert!(
        defaults.dial_certificate.is_none() && defaults.password_file.is_none() && defaults.name.is_none()
    );
    assert!(!defaults.server_name && !defaults.session_reuse && !defaults.key_log);
    assert_eq!((defaults.protocols.len(), defaults.ciphers.len()), (2, 9));
    let all = ssl("dial_certificate = 'd.pem'
        dial_certificate_key = 'd.key'
        password_file = 'passwords'
        crl = 'crl.pem'
        verify_depth = 3
        allowed_names = ['*.example.com', 'spiffe://example.org/sync/*']
        name = 'sync.example.com'
        server_name = true
        protocols = 'TLSv1.3'
        ciphers = 'TLS_AES_128_GCM_SHA256'
        session_reuse = true
        key_log = true");
    assert_eq!(all.dial_certificate, Some((at("d.pem"), at("d.key"))));
    assert_eq!((all.password_file, all.crl), (Some(at("passwords")), Some(at("crl.pem"))));
    let names: Vec<String> = all.allowed_names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["*.example.com", "spiffe://example.org/sync/*"]);
    assert_eq!((all.verify_depth, all.name.as_deref()), (3, Some("sync.example.com")));
    assert_eq!(
        (all.protocols.len(), format!("{:?}", all.ciphers)),
        (1, "[TLS_AES_128_GCM_SHA256]".to_owned())
    );
    assert!(all.server_name && all.session_reuse && all.key_log);
}

#[test]
fn zones_say_where_their_memory_comes_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "{API}
        [[keyval_zone]]
        name = 'one'
        size = '1m'
        record_size = 100
        map_file = 'one.zone'
        map_mode = '0660'
        huge_pages = false
        prefault = true
        [[keyval_zone]]
        name = 'two'
        size = '1m'
        [[sticky_zone]]
        name = 'sessions'
        size = '1m'
        record_size = '1k'
        map_file = 'sessions.zone'
        [[limit_req_zone]]
        name = 'req'
        size = '1m'
        rate = '1r/s'
        map_file = '{}/req.zone'
        map_mode = '600'",
        folder.path().display()
    );
    let config = Config::parse(&text, &folder.path().join("node.toml")).expect("good");
    let file = |name: &str| Region::map_file(folder.path().join(name));
    let [one, two] = &config.keyval_zones[..] else { panic!("two zones") };
    assert_eq!(one.region, file("one.zone").mode(0o660).huge_pages(false).prefault(Prefault::First));
    assert_eq!(one.record_size, 100);
    let two_region = Region::anonymous().prefault(Prefault::Beside);
    assert_eq!((&two.region, two.record_size), (&two_region, 48));
    assert_eq!(config.sticky_zones[0].region, file("sessions.zone"));
    assert_eq!(config.sticky_zones[0].record_size, 1024);
    assert_eq!(config.limit_req_zones[0].region, file("req.zone").mode(0o600));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing was made");
}

#[test]
fn zones_say_where_their_state_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let parse = |lines: &str| {
        let text = format!("{API}[[keyval_zone]]\nname = 'one'\nsize = '32k'\n{lines}");
        Config::parse(&text, &folder.path().join("n.toml"))
    };
    let zone = |lines: &str| parse(lines).expect("good").keyval_zones.remove(0);
    let file = Some(folder.path().join("one.keyval"));
    assert_eq!((zone("").state, zone("").state_sync), (None, StateSync::Interval));
    assert_eq!(zone("state = 'one.keyval'").state, file);
    assert_eq!(zone("state = 'one.keyval'").state_sync, StateSync::Interval);
    assert_eq!(zone("state = 'one.keyval'\nstate_sync = 'always'").state_sync, StateSync::Always);
    assert_eq!(zone("state = 'one.keyval'\nstate_sync = 'interval'").state_sync, StateSync::Interval);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing was made");

    let path = folder.path().display();
    let errors =
        |lines: &str| parse(lines).expect_err("errors").to_string().replace(&format!("{path}/n.toml:"), "");
    assert_eq!(
        errors("state = 'absent/one.keyval'\nstate_sync = 'never'"),
        format!(
            "6:9: `state` cannot be made: there is no folder {path}/absent; make it, or name another
7:14: `state_sync` \"never\" is not possible; write always or interval"
        )
    );
    assert_eq!(
        errors("state_sync = 'always'"),
        "6:14: `state_sync` says nothing without `state`; add that, or remove `state_sync`"
    );
    assert_eq!(
        errors("map_file = 'one.zone'\nstate = 'one.keyval'"),
        "7:9: `state` is not possible with `map_file`: the zone would have two truths after a restart; remove one of them"
    );
    assert_eq!(
        errors("state = 'z'\n[[keyval_zone]]\nname = 'two'\nsize = '32k'\nstate = 'z'"),
        format!("10:9: `state` {path}/z holds the zone at line 6 already; give this one another file")
    );
}

#[test]
fn a_zone_that_cannot_be_mapped_is_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display();
    let errors = |lines: &str| {
        let text = format!("{API}[[keyval_zone]]\nname = 'one'\nsize = '1m'\n{lines}");
        let errors = Config::parse(&text, &folder.path().join("n.toml")).expect_err("errors").to_string();
        errors.replace(&format!("{path}/n.toml:"), "")
    };
    assert_eq!(
        errors("map_file = 'absent/one.zone'"),
        format!(
            "6:12: `map_file` cannot be made: there is no folder {path}/absent; make it, or name another"
        )
    );
    assert_eq!(
        errors("map_file = '.'"),
        "6:12: `map_file` must name a file, such as \"/dev/shm/sessions.zone\""
    );
    assert_eq!(errors("map_file = ''"), errors("map_file = '.'"));
    assert_eq!(
        errors("map_mode = '0660'"),
        "6:12: `map_mode` says nothing without `map_file`; add that, or remove `map_mode`"
    );
    for mode in ["rw", "0777", "0060", "1600", "066", "06600", "0o600", "", "0620"] {
        assert_eq!(
            errors(&format!("map_file = 'one.zone'\nmap_mode = '{mode}'")),
            format!(
                "7:12: `map_mode` {mode:?} is not a mode for a zone's file; write \"0600\" for the node's user alone, or \"0660\" to let its group attach"
            )
        );
    }
    assert_eq!(
        errors("map_file = 'one.zone'\nmap_mode = 600"),
        "7:12: `map_mode` must be octal digits in quotes, such as \"0600\" or \"0660\", not a number"
    );
    assert_eq!(
        errors("map_file = 'one.zone'\nhuge_pages = 'on'\nprefault = 1\nrecord_size = 0"),
        "7:14: `huge_pages` must be true or false without quotes
8:12: `prefault` must be true, false or \"beside\", not a number
9:15: `record_size` must be larger than 0"
    );
    assert_eq!(
        errors("prefault = 'later'"),
        "6:12: `prefault` \"later\" is not a way to touch memory; write true, false or \"beside\""
    );
    assert_eq!(
        errors("map_file = 'z'\n[[sticky_zone]]\nname = 'two'\nsize = '1m'\nmap_file = './z'"),
        format!("10:12: `map_file` {path}/./z holds the zone at line 6 already; give this one another file")
    );
}

#[test]
fn sizes_of_buffers_must_agree_and_limits_must_let_somebody_in() {
    let with = |lines: &str| errors(&format!("[zone_sync]\nlisten = '10.0.0.1:9000'\nssl = false\n{lines}"));
    assert_eq!(
        with("max_connections_per_address = 0"),
        "4:31: `max_connections_per_address` must be 1 or more"
    );
    for threads in ["0", "65"] {
        assert_eq!(with(&format!("threads = {threads}")), "4:11: `threads` must be 1 to 64");
    }
    assert_eq!(
        with("max_frame = '8k'"),
        "4:13: `max_frame` 8k cannot hold a buffer of 16k; write at least 17k"
    );
}

#[test]
fn a_place_can_be_asked_for_later() {
    let config = good(&format!("{API}[[keyval_zone]]\nname = 'one'\nsize = '32k'"));
    assert_eq!(config.location("api.listen"), "/etc/sync-node/n.toml:2:10");
    assert_eq!(config.location("keyval_zone.one.size"), "/etc/sync-node/n.toml:5:8");
    assert_eq!(config.location("zone_sync.listen"), "/etc/sync-node/n.toml");
}

#[test]
fn columns_count_characters() {
    assert_eq!(
        errors(&format!("cluster = \"é\" # ü\n{API}")),
        "1:11: `cluster` \"é\" contains 'é'; use letters, digits and _ - . : only"
    );
    assert!(errors(&format!("{API}allow = ['é', 7]")).starts_with("3:9: `allow`"));
}

mod values {
    use super::super::values::*;
    use std::time::Duration;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("1", 1), ("32k", 32 << 10), ("1M", 1 << 20), ("2g", 2 << 30), ("007k", 7 << 10)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "1.5m", "-1m", "+1m", "1 m", "1mb", "1kk", "0x10", "١k"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_size("99999999999999999999g"), Ok(u64::MAX));
        for bytes in [1, 1000, 1024, 16 << 10, 3 << 20, 1 << 40] {
            assert_eq!(parse_size(&display_size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn times() {
        for (text, ms) in [
            ("10ms", 10),
            ("5s", 5_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("1w2d3h4m5s6ms", 788_645_006),
            ("0s", 0),
        ] {
            assert_eq!(parse_time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "5 s", "1.5s", "30m1h", "1s1s", "-5s", "5S", "5sec", "1h 30m"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        assert!(parse_time("99999999999999999999w").is_err_and(|message| message.contains("3650d")));
    }
}

/// A table `[zone_sync]` with certificates that exist.
#[cfg(feature = "quic")]
fn with_certificates(lines: &str) -> Result<Config, Errors> {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["node.pem", "node.key", "ca.pem"] {
        std::fs::write(folder.path().join(name), "").expect("a file");
    }
    let text = format!(
        "[zone_sync]\n{lines}\n[zone_sync.ssl]\ncertificate = 'node.pem'\ncertificate_key = 'node.key'\ntrusted_certificate = 'ca.pem'\n"
    );
    Config::parse(&text, &folder.path().join("n.toml"))
}

#[cfg(feature = "quic")]
#[test]
fn quic_is_named_for_an_address_or_for_all_that_name_nothing_else() {
    let read = |lines: &str| {
        let config = with_certificates(lines).unwrap_or_else(|errors| panic!("{errors}"));
        let sync = config.zone_sync.expect("a table");
        let words = |texts: Vec<String>| texts.join(" ");
        let listen = sync.listen.iter().map(ToString::to_string).collect();
        (words(listen), words(sync.servers.iter().map(ToString::to_string).collect()))
    };
    let (listen, servers) = read(
        "listen = ['10.0.0.1:9000', 'quic://10.0.0.1:9000']\nservers = ['quic://a.example:9000', 'b.example:9000', '_sync._udp.example']",
    );
    assert_eq!(listen, "10.0.0.1:9000 quic://10.0.0.1:9000");
    assert_eq!(servers, "quic://a.example:9000 b.example:9000 _sync._udp.example");
    let (listen, servers) = read(
        "transport = 'quic'\nlisten = ['tcp://10.0.0.1:9000', '10.0.0.1:9000']\nservers = ['a.example:9000', '[::1]:9000', 'tcp://b.example:9000', 'unix:/run/c.sock', '_sync._tcp.example']",
    );
    assert_eq!(listen, "10.0.0.1:9000 quic://10.0.0.1:9000");
    assert_eq!(
        servers,
        "quic://a.example:9000 quic://[::1]:9000 b.example:9000 unix:/run/c.sock _sync._tcp.example"
    );
    let refused = |lines: &str| with_certificates(lines).expect_err("errors").to_string();
    assert!(refused("listen = []").contains("`listen` is empty"));
    assert!(refused("transport = 'udp'\nlisten = '10.0.0.1:9000'").contains("write tcp or quic"));
    let plain = errors("[zone_sync]\nlisten = 'quic://10.0.0.1:9000'\nservers = ['quic://a:1']\nssl = false");
    assert!(plain.starts_with("2:10: `listen` names QUIC, which is never without TLS"), "{plain}");
    assert!(plain.contains("\n3:11: `servers` names QUIC"), "{plain}");
    assert_eq!(
        errors("[api]\nlisten = 'quic://127.0.0.1:8080'"),
        "2:10: `listen` \"quic://127.0.0.1:8080\": QUIC is for `zone_sync` only; leave quic:// out"
    );
}

#[cfg(not(feature = "quic"))]
#[test]
fn a_program_without_quic_says_so() {
    let found = errors("[zone_sync]\nlisten = 'quic://10.0.0.1:9000'\nssl = false");
    assert!(found.contains("QUIC needs a program that was built with the feature `quic`"), "{found}");
}
