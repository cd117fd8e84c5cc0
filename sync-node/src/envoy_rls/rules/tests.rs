use super::super::schema::{Entry, RateLimitDescriptor, RateLimitOverride, Unit};
use super::{Found, Measure, Rules};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::path::Path;

fn parse(text: &str) -> Result<Rules, String> {
    Rules::parse(text, Path::new("r.yaml")).map_err(|error| error.to_string())
}

fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).to_owned(), value: (*value).to_owned() };
    RateLimitDescriptor { entries: entries.iter().map(entry).collect(), ..RateLimitDescriptor::default() }
}

fn find<'r>(rules: &'r Rules, entries: &[(&str, &str)]) -> Option<Found<'r>> {
    rules.find("web", &descriptor(entries)).expect("nothing is wrong with it")
}

/// Requests in a unit of the limit that is found.
fn requests(rules: &Rules, entries: &[(&str, &str)]) -> Option<u32> {
    find(rules, entries).map(|found| match found.limit.measure {
        Measure::Counted { requests, .. } => requests,
        Measure::Unlimited => u32::MAX,
    })
}

/// As the reference service's own examples have them.
const RULES: &str = r#"
domain: web
descriptors:
  - key: client
    value: "10"
    rate_limit: {unit: second, requests_per_unit: 10}
  - key: client
    rate_limit: {unit: SECOND, requests_per_unit: 5}
    descriptors:
      - key: path
        value: /login
        rate_limit:
          unit: hour
          requests_per_unit: 3
        shadow_mode: true
        detailed_metric: true
  - key: path
    value: /a*
    rate_limit: {unit: minute, requests_per_unit: 7}
  - key: path
    value: /ab*
    share_threshold: true
    rate_limit: {unit: minute, requests_per_unit: 8}
  - key: path
    value: /c*
    share_threshold: true
    rate_limit: {unit: week, requests_per_unit: 9, name: nine, replaces: [{name: ten}]}
  - key: friend
    rate_limit:
      unlimited: true
  - key: banned
    value: ""
    rate_limit: {unit: year, requests_per_unit: 0}
  - key: quiet
    value:
    descriptors:
---
domain: other
descriptors: ~
"#;

#[test]
fn the_limit_is_that_of_the_very_path_through_the_tree() {
    let rules = parse(RULES).expect("good");
    for (entries, expected) in [
        (&[("client", "10")][..], Some(10)),
        (&[("client", "11")], Some(5)),
        (&[("client", "")], Some(5)),
        (&[("client", "11"), ("path", "/login")], Some(3)),
        // The rule for the value has no levels within; the one for the key alone is not asked then.
        (&[("client", "10"), ("path", "/login")], None),
        (&[("client", "11"), ("path", "/other")], None),
        (&[("client", "11"), ("path", "/login"), ("more", "x")], None),
        (&[("path", "/login"), ("client", "11")], None),
        (&[("path", "/a")], Some(7)),
        // The first of the file that fits.
        (&[("path", "/abc")], Some(7)),
        (&[("path", "/b")], None),
        (&[("path", "/cde")], Some(9)),
        (&[("friend", "x")], Some(u32::MAX)),
        (&[("banned", "x")], Some(0)),
        (&[("quiet", "x")], None),
        (&[("unknown", "x")], None),
        (&[], None),
    ] {
        assert_eq!(requests(&rules, entries), expected, "{entries:?}");
    }
    let login = find(&rules, &[("client", "11"), ("path", "/login")]).expect("a limit");
    assert!(login.limit.is_shadow);
    let nine = find(&rules, &[("path", "/c")]).expect("a limit").limit.into_owned();
    assert_eq!((nine.name.as_str(), nine.replaces.contains("ten")), ("nine", true));
    assert_eq!(rules.find("other", &descriptor(&[("client", "10")])), Ok(None));
    assert_eq!(rules.find("third", &descriptor(&[("client", "10")])), Ok(None));
}

