use super::super::headers::Form;
use super::super::rules::Rules;
use super::super::schema::{
    Code, DescriptorStatus, Entry, RateLimitDescriptor, RateLimitRequest, RateLimitResponse,
};
use super::{DESCRIPTORS_MAX, decide};
use proptest::prelude::*;
use sync_store::{Check, LimitZone, Time};

const NOW: Time = Time::from_millis(1_700_000_000_000);

const RULES: &str = "
domain: web
descriptors:
- {key: ten, rate_limit: {unit: hour, requests_per_unit: 10, name: ten}}
- {key: three, rate_limit: {unit: minute, requests_per_unit: 3}}
- {key: none, rate_limit: {unit: second, requests_per_unit: 0}}
- {key: shadow, shadow_mode: true, rate_limit: {unit: hour, requests_per_unit: 2}}
- {key: friend, rate_limit: {unlimited: true}}
- {key: better, rate_limit: {unit: hour, requests_per_unit: 20, replaces: [{name: ten}]}}
";

struct Door {
    zone: LimitZone,
    rules: Rules,
}

impl Door {
    fn new(dry_run: bool) -> Self {
        let zone = LimitZone::builder("req").rate("1r/s".parse().expect("a rate")).dry_run(dry_run).build();
        let rules = Rules::parse(RULES, "r.yaml".as_ref()).expect("good rules");
        Self { zone: zone.expect("a zone"), rules }
    }

    fn decide(&self, request: &RateLimitRequest) -> RateLimitResponse {
        decide(&self.rules, &self.zone, request, &[], NOW).expect("a good request")
    }

    fn ask(&self, keys: &[&str]) -> RateLimitResponse {
        self.decide(&request(keys.iter().map(|key| descriptor(key)).collect()))
    }

    /// What is left of the limits of these keys.
    fn left(&self, keys: &[&str]) -> Vec<u32> {
        let looks = keys.iter().map(|key| RateLimitDescriptor { hits_addend: Some(0), ..descriptor(key) });
        self.decide(&request(looks.collect())).statuses.iter().map(|status| status.limit_remaining).collect()
    }
}

fn descriptor(key: &str) -> RateLimitDescriptor {
    let entries = vec![Entry { key: key.to_owned(), value: "x".to_owned() }];
    RateLimitDescriptor { entries, ..RateLimitDescriptor::default() }
}

fn request(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: "web".to_owned(), descriptors, hits_addend: 0 }
}

fn codes(response: &RateLimitResponse) -> Vec<Code> {
    response.statuses.iter().map(DescriptorStatus::code).collect()
}

#[test]
fn a_limit_admits_its_requests_at_once_and_says_how_far_it_is() {
    let door = Door::new(false);
    for left in (0..3).rev() {
        let response = door.ask(&["three"]);
        assert_eq!(response.overall_code(), Code::Ok);
        let status = &response.statuses[0];
        let limit = status.current_limit.as_ref().expect("a limit");
        assert_eq!((limit.requests_per_unit, limit.unit().as_str_name()), (3, "MINUTE"));
        assert_eq!(status.limit_remaining, left);
        // Each takes 20 seconds of the minute.
        assert_eq!(status.duration_until_reset.as_ref().expect("a time").seconds, 20 * i64::from(3 - left));
    }
    let refused = door.ask(&["three"]);
    assert_eq!((refused.overall_code(), refused.statuses[0].code()), (Code::OverLimit, Code::OverLimit));
    // When the next will be admitted, and not when the bucket is empty.
    assert_eq!(refused.statuses[0].duration_until_reset.as_ref().expect("a time").seconds, 20);
}

#[test]
fn if_one_is_over_none_is_charged() {
    let door = Door::new(false);
    for _ in 0..3 {
        door.ask(&["three"]);
    }
    for keys in [["ten", "three", "shadow"], ["shadow", "ten", "three"], ["three", "shadow", "ten"]] {
        let response = door.ask(&keys);
        assert_eq!(response.overall_code(), Code::OverLimit);
        let over: Vec<Code> =
            keys.map(|key| if key == "three" { Code::OverLimit } else { Code::Ok }).to_vec();
        assert_eq!(codes(&response), over, "{keys:?}");
    }
    assert_eq!(door.ask(&["ten", "none"]).overall_code(), Code::OverLimit);
    assert_eq!(door.left(&["ten", "three", "shadow"]), [10, 0, 2]);
}

#[test]
fn shadow_unlimited_and_unknown_refuse_nobody() {
    let door = Door::new(false);
    for left in [1, 0, 0, 0] {
        let response = door.ask(&["shadow", "friend", "unknown"]);
        assert_eq!(response.overall_code(), Code::Ok);
        assert_eq!(codes(&response), [Code::Ok; 3]);
        let remaining: Vec<u32> = response.statuses.iter().map(|status| status.limit_remaining).collect();
        assert_eq!(remaining, [left, u32::MAX, 0]);
        let limited: Vec<bool> =
            response.statuses.iter().map(|status| status.current_limit.is_some()).collect();
        assert_eq!(limited, [true, false, false]);
    }
    let closed = door.ask(&["none", "friend"]);
    assert_eq!((closed.overall_code(), codes(&closed)), (Code::OverLimit, vec![Code::OverLimit, Code::Ok]));
}

#[test]
fn a_limit_that_is_replaced_does_not_count() {
    let door = Door::new(false);
    assert_eq!(codes(&door.ask(&["ten", "better"])), [Code::Ok; 2]);
    assert_eq!(door.left(&["ten"]), [10]);
    assert_eq!(door.left(&["better"]), [19]);
}

