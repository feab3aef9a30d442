//! The system call instruction itself.

use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Turns the kernel's return value into a result.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "error returns are in -4095..0, everything else is the unsigned result"
)]
pub(crate) const fn result(ret: isize) -> Result<usize, Errno> {
    if ret < 0 && ret >= -4095 {
        Err(Errno::from_raw_os_error(-ret as i32))
    } else {
        Ok(ret as usize)
    }
}

/// A descriptor as an argument; `AT_FDCWD` is negative.
pub(crate) fn fd_arg(fd: BorrowedFd<'_>) -> usize {
    fd.as_raw_fd().cast_unsigned() as usize
}

/// The number of a system call, as a register takes it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a c_long is as wide as a register"
)]
pub(crate) const fn number(number: libc::c_long) -> usize {
    number.cast_unsigned() as usize
}

/// Makes a system call.
///
/// # Safety
/// The arguments must be valid for that system call.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) unsafe fn syscall(call: libc::c_long, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: as the caller says.
    result(unsafe { super::stage::syscall::syscall(number(call), args) })
}

/// Makes the system call `number`.
///
/// # Safety
/// The arguments must be valid for that system call.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> Result<usize, Errno> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the location of errno is always valid in a thread that libc knows; a vfork child runs
    // with its parent's, which is suspended.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { errno.read() };
    // SAFETY: the caller vouches for the arguments.
    let ret = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    // SAFETY: as above.
    let error = unsafe { errno.read() };
    // SAFETY: as above.
    unsafe { errno.write(saved) };
    match ret {
        -1 => Err(Errno::from_raw_os_error(error)),
        // Registers are as wide as pointers.
        _ => Ok(ret as usize),
    }
}
