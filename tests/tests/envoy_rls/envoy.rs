//! Envoy by the very files of the document: two of them, each beside its own node, in front of one small server.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

use tests::{Api, Cluster, Loopback, Node, Process, Reply, Signal, wait_for};

use crate::operation::HASH;
use crate::{LIMIT, block, config, door, one_node, programs, two_nodes, write_rules};

const HTTP_PORT: u16 = 8000;
const APP_PORT: u16 = 3000;

/// What the document has twice, for a decision and for the connection to the node. A busy machine has no such patience: who waits longer is served without a decision.
const IMPATIENCE: &str = "timeout: 0.25s";
const PATIENCE: &str = "timeout: 60s";

/// An HTTP server that says hello until the test ends.
pub(crate) fn start_app(listen: &Loopback) {
    let listener = TcpListener::bind(listen.port(APP_PORT)).expect("a free port");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                // Requests without a body, as many as come on a connection.
                while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if line == "\r\n"
                        && stream
                            .get_mut()
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
                            .is_err()
                    {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
}

/// An Envoy beside a node, and a client of it.
pub(crate) struct Envoy {
    pub(crate) http: Api,
    _listen: Loopback,
    process: Process,
}

impl Envoy {
    /// Starts one that waits for its node as long as that takes.
    pub(crate) fn start(cluster: &Cluster, node: &Node, app: &Loopback, changes: &[(&str, &str)]) -> Self {
        // The others first: they name what is in the document.
        Self::start_impatient(cluster, node, app, &[changes, &[(IMPATIENCE, PATIENCE)]].concat())
    }

    /// Starts one with the time-outs of the document.
    fn start_impatient(cluster: &Cluster, node: &Node, app: &Loopback, changes: &[(&str, &str)]) -> Self {
        let listen = Loopback::claim();
        let address = |address: std::net::SocketAddr| {
            format!("address: {}, port_value: {}", address.ip(), address.port())
        };
        let mut text = block(
            "yaml",
            1,
            &[
                ("address: 127.0.0.1, port_value: 8000", address(listen.port(HTTP_PORT))),
                ("address: 127.0.0.1, port_value: 3000", address(app.port(APP_PORT))),
                ("address: 127.0.0.1, port_value: 8081", address(door(&node.config))),
            ],
        );
        for (old, new) in changes {
            assert!(text.contains(old), "{old}");
            text = text.replace(old, new);
        }
        let name = format!("envoy-{}", node.config.name);
        let file = cluster.directory().join(format!("{name}.yaml"));
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(programs().join("envoy"));
        command.arg("-c").arg(&file).args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]);
        let process = Process::start(&name, command, &cluster.directory().join(format!("{name}.log")));
        let mut envoy = Self { http: Api::new(listen.port(HTTP_PORT)), _listen: listen, process };
        wait_for("Envoy to accept connections", LIMIT, || {
            if let Some(status) = envoy.process.status() {
                panic!("Envoy ended ({status}):\n{}", envoy.process.log_end());
            }
            std::net::TcpStream::connect(envoy._listen.port(HTTP_PORT)).map_err(|error| error.to_string())
        });
        envoy
    }

    fn get(&self, path: &str) -> Reply {
        self.http.request("GET", path, None).expect("an answer")
    }
}

#[test]
fn two_envoys_beside_two_nodes_have_one_limit() {
    let cluster = Cluster::new(&["a", "b"], "");
    write_rules(&cluster, &block("yaml", 0, &[]));
    let nodes = two_nodes(&cluster);
    let app = Loopback::claim();
    start_app(&app);
    let [first, second] = [0, 1].map(|n: usize| Envoy::start(&cluster, &nodes[n], &app, &[]));

    // Five at once; both see the same client address.
    for left in (0..5).rev() {
        let reply = first.get("/").expect(200);
        assert_eq!(reply.body, "hello");
        for form in ["ratelimit", "x-ratelimit"] {
            assert_eq!(reply.headers[&format!("{form}-remaining")], left.to_string());
            assert_eq!(reply.headers[&format!("{form}-limit")], "5, 5;w=3600");
        }
    }
    let refused = first.get("/").expect(429);
    for form in ["ratelimit", "x-ratelimit"] {
        let wait: u64 = refused.headers[&format!("{form}-reset")].parse().expect("seconds");
        assert!((600..=720).contains(&wait), "{wait}");
    }
    wait_for("the other Envoy to refuse as well", LIMIT, || match second.get("/").status {
        429 => Ok(()),
        other => Err(other.to_string()),
    });
    let doors = nodes[0].api.get("/v1/status").json()["doors"]["envoy_rls"].clone();
    assert!(doors["requests"].as_u64() >= Some(6) && doors["errors"] == 0, "{doors}");
}

