//! The descriptors that the command line names, which the tool owns from then on.
#![allow(
    unsafe_code,
    reason = "a number on the command line is the caller's promise, which no type expresses"
)]

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// The largest of the standard streams, which stay open whatever they are used for.
const STREAMS: RawFd = 2;

/// Each number is taken once: all options that name it mean the same.
#[derive(Debug, Default)]
pub(crate) struct Descriptors(BTreeMap<RawFd, Arc<OwnedFd>>);

impl Descriptors {
    /// The descriptor of this number. The program does not get it.
    pub(crate) fn take(&mut self, number: RawFd) -> io::Result<Arc<OwnedFd>> {
        if let Some(taken) = self.0.get(&number) {
            return Ok(Arc::clone(taken));
        }
        if number < 0 {
            return Err(Errno::BADF.into());
        }
        // SAFETY: only looked at, and not -1; if it is not open, the calls below fail.
        let given = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_getfd(given)?;
        let owned = if number <= STREAMS {
            given.try_clone_to_owned()?
        } else {
            fcntl_setfd(given, FdFlags::CLOEXEC)?;
            // SAFETY: it is open, and nothing else of this program owns it: what the program opens itself is closed
            // again before the next option is read, and what was taken is found above for as long as it is open.
            unsafe { OwnedFd::from_raw_fd(number) }
        };
        let owned = Arc::new(owned);
        self.0.insert(number, Arc::clone(&owned));
        Ok(owned)
    }

    /// What the descriptor gives until its end; it is closed then, unless another option has it.
    pub(crate) fn read(&mut self, number: RawFd) -> io::Result<Vec<u8>> {
        let taken = self.take(number)?;
        let mut bytes = Vec::new();
        File::from(taken.try_clone()?).read_to_end(&mut bytes)?;
        drop(taken);
        self.0
            .retain(|&other, fd| other != number || Arc::strong_count(fd) > 1);
        Ok(bytes)
    }
}
