//! What the kernel tells of a namespace, by `ioctl(2)` on its descriptor.

use super::raw::{fd_arg, syscall};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

const NSIO: u8 = 0xb7;
const PIDFS: u8 = 0xff;

const NS_GET_USERNS: Opcode = opcode::none(NSIO, 1);
const NS_GET_PARENT: Opcode = opcode::none(NSIO, 2);
const NS_GET_OWNER_UID: Opcode = opcode::none(NSIO, 4);
const NS_GET_PID_FROM_PIDNS: Opcode = opcode::read::<i32>(NSIO, 6);
const NS_GET_PID_IN_PIDNS: Opcode = opcode::read::<i32>(NSIO, 8);
const NS_GET_ID: Opcode = opcode::read::<u64>(NSIO, 13);

/// The user namespace that owns this one.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    opened(fd, NS_GET_USERNS)
}

/// The parent of a user or pid namespace; `EPERM` if it has none that the caller may see.
pub(crate) fn parent(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    opened(fd, NS_GET_PARENT)
}

/// A namespace of the process of a pidfd (Linux 6.11), by the number of its `PIDFD_GET_*_NAMESPACE`.
pub(crate) fn of_pidfd(pidfd: BorrowedFd<'_>, number: u8) -> Result<OwnedFd, Errno> {
    opened(pidfd, opcode::none(PIDFS, number))
}

/// The network namespace of a socket.
pub(crate) fn of_socket(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    /// From <linux/sockios.h>.
    const SIOCGSKNS: Opcode = 0x894c;
    opened(socket, SIOCGSKNS)
}

/// The user, in the caller's user namespace, who made a user namespace.
pub(crate) fn owner_uid(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut uid = 0_u32;
    let pointer = &raw mut uid;
    // SAFETY: nsfs writes one u32. The callers have seen that the descriptor is of nsfs.
    unsafe { ioctl(fd, NS_GET_OWNER_UID, pointer as usize) }?;
    Ok(uid)
}

/// The number that no other namespace since boot has or will have (Linux 6.18).
pub(crate) fn unique_id(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut id = 0_u64;
    let pointer = &raw mut id;
    // SAFETY: nsfs writes one u64. The callers have seen that the descriptor is of nsfs.
    unsafe { ioctl(fd, NS_GET_ID, pointer as usize) }?;
    Ok(id)
}

/// The caller's number for the task that has this one in the pid namespace (Linux 6.11).
pub(crate) fn pid_from_pidns(fd: BorrowedFd<'_>, pid: u32) -> Result<u32, Errno> {
    translate(fd, NS_GET_PID_FROM_PIDNS, pid)
}

/// The number in the pid namespace of the task that has this one for the caller (Linux 6.11).
pub(crate) fn pid_in_pidns(fd: BorrowedFd<'_>, pid: u32) -> Result<u32, Errno> {
    translate(fd, NS_GET_PID_IN_PIDNS, pid)
}

fn translate(fd: BorrowedFd<'_>, request: Opcode, pid: u32) -> Result<u32, Errno> {
    // SAFETY: the argument is the pid itself; nothing is written.
    let pid = unsafe { ioctl(fd, request, pid as usize) }?;
    u32::try_from(pid).map_err(|_| Errno::RANGE)
}

fn opened(fd: BorrowedFd<'_>, request: Opcode) -> Result<OwnedFd, Errno> {
    // SAFETY: the requests that are passed here have no argument.
    let number = unsafe { ioctl(fd, request, 0) }?;
    let number = RawFd::try_from(number).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just opened this descriptor, with close-on-exec, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// # Safety
/// The argument must be what the request takes.
unsafe fn ioctl(fd: BorrowedFd<'_>, request: Opcode, argument: usize) -> Result<usize, Errno> {
    let args = [fd_arg(fd), request as usize, argument, 0, 0, 0];
    // SAFETY: the caller vouches for the argument.
    unsafe { syscall(libc::SYS_ioctl, args) }
}
