//! A file system of its own, so small that it gets full.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A tmpfs, unmounted when this is dropped.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts one of this size, such as `1m`.
    ///
    /// # Errors
    /// Where mounting is not permitted: with the reason.
    ///
    /// # Panics
    /// Without room for a temporary folder.
    pub fn mount(size: &str) -> Result<Self, String> {
        let folder = TempDir::new().expect("a temporary folder");
        let options = format!("size={size},mode=700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self(folder)),
            Ok(output) => {
                Err(format!("a tmpfs cannot be mounted here: {}", String::from_utf8_lossy(&output.stderr)))
            }
            Err(error) => Err(format!("a tmpfs cannot be mounted here: {error}")),
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node that a failing test leaves behind may still have a file open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
