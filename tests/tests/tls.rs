//! TLS between real nodes, and between a node and OpenSSL.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::{
    Authority, Cluster, Config, Encryption, Identity, Node, Process, SYNC_PORT, put_reaches, run_to_end,
    sync_node, wait_for,
};

const LIMIT: Duration = Duration::from_secs(60);

const ZONES: &str = "[[keyval_zone]]\nname = \"one\"\nsize = \"1m\"\n";

/// Runs openssl without input to its end, and returns what it printed, and whether it succeeded.
fn openssl(directory: &Path, arguments: &str) -> (bool, String) {
    let mut command = Command::new("timeout");
    command.args(["60", "openssl"]).args(arguments.split(' ')).current_dir(directory).stdin(Stdio::null());
    let output = command.output().expect("the package openssl is installed");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

/// Dials a node as a member of the cluster would.
fn s_client(cluster: &Cluster, name: &str, as_whom: &str, arguments: &str) -> (bool, String) {
    let address = cluster.loopback(name).port(SYNC_PORT);
    let who = match as_whom {
        "" => String::new(),
        name => format!(" -cert certs/{name}.pem -key certs/{name}.key"),
    };
    let arguments =
        format!("s_client -connect {address} -CAfile certs/ca.pem -verify_return_error{who} {arguments}");
    openssl(cluster.directory(), arguments.trim_end())
}

fn with_ssl(cluster: &Cluster, name: &str, lines: &[&str]) -> Config {
    let ssl = lines.iter().map(|line| (*line).to_owned()).collect();
    Config { ssl, ..cluster.config(name) }
}

fn status(node: &Node) -> Value {
    node.api.status().expect("an answer").document
}

/// Writes a file in one piece: a node that looks in between would see half of it, or nothing.
fn replace(file: &Path, content: impl AsRef<[u8]>) {
    let new = file.with_extension("new");
    fs::write(&new, content).and_then(|()| fs::rename(&new, file)).expect("writable");
}

/// Waits until a node has both links with a peer, one for each direction, and returns them. That it sees the peer says that there is one.
fn both_links(node: &Node, name: &str) -> Vec<Value> {
    wait_for("one link for each direction", LIMIT, || match links(node, name) {
        links if links.len() == 2 => Ok(links),
        _ => Err(status(node).to_string()),
    })
}

/// The links of a node with a peer whose certificate begins with this name.
fn links(node: &Node, name: &str) -> Vec<Value> {
    let status = status(node);
    let peers = status["peers"].as_array().expect("a list");
    peers.iter().filter(|peer| peer["certificate_names"][0] == name).cloned().collect()
}

fn wait_online(node: &Node, expected: u64) {
    wait_for(&format!("{} to see {expected} peers", node.name()), LIMIT, || {
        match node.api.sync_figure("nodes_online") {
            online if online == expected => Ok(()),
            online => Err(format!("{online}:\n{}", node.log_end())),
        }
    });
}

#[test]
fn two_nodes_prefer_the_hybrid_group_and_show_who_is_who() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let [mut a, b] = cluster.start_all(["a", "b"]);
    for (node, peer) in [(&a, "b"), (&b, "a")] {
        for link in both_links(node, peer) {
            assert_eq!(link["name"], peer);
            assert_eq!(link["tls"]["version"], "TLSv1.3");
            assert_eq!(link["tls"]["key_exchange"], "X25519MLKEM768");
            assert_eq!(link["tls"]["cipher_suite"], "TLS_AES_256_GCM_SHA384");
        }
    }
    a.wait_log("the peer by its certificate", LIMIT, |line| line.contains("(b)"));
    let url = format!("http://{}", cluster.loopback("a").port(tests::API_PORT));
    let shown = run_to_end(cluster.directory(), &["status", "--url", &url], LIMIT).output;
    assert!(shown.contains("CERTIFICATE"), "{shown}");
}

