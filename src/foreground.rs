//! Waiting as a tool does that stands for its program: what happens to one happens to the other.

use crate::error::{Error, Result, Step};
use crate::process::Child;
use crate::signals::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, getpgrp, getpid, getsid, kill_current_process_group, kill_process,
    kill_process_group,
};
use std::process::ExitStatus;

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
                } else if got.is_forwarded(self.plan().apart) {
                    self.signal(got.number)?;
                }
            }
        }
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
            PollFd::new(signals, PollFlags::IN),
        ];
        fds.extend(
            self.control()
                .and_then(|control| control.to_watch())
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
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
