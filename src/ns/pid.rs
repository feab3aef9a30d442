//! The numbers that a process has in several pid namespaces.

use super::of_process::open_process;
use super::{Namespace, NamespaceId, Pid};
use crate::error::{Error, Result, Step};
use crate::sys::nsfs;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

impl Namespace<Pid> {
    /// The number that a process, or a thread, of the caller's pid namespace has in this one. `None` if it
    /// has none here, or does not exist.
    ///
    /// # Errors
    /// When the fallback needs something of `/proc` that the caller may not read.
    ///
    /// # Kernel
    /// `NS_GET_PID_IN_PIDNS` of Linux 6.11; otherwise `NSpid` in `/proc/PID/status`.
    #[doc(alias = "NS_GET_PID_IN_PIDNS")]
    pub fn pid_inside(&self, pid: u32) -> Result<Option<u32>> {
        match nsfs::pid_in_pidns(self.as_fd(), pid) {
            Ok(pid) => Ok(Some(pid)),
            Err(Errno::SRCH) => Ok(None),
            Err(_) => self.number_of(pid),
        }
    }

    /// The number in the caller's pid namespace of the process, or thread, that has this one here. `None` if
    /// there is none, or if the caller's namespace does not contain it.
    ///
    /// # Errors
    /// When the fallback needs something of `/proc` that the caller may not read.
    ///
    /// # Kernel
    /// `NS_GET_PID_FROM_PIDNS` of Linux 6.11; otherwise `NSpid` of all processes, not threads, in `/proc`.
    #[doc(alias = "NS_GET_PID_FROM_PIDNS")]
    pub fn pid_outside(&self, inside: u32) -> Result<Option<u32>> {
        match nsfs::pid_from_pidns(self.as_fd(), inside) {
            Ok(0) | Err(Errno::SRCH) => Ok(None),
            Ok(pid) => Ok(Some(pid)),
            Err(_) => self.find(inside),
        }
    }

    fn find(&self, inside: u32) -> Result<Option<u32>> {
        for pid in processes()? {
            // Those that end meanwhile are not meant, and those that are hidden cannot be.
            let has_number = numbers(pid).is_ok_and(|numbers| numbers.contains(&inside));
            if has_number && self.number_of(pid).is_ok_and(|found| found == Some(inside)) {
                return Ok(Some(pid));
            }
        }
        Ok(None)
    }

    /// By the numbers of the process in its own namespace and in those that this lies in.
    fn number_of(&self, pid: u32) -> Result<Option<u32>> {
        let process = match open_process(pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            other => other?,
        };
        let numbers = numbers(pid)?;
        let own = Self::of_pidfd(&process)?;
        Ok(
            level_above(&own, self.id())?
                .and_then(|above| numbers.iter().rev().nth(above).copied()),
        )
    }
}

/// How far up from `namespace` the one with this identity is, if it is there.
fn level_above(namespace: &Namespace<Pid>, id: NamespaceId) -> Result<Option<usize>> {
    if namespace.id() == id {
        return Ok(Some(0));
    }
    let position = namespace.ancestors()?.iter().position(|one| one.id() == id);
    Ok(position.map(|position| position + 1))
}

/// The numbers of a process in the pid namespace of `/proc` and in those below it that it is in.
fn numbers(pid: u32) -> Result<Vec<u32>> {
    numbers_in(&format!("/proc/{pid}/status"))
}

/// The same for the process of a pidfd, which must not have been reaped.
pub(crate) fn pids_of(pidfd: BorrowedFd<'_>) -> Result<Vec<u32>> {
    // Of the thread, whose table of descriptors may not be that of the others.
    let path = format!("/proc/thread-self/fdinfo/{}", pidfd.as_raw_fd());
    let numbers = numbers_in(&path)?;
    if numbers.is_empty() || numbers.contains(&0) {
        let errno = Errno::SRCH;
        return Err(Error::system(Step::Namespace, path, "read", errno));
    }
    Ok(numbers)
}

fn numbers_in(path: &str) -> Result<Vec<u32>> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Error::io(Step::Namespace, path, error))?;
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers = line.unwrap_or_default().split_ascii_whitespace();
    Ok(numbers.filter_map(|number| number.parse().ok()).collect())
}

/// The processes that `/proc` shows.
pub(super) fn processes() -> Result<Vec<u32>> {
    let failed = |error| Error::io(Step::Namespace, "/proc", error);
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}
