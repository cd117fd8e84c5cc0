//! nginx with Lua and lua-resty-redis, by the very file of the document: two nginxes, each beside its own node.

use std::path::Path;
use std::process::Command;

use tests::{Api, Cluster, Loopback, Node, Process, Reply, wait_for};

use crate::{LIMIT, block, door, two_nodes};

const HTTP_PORT: u16 = 8000;

/// An nginx beside a node, and a client of it.
struct Nginx {
    http: Api,
    _listen: Loopback,
    process: Process,
}

impl Nginx {
    fn start(node: &Node, directory: &Path) -> Self {
        let listen = Loopback::claim();
        let redis = door(node.config.ip);
        let text = block(
            "nginx",
            &[
                ("\"127.0.0.1\", 6379", format!("\"{}\", {}", redis.ip(), redis.port())),
                ("127.0.0.1:8000", listen.port(HTTP_PORT).to_string()),
            ],
        );
        let folder = directory.join(format!("nginx-{}", node.config.name));
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("nginx.conf"), text).expect("written");
        let mut command = Command::new("nginx");
        // One process: a master that is killed would leave its workers behind.
        command.arg("-p").arg(&folder).args(["-c", "nginx.conf", "-e", "stderr"]);
        command.args(["-g", "daemon off; master_process off; pid nginx.pid;"]);
        let process =
            Process::start("nginx", command, &directory.join(format!("nginx-{}.log", node.config.name)));
        Self { http: Api::new(listen.port(HTTP_PORT)), _listen: listen, process }
    }

    fn get(&self, path: &str, cookie: &str) -> Result<Reply, String> {
        let headers = [("cookie", cookie)];
        let headers = if cookie.is_empty() { &headers[..0] } else { &headers };
        self.http.request_with("GET", path, headers, None)
    }

    fn wait_up(&mut self) {
        wait_for("nginx to answer", LIMIT, || {
            if let Some(status) = self.process.status() {
                panic!("nginx ended ({status}):\n{}", self.process.log_end());
            }
            self.get("/who", "").map(|_| ())
        });
    }
}

#[test]
fn limits_and_sessions_are_shared_by_two_nginxes() {
    let cluster = Cluster::new(&["a", "b"], "");
    let nodes = two_nodes(&cluster);
    let mut nginxes = [0, 1].map(|n: usize| Nginx::start(&nodes[n], cluster.directory()));
    nginxes.iter_mut().for_each(Nginx::wait_up);
    let [first, second] = &nginxes;

    // Five at once; both nginxes see the same client address.
    for left in (0..5).rev() {
        let reply = first.get("/", "").expect("an answer").expect(200);
        assert_eq!(
            (reply.body.trim(), &reply.headers["x-ratelimit-remaining"]),
            ("hello", &left.to_string())
        );
    }
    let refused = first.get("/", "").expect("an answer").expect(429);
    let wait: u64 = refused.headers["retry-after"].parse().expect("seconds");
    assert!((600..=720).contains(&wait), "{wait}");
    wait_for("the other nginx to refuse as well", LIMIT, || match second.get("/", "")?.status {
        429 => Ok(()),
        other => Err(other.to_string()),
    });

    assert_eq!(second.get("/who", "").expect("an answer").status, 401);
    let welcome = first.get("/login?user=ann", "").expect("an answer").expect(200);
    let cookie = welcome.headers["set-cookie"].split(';').next().expect("a cookie").to_owned();
    wait_for("the other nginx to know the session", LIMIT, || {
        let reply = second.get("/who", &cookie)?;
        if (reply.status, reply.body.trim()) == (200, "ann") { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    assert_eq!(nodes[0].api.status().expect("a status").zones["sessions"].records_total, 1);
    for nginx in &nginxes {
        assert!(!nginx.process.log_end().contains("[error]"), "{}", nginx.process.log_end());
    }
}
