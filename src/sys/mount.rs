//! The mount system calls that rustix lacks.

use super::raw::{fd_arg, syscall};
use core::ffi::CStr;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountAttr {
    pub(crate) attr_set: u64,
    pub(crate) attr_clr: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

/// `mount_setattr(2)` (Linux 5.12).
pub(crate) fn mount_setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: u32,
    attr: &MountAttr,
) -> Result<(), Errno> {
    let args = [
        fd_arg(dir),
        path.as_ptr() as usize,
        flags as usize,
        core::ptr::from_ref(attr) as usize,
        size_of::<MountAttr>(),
        0,
    ];
    // SAFETY: the path is null-terminated and the attributes have the size that is passed.
    unsafe { syscall(libc::SYS_mount_setattr, args) }.map(drop)
}

/// Whether `mount_setattr` gets through to the kernel: it refuses attributes of size 0.
pub(crate) fn mount_setattr_exists() -> bool {
    // SAFETY: with size 0 the kernel reads and changes nothing.
    let refused = unsafe { syscall(libc::SYS_mount_setattr, [0; 6]) };
    refused == Err(Errno::INVAL)
}
