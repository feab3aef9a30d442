//! Ending everything in a cgroup.
//!
//! Not by `cgroup.kill`: whatever is born in the cgroup afterwards would be killed as well.

use super::directory::{Directory, below, open, read_all};
use crate::error::{Error, ErrorKind, Result, Step};
use core::ffi::CStr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::gettid;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the end of killed processes is waited for.
const LIMIT: Duration = Duration::from_secs(10);

/// Refuses to stop or end what the caller is in: nobody would let it go on.
pub(crate) fn spare_caller(cgroup: &Directory) -> Result<()> {
    let object = format!("everything in {}", cgroup.path.display());
    match holds(cgroup.fd.as_fd(), gettid()) {
        Ok(false) => Ok(()),
        Ok(true) => Err(
            Error::io(Step::Cgroup, object, Errno::DEADLK.into()).with_hint(Some(
                "the caller is in this cgroup or below it: make one for the program, by Cgroup::create".into(),
            )),
        ),
        Err(errno) => Err(Error::system(Step::Cgroup, object, "read", errno)),
    }
}

/// Whether a thread is in a cgroup or below.
fn holds(directory: BorrowedFd<'_>, thread: Pid) -> Result<bool, Errno> {
    if numbers(directory, c"cgroup.threads")?.contains(&thread) {
        return Ok(true);
    }
    for name in below(directory)? {
        match open(directory, name, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(child) if holds(child.as_fd(), thread)? => return Ok(true),
            // Removed meanwhile.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(false)
}

/// Kills everything in the cgroup and below, and returns when it has ended.
pub(crate) fn kill(cgroup: &Directory) -> Result<()> {
    spare_caller(cgroup)?;
    let failed = |errno| {
        let object = format!("everything in {}", cgroup.path.display());
        Error::system(Step::Wait, object, "kill", errno)
    };
    // What is frozen cannot make new processes, but can be killed. Without permission to freeze, a
    // process that forks is caught in a later round.
    let thaws = !cgroup.is_frozen()? && cgroup.write("cgroup.freeze", "1").is_ok();
    let killed = kill_until_empty(cgroup.fd.as_fd());
    if thaws {
        cgroup.write("cgroup.freeze", "0")?;
    }
    killed.map_err(|errno| match errno {
        Errno::TIMEDOUT => not_ended(cgroup),
        errno => failed(errno),
    })
}

fn not_ended(cgroup: &Directory) -> Error {
    let what = format!(
        "{} still has processes {LIMIT:?} after they were killed",
        cgroup.path.display()
    );
    Error::other(ErrorKind::TimedOut, Step::Wait, what).with_hint(Some(
        "one may be in a system call that cannot be interrupted, or in a pid namespace that the caller does not see"
            .into(),
    ))
}

/// Listed no longer is not yet ended: only `populated 0` tells that.
fn kill_until_empty(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    // The root cgroup has no such file.
    let events = open(directory, c"cgroup.events", OFlags::RDONLY)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        kill_tree(directory)?;
        // Reading also arms the poll for the next change.
        if !is_populated(&events)? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Errno::TIMEDOUT);
        }
        // Then once more: what could not be frozen may have forked.
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&moment)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether a process lives in the cgroup of these `cgroup.events`, or below it.
fn is_populated(events: &OwnedFd) -> Result<bool, Errno> {
    let mut text = [0_u8; 256];
    let length = rustix::io::pread(events, &mut text[..], 0)?;
    let text = text.get(..length).unwrap_or(&[]);
    let mut lines = text.split(|&byte| byte == b'\n');
    Ok(!lines.any(|line| line == b"populated 0"))
}

/// Kills what is in a cgroup and below.
fn kill_tree(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    for pid in processes(directory)? {
        match kill_process(pid, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno),
        }
    }
    for name in below(directory)? {
        match open(directory, name, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(child) => kill_tree(child.as_fd())?,
            // Removed meanwhile.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The processes in a cgroup, but not below it.
pub(super) fn processes(directory: BorrowedFd<'_>) -> Result<Vec<Pid>, Errno> {
    numbers(directory, c"cgroup.procs")
}

/// The numbers in one of its files.
fn numbers(directory: BorrowedFd<'_>, file: &CStr) -> Result<Vec<Pid>, Errno> {
    let file = match open(directory, file, OFlags::RDONLY) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        other => other?,
    };
    let text = match read_all(&file) {
        // Removed, or threaded: its processes are listed above it.
        Err(Errno::NODEV | Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    // A process of another pid namespace is shown as 0.
    let pids = text.lines().filter_map(|line| line.parse().ok());
    Ok(pids.filter_map(Pid::from_raw).collect())
}
