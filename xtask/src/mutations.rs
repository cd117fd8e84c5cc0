//! Whether the simulation finds bugs: each patch in `tests/mutations` injects one into a copy of the workspace, and some seed has to fail.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Seeds within which a mutation has to be found.
const SEEDS: &str = "150";

/// Runs all mutations; false if one is not found, or cannot be tried.
pub(crate) fn run(root: &Path) -> bool {
    match try_all(root) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("mutations: {error}");
            false
        }
    }
}

fn try_all(root: &Path) -> io::Result<bool> {
    let scratch = root.join("target/mutations/workspace");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    let mut patches: Vec<PathBuf> = root
        .join("tests/mutations")
        .read_dir()?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    patches.sort();
    copy(root, &scratch)?;
    // A simulation that fails anyhow would find everything.
    let sound = simulate(root, &scratch)?;
    if !sound.status.success() {
        println!("without a mutation: {}", verdict(&sound).unwrap_or_else(|complaint| complaint));
        return Ok(false);
    }
    let mut all_found = !patches.is_empty();
    for patch in &patches {
        copy(root, &scratch)?;
        let name = patch.file_stem().unwrap_or_default().to_string_lossy();
        // Not the repository that the copy happens to lie in.
        let applied = Command::new("git")
            .args(["apply", "--whitespace=nowarn"])
            .arg(patch)
            .env("GIT_CEILING_DIRECTORIES", root.join("target/mutations"))
            .current_dir(&scratch)
            .output()?;
        if !applied.status.success() {
            println!("{name}: does not apply\n{}", String::from_utf8_lossy(&applied.stderr));
            all_found = false;
            continue;
        }
        let verdict = verdict(&simulate(root, &scratch)?);
        all_found &= verdict.is_ok();
        println!("{name}: {}", verdict.unwrap_or_else(|complaint| complaint));
    }
    Ok(all_found)
}

/// Brings the copy up to date. What has not changed is left alone, so that it is not compiled again.
fn copy(root: &Path, scratch: &Path) -> io::Result<()> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output()?;
    for file in listed.stdout.split(|&byte| byte == 0).filter(|file| !file.is_empty()) {
        let file = String::from_utf8_lossy(file);
        let (from, to) = (root.join(&*file), scratch.join(&*file));
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if from.is_symlink() {
            // What is behind it is listed too.
            if !to.is_symlink() {
                std::os::unix::fs::symlink(std::fs::read_link(&from)?, &to)?;
            }
            continue;
        }
        if !from.exists() {
            continue; // removed, and not committed yet
        }
        let content = std::fs::read(&from)?;
        if !std::fs::read(&to).is_ok_and(|copied| copied == content) {
            std::fs::write(&to, content)?;
        }
    }
    Ok(())
}

fn simulate(root: &Path, scratch: &Path) -> io::Result<Output> {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "run",
            "--quiet",
            "--locked",
            "--profile",
            "checked",
            "--package",
            "tests",
            "--bin",
            "simulate",
            "--",
        ])
        .args(["--fail-fast", "--seeds", SEEDS])
        .env("CARGO_TARGET_DIR", root.join("target/mutations/target"))
        .current_dir(scratch)
        .output()
}

/// What the simulation's output says of a mutation; an error if it was not found.
fn verdict(output: &Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    match text.lines().find(|line| line.starts_with("seed ")) {
        Some(failure) => Ok(format!("found ({last}); {}", failure.chars().take(150).collect::<String>())),
        None => Err(format!("NOT FOUND ({last}) {}", String::from_utf8_lossy(&output.stderr))),
    }
}
