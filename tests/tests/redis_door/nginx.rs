//! nginx with Lua and lua-resty-redis, by the very file of the document: two nginxes, each beside its own node.

use std::path::Path;

use tests::{Cluster, Loopback, Nginx, Node, wait_for};

use crate::{LIMIT, block, door, two_nodes};

const HTTP_PORT: u16 = 8000;

fn start(node: &Node, listen: &Loopback, directory: &Path) -> Nginx {
    let redis = door(node.config.ip);
    let listen = listen.port(HTTP_PORT);
    let text = block(
        "nginx",
        &[
            ("\"127.0.0.1\", 6379", format!("\"{}\", {}", redis.ip(), redis.port())),
            ("127.0.0.1:8000", listen.to_string()),
            // A busy machine has no such patience: who waits longer is served without a decision.
            ("door:set_timeout(250)", "door:set_timeout(60000)".to_owned()),
        ],
    );
    Nginx::start(&format!("nginx-{}", node.config.name), directory, listen, &[("nginx.conf", text)])
}

#[test]
fn limits_and_sessions_are_shared_by_two_nginxes() {
    let cluster = Cluster::new(&["a", "b"], "");
    let nodes = two_nodes(&cluster);
    let listen = [Loopback::claim(), Loopback::claim()];
    let mut nginxes = [0, 1].map(|n: usize| start(&nodes[n], &listen[n], cluster.directory()));
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
