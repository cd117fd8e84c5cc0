use super::*;

#[test]
fn every_listed_endpoint_exists() {
    for (folder, names) in
        [(None, ROOT), (Some("http"), HTTP), (Some("stream"), STREAM), (Some("stream"), &[ZONE_SYNC])]
    {
        for name in names {
            let path: Vec<&str> = folder.into_iter().chain([*name]).collect();
            assert!(Endpoint::find(&path).is_some(), "{path:?}");
        }
    }
    for path in [
        &["http", "nothing"][..],
        &["stream", "limit_reqs"],
        &["nginx", "x"],
        &["http", "keyvals", "one", "k"],
    ] {
        assert_eq!(Endpoint::find(path), None, "{path:?}");
    }
}

#[test]
fn arguments_are_percent_decoded_and_keep_their_plus_signs() {
    assert_eq!(argument("a=1&key=10.0.0.0%2F8", "key").as_deref(), Some("10.0.0.0/8"));
    assert_eq!(argument("key=a+b&key=c", "key").as_deref(), Some("a+b"));
    assert_eq!(argument("fields=", "fields").as_deref(), Some(""));
    assert_eq!(argument("fields", "fields").as_deref(), Some(""));
    assert_eq!(argument("", "key"), None);
    assert_eq!(argument("keys=1", "key"), None);
}

#[test]
fn fields_limit_objects() {
    let object = json!({ "a": 1, "b": 2, "c": 3 });
    assert_eq!(limit_fields(object.clone(), None), object);
    assert_eq!(limit_fields(object.clone(), Some("a,c,x")), json!({ "a": 1, "c": 3 }));
    assert_eq!(limit_fields(object.clone(), Some("")), json!({}));
    let zones = json!({ "one": object, "two": { "a": 4 } });
    assert_eq!(limit_fields_of_each(zones.clone(), Some("b")), json!({ "one": { "b": 2 }, "two": {} }));
    assert_eq!(limit_fields_of_each(zones, Some("")), json!(["one", "two"]));
}
