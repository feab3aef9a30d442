//! The signals that a tool passes on to its program, read from a descriptor.

use crate::error::{Error, Result, Step};
use crate::sys::signal::{self, SigSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is passed on where nothing else is said.
pub(crate) const FORWARDED: [i32; 7] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

/// Those of the numbers that can be taken or passed on.
pub(crate) fn set(signals: impl IntoIterator<Item = i32>) -> SigSet {
    let kept = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD];
    let signals = signals.into_iter().filter(|signal| !kept.contains(signal));
    signals
        .filter_map(signal::only)
        .fold(0, |set, signal| set | signal)
}

/// Signals that this thread takes from a descriptor as long as this exists.
pub(crate) struct Signals {
    fd: OwnedFd,
    before: SigSet,
}

/// One of them.
pub(crate) struct Got {
    pub(crate) number: i32,
    by_process: bool,
}

impl Got {
    /// What the terminal sends reaches a program in the same process group by itself.
    pub(crate) fn is_forwarded(&self, forwarded: SigSet, apart: bool) -> bool {
        forwarded & set([self.number]) != 0 && (self.by_process || apart)
    }
}

impl Signals {
    /// Takes these, `SIGCHLD` and `SIGCONT`.
    pub(crate) fn block(signals: SigSet) -> Result<Self> {
        let failed = |call| move |errno| Error::system(Step::Wait, "signals", call, errno);
        let more = 1 << (libc::SIGCHLD - 1) | 1 << (libc::SIGCONT - 1);
        let wanted = signals | more;
        let fd = signal::descriptor(wanted).map_err(failed("signalfd4"))?;
        let before = signal::block(wanted).map_err(failed("rt_sigprocmask"))?;
        Ok(Self { fd, before })
    }

    pub(crate) fn next(&self) -> Option<Got> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut info = [0_u8; SIZE];
        if rustix::io::read(&self.fd, &mut info) != Ok(SIZE) {
            return None;
        }
        let word = |at: usize| Some(i32::from_ne_bytes(*info.get(at..)?.first_chunk()?));
        // The third word is the code: what processes send has none above 0.
        Some(Got {
            number: word(0)?,
            by_process: word(8)? <= 0,
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Restoring a mask that was in force cannot fail.
        let _ = signal::set_mask(self.before);
    }
}
