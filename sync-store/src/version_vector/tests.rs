use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn vector() -> impl Strategy<Value = VersionVector> {
    vec((1_u64..6, 0_u64..9), 0..8).prop_map(|pairs| {
        pairs.into_iter().filter_map(|(origin, seq)| Some((Origin::from_raw(origin)?, seq))).collect()
    })
}

fn merged(a: &VersionVector, b: &VersionVector) -> VersionVector {
    let mut out = a.clone();
    out.merge(b);
    out
}

proptest! {
    #[test]
    fn merge_is_commutative_associative_idempotent(a in vector(), b in vector(), c in vector()) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &a), a);
    }

    #[test]
    fn nothing_lacks_after_a_merge(a in vector(), b in vector()) {
        let both = merged(&a, &b);
        prop_assert_eq!(both.lacks(&a).count() + both.lacks(&b).count(), 0);
        for (origin, have, want) in a.lacks(&b) {
            prop_assert_eq!((have, want), (a.get(origin), b.get(origin)));
            prop_assert!(have < want);
            let next = Dot { origin, seq: want };
            prop_assert!(!a.covers(next));
            prop_assert!(b.covers(next));
        }
    }

    #[test]
    fn origins_are_sorted_and_unique(a in vector()) {
        let origins: Vec<_> = a.iter().map(|(origin, _)| origin).collect();
        prop_assert!(origins.is_sorted_by(|x, y| x < y));
        prop_assert_eq!(a.len(), origins.len());
        prop_assert_eq!(a.is_empty(), origins.is_empty());
    }
}

#[test]
fn it_never_goes_back_and_can_forget() {
    let a = Origin::from_raw(7).expect("not 0");
    let mut vector = VersionVector::new();
    vector.advance(a, 0);
    assert!(vector.is_empty());
    vector.advance(a, 5);
    vector.advance(a, 3);
    assert_eq!(vector.get(a), 5);
    vector.remove(a);
    assert_eq!(vector, VersionVector::new());
}
