//! Sessions: what one HAProxy learns, the others know.

use tests::{Cluster, Reply, wait_for};

use crate::haproxy::Haproxy;
use crate::{LIMIT, config, nodes};

/// The server that answered, by its port.
pub(crate) fn ask(haproxy: &Haproxy, session: &str) -> String {
    let cookie = format!("session={session}");
    let reply = haproxy.http.request_with("GET", "/", &[("cookie", &cookie)], None);
    reply.map(|reply: Reply| reply.expect(200).body).expect("an answer")
}

/// What a server of that port is called.
pub(crate) fn name(server: &str) -> &'static str {
    if server == "8001" { "one" } else { "two" }
}

#[test]
fn a_session_stays_with_its_server_at_any_haproxy() {
    let cluster = Cluster::new(&["a", "b"], "");
    let nodes = nodes(&cluster, ["a", "b"]);
    let [one, two] = [0, 1].map(|n| Haproxy::start(["lb-1", "lb-2"][n], &nodes[n], cluster.directory()));
    let sessions: Vec<String> = (0..9).map(|n| format!("s{n}")).collect();
    let servers: Vec<String> = sessions.iter().map(|session| ask(&one, session)).collect();
    assert!(servers.iter().any(|server| *server != servers[0]), "both servers are used: {servers:?}");
    for (session, server) in sessions.iter().zip(&servers) {
        two.wait_datum("app", session, "server_key", name(server));
        assert_eq!(ask(&two, session), *server);
    }
    assert_eq!(nodes[1].api.status().expect("a status").zones["sessions"].records_total, 9);

    // One that comes later, and one that was restarted, are taught everything.
    let three = Haproxy::start("lb-3", &nodes[0], cluster.directory());
    drop(two);
    let two = Haproxy::start("lb-2", &nodes[1], cluster.directory());
    for haproxy in [&two, &three] {
        for (session, server) in sessions.iter().zip(&servers) {
            haproxy.wait_datum("app", session, "server_key", name(server));
        }
    }
}

#[test]
fn a_node_that_was_restarted_is_taught_by_its_haproxy() {
    let cluster = Cluster::new(&["a"], "");
    let [node] = nodes(&cluster, ["a"]);
    let mut haproxy = Haproxy::start("lb-1", &node, cluster.directory());
    let server = ask(&haproxy, "ann");
    haproxy.wait_datum("app", "ann", "server_key", name(&server));
    let learned = |node: &tests::Node| match node.api.status()?.zones["sessions"].records_total {
        1 => Ok(()),
        other => Err(other.to_string()),
    };
    wait_for("the session in the zone", LIMIT, || learned(&node));
    node.quit();
    let mut node = cluster.start_with(config(&cluster, "a", ""));
    node.wait_ready();
    wait_for("the session in the zone again", LIMIT, || learned(&node));
    haproxy.wait_connected();
    assert_eq!(ask(&haproxy, "ann"), server);
}

/// HAProxies that store nothing but numbers of servers, and number them differently.
#[test]
fn a_table_of_numbers_is_shared_by_the_names_that_each_node_knows() {
    const TABLE: &str =
        "backend old\n    stick-table type string len 64 size 1m expire 30m store server_id peers cluster\n";
    let cluster = Cluster::new(&["a", "b"], "");
    let mut nodes = [("a", 1, 2), ("b", 7, 8)].map(|(name, one, two)| {
        let mut config = config(&cluster, name, "");
        let app = "tables = { app = { zone = \"sessions\" },";
        assert!(config.doors.contains(app), "{}", config.doors);
        let old = format!("{app} old = {{ zone = \"sessions\", servers = {{ one = {one}, two = {two} }} }},");
        config.doors = config.doors.replace(app, &old);
        cluster.start_with(config)
    });
    nodes.iter_mut().for_each(tests::Node::wait_ready);
    nodes.iter().for_each(|node| node.wait_online(1));
    let [one, two] =
        [0, 1].map(|n| Haproxy::start_with(["lb-1", "lb-2"][n], &nodes[n], cluster.directory(), TABLE));
    one.command("set table old key ann data.server_id 2").expect("set");
    two.wait_datum("old", "ann", "server_id", "8");
    two.wait_datum("app", "ann", "server_key", "two");
    two.command("set table old key ann data.server_id 7").expect("set");
    one.wait_datum("old", "ann", "server_id", "1");
}