#[test]
fn openssl_without_the_hybrid_group_gets_in_by_what_is_configured_and_by_nothing_else() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let ciphers = "ciphers = [\"TLS_AES_128_GCM_SHA256\", \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\"]";
    let node = cluster.start_with(with_ssl(&cluster, "a", &[ciphers]));
    node.wait_live();
    let good = |arguments: &str, parts: &[&str]| {
        let (ok, printed) = s_client(&cluster, "a", "b", arguments);
        for part in parts.iter().chain(&["Verify return code: 0 (ok)"]) {
            assert!(ok && printed.contains(part), "{arguments}: no {part:?} in:\n{printed}");
        }
    };
    let bad = |as_whom: &str, arguments: &str, part: &str| {
        let (_, printed) = s_client(&cluster, "a", as_whom, arguments);
        assert!(printed.contains(part), "{arguments}: no {part:?} in:\n{printed}");
    };
    good("-tls1_3 -groups X25519", &["TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256", "X25519"]);
    good("-tls1_3 -groups P-256", &["TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256", "prime256v1"]);
    good("-tls1_2", &["TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"]);
    bad("b", "-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256", "alert handshake failure");
    bad("b", "-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384", "alert handshake failure");
    bad("b", "-tls1_1", "Cipher is (NONE)");
    bad("", "-tls1_2", "SSL alert number 116");

    let mut only_13 = with_ssl(&cluster, "b", &["protocols = \"TLSv1.3\""]);
    only_13.servers.clear();
    let node = cluster.start_with(only_13);
    node.wait_live();
    let (_, printed) = s_client(&cluster, "b", "a", "-tls1_2");
    assert!(printed.contains("alert protocol version"), "{printed}");
    // The client may know of it a moment earlier than the figures.
    wait_for("the failure to be counted", LIMIT, || {
        let figures = node.api.get("/api/9/ssl").expect(200).json();
        if figures["handshakes_failed"] == 1 { Ok(()) } else { Err(figures.to_string()) }
    });
}

#[test]
fn openssl_sees_the_name_only_if_told_and_the_certificate_for_dialling() {
    let cluster = Cluster::with_host(&["a", "b"], ZONES, "sync.test");
    cluster.cert(&["node", "a-dials", "--ca", "certs", "--out", "certs"]);
    for server_name in [true, false] {
        let address = cluster.loopback("b").port(SYNC_PORT);
        let mut server = Command::new("openssl");
        let arguments = format!(
            "s_server -accept {address} -cert certs/b.pem -key certs/b.key -CAfile certs/ca.pem -Verify 2 \
             -verify_return_error -tlsextdebug -groups X25519 -www"
        );
        server.args(arguments.split_whitespace()).current_dir(cluster.directory());
        let mut server = Process::start("s_server", server, &cluster.directory().join("s_server.log"));
        server.wait_log("it listens", LIMIT, |line| line.contains("ACCEPT"));
        let lines = [
            "name = \"sync.test\"",
            &format!("server_name = {server_name}"),
            "dial_certificate = \"certs/a-dials.pem\"",
            "dial_certificate_key = \"certs/a-dials.key\"",
        ];
        let node = cluster.start_with(with_ssl(&cluster, "a", &lines));
        server.wait_log("the certificate", LIMIT, |line| {
            line.starts_with("depth=0") && line.contains("a-dials")
        });
        server.wait_log("it is verified", LIMIT, |line| line.contains("verify return:1"));
        let log = server.log();
        assert_eq!(log.contains("TLS client extension \"server name\""), server_name, "{log}");
        node.kill();
    }
}

#[test]
fn a_node_that_dials_another_name_is_refused_by_it() {
    let cluster = Cluster::with_host(&["a", "b"], ZONES, "sync.test");
    let _b = cluster.start("b");
    let mut a = cluster.start_with(with_ssl(&cluster, "a", &["name = \"other.test\""]));
    a.wait_complaint(&["other.test was expected"]);
    wait_for("the cause to be counted", LIMIT, || {
        let figures = a.api.get("/api/9/ssl").expect(200).json();
        let counted = figures["verify_failures"]["hostname_mismatch"].as_u64();
        if counted > Some(0) { Ok(()) } else { Err(figures.to_string()) }
    });
}

