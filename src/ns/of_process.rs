//! The namespaces of processes and threads, opened without mistaking one process for another.

use super::{AnyNamespace, Kind};
use crate::error::{Error, Result, Step};
use crate::process::pid_in_procfs;
use crate::sys::nsfs;
use crate::sys::process::pidfd_signal;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Whether two processes, or threads, are in the same namespace of a kind.
///
/// Both namespaces are held open while they are compared, so that the answer is right even if one of
/// them ends meanwhile.
///
/// # Errors
/// Those of [`Namespace::of_pid`](super::Namespace::of_pid).
pub fn same_namespace(kind: Kind, first: u32, second: u32) -> Result<bool> {
    Ok(of_pid(kind, first)? == of_pid(kind, second)?)
}

/// The calling thread's.
pub(super) fn current(kind: Kind) -> Result<AnyNamespace> {
    let path = format!("/proc/thread-self/ns/{kind}");
    match open(&path) {
        Ok(fd) => AnyNamespace::from_fd(fd, &path),
        // It may be that there is no /proc.
        Err(Errno::NOENT) => {
            let tid = rustix::thread::gettid().as_raw_pid();
            let found = of_thread(kind, tid.cast_unsigned());
            found.map_err(|_| failed(&path, "open", Errno::NOENT))
        }
        Err(errno) => Err(failed(&path, "open", errno)),
    }
}

pub(super) fn of_pid(kind: Kind, pid: u32) -> Result<AnyNamespace> {
    Link::of(kind).of_pidfd(open_process(pid)?.as_fd())
}

/// A pidfd of the process with this id.
pub(crate) fn open_process(pid: u32) -> Result<OwnedFd> {
    let opened = number(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    opened.map_err(|errno| failed(format_args!("process {pid}"), "pidfd_open", errno))
}

pub(super) fn of_thread(kind: Kind, tid: u32) -> Result<AnyNamespace> {
    /// Linux 6.9.
    const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(OFlags::EXCL.bits());
    let object = format!("{kind} of thread {tid}");
    let number = number(tid).map_err(|errno| failed(&object, "pidfd_open", errno))?;
    if let Ok(thread) = pidfd_open(number, PIDFD_THREAD)
        && let Ok(fd) = nsfs::of_pidfd(thread.as_fd(), Link::of(kind).request)
    {
        return AnyNamespace::of_kind(fd, kind);
    }
    // Relative to this directory everything is of the one thread, even if its id is used again.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(format!("/proc/{tid}"), flags, Mode::empty());
    let thread = opened.map_err(|errno| failed(&object, "open", gone(errno)))?;
    let link = format!("ns/{kind}");
    let fd = rustix::fs::openat(&thread, link, READ, Mode::empty())
        .map_err(|errno| failed(&object, "openat", errno))?;
    AnyNamespace::from_fd(fd, &object)
}

pub(super) fn of_pidfd(kind: Kind, pidfd: BorrowedFd<'_>) -> Result<AnyNamespace> {
    let link = Link::of(kind);
    // Keeps the ioctl from files that are no pidfd.
    look(pidfd).map_err(|errno| failed(link.object(pidfd), "pidfd_send_signal", errno))?;
    link.of_pidfd(pidfd)
}

/// The time namespace that a child of the caller will be in once it executes a program.
pub(super) fn time_for_children(pidfd: BorrowedFd<'_>) -> Result<AnyNamespace> {
    let link = Link {
        kind: Kind::Time,
        name: "time_for_children",
        request: 8,
    };
    link.of_pidfd(pidfd)
}

/// One of the links in `/proc/PID/ns`.
struct Link {
    kind: Kind,
    name: &'static str,
    /// The number of its `PIDFD_GET_*_NAMESPACE`.
    request: u8,
}

impl Link {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            name: kind.proc_name(),
            request: match kind {
                Kind::Cgroup => 1,
                Kind::Ipc => 2,
                Kind::Mount => 3,
                Kind::Net => 4,
                Kind::Pid => 5,
                Kind::Time => 7,
                Kind::User => 9,
                Kind::Uts => 10,
            },
        }
    }

    fn object(&self, pidfd: BorrowedFd<'_>) -> String {
        format!("{} of pidfd {}", self.name, pidfd.as_raw_fd())
    }

    fn of_pidfd(&self, pidfd: BorrowedFd<'_>) -> Result<AnyNamespace> {
        match nsfs::of_pidfd(pidfd, self.request) {
            Ok(fd) => AnyNamespace::of_kind(fd, self.kind),
            Err(Errno::SRCH) => Err(failed(self.object(pidfd), "ioctl", Errno::SRCH)),
            // An older kernel or a filter; and if there is no privilege, open says so again.
            Err(_) => self.by_proc(pidfd),
        }
    }

    fn by_proc(&self, pidfd: BorrowedFd<'_>) -> Result<AnyNamespace> {
        let object = self.object(pidfd);
        let failed = |call| {
            let object = &object;
            move |errno| failed(object, call, errno)
        };
        let pid = pid_in_procfs(pidfd.as_raw_fd()).map_err(|(call, errno)| failed(call)(errno))?;
        let opened = open(&format!("/proc/{pid}/ns/{}", self.name));
        // Unless the process is still there, the number may have been another's.
        look(pidfd).map_err(failed("pidfd_send_signal"))?;
        AnyNamespace::from_fd(opened.map_err(failed("open"))?, &object)
    }
}

/// Whether the process has not been reaped; it need not be one that the caller may signal.
fn look(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    match pidfd_signal(pidfd, 0) {
        Err(Errno::PERM) => Ok(()),
        other => other,
    }
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);

fn open(path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, READ, Mode::empty())
}

fn number(pid: u32) -> Result<Pid, Errno> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    number.ok_or(Errno::INVAL)
}

/// Without its directory in /proc there is no such thread.
fn gone(errno: Errno) -> Errno {
    match errno {
        Errno::NOENT => Errno::SRCH,
        other => other,
    }
}

fn failed(object: impl fmt::Display, syscall: &'static str, errno: Errno) -> Error {
    let error = Error::system(Step::Namespace, object, syscall, errno);
    error.with_hint(match errno {
        Errno::ACCESS | Errno::PERM => Some(
            "the namespaces of another user's process, or of one that is not dumpable, are shown to root only (CAP_SYS_PTRACE)"
                .into(),
        ),
        Errno::SRCH => Some("the process has ended".into()),
        Errno::INVAL if syscall == "pidfd_open" => {
            Some("no process has this number: 0 and what is above 2147483647 are none".into())
        }
        _ => None,
    })
}
