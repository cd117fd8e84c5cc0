//! Generates the types and the services of the door for Envoy from Envoy's schema. protox compiles it, so no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    #[cfg(feature = "envoy_rls")]
    envoy_rls()?;
    Ok(())
}

#[cfg(feature = "envoy_rls")]
fn envoy_rls() -> Result<(), Box<dyn Error>> {
    /// Folder of the schema: a symbolic link to the workspace's `/proto`. Cargo packs what it points to.
    const INCLUDE: &str = "proto";

    println!("cargo::rerun-if-changed={INCLUDE}");
    let mut compiler = protox::Compiler::new([INCLUDE])?;
    compiler.include_imports(true).open_files([
        "envoy/service/ratelimit/v3/rls.proto",
        "envoy/service/rate_limit_quota/v3/rlqs.proto",
    ])?;
    let folder =
        std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo names a folder for output")?);
    // What reflection answers.
    std::fs::write(folder.join("envoy_rls.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_client(false)
        // The key of a bucket.
        .btree_map(".envoy.service.rate_limit_quota.v3.BucketId.bucket")
        .include_file("envoy_rls.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
