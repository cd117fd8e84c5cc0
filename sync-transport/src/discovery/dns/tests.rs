use hickory_resolver::proto::rr::rdata::{A, SRV};

use super::*;

fn client() -> Client {
    Client::new(&["127.0.0.1:53".parse().unwrap()])
}

fn candidates(client: &Client, name: &str) -> Vec<String> {
    client.candidates(name).unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn a_name_with_dots_is_tried_as_it_is_first_and_one_without_last() {
    let mut client = client();
    client.suffixes = ["a.test.", "b.test."].map(|suffix| suffix.parse().unwrap()).into();
    assert_eq!(candidates(&client, "node"), ["node.a.test.", "node.b.test.", "node."]);
    assert_eq!(candidates(&client, "x.node"), ["x.node.", "x.node.a.test.", "x.node.b.test."]);
    client.dots_min = 5; // as in a Kubernetes pod
    assert_eq!(candidates(&client, "sync.ns"), ["sync.ns.a.test.", "sync.ns.b.test.", "sync.ns."]);
}

#[test]
fn resolvers_that_are_given_know_no_suffixes() {
    assert_eq!(candidates(&client(), "node"), ["node."]);
}

#[tokio::test]
async fn the_hosts_file_goes_before_dns_and_needs_none() {
    let name: Name = "node.".parse().unwrap();
    let query = Query::query(name.clone(), RecordType::A);
    let lookup = Lookup::from_rdata(query, RData::A(A::new(192, 0, 2, 1)));
    let mut hosts = Hosts::default();
    hosts.insert(name, RecordType::A, lookup);
    let mut client = client();
    client.hosts = Some(Arc::new(hosts));
    client.resolvers = Err("no resolv.conf".to_owned());
    let v4 = client.addresses("node", Family::V4).await.unwrap();
    assert_eq!(v4.values, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert!(client.addresses("node", Family::V6).await.unwrap().values.is_empty());
    assert_eq!(client.addresses("other", Family::V4).await.err().as_deref(), Some("no resolv.conf"));
}

#[test]
fn a_service_that_is_not_offered_has_no_hosts() {
    let srv = |target: &str| RData::SRV(SRV::new(1, 2, 9000, target.parse().unwrap()));
    assert_eq!(service(&srv(".")), None);
    let expected = Service { priority: 1, host: "node.test".to_owned(), port: 9000 };
    assert_eq!(service(&srv("Node.test.")), Some(expected));
}

#[test]
fn only_an_answer_about_the_name_counts_as_negative() {
    let none = |code| NetError::from(NoRecords::new(Query::default(), code));
    assert_eq!(negative_ttl(&none(ResponseCode::NXDomain)), Some(NEGATIVE_TTL));
    assert_eq!(negative_ttl(&none(ResponseCode::NoError)), Some(NEGATIVE_TTL));
    assert_eq!(negative_ttl(&none(ResponseCode::ServFail)), None);
    assert_eq!(negative_ttl(&NetError::Timeout), None);
    assert_eq!(negative_ttl(&NetError::NoConnections), None);
    assert_eq!(negative_ttl(&NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused))), None);
}

#[tokio::test]
async fn what_was_known_before_stays_while_nothing_answers() {
    let server: Server = "node.test:9000".parse().unwrap();
    let known = [Target {
        address: Address::Tcp("192.0.2.1:9000".parse().unwrap()),
        server: server.clone(),
        host: "node.test".to_owned(),
    }];
    let mut follower = Follower::new(server, &known);
    // A port that was free a moment ago: the kernel answers "unreachable" at once.
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let round = follower.round(&[closed]).await;
    assert_eq!(round.targets, known);
    assert!(round.error.is_some() && !round.is_known, "{round:?}");
}
