//! Id maps that the child may not write: another thread of the caller does it while the calling thread is
//! suspended.

use super::record::Record;
use crate::error::{Error, Result, Step};
use crate::plan::maps::{Map, Maps, Writer};
use rustix::fs::{Mode, OFlags};
use std::path::Path;

/// Waits until the child asks, and writes. Returns what went wrong.
pub(super) fn serve(maps: &Maps, record: &Record) -> Result<()> {
    let Some(pid) = record.maps_wanted() else {
        return Ok(());
    };
    let result = [&maps.users, &maps.groups]
        .into_iter()
        .try_for_each(|map| write(map, pid));
    record.maps_done(result.is_ok());
    result
}

fn write(map: &Map, pid: u32) -> Result<()> {
    match &map.writer {
        Writer::Nobody | Writer::Child => Ok(()),
        Writer::Parent => write_file(map, pid),
        Writer::Helper(path) => run_helper(map, path, pid),
    }
}

fn write_file(map: &Map, pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/{}", map.kind.map_file());
    let failed = |syscall| move |errno| Error::system(Step::IdMap, map.to_string(), syscall, errno);
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("openat"))?;
    rustix::io::write(file, map.text().as_bytes())
        .map(drop)
        .map_err(failed("write"))
}

fn run_helper(map: &Map, path: &Path, pid: u32) -> Result<()> {
    let mut command = std::process::Command::new(path);
    command.env_clear().arg(pid.to_string());
    for extent in &map.extents {
        command.args([extent.inside, extent.outside, extent.count].map(|id| id.to_string()));
    }
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| Error::io(Step::IdMap, path.display(), error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::other(
        crate::ErrorKind::PermissionDenied,
        Step::IdMap,
        format!("{map}: {}", said.trim()),
    )
    .with_hint(Some(format!(
        "{} allows only ranges that {} allots to the caller; see subuid(5)",
        path.display(),
        map.kind.subid_file()
    ))))
}
