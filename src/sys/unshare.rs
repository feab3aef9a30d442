//! `unshare(2)` of what belongs to one thread.
#![allow(
    unsafe_code,
    reason = "raw system calls are made here and nowhere else"
)]

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread a root, a working directory and a umask of its own, without which it may
/// not enter a mount namespace.
pub(crate) fn unshare_fs() -> rustix::io::Result<()> {
    // SAFETY: only CLONE_FILES can take descriptors away from other threads, and it is not passed.
    unsafe { unshare_unsafe(UnshareFlags::FS) }
}

/// Gives the calling thread a new namespace of each of the kinds in `flags` (`CLONE_NEW*`).
pub(crate) fn unshare_namespaces(flags: u32) -> rustix::io::Result<()> {
    let flags = UnshareFlags::from_bits_retain(flags) - UnshareFlags::FILES;
    // SAFETY: without CLONE_FILES no descriptor is taken away from another thread.
    unsafe { unshare_unsafe(flags) }
}
