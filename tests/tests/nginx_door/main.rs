//! nginx without patches in front of two nodes, by the very files of the document: limits and a blocklist by `auth_request`, sessions by njs, under the load of wrk.

mod cost;
mod limits;
mod load;
mod sessions;

use std::net::SocketAddr;
use std::time::Duration;

use tests::{API_PORT, Cluster, Loopback, Nginx, Node, block, change};

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const DOCUMENT: &str = "docs/integrations/nginx.md";
const HTTP_PORT: u16 = 8000;
const APP_PORTS: [u16; 2] = [9001, 9002];

/// Blocks of the document in the language nginx.
const LIMITS: usize = 0;
const SESSIONS: usize = 1;

/// What stands in the document for patience that a busy machine has not: who waits longer is served without a decision.
const IMPATIENCE: &str = "read_timeout 250ms";

/// Two nodes, an nginx beside each, and two applications behind both, which answer with their port.
struct Place {
    nginxes: [Nginx; 2],
    nodes: [Node; 2],
    apps: [Nginx; 2],
    listen: [Loopback; 2],
    origin: Loopback,
    cluster: Cluster,
}

impl Place {
    /// With changes to the tables of zones, and to the configuration of nginx.
    fn new(zones: &[(&str, String)], conf: usize, changes: &[(&str, String)]) -> Self {
        let cluster = Cluster::new(&["a", "b"], "");
        let text = change(block(DOCUMENT, "toml", 0), zones);
        let (zones, api) = text.split_once("[api]").expect("the table");
        let mut nodes = ["a", "b"].map(|name| {
            let mut config = cluster.config(name);
            config.zones = zones.to_owned();
            config.api = api.lines().filter(|line| !line.starts_with("listen")).map(str::to_owned).collect();
            cluster.start_with(config)
        });
        let origin = Loopback::claim();
        let listen = [Loopback::claim(), Loopback::claim()];
        let mut apps = APP_PORTS.map(|port| start_app("app", &cluster, origin.port(port)));
        let mut nginxes = [0, 1].map(|n: usize| {
            let name = format!("nginx-{}", nodes[n].config.name);
            start_nginx(&name, &cluster, &nodes[n], &origin, listen[n].port(HTTP_PORT), conf, changes)
        });
        nodes.iter_mut().for_each(Node::wait_ready);
        nodes.iter().for_each(|node| node.wait_online(1));
        apps.iter_mut().chain(&mut nginxes).for_each(Nginx::wait_up);
        Self { nginxes, nodes, apps, listen, origin, cluster }
    }

    fn address(&self, nginx: usize) -> SocketAddr {
        self.listen[nginx].port(HTTP_PORT)
    }
}

fn start_app(name: &str, cluster: &Cluster, listen: SocketAddr) -> Nginx {
    let port = listen.port();
    let answer = format!("location / {{ return 200 {port}; }} location = /forbidden {{ return 403 mine; }}");
    let text = format!("events {{}} http {{ access_log off; server {{ listen {listen}; {answer} }} }}");
    Nginx::start(&format!("{name}-{port}"), cluster.directory(), listen, &[("nginx.conf", text)])
}

fn start_nginx(
    name: &str,
    cluster: &Cluster,
    node: &Node,
    origin: &Loopback,
    listen: SocketAddr,
    conf: usize,
    changes: &[(&str, String)],
) -> Nginx {
    let apps = APP_PORTS.map(|port| origin.port(port).to_string());
    let text = change(block(DOCUMENT, "nginx", conf), changes);
    let api = SocketAddr::from((node.config.ip, API_PORT)).to_string();
    let text = change(text, &[("127.0.0.1:8080", api), ("127.0.0.1:8000", listen.to_string())])
        .replace("127.0.0.1:9001", &apps[0])
        .replace("127.0.0.1:9002", &apps[1]);
    let script = block(DOCUMENT, "js", 0);
    let script = change(script, &[("127.0.0.1:9001", apps[0].clone()), ("127.0.0.1:9002", apps[1].clone())]);
    Nginx::start(name, cluster.directory(), listen, &[("nginx.conf", text), ("sticky.js", script)])
}