#[test]
fn a_certificate_that_is_revoked_closes_its_links_and_no_other() {
    let cluster = Cluster::new(&["a", "b", "c"], ZONES);
    cluster.cert(&["revoke", "--ca", "certs", "--out", "certs"]);
    let configs = ["a", "b", "c"].map(|name| with_ssl(&cluster, name, &["crl = \"certs/crl.pem\""]));
    let mut nodes = configs.map(|config| cluster.start_with(config));
    for node in &mut nodes {
        node.wait_ready();
    }
    let [mut a, mut b, c] = nodes;
    for node in [&a, &b, &c] {
        wait_online(node, 2);
    }
    let since = |node: &Node, peer: &str| -> Vec<Value> {
        links(node, peer).into_iter().map(|link| link["connected_since_ms"].clone()).collect()
    };
    both_links(&a, "c");
    both_links(&c, "a");
    let before = (since(&a, "c"), since(&c, "a"));

    // Nobody is told to reload: the file changes.
    cluster.cert(&["revoke", "certs/b.pem", "--ca", "certs", "--out", "certs"]);
    a.wait_complaint(&["no longer trusted", "(b)", "revoked"]);
    b.wait_complaint(&["refused us: our certificate is revoked"]);
    for (node, online) in [(&a, 1), (&b, 0), (&c, 1)] {
        wait_online(node, online);
    }
    wait_for("the cause to be counted", LIMIT, || {
        let figures = status(&a)["refusals"].clone();
        if figures["certificate_revoked"].as_u64() > Some(0) { Ok(()) } else { Err(figures.to_string()) }
    });
    a.api.add("one", "after", "kept from b");
    put_reaches("one", "to-c", &a.api, &[&c.api]);
    assert_eq!(b.api.value("one", "after"), None);
    assert_eq!((since(&a, "c"), since(&c, "a")), before, "links of others stand as they did");
}

#[test]
fn a_reload_closes_links_whose_name_is_no_longer_allowed() {
    let cluster = Cluster::new(&["a", "b", "c"], ZONES);
    let allowing = |names: &str| with_ssl(&cluster, "a", &[&format!("allowed_names = {names}")]);
    let mut a = cluster.start_with(allowing("[\"a\", \"b\", \"c\"]"));
    let mut others = ["b", "c"].map(|name| cluster.start(name));
    a.wait_ready();
    for node in &mut others {
        node.wait_ready();
    }
    wait_online(&a, 2);
    a.reload(allowing("[\"a\", \"c\"]"), cluster.directory());
    a.wait_complaint(&[
        "no longer trusted",
        "(b)",
        "none of its names is among allowed_names",
        "b, localhost",
    ]);
    others[0].wait_complaint(&["refused us", "allowed_names"]);
    wait_online(&a, 1);
    wait_online(&others[1], 2);

    a.reload(allowing("[\"a\", \"b\", \"c\"]"), cluster.directory());
    wait_online(&a, 2);
    put_reaches("one", "after", &a.api, &[&others[0].api, &others[1].api]);
}

#[test]
fn strangers_with_good_certificates_are_counted_and_fill_no_log() {
    const DIALS: usize = 40;
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let a = cluster.start_with(with_ssl(&cluster, "a", &["allowed_names = \"a\""]));
    a.wait_live();
    for _ in 0..DIALS {
        let (_, printed) = s_client(&cluster, "a", "b", "-tls1_2");
        assert!(printed.contains("alert certificate unknown"), "{printed}");
    }
    wait_for("all to be counted", LIMIT, || {
        let refusals = status(&a)["refusals"].clone();
        if refusals["name_not_allowed"] == DIALS { Ok(()) } else { Err(refusals.to_string()) }
    });
    let log = a.log();
    let lines = log.lines().filter(|line| line.contains("connection refused")).count();
    assert!((1..DIALS).contains(&lines), "{lines} lines:\n{log}");
    assert!(log.contains("none of its names is among allowed_names: b, localhost"), "{log}");
    let figures = a.api.get("/api/9/ssl").expect(200).json();
    assert_eq!(figures["verify_failures"]["other"], DIALS, "{figures}");
}

