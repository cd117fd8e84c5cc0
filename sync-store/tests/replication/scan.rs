//! Scans that find little in a large zone.

use sync_store::{Check, Cursor, Expiry, KeyvalZone, LimitZone, Origin, Replica, Time, VersionVector};

const NOW: Time = Time::from_millis(1_000_000);

fn origin(raw: u64) -> Origin {
    Origin::from_raw(raw).expect("not 0")
}

#[test]
fn a_scan_ends_by_itself_after_so_many_slots_and_goes_on_where_it_was() {
    const SLOTS_AT_ONCE: usize = 262_144;
    let keyval = KeyvalZone::builder("kv").size(64 << 20).origin(origin(1)).build().expect("a zone");
    let rate = "1r/h".parse().expect("a rate");
    let limit = LimitZone::builder("li").size(64 << 20).origin(origin(1)).rate(rate).build().expect("a zone");
    keyval.set("key", "value", NOW, Expiry::Never).expect("room");
    assert!(limit.check("key", &Check::default(), NOW).is_admitted());
    for zone in [&keyval as &dyn Replica, &limit] {
        zone.publish(NOW, &mut |_| true);
        for (known, records) in [(zone.vector(), 0), (VersionVector::new(), 1)] {
            let (mut cursor, mut calls, mut met) = (Some(Cursor::default()), 0, 0);
            while let Some(from) = cursor {
                let slot = from.slot();
                cursor = zone.scan(NOW, &[origin(1)], &known, from, &mut |_| {
                    met += 1;
                    true
                });
                calls += 1;
                assert!(cursor.as_ref().is_none_or(|to| to.slot() - slot <= SLOTS_AT_ONCE));
            }
            assert!(calls > 2, "{calls} calls");
            assert_eq!(met, records);
        }
    }
}