#[test]
fn what_counts_together_has_one_key() {
    let rules = parse(RULES).expect("good");
    let key = |entries: &[(&str, &str)]| find(&rules, entries).expect("a limit").key;
    assert_eq!(key(&[("client", "11")]), key(&[("client", "11")]));
    assert_ne!(key(&[("client", "11")]), key(&[("client", "12")]));
    assert_ne!(key(&[("path", "/a1")]), key(&[("path", "/a2")]));
    assert_eq!(key(&[("path", "/c1")]), key(&[("path", "/c2")]));
}

#[test]
fn a_descriptor_may_bring_its_limit_along() {
    let rules = parse(RULES).expect("good");
    let own = |requests_per_unit, unit| RateLimitDescriptor {
        limit: Some(RateLimitOverride { requests_per_unit, unit }),
        ..descriptor(&[("anything", "x")])
    };
    let found = rules.find("web", &own(42, 3)).expect("good").expect("a limit");
    assert!(matches!(found.limit.measure, Measure::Counted { requests: 42, unit: Unit::Hour, .. }));
    assert_eq!(rules.find("third", &own(42, 3)), Ok(None));
    assert!(rules.find("web", &own(42, 0)).expect_err("no unit").contains("without a unit"));
    assert!(rules.find("web", &own(2_000_000_000, 1)).expect_err("too fast").contains("per nanosecond"));
}

#[test]
fn errors_name_the_place_and_the_way_out() {
    for (text, expected) in [
        ("", "r.yaml:1:1: no rules; write at least domain: NAME"),
        ("- a", "r.yaml:1:1: a domain must be a table of keys and values"),
        ("descriptors: []", "r.yaml:1:1: a domain needs `domain`; add domain: NAME"),
        ("domain: [", "r.yaml:2:1: not valid YAML: while parsing a node, did not find expected node content"),
        ("domain: a\ndomain: b", "r.yaml:2:1: `domain` stands here twice; remove one of them"),
        ("domain: a\n? [x]\n: y", "r.yaml:2:3: a key must be a text"),
        ("domain: &x a\ndescriptors: *x", "r.yaml:2:14: aliases are not supported; write what it stands for"),
        (
            "domain: a\n---\ndomain: a",
            "r.yaml:3:1: domain \"a\" is at r.yaml:1:1 already; put its descriptors there",
        ),
        ("domain: a\ndescriptors: x", "r.yaml:2:14: must be a list; begin each of its parts with a dash"),
        ("domain: a\ndescriptors:\n- value: x", "r.yaml:3:3: a descriptor needs `key`; add key: NAME"),
        (
            "domain: a\ndescriptors:\n- key: x\n  ratelimit: y",
            "r.yaml:4:3: unknown key `ratelimit` in a descriptor; did you mean `rate_limit`?",
        ),
        ("domain: a\ndescriptors:\n- key: x\n  shadow_mode: yes", "r.yaml:4:16: must be true or false"),
        (
            "domain: a\ndescriptors:\n- key: x\n  quota_mode: true",
            "r.yaml:4:3: `quota_mode` is not supported: every limit decides here; remove it",
        ),
        (
            "domain: a\ndescriptors:\n- key: x\n  share_threshold: true",
            "r.yaml:4:20: `share_threshold` means nothing without a value that ends with *; remove it",
        ),
        (
            "domain: a\ndescriptors:\n- key: x\n- key: x\n  value: ''",
            "r.yaml:4:3: there is a descriptor \"x\" at this level already; remove one",
        ),
        (
            "domain: a\ndescriptors:\n- key: x\n  rate_limit: {unit: fortnight, requests_per_unit: 1}",
            "r.yaml:4:22: \"fortnight\" is not a unit; write second, minute, hour, day, week, month, year",
        ),
        (
            "domain: a\ndescriptors:\n- key: x\n  rate_limit: {unit: day}",
            "r.yaml:4:15: `rate_limit` needs `requests_per_unit`; add requests_per_unit: 100",
        ),
        (
            "domain: a\ndescriptors:\n- key: x\n  rate_limit: {unit: day, requests_per_unit: -1}",
            "r.yaml:4:46: must be a whole number from 0 to 4294967295",
        ),
        (
            "domain: a\ndescriptors:\n- key: x\n  rate_limit: {unit: day, unlimited: true}",
            "r.yaml:4:22: `unit` contradicts `unlimited`; remove one of them",
        ),
    ] {
        assert_eq!(parse(text).expect_err(text), expected);
    }
    // All at once, in the order of the file.
    let several =
        "domain: a\ndescriptors:\n- kye: x\n- key: y\n  rate_limit: {unit: d, requests_per_unit: x}";
    let error = parse(several).expect_err("several");
    let places: Vec<&str> = error.lines().map(|line| line.split(": ").next().expect("a place")).collect();
    assert_eq!(places, ["r.yaml:3:3", "r.yaml:3:3", "r.yaml:5:22", "r.yaml:5:44"]);
}

