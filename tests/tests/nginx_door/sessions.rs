//! Sessions that stick, move when their server fails, and stick again.

use tests::{Nginx, Node, wait_for};

use crate::load::load;
use crate::{APP_PORTS, IMPATIENCE, LIMIT, Place, SESSIONS, start_app};

/// Which application answers.
fn app(nginx: &Nginx, cookie: &str) -> usize {
    let reply = nginx.get("/", cookie).expect("an answer").expect(200);
    APP_PORTS.iter().position(|port| reply.body == port.to_string()).unwrap_or_else(|| panic!("{reply:?}"))
}

#[test]
fn a_session_sticks_at_the_other_nginx_and_moves_when_its_server_fails() {
    let place = Place::new(&[], SESSIONS, &[(IMPATIENCE, "read_timeout 30s".to_owned())]);
    let Place { nginxes, nodes, mut apps, origin, cluster, listen } = place;
    let [first, second] = &nginxes;

    let welcome = first.get("/", "").expect("an answer").expect(200);
    let cookie = welcome.headers["set-cookie"].split(';').next().expect("a cookie").to_owned();
    let id = cookie.strip_prefix("route=").expect("ours");
    let began = app(first, &cookie);
    assert_eq!(welcome.body, APP_PORTS[began].to_string());
    let knows = |node: &Node, app: usize| {
        let server = origin.port(APP_PORTS[app]).to_string();
        wait_for("the other node to know the session", LIMIT, || {
            let reply = node.api.get(&format!("/v1/sticky/sessions/{id}"));
            if reply.status == 200 && reply.json()["server"] == server {
                Ok(())
            } else {
                Err(format!("{reply:?}"))
            }
        });
    };
    knows(&nodes[1], began);
    assert_eq!(app(second, &cookie), began);
    let again = second.get("/a%20path?b=c", &cookie).expect("an answer").expect(200);
    assert!(!again.headers.contains_key("set-cookie"), "{again:?}");
    // What is no session of ours begins one, and is not kept.
    assert!(
        second.get("/", "route=../../x").expect("an answer").expect(200).headers.contains_key("set-cookie")
    );

    // Its server fails: a request that may be sent twice does not notice, and the session is elsewhere from then on, for the other nginx as well.
    let other = 1 - began;
    let log = nginxes.each_ref().map(|nginx| nginx.process.log());
    assert!(log.iter().all(|log| !log.contains("[error]")), "{log:?}");
    apps[began].process.signal(tests::Signal::Kill);
    apps[began].process.wait_end(LIMIT);
    let post = first.http.request_with("POST", "/", &[("cookie", &cookie)], Some("once")).expect("an answer");
    assert_eq!(post.status, 502);
    assert_eq!(app(first, &cookie), other);
    knows(&nodes[1], other);
    // New sessions whose place it would be find a server at once.
    for _ in 0..8 {
        assert_eq!(app(first, ""), other);
    }
    apps[began] = start_app("again", &cluster, origin.port(APP_PORTS[began]));
    apps[began].wait_up();
    assert_eq!(app(second, &cookie), other);

    let header = format!("cookie: {cookie}");
    let targets = listen.each_ref().map(|listen| listen.port(crate::HTTP_PORT));
    for counted in load(&cluster, &targets, "/", &header, 1) {
        assert!(counted.admitted > 0 && counted.limited + counted.other + counted.broken == 0, "{counted:?}");
    }

    // Without a node sessions are where they begin, at every nginx.
    nodes.into_iter().for_each(|node| drop(node.kill()));
    assert_eq!([app(first, &cookie), app(second, &cookie)], [began; 2]);
}
