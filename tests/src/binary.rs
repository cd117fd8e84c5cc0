//! The `sync-node` binary: built once, with the profile of the tests.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::{Elapsed, root};

/// The binary under test: the file that `SYNC_NODE` names, or else a build of the package `sync-node`, in the same target
/// directory and profile as the tests (`CARGO_BIN_EXE_*` exists only inside that package).
///
/// # Panics
/// If it does not build.
pub fn sync_node() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("SYNC_NODE") {
        Some(path) => path.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let artifacts = built(&["--package", "sync-node", "--bin", "sync-node"]);
    let executable = artifacts.iter().find_map(|artifact| artifact["executable"].as_str());
    executable.map(PathBuf::from).expect("cargo names the executable it built")
}

/// The C libraries of the package `sync-store-c`, shared and static.
///
/// # Panics
/// If they do not build.
pub fn c_libraries() -> [PathBuf; 2] {
    let artifacts = built(&["--package", "sync-store-c", "--lib"]);
    let files = artifacts.iter().filter_map(|artifact| artifact["filenames"].as_array()).flatten();
    let files: Vec<PathBuf> = files.filter_map(|file| file.as_str()).map(PathBuf::from).collect();
    ["libsync_store_c.so", "libsync_store_c.a"].map(|name| {
        files.iter().find(|file| file.ends_with(name)).cloned().expect("cargo names the library it built")
    })
}

/// What cargo says of each artifact that it has built, or found built.
fn built(what: &[&str]) -> Vec<serde_json::Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet"]).args(what);
    command.args(["--message-format", "json-render-diagnostics"]).current_dir(root());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output().expect("cargo can be started");
    assert!(output.status.success(), "cargo build {what:?} failed");
    let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// How a command ended that runs to its end.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub output: String,
    /// What it wrote to standard error.
    pub errors: String,
}

/// Runs `sync-node` with `arguments` in `directory`, without input, until it ends.
///
/// # Panics
/// If it cannot be started, or has not ended within `limit`.
pub fn run_to_end(directory: &Path, arguments: &[&str], limit: Duration) -> Ended {
    let mut files = [tempfile(), tempfile()];
    let handles = files.each_ref().map(|file| file.try_clone().expect("a second handle of a file"));
    let [output, errors] = handles;
    let mut child = Command::new(sync_node())
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .unwrap_or_else(|e| panic!("sync-node {arguments:?}: {e}"));
    let waited = Elapsed::start();
    let status = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break Some(status),
            None if waited.get() > limit => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let [output, errors] = files.each_mut().map(read_all);
    let Some(status) = status else {
        panic!("sync-node {arguments:?} has not ended within {limit:?}; it wrote:\n{output}{errors}");
    };
    Ended { status, output, errors }
}

fn tempfile() -> File {
    tempfile::tempfile().expect("a temporary file")
}

fn read_all(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a temporary file is readable");
    String::from_utf8_lossy(&bytes).into_owned()
}
