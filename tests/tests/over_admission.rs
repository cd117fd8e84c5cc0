//! The table of `docs/semantics.md` that says how far a cluster goes over a limit is what a fresh run measures.

use tests::over_admission::{Traffic, documented, measure};

#[test]
fn rows_of_the_table_are_measured_again() {
    let semantics = std::fs::read_to_string(tests::root().join("docs/semantics.md")).expect("the document");
    let mut rows = 0;
    for case in documented() {
        // The others take long without optimization.
        if case.nodes > 8 || case.rate > 1_000 || case.load > 2 || case.traffic == Traffic::One {
            continue;
        }
        let measured = measure(&case).expect("a network without faults");
        let row = measured.row();
        assert!(semantics.contains(&row), "the document has another row than {row}");
        assert!(measured.cluster.over <= measured.bound, "beyond the formula: {row}");
        assert_eq!(measured.cluster.refused_wrongly, 0, "{row}");
        rows += 1;
    }
    assert!(rows > 5, "{rows} rows");
}