#[test]
fn no_text_is_too_deep() {
    for text in ["- ".repeat(100_000), "[".repeat(100_000), "{a: ".repeat(1_000)] {
        assert!(parse(&text).is_err());
    }
}

/// A tree of rules as a text, and what it is to find.
fn tree() -> impl Strategy<Value = Vec<(String, String, u32)>> {
    prop::collection::vec(("[a-c]{1,2}", "[a-z0-9/ :'\"#&*-]{0,6}", 0..1000_u32), 0..6)
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn what_looks_like_rules_is_read_or_refused(
        words in prop::collection::vec(prop::sample::select(vec![
            "domain: a\n", "descriptors:\n", "- key: k\n", "  value: v*\n", "  rate_limit: ", "{unit: day, ", "requests_per_unit: 1}\n",
            "  ", "- ", "---\n", "\"", "*", "&x ", "[", "]", "descriptors: []\n", "\t", "? ", ": ", "|\n", "!!str ",
        ]), 0..30),
    ) {
        if let Ok(rules) = parse(&words.concat()) {
            let _ = rules.find("a", &descriptor(&[("k", "v")]));
        }
    }

    #[test]
    fn each_rule_is_found_by_its_own_key_and_value(tree in tree()) {
        let mut text = "domain: web\ndescriptors:\n".to_owned();
        let mut written: Vec<&(String, String, u32)> = Vec::new();
        for rule in &tree {
            // Wildcards are tested elsewhere: what they hide depends on the order.
            if rule.1.ends_with('*') || written.iter().any(|known| (&known.0, &known.1) == (&rule.0, &rule.1)) {
                continue;
            }
            written.push(rule);
            let (key, value, requests) = rule;
            writeln!(text, "- key: {key}\n  value: '{}'\n  rate_limit: {{unit: hour, requests_per_unit: {requests}}}", value.replace('\'', "''"))
                .expect("writing to a string succeeds");
        }
        if written.is_empty() {
            text.push_str("  []\n");
        }
        let rules = parse(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        for (key, value, expected) in written {
            prop_assert_eq!(requests(&rules, &[(key, value)]), Some(*expected), "{}", text);
        }
    }

    #[test]
    fn no_two_descriptors_share_a_key(a in prop::collection::vec("[a\0]{0,2}", 2..=6), b in prop::collection::vec("[a\0]{0,2}", 2..=6)) {
        let rules = parse("domain: web").expect("good");
        let key = |texts: &[String]| {
            let pairs: Vec<(&str, &str)> = texts.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
            let limit = Some(RateLimitOverride { requests_per_unit: 1, unit: 1 });
            let own = RateLimitDescriptor { limit, ..descriptor(&pairs) };
            (texts[..texts.len() / 2 * 2].to_vec(), rules.find("web", &own).expect("good").expect("a limit").key)
        };
        let ((a, key_a), (b, key_b)) = (key(&a), key(&b));
        prop_assert_eq!(a == b, key_a == key_b);
    }
}
