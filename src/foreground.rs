//! Waiting as a tool does that stands for its program: what happens to one happens to the other.

use crate::error::{Error, Result, Step};
use crate::process::Child;
use crate::sys::signal::{self, SigSet};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, getpgrp, getpid, getsid, kill_current_process_group, kill_process,
    kill_process_group,
};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;

/// What is passed on.
const FORWARDED: [i32; 7] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

impl Child {
    /// Waits for the end of the program, as a tool does that runs in the foreground for it.
    ///
    /// `SIGINT`, `SIGTERM`, `SIGHUP`, `SIGQUIT`, `SIGUSR1`, `SIGUSR2` and `SIGWINCH` that processes send
    /// to the caller are passed on to the program. What the terminal sends is passed on only if
    /// the program is in another process group; otherwise it has got it itself. When the program is
    /// stopped, the caller stops, so that its shell takes over; when the caller is continued,
    /// so is the program.
    ///
    /// A program that was [started in the foreground](crate::Command::foreground) loses the caller's terminal
    /// while it is stopped, and gets it back, with the modes that it had set, when it goes on. As it
    /// has a process group of its own, the whole group of the caller stops with it. If that group is
    /// the one of the session's leader, there is no shell to take over: then the program, which cannot be
    /// stopped usefully, is continued at once.
    ///
    /// Meanwhile these signals, `SIGCHLD` and `SIGCONT` are blocked in the calling thread. A caller with other
    /// threads has to block them there, and one that is to lose none of them blocks them before it
    /// spawns: the program starts with none blocked all the same.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); or when no signalfd can be opened.
    #[doc(alias = "job control")]
    pub fn wait_in_foreground(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        let signals = Signals::block()?;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if self.has_stopped() {
                self.stop_with_program()?;
                continue;
            }
            self.sleep(&signals)?;
            while let Some(got) = signals.next() {
                if got.number == libc::SIGCONT {
                    // A shell has perhaps brought the caller to the foreground.
                    self.hand_over();
                } else if FORWARDED.contains(&got.number) && (got.by_process || self.is_apart()) {
                    self.signal(got.number)?;
                }
            }
        }
    }

    /// The program is in another process group than the caller.
    fn is_apart(&self) -> bool {
        self.plan().apart
    }

    /// Returns when the caller, and the program, have been continued.
    fn stop_with_program(&mut self) -> Result<()> {
        match &mut self.controlling {
            None => drop(kill_process(getpid(), Signal::STOP)),
            Some(controlling) => {
                controlling.stopped();
                if getsid(None) != Ok(getpgrp()) {
                    let _ = kill_current_process_group(Signal::STOP);
                }
            }
        }
        self.hand_over();
        self.continue_program()
    }

    fn hand_over(&mut self) {
        if let Some(controlling) = &mut self.controlling {
            controlling.continued();
        }
    }

    /// The terminal has stopped the whole group. Process 1 knows that by itself.
    fn continue_program(&self) -> Result<()> {
        let leads_group = self.plan().foreground && self.control().is_none();
        let group = Pid::from_raw(self.id().cast_signed()).filter(|_| leads_group);
        match group.map(|group| kill_process_group(group, Signal::CONT)) {
            Some(Ok(())) => Ok(()),
            // The program has left its group.
            _ => self.signal(libc::SIGCONT),
        }
    }

    fn sleep(&self, signals: &Signals) -> Result<()> {
        let mut fds = vec![
            PollFd::new(self, PollFlags::IN),
            PollFd::new(&signals.fd, PollFlags::IN),
        ];
        fds.extend(
            self.control()
                .map(|control| PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN)),
        );
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::system(
                Step::Wait,
                format!("process {}", self.id()),
                "poll",
                errno,
            )),
        }
    }
}

/// Signals that this thread takes from a descriptor as long as this exists.
struct Signals {
    fd: OwnedFd,
    before: SigSet,
}

struct Got {
    number: i32,
    by_process: bool,
}

impl Signals {
    fn block() -> Result<Self> {
        let failed = |call| move |errno| Error::system(Step::Wait, "signals", call, errno);
        let wanted = FORWARDED
            .iter()
            .chain(&[libc::SIGCHLD, libc::SIGCONT])
            .fold(0, |set: SigSet, &number| set | 1 << (number - 1));
        let fd = signal::descriptor(wanted).map_err(failed("signalfd4"))?;
        let before = signal::block(wanted).map_err(failed("rt_sigprocmask"))?;
        Ok(Self { fd, before })
    }

    fn next(&self) -> Option<Got> {
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

impl Drop for Signals {
    fn drop(&mut self) {
        // Restoring a mask that was in force cannot fail.
        let _ = signal::set_mask(self.before);
    }
}