#[test]
fn hits_count_by_request_and_by_descriptor_and_are_given_back() {
    let door = Door::new(false);
    let hits = |key: &str, hits_addend, is_negative_hits| RateLimitDescriptor {
        hits_addend,
        is_negative_hits,
        ..descriptor(key)
    };
    let of_request = RateLimitRequest {
        hits_addend: 2,
        ..request(vec![descriptor("ten"), hits("three", Some(3), false)])
    };
    assert_eq!(door.decide(&of_request).overall_code(), Code::Ok);
    assert_eq!(door.left(&["ten", "three"]), [8, 0]);
    // More than is left is refused as a whole.
    let nine = request(vec![hits("ten", Some(9), false)]);
    assert_eq!(door.decide(&nine).overall_code(), Code::OverLimit);
    assert_eq!(door.left(&["ten"]), [8]);
    let back = request(vec![hits("ten", Some(1), true), hits("three", Some(100), true)]);
    assert_eq!(door.decide(&back).overall_code(), Code::Ok);
    // At most what was taken.
    assert_eq!(door.left(&["ten", "three"]), [9, 3]);
    // Nothing is given back by a request that is refused.
    let both = request(vec![hits("ten", Some(1), true), descriptor("none")]);
    assert_eq!(door.decide(&both).overall_code(), Code::OverLimit);
    assert_eq!(door.left(&["ten"]), [9]);
    for huge in [u64::MAX, i64::MAX as u64] {
        assert_eq!(
            door.decide(&request(vec![hits("ten", Some(huge), false)])).overall_code(),
            Code::OverLimit
        );
        assert_eq!(door.decide(&request(vec![hits("ten", Some(huge), true)])).overall_code(), Code::Ok);
    }
}

#[test]
fn a_zone_that_runs_dry_refuses_nobody() {
    let door = Door::new(true);
    for left in [2, 1, 0, 0] {
        let response = door.ask(&["three", "ten"]);
        assert_eq!((response.overall_code(), response.statuses[0].limit_remaining), (Code::Ok, left));
    }
}

#[test]
fn headers_are_those_of_the_limit_of_which_least_is_left() {
    let door = Door::new(false);
    let request = request(vec![descriptor("ten"), descriptor("three"), descriptor("friend")]);
    let response = decide(&door.rules, &door.zone, &request, &[Form::Draft, Form::X], NOW).expect("good");
    let headers: Vec<String> = response
        .response_headers_to_add
        .iter()
        .map(|header| format!("{}: {}", header.key, header.value))
        .collect();
    let names = ["Limit: 3, 3;w=60", "Remaining: 2", "Reset: 20"];
    let expected: Vec<String> = ["RateLimit-", "X-RateLimit-"]
        .iter()
        .flat_map(|form| names.map(|name| format!("{form}{name}")))
        .collect();
    assert_eq!(headers, expected);
}

#[test]
fn nonsense_is_refused() {
    let door = Door::new(false);
    let refuse = |request| decide(&door.rules, &door.zone, &request, &[], NOW).expect_err("nonsense");
    assert!(
        refuse(RateLimitRequest { domain: String::new(), ..request(vec![descriptor("ten")]) })
            .contains("domain")
    );
    assert_eq!(refuse(request(vec![])), "there are 0 descriptors; from 1 to 256 are possible");
    assert!(refuse(request(vec![descriptor("ten"); DESCRIPTORS_MAX + 1])).contains("257 descriptors"));
}

#[test]
fn two_threads_never_admit_more_than_all_limits_hold() {
    let door = Door::new(false);
    let ask = |keys: [&str; 2]| (0..500).filter(|_| door.ask(&keys).overall_code() == Code::Ok).count();
    let admitted = std::thread::scope(|scope| {
        let other = scope.spawn(|| ask(["three", "better"]));
        ask(["better", "three"]) + other.join().expect("no panic")
    });
    assert_eq!(admitted, 3);
    // What was charged in a race and refused is given back.
    assert_eq!(door.left(&["three", "better"]), [0, 17]);
}

proptest! {
    /// By a model that counts: at one moment nothing drains.
    #[test]
    fn all_or_nothing(requests in prop::collection::vec(prop::collection::vec((0..4_usize, 0..5_u64), 1..5), 1..20)) {
        let door = Door::new(false);
        let keys = ["ten", "three", "shadow", "friend"];
        let mut left = [10_u64, 3, 2, u64::MAX];
        for asked in requests {
            // Of one key once: what two of them come to depends on their order.
            let mut asked = asked;
            asked.sort_by_key(|(at, _)| *at);
            asked.dedup_by_key(|(at, _)| *at);
            let fits = |&(at, hits): &(usize, u64)| at == 2 || hits <= left[at];
            let passes = asked.iter().all(fits);
            let descriptors = asked.iter().map(|&(at, hits)| RateLimitDescriptor { hits_addend: Some(hits), ..descriptor(keys[at]) });
            let response = door.decide(&request(descriptors.collect()));
            prop_assert_eq!(response.overall_code() == Code::Ok, passes);
            if passes {
                for (at, hits) in asked {
                    if at != 3 && hits <= left[at] {
                        left[at] -= hits;
                    }
                }
            }
            prop_assert_eq!(door.left(&keys[..3]), left[..3].iter().map(|left| *left as u32).collect::<Vec<_>>());
        }
        // Nothing but the door's keys was counted.
        prop_assert_eq!(door.zone.check("ten", &Check { cost: 0, ..Check::default() }, NOW).remaining(), 1);
    }
}
