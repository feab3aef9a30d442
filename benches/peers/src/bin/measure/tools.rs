//! The programs among the peers.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a program is; says so if it is not there.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        println!("SKIPPED {name}: not installed");
    }
    found
}

/// unshare(1) with the isolation of [`crate::sandbox`].
pub(crate) fn unshare(tool: &Path, program: &Path) -> Command {
    let mut command = Command::new(tool);
    command
        .args(["--user", "--map-root-user", "--mount", "--uts", "--ipc"])
        .args(["--cgroup", "--propagation", "private"])
        .arg(program);
    command
}

/// bubblewrap with the same, in a root that looks like the caller's: it always makes one.
pub(crate) fn bwrap(tool: &Path, program: &Path) -> Command {
    let mut command = Command::new(tool);
    command
        .args(["--unshare-user", "--uid", "0", "--gid", "0"])
        .args(["--unshare-uts", "--unshare-ipc", "--unshare-cgroup"])
        .args(["--dev-bind", "/", "/"])
        .arg(program);
    command
}
