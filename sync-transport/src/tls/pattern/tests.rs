use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, name: Name) -> bool {
    pattern.parse::<NamePattern>().unwrap().matches(&name)
}

fn dns(name: &str) -> Name {
    Name::Dns(name.to_owned())
}

fn uri(name: &str) -> Name {
    Name::Uri(name.to_owned())
}

#[test]
fn a_pattern_matches_what_its_documentation_says() {
    for (pattern, name) in [
        ("edge-1", dns("edge-1")),
        ("edge-1.example.com", dns("EDGE-1.Example.com")),
        ("Edge-1.example.com.", dns("edge-1.example.com.")),
        ("*.example.com", dns("a.example.com")),
        ("*.example.com", dns("A.EXAMPLE.COM")),
        ("*.example.com", dns("*.example.com")),
        ("10.0.0.7", Name::Ip([10, 0, 0, 7].into())),
        ("2001:DB8:0::7", Name::Ip("2001:db8::7".parse().unwrap())),
        ("spiffe://example.org", uri("spiffe://example.org")),
        ("spiffe://example.org/sync/edge-1", uri("spiffe://example.org/sync/edge-1")),
        ("spiffe://example.org/sync/*", uri("spiffe://example.org/sync/edge-1")),
        ("spiffe://example.org/*/sync/*", uri("spiffe://example.org/eu/sync/edge-1")),
    ] {
        assert!(matches(pattern, name.clone()), "{pattern} {name:?}");
    }
    for (pattern, name) in [
        ("edge-1", dns("edge-10")),
        ("edge-1.example.com", dns("*.example.com")),
        ("*.example.com", dns("example.com")),
        ("*.example.com", dns(".example.com")),
        ("*.example.com", dns("a.b.example.com")),
        ("*.example.com", dns("a\0b.example.com")),
        ("*.example.com", dns("a.example.com.evil.test")),
        ("*.example.com", dns("a.example.comevil")),
        ("10.0.0.7", dns("10.0.0.7")),
        ("10.0.0.7", Name::Ip("::ffff:10.0.0.7".parse().unwrap())),
        ("edge-1", uri("edge-1")),
        ("spiffe://example.org/sync/*", uri("spiffe://example.org/sync/")),
        ("spiffe://example.org/sync/*", uri("spiffe://example.org/sync")),
        ("spiffe://example.org/sync/*", uri("spiffe://example.org/sync/a/b")),
        ("spiffe://example.org/sync/*", uri("spiffe://example.org.evil.test/sync/a")),
        ("spiffe://example.org", uri("spiffe://example.org.evil.test")),
        ("spiffe://example.org/sync/a", uri("SPIFFE://example.org/sync/a")),
        ("spiffe://example.org/sync/a", dns("spiffe://example.org/sync/a")),
    ] {
        assert!(!matches(pattern, name.clone()), "{pattern} {name:?}");
    }
}

#[test]
fn what_is_no_pattern_is_refused_with_what_to_write() {
    for (text, part) in [
        ("*", "leave allowed_names out"),
        ("*.", "leave allowed_names out"),
        ("", "write a host name"),
        ("a b", "write a host name"),
        ("a..b", "write a host name"),
        ("edge-*.example.com", "whole first label"),
        ("a.*.example.com", "whole first label"),
        ("*.*.example.com", "whole first label"),
        ("10.0.0.0/8", "write a host name"),
        ("spiffe://*/sync", "written out"),
        ("spiffe:///sync", "written out"),
        ("://example.org/a", "written out"),
        ("spiffe://example.org/edge-*", "whole segment"),
    ] {
        let error = text.parse::<NamePattern>().unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(&format!("{text:?}")), "{error}");
    }
    assert!("a".repeat(3000).parse::<NamePattern>().unwrap_err().to_string().contains("2048"));
}

/// Texts near patterns and names, so that both branches of every comparison are taken.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,40}", "[a-b*.]{0,8}", "s://[a-b*]{0,2}(/[a-b*]{0,2}){0,3}"]
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_and_what_is_parsed_is_displayed_alike(text in text(), name in text()) {
        if let Ok(pattern) = text.parse::<NamePattern>() {
            prop_assert_eq!(&pattern.to_string().parse::<NamePattern>().unwrap(), &pattern);
            for name in [dns(&name), uri(&name)] {
                let _ = pattern.matches(&name);
            }
        }
    }

    /// Without a `*` a pattern is one name.
    #[test]
    fn a_pattern_without_a_star_matches_itself_alone(text in "[a-b.-]{1,6}", name in "[a-b.-]{1,6}") {
        if let Ok(pattern) = text.parse::<NamePattern>() {
            let same = text.trim_end_matches('.') == name.trim_end_matches('.');
            // Two dots at the end are no name at all.
            prop_assume!(!name.ends_with(".."));
            prop_assert_eq!(pattern.matches(&dns(&name)), same);
        }
    }

    /// A `*` never matches across the separator.
    #[test]
    fn a_star_is_one_label_or_one_segment(labels in prop::collection::vec("[a-z]{1,3}", 1..5)) {
        let one = labels.len() == 1;
        let name = format!("{}.example.com", labels.join("."));
        prop_assert_eq!(matches("*.example.com", dns(&name)), one);
        let name = format!("spiffe://example.org/{}", labels.join("/"));
        prop_assert_eq!(matches("spiffe://example.org/*", uri(&name)), one);
    }
}
