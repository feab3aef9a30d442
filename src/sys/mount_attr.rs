//! `mount_setattr(2)`.
#![allow(
    unsafe_code,
    reason = "raw system calls are made here and nowhere else"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::AtFlags;

/// `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountAttr {
    pub(crate) attr_set: u64,
    pub(crate) attr_clr: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

/// `mount_setattr(fd, path, flags, attr, sizeof(*attr))`, since Linux 5.12.
pub(crate) fn mount_setattr(
    fd: BorrowedFd<'_>,
    path: &CStr,
    flags: AtFlags,
    attr: &MountAttr,
) -> io::Result<()> {
    // SAFETY: the path is NUL-terminated and the attributes are a live `struct mount_attr` of the
    // size that is passed with it; the kernel only reads both, and only during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            path.as_ptr(),
            flags.bits(),
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
