//! The one thing a child does to its network: bring the loopback interface up.

use super::raw::{fd_arg, syscall};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

const SIOCSIFFLAGS: usize = 0x8914;

/// Sets `IFF_UP` on `lo` by `ioctl(SIOCSIFFLAGS)` on any socket of the namespace.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    #[repr(C)]
    struct Ifreq {
        name: [u8; 16],
        flags: i16,
        pad: [u8; 22],
    }
    let mut name = [0; 16];
    name[..2].copy_from_slice(b"lo");
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernel keeps these two flags in 16 bits"
    )]
    let request = Ifreq {
        name,
        flags: (libc::IFF_UP | libc::IFF_RUNNING) as i16,
        pad: [0; 22],
    };
    let args = [
        fd_arg(socket),
        SIOCSIFFLAGS,
        core::ptr::from_ref(&request) as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the request has the kernel's size of 40 bytes.
    unsafe { syscall(libc::SYS_ioctl, args) }.map(drop)
}