#[test]
fn an_envoy_may_ask_over_a_unix_socket() {
    let cluster = Cluster::new(&["a"], "");
    write_rules(&cluster, &block("yaml", 0, &[]));
    let tcp = door(&cluster.config("a"));
    let a = one_node(&cluster, &[(&tcp.to_string(), "unix:envoy.sock")]);
    let app = Loopback::claim();
    start_app(&app);
    let old = format!("socket_address: {{address: {}, port_value: {}}}", tcp.ip(), tcp.port());
    let new = format!("pipe: {{path: {}}}", cluster.directory().join("envoy.sock").display());
    let envoy = Envoy::start(&cluster, &a, &app, &[(&old, &new)]);
    for _ in 0..5 {
        envoy.get("/").expect(200);
    }
    envoy.get("/").expect(429);
}

#[test]
fn an_envoy_may_send_a_password_and_check_health() {
    let cluster = Cluster::new(&["a"], "");
    write_rules(&cluster, &block("yaml", 0, &[]));
    std::fs::write(cluster.directory().join("users"), format!("envoy:{HASH}\n")).expect("written");
    let table = "response_headers = \"draft\"";
    let a = one_node(&cluster, &[(table, &format!("{table}\nauth_basic_user_file = \"users\""))]);
    let app = Loopback::claim();
    start_app(&app);
    let service = "envoy_grpc: {cluster_name: node}";
    // `envoy:secret`.
    let metadata = "initial_metadata: [{key: authorization, value: \"Basic ZW52b3k6c2VjcmV0\"}]";
    let cluster_node = "- name: node\n    type: STATIC";
    let checks = "health_checks: [{timeout: 5s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, grpc_health_check: {}}]";
    let changes = [
        (service, &*format!("{service}\n                  {metadata}")),
        (cluster_node, &format!("{cluster_node}\n    {checks}")),
    ];
    let envoy = Envoy::start(&cluster, &a, &app, &changes);
    // Nobody would be refused if the node were not healthy, or had refused to decide.
    wait_for("the sixth request to be refused", LIMIT, || match envoy.get("/").status {
        429 => Ok(()),
        status => Err(status.to_string()),
    });
    let doors = a.api.get("/v1/status").json()["doors"]["envoy_rls"].clone();
    assert_eq!(doors["errors"], 0, "{doors}");
}

#[test]
fn an_envoy_whose_node_is_gone_serves_without_a_limit_or_refuses_as_it_was_told() {
    let cluster = Cluster::new(&["a", "b"], "");
    write_rules(&cluster, &block("yaml", 0, &[]));
    let [a, b] = two_nodes(&cluster);
    let app = Loopback::claim();
    start_app(&app);
    let other = Envoy::start(&cluster, &b, &app, &[]);
    let lenient = Envoy::start(&cluster, &a, &app, &[]);
    while lenient.get("/").status == 200 {}
    wait_for("the other node to know", LIMIT, || match other.get("/").status {
        429 => Ok(()),
        status => Err(status.to_string()),
    });

    // In good order: its Envoy notices nothing but that there is no limit.
    a.quit();
    for _ in 0..10 {
        lenient.get("/").expect(200);
    }
    let strict = Envoy::start(&cluster, &b, &app, &[("failure_mode_deny: false", "failure_mode_deny: true")]);
    strict.get("/").expect(429);
    let b_config = b.kill();
    strict.get("/").expect(500);
    other.get("/").expect(200);

    // The first that is back is alone, and begins anew; it is in force as soon as it is there.
    let mut b = cluster.start_with(b_config);
    b.wait_live();
    wait_for("the limit to be in force again", LIMIT, || match strict.get("/").status {
        429 => Ok(()),
        status => Err(status.to_string()),
    });
    let mut a = cluster.start_with(config(&cluster, "a", &[]));
    [&mut a, &mut b].into_iter().for_each(Node::wait_ready);
    wait_for("the other one to know what was counted meanwhile", LIMIT, || match lenient.get("/").status {
        429 => Ok(()),
        status => Err(status.to_string()),
    });
}

#[test]
fn an_envoy_whose_node_hangs_goes_on_after_its_timeout() {
    let cluster = Cluster::new(&["a"], "");
    write_rules(&cluster, &block("yaml", 0, &[]));
    let mut a = one_node(&cluster, &[]);
    let app = Loopback::claim();
    start_app(&app);
    let envoy = Envoy::start_impatient(&cluster, &a, &app, &[]);
    while envoy.get("/").status == 200 {}
    a.signal(Signal::Stop);
    envoy.get("/").expect(200);
    a.signal(Signal::Continue);
    wait_for("the limit to be in force again", LIMIT, || match envoy.get("/").status {
        429 => Ok(()),
        status => Err(status.to_string()),
    });
}
