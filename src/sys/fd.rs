//! Descriptor tables.

use super::raw::syscall;
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, RawFd};

/// `close_range(2)`: what to do with the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseRange {
    /// Close them.
    Close,
    /// Mark them close-on-exec (Linux 5.11).
    Cloexec,
    /// First get a descriptor table of one's own, without them.
    Unshare,
}

/// `close_range(2)` on `first..=last`.
pub(crate) fn close_range(first: RawFd, last: u32, action: CloseRange) -> Result<(), Errno> {
    let flags: usize = match action {
        CloseRange::Close => 0,
        CloseRange::Unshare => 2,
        CloseRange::Cloexec => 4,
    };
    let args = [first.unsigned_abs() as usize, last as usize, flags, 0, 0, 0];
    // SAFETY: no pointers. The child owns its descriptors; the parent only probes an empty range.
    unsafe { syscall(libc::SYS_close_range, args) }.map(drop)
}

/// `dup3(2)` onto a chosen number, without close-on-exec.
pub(crate) fn dup_to(fd: RawFd, target: RawFd) -> Result<(), Errno> {
    let args = [
        fd.unsigned_abs() as usize,
        target.unsigned_abs() as usize,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: no pointers; only the child calls this, in a table of its own.
    unsafe { syscall(libc::SYS_dup3, args) }.map(drop)
}

/// `fcntl(F_DUPFD_CLOEXEC)`: a copy numbered `min` or higher.
pub(crate) fn dup_above(fd: RawFd, min: RawFd) -> Result<RawFd, Errno> {
    fcntl(fd, libc::F_DUPFD_CLOEXEC, min.unsigned_abs() as usize)
        .and_then(|fd| RawFd::try_from(fd).map_err(|_| Errno::BADF))
}

/// A descriptor that the child has put in place under this number, and keeps.
pub(crate) fn borrow(number: &RawFd) -> BorrowedFd<'_> {
    // SAFETY: it is open until exec, and the plan that holds the number is kept until then.
    unsafe { BorrowedFd::borrow_raw(*number) }
}

/// Sets close-on-exec.
pub(crate) fn set_cloexec(fd: RawFd) -> Result<(), Errno> {
    fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC.unsigned_abs() as usize).map(drop)
}

/// Clears close-on-exec.
pub(crate) fn clear_cloexec(fd: RawFd) -> Result<(), Errno> {
    fcntl(fd, libc::F_SETFD, 0).map(drop)
}

fn fcntl(fd: RawFd, command: libc::c_int, argument: usize) -> Result<usize, Errno> {
    let args = [
        fd.unsigned_abs() as usize,
        command.unsigned_abs() as usize,
        argument,
        0,
        0,
        0,
    ];
    // SAFETY: the commands used take no pointer.
    unsafe { syscall(libc::SYS_fcntl, args) }
}
