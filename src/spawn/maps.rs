//! Id maps that the child may not write: another thread of the caller does it while the calling thread is
//! suspended.

use super::record::Record;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::plan::maps::{Map, Maps, Writer};
use crate::process::{pid_in_procfs, wait_readable};
use crate::sandbox::Unmapped;
use crate::sys::fd;
use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, pidfd_open};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Waits until the child asks, and writes. Returns what went wrong.
pub(super) fn serve(maps: &Maps, record: &Record, limit: Duration) -> Result<()> {
    let Some(pidfd) = record.maps_wanted() else {
        return Ok(());
    };
    let deadline = Instant::now().checked_add(limit);
    let mut answer = Answer {
        record,
        written: false,
    };
    let result = pid_in_procfs(pidfd)
        .map_err(|(call, errno)| Error::system(Step::IdMap, "the child in /proc", call, errno))
        .and_then(|pid| {
            if maps.by_caller && maps.denies_setgroups() {
                deny_setgroups(pid)?;
            }
            if let Some(function) = &maps.function {
                let pidfd = fd::borrow(&pidfd);
                return function
                    .write(Unmapped { pid, pidfd })
                    .map_err(|error| Error::io(Step::IdMap, "a function of the caller's", error));
            }
            [&maps.users, &maps.groups]
                .into_iter()
                .try_for_each(|map| write(map, pid, deadline))
        });
    answer.written = result.is_ok();
    result
}

/// What the child waits for, also when a function of the caller's panics.
struct Answer<'a> {
    record: &'a Record,
    written: bool,
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.record.maps_done(self.written);
    }
}

fn write(map: &Map, pid: u32, deadline: Option<Instant>) -> Result<()> {
    match &map.writer {
        Writer::Nobody | Writer::Child | Writer::Function => Ok(()),
        Writer::Parent => write_file(map, pid),
        Writer::Helper(path) => run_helper(map, path, pid, deadline),
    }
}

fn deny_setgroups(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/setgroups");
    std::fs::write(&path, "deny").map_err(|error| Error::io(Step::IdMap, path, error))
}

fn write_file(map: &Map, pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/{}", map.kind.map_file());
    let failed = |syscall| move |errno| Error::system(Step::IdMap, map.summary(), syscall, errno);
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("openat"))?;
    rustix::io::write(file, map.text().as_bytes())
        .map(drop)
        .map_err(failed("write"))
}

fn run_helper(map: &Map, path: &Path, pid: u32, deadline: Option<Instant>) -> Result<()> {
    let failed = |error| Error::io(Step::IdMap, path.display(), error);
    let mut command = std::process::Command::new(path);
    command.env_clear().arg(pid.to_string());
    for extent in &map.extents {
        command.args([extent.inside, extent.outside, extent.count].map(|id| id.to_string()));
    }
    let mut helper = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if !ends(helper.id(), deadline) {
        let _ = helper.kill();
        let _ = helper.wait();
        return Err(Error::other(
            ErrorKind::TimedOut,
            Step::IdMap,
            format!("{}: not done in time", map.summary()),
        ));
    }
    let mut said = Vec::new();
    if let Some(stderr) = &mut helper.stderr {
        stderr.read_to_end(&mut said).map_err(failed)?;
    }
    let written = match helper.wait() {
        Ok(status) => status.success(),
        // Reaped by somebody else, as by the kernel for a caller that ignores SIGCHLD.
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => is_written(map, pid),
        Err(error) => return Err(failed(error)),
    };
    if written {
        return Ok(());
    }
    Err(Error::other(
        ErrorKind::PermissionDenied,
        Step::IdMap,
        format!(
            "{}: {}",
            map.summary(),
            String::from_utf8_lossy(&said).trim()
        ),
    )
    .with_hint(Some(format!(
        "{} allows only ranges that {} allots to the caller; see subuid(5)",
        path.display(),
        map.kind.subid_file()
    ))))
}

/// Waits for the end of a process; false if it does not come in time.
fn ends(pid: u32, deadline: Option<Instant>) -> bool {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed());
    match pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Some(Ok(pidfd)) => wait_readable(pidfd.as_fd(), deadline) == Ok(true),
        // Gone already.
        _ => true,
    }
}

/// Before it is written, a map is empty.
fn is_written(map: &Map, pid: u32) -> bool {
    let path = format!("/proc/{pid}/{}", map.kind.map_file());
    std::fs::read(path).is_ok_and(|text| !text.is_empty())
}