#[test]
fn a_link_is_closed_when_its_certificate_expires_and_comes_back_with_a_new_one() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let authority = Authority::new("edge", cluster.directory());
    let config = |name: &str, identity| Config {
        encryption: authority.node(name, cluster.loopback(name).ip(), identity),
        ..cluster.config(name)
    };
    let mut a = cluster.start_with(config("a", Identity::Valid));
    let mut b = cluster.start_with(config("b", Identity::Expires(Duration::from_secs(20))));
    a.wait_ready();
    b.wait_ready();
    wait_online(&a, 1);
    a.wait_complaint(&["no longer trusted", "(b)", "expired"]);
    b.wait_complaint(&["refused us: our certificate is expired"]);
    wait_online(&a, 0);

    // The same files, and nobody says so.
    authority.node("b", cluster.loopback("b").ip(), Identity::Valid);
    wait_online(&a, 1);
    put_reaches("one", "after", &b.api, &[&a.api]);
}

#[test]
fn broken_files_change_nothing_and_are_named_once() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let [mut a, b] = cluster.start_all(["a", "b"]);
    let key = cluster.directory().join("certs/a.key");
    let good = fs::read(&key).expect("readable");
    replace(&key, "broken");
    a.wait_complaint(&["those of before stay in use", "certificate_key", "a.key", "no private key in it"]);
    wait_online(&a, 1);
    put_reaches("one", "meanwhile", &a.api, &[&b.api]);
    replace(&key, good);
    a.wait_log("good files are taken over", LIMIT, |line| {
        line.contains("certificates have changed and are in use")
    });
    let log = a.log();
    let complaints = log.lines().filter(|line| line.contains("those of before stay in use")).count();
    assert_eq!(complaints, 1, "{log}");
}

#[test]
fn secrets_are_written_only_if_asked_for() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    for key_log in [false, true] {
        let config = with_ssl(&cluster, "a", &[&format!("key_log = {key_log}")]);
        fs::write(cluster.directory().join("a.toml"), config.to_toml()).expect("writable");
        let mut command = Command::new(sync_node());
        command
            .args(["run", "-c", "a.toml"])
            .current_dir(cluster.directory())
            .env("SSLKEYLOGFILE", "secrets");
        let log = cluster.directory().join("a.log");
        let mut node = Process::start("a", command, &log);
        node.wait_log("it has started", LIMIT, |line| line.contains("started"));
        let (ok, printed) = s_client(&cluster, "a", "b", "-tls1_3");
        assert!(ok, "{printed}");
        let secrets = cluster.directory().join("secrets");
        if key_log {
            wait_for("secrets", LIMIT, || {
                let text = fs::read_to_string(&secrets).unwrap_or_default();
                if text.contains("CLIENT_TRAFFIC_SECRET_0") { Ok(()) } else { Err(text) }
            });
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&secrets.metadata().expect("a file").permissions());
            assert_eq!(mode & 0o777, 0o600);
            assert!(node.log().contains("secrets of all TLS sessions"), "{}", node.log());
        } else {
            assert!(!secrets.exists());
        }
    }
}

#[test]
fn openssl_resumes_a_session_only_if_that_is_asked_for() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    for reuse in [true, false] {
        let config = with_ssl(&cluster, "a", &[&format!("session_reuse = {reuse}")]);
        let node = cluster.start_with(config);
        node.wait_live();
        let (ok, printed) = s_client(&cluster, "a", "b", "-tls1_2 -sess_out session");
        assert!(ok && printed.contains("New, TLSv1.2"), "{printed}");
        let (ok, printed) = s_client(&cluster, "a", "b", "-tls1_2 -sess_in session");
        assert!(ok, "{printed}");
        assert_eq!(printed.contains("Reused, TLSv1.2"), reuse, "{printed}");
        wait_for("the session to be counted", LIMIT, || {
            let figures = node.api.get("/api/9/ssl").expect(200).json();
            if figures["session_reuses"] == u64::from(reuse) { Ok(()) } else { Err(figures.to_string()) }
        });
        node.kill();
    }
}

