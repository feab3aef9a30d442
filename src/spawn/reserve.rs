//! Low descriptor numbers, kept by a plan for the pipes of its spawns.
//!
//! The child copies the caller's descriptor table up to the highest number that it needs. A caller with
//! thousands of descriptors gets high numbers for new pipes, and the copy would cost it a millisecond;
//! a plan that was compiled before keeps low numbers, and the child's ends are moved there.

use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};
use rustix::pipe::PipeFlags;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// Numbers below this are cheap enough to copy.
const LOW: RawFd = 256;

/// The numbers, held by descriptors that stand for nothing.
#[derive(Debug)]
pub(crate) struct Reserve {
    held: Mutex<Vec<OwnedFd>>,
    nothing: OwnedFd,
}

impl Reserve {
    /// Keeps this many numbers. `None` if there are no low ones left, or nothing to keep.
    pub(crate) fn new(count: usize) -> Option<Self> {
        if count == 0 {
            return None;
        }
        // Nothing that a path can lead through: the child has copies until it execs.
        let (nothing, _) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).ok()?;
        let held: Vec<_> = (0..count)
            .map_while(|_| fcntl_dupfd_cloexec(&nothing, 3).ok())
            .filter(|fd| fd.as_raw_fd() < LOW)
            .collect();
        (held.len() == count).then_some(Self {
            held: Mutex::new(held),
            nothing,
        })
    }

    /// Moves descriptors to the kept numbers, if their own are high and nobody else uses the kept ones.
    pub(super) fn lower<'a>(&'a self, fds: &[OwnedFd]) -> Option<Lowered<'a>> {
        if fds.iter().all(|fd| fd.as_raw_fd() < LOW) {
            return None;
        }
        let held = match self.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if held.len() < fds.len() {
            return None;
        }
        let mut lowered = Lowered {
            held,
            nothing: &self.nothing,
            numbers: Vec::with_capacity(fds.len()),
        };
        for (fd, slot) in fds.iter().zip(lowered.held.iter_mut()) {
            dup3(fd, slot, DupFlags::CLOEXEC).ok()?;
            lowered.numbers.push((fd.as_raw_fd(), slot.as_raw_fd()));
        }
        Some(lowered)
    }
}

/// Descriptors at their low numbers, until this is dropped.
pub(super) struct Lowered<'a> {
    held: MutexGuard<'a, Vec<OwnedFd>>,
    nothing: &'a OwnedFd,
    numbers: Vec<(RawFd, RawFd)>,
}

impl Lowered<'_> {
    /// The low number of a descriptor, or its own.
    pub(super) fn number(&self, fd: RawFd) -> RawFd {
        let low = self.numbers.iter().find(|(high, _)| *high == fd);
        low.map_or(fd, |(_, low)| *low)
    }
}

impl Drop for Lowered<'_> {
    fn drop(&mut self) {
        for slot in self.held.iter_mut() {
            // Replacing an open descriptor by a copy of an open one cannot fail.
            let _ = dup3(self.nothing, slot, DupFlags::CLOEXEC);
        }
    }
}
