//! The header is what cbindgen makes of the source.

use std::path::Path;

#[test]
fn the_header_is_that_of_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("a configuration");
    let source = root.join("src/lib.rs");
    let builder = cbindgen::Builder::new().with_config(config).with_src(source);
    let mut made = Vec::new();
    builder.generate().expect("a header").write(&mut made);
    let header = root.join("include/sync_store.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&header, &made).expect("written");
    }
    let text = std::fs::read(&header).expect("the header is there");
    assert!(text == made, "include/sync_store.h is of another source: run the test with UPDATE_HEADER=1");
}
