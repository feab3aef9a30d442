//! The cgroup of a process, as a directory.

use super::{number, still_there};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::mount::mountinfo::MountTable;
use crate::sandbox::join::JoinProcess;
use std::path::{Path, PathBuf};

/// The directory of the process's cgroup (v2) in a file system that the caller sees.
pub(in crate::plan) fn directory_of(process: &JoinProcess) -> Result<PathBuf> {
    let (pid, pidfd) = number(process)?;
    let file = format!("/proc/{pid}/cgroup");
    let text =
        std::fs::read_to_string(&file).map_err(|error| Error::io(Step::Cgroup, &file, error))?;
    still_there(pidfd)?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let table = MountTable::current()?;
    let mounts = table.iter().filter(|mount| mount.fs_type() == "cgroup2");
    path.and_then(|path| {
        // Both are relative to the caller's cgroup namespace.
        let below = |(root, target): (&Path, &Path)| {
            let rest = Path::new(path).strip_prefix(root).ok()?;
            let leads_up = rest.components().any(|part| part.as_os_str() == "..");
            (!leads_up).then(|| target.join(rest))
        };
        mounts
            .map(|mount| (mount.root(), mount.target()))
            .find_map(below)
    })
    .ok_or_else(|| {
        Error::other(
            ErrorKind::NotFound,
            Step::Cgroup,
            format!("the cgroup of process {pid}"),
        )
        .with_hint(Some(
            "no cgroup v2 file system that it is in is mounted where the caller sees it".into(),
        ))
    })
}
