use super::*;

fn server(text: &str) -> Server {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    text.parse::<Server>().expect_err(text).to_string()
}

#[test]
fn every_form_of_server_is_read_and_written_back() {
    for text in [
        "sync.example.com:9000",
        "localhost:1",
        "node_1:65535",
        "_sync._tcp.example.com",
        "192.0.2.1:9000",
        "[2001:db8::1]:9000",
        "unix:/run/sync.sock",
        "quic://sync.example.com:9000",
        "quic://192.0.2.1:9000",
        "quic://[2001:db8::1]:9000",
        "_sync._udp.example.com",
    ] {
        assert_eq!(server(text).to_string(), text);
    }
    assert_eq!(server("[::1]:9"), Server::Static(Address::Tcp("[::1]:9".parse().unwrap())));
    let host = |transport| Server::Host { host: "sync.example.com".into(), port: 9, transport };
    assert_eq!(server("Sync.Example.COM.:9"), host(Transport::Tcp));
    assert_eq!(server("tcp://Sync.Example.COM.:9"), host(Transport::Tcp));
    assert_eq!(server("quic://Sync.Example.COM.:9"), host(Transport::Quic));
    assert_eq!(server("tcp://[::1]:9"), server("[::1]:9"));
    assert_eq!(server("quic://[::1]:9"), Server::Static(Address::Quic("[::1]:9".parse().unwrap())));
    for (text, is_quic) in [
        ("quic://192.0.2.1:9000", true),
        ("quic://a:1", true),
        ("_sync._udp.example.com", true),
        ("192.0.2.1:9000", false),
        ("tcp://a:1", false),
        ("_sync._tcp.example.com", false),
        ("unix:/a", false),
    ] {
        assert_eq!(server(text).is_quic(), is_quic, "{text}");
    }
    assert_eq!(server("_Sync._TCP.example.com."), Server::Srv { name: "_sync._tcp.example.com".into() });
}

#[test]
fn a_refusal_says_what_to_write() {
    for (text, part) in [
        ("", "port is missing"),
        ("sync.example.com", "port is missing"),
        ("192.0.2.1", "port is missing"),
        (":9000", "host name is missing"),
        ("host:0", "1 to 65535"),
        ("host:65536", "1 to 65535"),
        ("host:http", "1 to 65535"),
        ("::1", "brackets"),
        ("::1:9000", "brackets"),
        ("300.1.1.1:90", "not an IP address"),
        ("a..b:90", "empty label"),
        ("a b:90", "character"),
        ("häuschen:90", "character"),
        ("unix:", "path is missing"),
        ("_sync._tcp.example.com:9000", "leave the port out"),
        ("_sync.example.com", "_service._tcp"),
        ("_sync._tcp", "_service._tcp"),
        ("quic://", "port is missing"),
        ("quic://unix:/a", "1 to 65535"),
        ("quic://_sync._udp.example.com", "leave tcp:// or quic:// out"),
        ("udp://192.0.2.1:9000", "tcp:// or quic://"),
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(part), "{text}: {refusal}");
        assert!(refusal.contains(&format!("{text:?}")), "{refusal}");
    }
    assert!(refusal(&format!("{}:9", "a".repeat(64))).contains("63"));
    assert!(refusal(&format!("{}b:9", "a.".repeat(127))).contains("253"));
}

#[test]
fn addresses_are_read_and_written_back() {
    for text in ["192.0.2.1:9000", "[::1]:9000", "unix:/a b", "unix:relative"] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
    }
    for (text, part) in [("::1", "brackets"), ("1.2.3.4", "port"), ("host:9", "neither"), ("unix:", "path")] {
        let error = text.parse::<Address>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn the_host_to_verify_is_the_one_that_was_written() {
    let host = |text: &str| server(text).fixed().unwrap().host;
    assert_eq!(host("[2001:db8::1]:9"), "2001:db8::1");
    assert_eq!(host("192.0.2.1:9"), "192.0.2.1");
    assert_eq!(host("unix:/x"), "localhost");
    assert!(server("a:9").fixed().is_none());
}
