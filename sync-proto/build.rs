//! Generates the message types from the schema. protox compiles it, so no `protoc` is needed.

use std::error::Error;

/// Folder of the schema: a symbolic link to the workspace's `/proto`. Cargo packs what it points to.
const INCLUDE: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={INCLUDE}");
    let descriptors = protox::compile(["zonesync/v1/sync.proto"], [INCLUDE])?;
    // Keys and values are slices of the frame, not copies.
    prost_build::Config::new().bytes([".zonesync.v1.Row"]).compile_fds(descriptors)?;
    Ok(())
}
