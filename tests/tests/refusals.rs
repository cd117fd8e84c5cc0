//! Nodes that do not belong are refused, both sides say why, and the cluster goes on.

use std::time::Duration;

use tests::{
    Authority, Cluster, Config, Elapsed, Encryption, Identity, Node, SYNC_PORT, put_reaches, wait_for,
};

const LIMIT: Duration = Duration::from_secs(30);

const ZONES: &str = r#"
    [[keyval_zone]]
    name = "one"
    size = "1m"

    [[keyval_zone]]
    name = "two"
    size = "1m"
"#;

/// The forms in which TLS libraries say it.
const UNKNOWN_AUTHORITY: &str = "unknown issuer|unknownissuer|unknown ca|unknownca|unknown authority";

/// Two nodes that go on, and room for a third that does not belong to them: it dials them, they do not know of it.
struct Scene {
    cluster: Cluster,
    authority: Authority,
    encryption: bool,
}

impl Scene {
    fn new(encryption: bool) -> Self {
        let cluster = Cluster::new(&["a", "b", "intruder"], ZONES);
        let authority = Authority::new("edge", cluster.directory());
        Self { cluster, authority, encryption }
    }

    fn config(&self, name: &str) -> Config {
        let ip = self.cluster.loopback(name).ip();
        let encryption =
            if self.encryption { self.authority.node(name, ip, Identity::Valid) } else { Encryption::Plain };
        let servers = ["a", "b"].map(|name| self.cluster.loopback(name).port(SYNC_PORT).to_string());
        Config { servers: servers.into(), encryption, ..self.cluster.config(name) }
    }

    fn start(&self) -> [Node; 2] {
        let mut nodes = ["a", "b"].map(|name| self.cluster.start_with(self.config(name)));
        for node in &mut nodes {
            node.wait_ready();
        }
        let [a, b] = &nodes;
        put_reaches("one", "before-a", &a.api, &[&b.api]);
        put_reaches("one", "before-b", &b.api, &[&a.api]);
        nodes
    }

    /// Starts the intruder, and expects what `refuse_running` does.
    fn refuse(&self, config: Config, cause: &[&str]) {
        self.refuse_running(self.cluster.start_with(config), cause);
    }

    /// Starts the two others, and expects `cause` in a complaint of both sides and in the intruder's status, no record to pass,
    /// and the two to go on.
    fn refuse_running(&self, mut intruder: Node, cause: &[&str]) {
        let [mut a, b] = self.start();
        let address = self.cluster.loopback("a").port(SYNC_PORT).to_string();
        intruder.wait_complaint(&[cause, &[&address]].concat());
        a.wait_complaint(cause);
        wait_for("the cause in the intruder's status", LIMIT, || {
            let document = intruder.api.status()?.document;
            let errors: Vec<String> = document["peers"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|peer| peer["last_error"].to_string().to_lowercase())
                .collect();
            let named =
                |error: &String| cause.iter().all(|word| word.split('|').any(|form| error.contains(form)));
            if errors.iter().any(named) { Ok(()) } else { Err(format!("{document}")) }
        });

        intruder.api.add("one", "of-intruder", "kept out");
        put_reaches("one", "after-a", &a.api, &[&b.api]);
        put_reaches("one", "after-b", &b.api, &[&a.api]);
        for node in [&a, &b] {
            assert_eq!(node.api.sync_figure("nodes_online"), 1, "{}", node.name());
            assert_eq!(node.api.value("one", "of-intruder"), None, "{}", node.name());
        }
        assert_eq!(intruder.api.value("one", "before-a"), None, "the intruder was given a record");
    }
}

#[test]
fn a_node_of_another_authority_is_refused() {
    let scene = Scene::new(true);
    let other = Authority::new("other", scene.cluster.directory());
    let ip = scene.cluster.loopback("intruder").ip();
    let config =
        Config { encryption: other.node("intruder", ip, Identity::Valid), ..scene.config("intruder") };
    scene.refuse(config, &[UNKNOWN_AUTHORITY]);
}