#[test]
fn an_encrypted_key_is_opened_with_the_password_file() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let command = "pkcs8 -topk8 -in certs/a.key -out certs/locked.key -passout pass:open-sesame";
    let (ok, printed) = openssl(cluster.directory(), command);
    assert!(ok, "{printed}");
    fs::write(cluster.directory().join("passwords"), "not this\nopen-sesame\n").expect("writable");
    let mut config = with_ssl(&cluster, "a", &["password_file = \"passwords\""]);
    let Encryption::Tls { key, .. } = &mut config.encryption else {
        unreachable!("a cluster has certificates")
    };
    *key = cluster.directory().join("certs/locked.key");
    let mut a = cluster.start_with(config);
    let b = cluster.start("b");
    a.wait_ready();
    wait_online(&a, 1);
    put_reaches("one", "key", &a.api, &[&b.api]);
}

#[test]
fn a_setting_that_cannot_be_is_named_with_its_line_and_the_way_out() {
    let cluster = Cluster::new(&["a"], ZONES);
    let directory = cluster.directory();
    let node = cluster.config("a").to_toml();
    for (lines, parts) in [
        ("crl = \"absent.pem\"", ["`crl` cannot be read", "absent.pem"]),
        ("crl = \"certs/a.pem\"", ["crl", "a.pem: no CRL in it, only CERTIFICATE"]),
        ("password_file = \"absent\"", ["`password_file` cannot be read", "absent"]),
        ("ciphers = \"HIGH:!aNULL\"", ["`ciphers`", "these are: TLS_AES_256_GCM_SHA384"]),
        ("ciphers = []", ["`ciphers` leaves no cipher suite", "remove it"]),
        ("ciphers = \"TLS_AES_256_GCM_SHA384\"", ["none of TLSv1.2", "take that version out of protocols"]),
        ("protocols = []", ["protocols: no version of TLS is left", "TLSv1.3"]),
        ("protocols = \"SSLv3\"", ["`protocols`", "write \"TLSv1.2\" or \"TLSv1.3\""]),
        ("allowed_names = []", ["`allowed_names` lets nobody in", "remove it"]),
        ("allowed_names = [\"edge-*.test\"]", ["`allowed_names`", "a * stands for the whole first label"]),
        ("dial_certificate = \"certs/a.pem\"", ["`dial_certificate` needs `dial_certificate_key`", "remove"]),
        (
            "dial_certificate_key = \"certs/a.key\"",
            ["`dial_certificate_key` needs `dial_certificate`", "remove"],
        ),
        (
            "dial_certificate = \"certs/a.pem\"\ndial_certificate_key = \"certs/ca.key\"",
            ["dial_certificate_key", "does not belong to the certificate"],
        ),
        ("key_log = true", ["SSLKEYLOGFILE names no file", "remove key_log"]),
        ("verify_depth = -1", ["`verify_depth`", "0 or more"]),
        ("name = \"not a name\"", ["cannot be verified in a certificate", "host name"]),
        ("server_name = \"on\"", ["`server_name`", "true or false"]),
        ("conf_command = \"Groups X25519\"", ["`conf_command` has no counterpart", "remove it"]),
        ("verify = false\ncrl = \"certs/a.pem\"", ["`crl` means nothing without verification", "remove it"]),
        ("verify = false\nallowed_names = \"a\"", ["`allowed_names` means nothing", "remove it"]),
    ] {
        let text = node.replacen("trusted_certificate =", &format!("{lines}\ntrusted_certificate ="), 1);
        fs::write(directory.join("node.toml"), &text).expect("writable");
        let line = |lines: &str| {
            let last = lines.lines().last().expect("a line");
            text.lines().position(|line| line == last).expect("it is there") + 1
        };
        for command in ["check", "run"] {
            let ended = run_to_end(directory, &[command, "-c", "node.toml"], LIMIT);
            assert_eq!(ended.status.code(), Some(1), "{lines}: {ended:?}");
            for part in parts.into_iter().map(str::to_owned).chain([format!("node.toml:{}:", line(lines))]) {
                assert!(ended.errors.contains(&part), "{command} {lines}: no {part:?} in:\n{}", ended.errors);
            }
        }
    }
}
