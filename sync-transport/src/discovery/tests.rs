use super::*;

fn servers(texts: &[&str]) -> Vec<Server> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn an_answer_is_used_for_its_ttl_within_bounds() {
    let seconds = Duration::from_secs;
    let free = DiscoveryOptions::default();
    assert_eq!(free.refresh_after(seconds(30)), seconds(30));
    assert_eq!(free.refresh_after(seconds(0)), REFRESH_MIN);
    assert_eq!(free.refresh_after(Duration::MAX), REFRESH_MAX);

    let capped = DiscoveryOptions { valid: Some(seconds(20)), ..DiscoveryOptions::default() };
    assert_eq!(capped.refresh_after(seconds(300)), seconds(20));
    assert_eq!(capped.refresh_after(seconds(5)), seconds(5));

    let tiny = DiscoveryOptions { valid: Some(Duration::from_millis(1)), ..DiscoveryOptions::default() };
    assert_eq!(tiny.refresh_after(seconds(300)), REFRESH_MIN);
}

#[tokio::test]
async fn addresses_need_no_dns() {
    let discovery = Discovery::start(
        servers(&["127.0.0.1:1", "[::1]:2", "unix:/x", "127.0.0.1:1"]),
        DiscoveryOptions::default(),
    );
    let set = discovery.targets().borrow().clone();
    let addresses: Vec<_> = set.targets.iter().map(|target| target.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:1", "[::1]:2", "unix:/x"]);
    assert!(set.is_complete());
}

#[tokio::test]
async fn another_list_replaces_the_targets() {
    let discovery = Discovery::start(servers(&["127.0.0.1:1", "127.0.0.1:2"]), DiscoveryOptions::default());
    let mut targets = discovery.targets();
    targets.mark_unchanged();
    discovery.reconfigure(servers(&["127.0.0.1:1", "127.0.0.1:2"]), DiscoveryOptions::default());
    assert!(!targets.has_changed().unwrap(), "woken for nothing");
    discovery.reconfigure(servers(&["127.0.0.1:2", "127.0.0.1:3"]), DiscoveryOptions::default());
    let set = targets.borrow_and_update().clone();
    let addresses: Vec<_> = set.targets.iter().map(|target| target.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:2", "127.0.0.1:3"]);
}
