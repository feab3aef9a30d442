//! Ending a program together with everything that it has started.

use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::Namespaces;
use crate::plan::Cgroup;
use crate::process::Child;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How long the end of killed processes is waited for.
const LIMIT: Duration = Duration::from_secs(10);

impl Child {
    /// Ends the program politely: sends it `signal`, such as `SIGTERM`, waits for as long as `grace`, and
    /// then [kills everything](Self::kill_all). Returns the program's status; nothing of the
    /// sandbox is left then.
    ///
    /// Without a new pid namespace and without a cgroup only the program itself is killed, and what
    /// it has started may go on.
    ///
    /// # Errors
    /// As [`signal`](Self::signal) and [`wait`](Self::wait).
    pub fn shutdown(&mut self, signal: i32, grace: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        let ended = self.wait_timeout(grace)?;
        if self.reaches_all() {
            self.kill_all()?;
        } else if ended.is_none() {
            self.kill()?;
        }
        self.wait()
    }

    /// Kills the program and everything that it has started (`SIGKILL`).
    ///
    /// With a [new pid namespace](crate::Sandbox::pid) the kernel does that, and nothing escapes. Without
    /// one it is weaker: everything in the [cgroup](crate::Sandbox::into_cgroup) and below it is frozen and
    /// killed, also what others have put there, but not what has left it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with neither; or when the cgroup cannot be read, or something in it may
    /// not be killed; [`ErrorKind::TimedOut`] when something in it has not ended ten seconds later.
    ///
    /// # Kernel
    /// Not `cgroup.kill`: children born in the cgroup afterwards would be killed as well.
    #[doc(alias = "cgroup.kill")]
    pub fn kill_all(&mut self) -> Result<()> {
        let plan = self.plan();
        if plan.namespaces.contains(Namespaces::PID) {
            return self.kill();
        }
        match &plan.cgroup {
            Some(cgroup) => kill_cgroup(cgroup),
            None => Err(Error::other(
                ErrorKind::Unsupported,
                Step::Wait,
                "without a pid namespace or a cgroup, what the program has started is not known",
            )
            .with_hint(Some(
                "ask for Sandbox::pid, or for a cgroup by Sandbox::into_cgroup".into(),
            ))),
        }
    }

    fn reaches_all(&self) -> bool {
        let plan = self.plan();
        plan.namespaces.contains(Namespaces::PID) || plan.cgroup.is_some()
    }
}

fn kill_cgroup(cgroup: &Cgroup) -> Result<()> {
    let failed = |errno| {
        let object = format!("everything in {}", cgroup.path.display());
        Error::system(Step::Wait, object, "kill", errno)
    };
    let directory = &cgroup.directory;
    // What is frozen cannot make new processes, but can be killed. Without permission to freeze, a
    // process that forks is caught in a later round.
    let frozen = write(directory.as_fd(), c"cgroup.freeze", b"1").is_ok();
    let killed = kill_until_empty(directory.as_fd());
    if frozen {
        write(directory.as_fd(), c"cgroup.freeze", b"0").map_err(failed)?;
    }
    killed.map_err(|errno| match errno {
        Errno::TIMEDOUT => not_ended(cgroup),
        errno => failed(errno),
    })
}

fn not_ended(cgroup: &Cgroup) -> Error {
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
    let below = open(directory, c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    for entry in Dir::read_from(&below)? {
        let entry = entry?;
        if entry.file_type() != FileType::Directory
            || matches!(entry.file_name().to_bytes(), b"." | b"..")
        {
            continue;
        }
        match open(
            directory,
            entry.file_name(),
            OFlags::PATH | OFlags::DIRECTORY,
        ) {
            Ok(child) => kill_tree(child.as_fd())?,
            // Removed meanwhile.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn processes(directory: BorrowedFd<'_>) -> Result<Vec<Pid>, Errno> {
    let file = match open(directory, c"cgroup.procs", OFlags::RDONLY) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        other => other?,
    };
    let mut text = String::new();
    match std::io::Read::read_to_string(&mut std::fs::File::from(file), &mut text) {
        Ok(_) => {}
        Err(error) => match Errno::from_io_error(&error) {
            // Removed, or threaded: its processes are listed above it.
            Some(Errno::NODEV | Errno::OPNOTSUPP) => return Ok(Vec::new()),
            errno => return Err(errno.unwrap_or(Errno::IO)),
        },
    }
    // A process of another pid namespace is shown as 0.
    let pids = text.lines().filter_map(|line| line.parse().ok());
    Ok(pids.filter_map(Pid::from_raw).collect())
}

fn open(
    directory: BorrowedFd<'_>,
    name: &core::ffi::CStr,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty())
}

fn write(directory: BorrowedFd<'_>, name: &core::ffi::CStr, text: &[u8]) -> Result<(), Errno> {
    let file = open(directory, name, OFlags::WRONLY)?;
    rustix::io::write(file, text).map(drop)
}
