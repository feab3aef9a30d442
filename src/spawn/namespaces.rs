//! New namespaces without a program: the child opens those that it is in, and passes them to the caller.
//!
//! It never executes anything, so until it ends its memory is the caller's. Nobody can use that: until they have
//! been passed, the namespaces are new, and hold no other process.
#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "runs on the caller's memory"
)]

use super::pass;
use super::record::{Call, Fail, Named};
use core::ffi::CStr;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Opens these links and passes the descriptors, in the same order.
pub(super) fn pass(
    links: &[&CStr],
    proc_self: BorrowedFd<'_>,
    caller: BorrowedFd<'_>,
) -> Result<(), Fail> {
    let mut opened: [Option<OwnedFd>; pass::MOST] = [const { None }; pass::MOST];
    for (slot, link) in opened.iter_mut().zip(links) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(proc_self, *link, flags, Mode::empty()).named(Call::Openat)?;
        *slot = Some(fd);
    }
    let mut descriptors = [caller; pass::MOST];
    for (slot, fd) in descriptors.iter_mut().zip(opened.iter().flatten()) {
        *slot = fd.as_fd();
    }
    pass::send(caller, descriptors.get(..links.len()).unwrap_or(&[]))
}
