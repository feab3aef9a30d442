//! A terminal of the caller's that hands on every byte as it is typed.

use super::controlling::from_background;
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::os::fd::BorrowedFd;

/// Raw mode, until this is dropped.
#[derive(Debug)]
pub(crate) struct RawMode<'fd> {
    terminal: BorrowedFd<'fd>,
    before: Termios,
}

impl<'fd> RawMode<'fd> {
    /// `None` for what is no terminal. In the background the kernel stops the caller first, until it is in
    /// the foreground.
    pub(crate) fn enter(terminal: BorrowedFd<'fd>) -> Result<Option<Self>, Errno> {
        let before = match tcgetattr(terminal) {
            Err(Errno::NOTTY) => return Ok(None),
            other => other?,
        };
        let mode = Self { terminal, before };
        mode.resume()?;
        Ok(Some(mode))
    }

    /// Again, after a shell or [`pause`](Self::pause) has set other modes.
    pub(crate) fn resume(&self) -> Result<(), Errno> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(self.terminal, OptionalActions::Now, &raw)
    }

    /// The modes from before, for the time that the caller is stopped.
    pub(crate) fn pause(&self) {
        // A terminal that has hung up has no modes that matter.
        let _ = from_background(|| tcsetattr(self.terminal, OptionalActions::Now, &self.before));
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        self.pause();
    }
}
