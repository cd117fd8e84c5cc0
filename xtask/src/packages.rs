//! What cargo keeps of packages that were packaged before. To verify a package that needs another one of the same workspace, it unpacks and compiles that one as if from a registry, and does so only once for each
//! version and place of the workspace: the next time it would build against what the other package was then.

use std::path::{Path, PathBuf};
use std::{env, fs};

const PACKAGES: [&str; 4] = ["sync-proto-", "sync-store-", "sync-transport-", "sync-node-"];

/// Removes the unpacked copies of this workspace's packages, and has them compiled again.
pub(crate) fn forget(root: &Path) {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo"))).unwrap_or_default();
    // Registries that are folders have no host: their names begin with what follows it.
    let registries = folders(&home.join("registry/src")).filter(|path| name(path).starts_with('-'));
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    for folder in registries.chain([target.join("debug/.fingerprint")]) {
        for ours in
            folders(&folder).filter(|path| PACKAGES.iter().any(|package| name(path).starts_with(package)))
        {
            if let Err(error) = fs::remove_dir_all(&ours) {
                eprintln!("{}: {error}", ours.display());
            }
        }
    }
}

fn folders(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir())
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
