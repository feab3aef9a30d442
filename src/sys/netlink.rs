//! What rustix lacks for netlink sockets and tun devices.

use super::raw::{fd_arg, syscall};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// Switches on an option of a netlink socket, such as `NETLINK_EXT_ACK`.
pub(crate) fn enable(socket: BorrowedFd<'_>, option: i32) -> Result<(), Errno> {
    let on: i32 = 1;
    let args = [
        fd_arg(socket),
        libc::SOL_NETLINK.cast_unsigned() as usize,
        option.cast_unsigned() as usize,
        core::ptr::from_ref(&on) as usize,
        size_of::<i32>(),
        0,
    ];
    // SAFETY: the kernel reads one int, of the size that it is told.
    unsafe { syscall(libc::SYS_setsockopt, args) }.map(drop)
}

/// Makes an open `/dev/net/tun` the device of this name, `IFNAMSIZ` bytes with a NUL; the kernel
/// writes the name back that it gave.
pub(crate) fn tun_set_iff(
    file: BorrowedFd<'_>,
    name: &mut [u8; 16],
    flags: i32,
) -> Result<(), Errno> {
    #[repr(C)]
    struct Ifreq {
        name: [u8; 16],
        flags: i16,
        pad: [u8; 22],
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "ifr_flags has 16 bits, which the flags of tun devices fit in"
    )]
    let mut request = Ifreq {
        name: *name,
        flags: flags as i16,
        pad: [0; 22],
    };
    let pointer = &raw mut request;
    // SAFETY: the request has the kernel's size of 40 bytes, and is written back to.
    unsafe { ioctl(file, libc::TUNSETIFF, pointer as usize) }?;
    *name = request.name;
    Ok(())
}

/// What a tun device can be told once it is one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TunSetting {
    /// It outlives its last descriptor.
    Persist,
    /// The user who may open it.
    Owner(u32),
    /// The group whose members may.
    Group(u32),
}

impl TunSetting {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Persist => "ioctl(TUNSETPERSIST)",
            Self::Owner(_) => "ioctl(TUNSETOWNER)",
            Self::Group(_) => "ioctl(TUNSETGROUP)",
        }
    }
}

pub(crate) fn tun_set(file: BorrowedFd<'_>, setting: TunSetting) -> Result<(), Errno> {
    let (request, argument) = match setting {
        TunSetting::Persist => (libc::TUNSETPERSIST, 1),
        TunSetting::Owner(uid) => (libc::TUNSETOWNER, uid),
        TunSetting::Group(gid) => (libc::TUNSETGROUP, gid),
    };
    // SAFETY: the arguments of all of them are numbers.
    unsafe { ioctl(file, request, argument as usize) }
}

/// # Safety
/// The argument must be what the request takes.
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the type of the request differs by target"
)]
unsafe fn ioctl(file: BorrowedFd<'_>, request: libc::Ioctl, argument: usize) -> Result<(), Errno> {
    let args = [fd_arg(file), request as usize, argument, 0, 0, 0];
    // SAFETY: the caller vouches for the argument.
    unsafe { syscall(libc::SYS_ioctl, args) }.map(drop)
}