#[test]
fn a_node_of_another_authority_that_trusts_ours_is_refused() {
    let scene = Scene::new(true);
    let other = Authority::new("other", scene.cluster.directory());
    let ip = scene.cluster.loopback("intruder").ip();
    let Encryption::Tls { certificate, key, .. } = other.node("intruder", ip, Identity::Valid) else {
        unreachable!("an authority makes certificates")
    };
    let encryption = Encryption::Tls { certificate, key, trusted: scene.authority.certificate().to_owned() };
    let config = Config { encryption, ..scene.config("intruder") };
    scene.refuse(config, &[UNKNOWN_AUTHORITY]);
}

#[test]
fn a_node_whose_certificate_has_expired_does_not_start() {
    let scene = Scene::new(true);
    let ip = scene.cluster.loopback("intruder").ip();
    let config = scene.config("intruder");
    let config = Config { encryption: scene.authority.node("late", ip, Identity::Expired), ..config };
    let mut intruder = scene.cluster.start_with(config);
    assert_eq!(intruder.wait_end(LIMIT).code(), Some(1));
    assert!(
        intruder.log().contains("expired") && intruder.log().contains("late-of-edge.pem"),
        "{}",
        intruder.log()
    );
}

#[test]
fn a_node_whose_certificate_expires_as_it_runs_is_refused() {
    let scene = Scene::new(true);
    let ip = scene.cluster.loopback("intruder").ip();
    // Long enough to start with it on a machine that is busy with the other tests. The others start when it has expired, so that no link is there from before.
    let validity = Duration::from_secs(20);
    let started = Elapsed::start();
    let config = scene.config("intruder");
    let config =
        Config { encryption: scene.authority.node("late", ip, Identity::Expires(validity)), ..config };
    let intruder = scene.cluster.start_with(config);
    intruder.wait_live();
    wait_for("the certificate to expire", LIMIT, || {
        // Validity has whole seconds.
        if started.get() > validity + Duration::from_secs(2) { Ok(()) } else { Err("it is valid".to_owned()) }
    });
    scene.refuse_running(intruder, &["expired"]);
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    let scene = Scene::new(true);
    let config = Config { cluster: "kernel".to_owned(), ..scene.config("intruder") };
    scene.refuse(config, &["cluster", "edge", "kernel"]);
}

#[test]
fn plain_tcp_to_a_tls_port_is_refused() {
    let scene = Scene::new(true);
    let config = Config { encryption: Encryption::Plain, ..scene.config("intruder") };
    scene.refuse(config, &["tls"]);
}

#[test]
fn tls_to_a_plain_port_is_refused() {
    let scene = Scene::new(false);
    let ip = scene.cluster.loopback("intruder").ip();
    let config = Config {
        encryption: scene.authority.node("intruder", ip, Identity::Valid),
        ..scene.config("intruder")
    };
    scene.refuse(config, &["tls"]);
}

#[test]
fn a_zone_of_another_type_is_reported_by_both_sides_and_the_other_zones_go_on() {
    let cluster = Cluster::new(&["a", "b", "other"], ZONES);
    let [mut a, b] = ["a", "b"].map(|name| cluster.start(name));
    let mut config = cluster.config("other");
    config.zones = ZONES.replacen("[[keyval_zone]]", "[[sticky_zone]]", 1);
    let mut other = cluster.start_with(config);
    for node in [&mut a, &mut other] {
        node.wait_ready();
        node.wait_complaint(&["one", "keyval", "sticky"]);
    }
    // Not fatal to the rest: zone `two` is shared by all three, zone `one` by the two that agree on it.
    put_reaches("two", "of-other", &other.api, &[&a.api, &b.api]);
    put_reaches("two", "of-a", &a.api, &[&b.api, &other.api]);
    put_reaches("one", "of-b", &b.api, &[&a.api]);
    other.api.get("/v1/sticky/one/of-b").expect(404);
}
