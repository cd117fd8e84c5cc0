use super::*;

fn list(allow: &[&str], deny: &[&str]) -> AccessList {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a range")).collect();
    AccessList::new(parse(allow), parse(deny))
}

fn allows(list: &AccessList, client: &str) -> bool {
    list.allows(Some(client.parse().expect("an address")))
}

#[test]
fn empty_lists_allow_everybody() {
    let list = list(&[], &[]);
    assert!(allows(&list, "192.0.2.1"));
    assert!(list.allows(None));
}

#[test]
fn a_list_of_allowed_clients_refuses_the_others() {
    let list = list(&["127.0.0.1", "2001:db8::/32"], &[]);
    assert!(allows(&list, "127.0.0.1"));
    assert!(allows(&list, "2001:db8::7"));
    assert!(!allows(&list, "127.0.0.2"));
    assert!(!allows(&list, "2001:db9::7"));
    assert!(!list.allows(None));
}

#[test]
fn the_most_specific_range_decides() {
    let one_refused = list(&["10.0.0.0/8"], &["10.0.0.66"]);
    assert!(allows(&one_refused, "10.0.0.65"));
    assert!(!allows(&one_refused, "10.0.0.66"));
    let all_but_one_refused = list(&["127.0.0.1"], &["all"]);
    assert!(allows(&all_but_one_refused, "127.0.0.1"));
    assert!(!allows(&all_but_one_refused, "127.0.0.2"));
    assert!(!all_but_one_refused.allows(None));
    let within_within = list(&["all", "10.1.2.0/24"], &["10.0.0.0/8"]);
    assert!(allows(&within_within, "192.0.2.1"));
    assert!(!allows(&within_within, "10.1.3.1"));
    assert!(allows(&within_within, "10.1.2.1"));
}

#[test]
fn a_tie_denies() {
    assert!(!allows(&list(&["10.0.0.1"], &["10.0.0.1"]), "10.0.0.1"));
    assert!(!list(&["unix:"], &["unix:"]).allows(None));
}

#[test]
fn clients_of_a_unix_socket_have_a_word_of_their_own() {
    assert!(list(&["unix:"], &["all"]).allows(None));
    assert!(!list(&[], &["unix:"]).allows(None));
    assert!(!allows(&list(&["unix:"], &[]), "127.0.0.1"));
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_counts_as_what_it_is() {
    assert!(allows(&list(&["127.0.0.1"], &[]), "::ffff:127.0.0.1"));
}

#[test]
fn host_bits_of_a_network_are_forgiven_and_nonsense_is_not() {
    assert!(allows(&list(&["10.0.0.7/8"], &[]), "10.9.9.9"));
    for text in ["", "10.0.0.0/33", "localhost", "10.0.0", "unix:/run/x"] {
        let error = text.parse::<Range>().expect_err(text);
        assert!(error.contains(&format!("{text:?} is not a range of clients")), "{error}");
    }
}
