//! Waiting as a tool does that stands for its program: what happens to one happens to the other.

use crate::error::{Error, Result, Step};
use crate::process::Child;
use crate::signals::{FORWARDED, Signals, set};
use crate::sys::process;
use crate::sys::signal::{self, SigSet};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_current_process_group, kill_process, kill_process_group,
    pidfd_open,
};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// What a tool does for its program while it [waits](Child::wait_with) for it.
///
/// # Examples
/// As `unshare --fork --forward-signals` waits:
/// ```
/// use ringfence::{Foreground, Sandbox};
///
/// # fn main() -> ringfence::Result<()> {
/// let foreground = Foreground::new().forward([libc::SIGINT, libc::SIGTERM]);
/// let status = Sandbox::new().command("true").spawn()?.wait_with(&foreground)?;
/// assert!(status.success());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Foreground {
    forwarded: SigSet,
    held: SigSet,
    mirrors_stops: bool,
}

impl Foreground {
    /// Nothing but waiting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes these signals on to the program when processes send them to the caller. What the terminal sends is
    /// passed on only if the program is in another process group; otherwise it has got it itself. Numbers that
    /// are no signal, and `SIGKILL`, `SIGSTOP` and `SIGCHLD`, are left out.
    pub fn forward(mut self, signals: impl IntoIterator<Item = i32>) -> Self {
        self.forwarded |= set(signals);
        self
    }

    /// Takes these signals and does nothing: the program decides whether they end the tool.
    pub fn hold(mut self, signals: impl IntoIterator<Item = i32>) -> Self {
        self.held |= set(signals);
        self
    }

    /// When the program is stopped, the caller stops, so that its shell takes over; when the caller is
    /// continued, so is the program.
    #[doc(alias = "job control")]
    pub fn mirror_stops(mut self) -> Self {
        self.mirrors_stops = true;
        self
    }
}

/// Ends the calling process as a program has ended: with its exit code, or by the signal that ended it, of
/// which the caller's own parent then learns. No destructors run; a core file, which would be of the
/// caller, is not written.
///
/// # Examples
/// ```no_run
/// # fn main() -> ringfence::Result<()> {
/// let status = ringfence::Sandbox::new().command("make").status()?;
/// ringfence::exit_as(status)
/// # }
/// ```
pub fn exit_as(status: ExitStatus) -> ! {
    if let Some(number) = status.signal() {
        die_by(number);
    }
    // The signal was one that could not end the caller, such as any for process 1 of a pid namespace.
    let code = status.code().or(status.signal().map(|number| 128 + number));
    std::process::exit(code.unwrap_or(1))
}

/// Returns if the caller did not die of the signal, which need not be one: a status holds any number up to 126.
fn die_by(number: i32) {
    let Some(signals) = signal::only(number) else {
        return;
    };
    let Ok(own) = pidfd_open(getpid(), PidfdFlags::empty()) else {
        return;
    };
    let _ = std::io::stdout().flush();
    if let Ok((_, hard)) = process::core_limit() {
        // A limit of 0 would still start the handlers of core_pattern.
        let _ = process::set_core_limit(hard.min(1), hard);
    }
    let _ = signal::reset(number.unsigned_abs());
    let _ = signal::unblock(signals);
    let _ = process::pidfd_signal(own.as_fd(), number);
}

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
        self.wait_with(&Foreground::new().forward(FORWARDED).mirror_stops())
    }

    /// Waits for the end of the program, and does meanwhile what is asked for. The signals concerned, and `SIGCHLD`, are
    /// blocked in the calling thread, as in [`wait_in_foreground`](Self::wait_in_foreground).
    ///
    /// # Errors
    /// Those of [`wait_in_foreground`](Self::wait_in_foreground).
    pub fn wait_with(&mut self, foreground: &Foreground) -> Result<ExitStatus> {
        drop(self.stdin.take());
        let signals = Signals::block(foreground.forwarded | foreground.held)?;
        loop {
            if let Some(status) = self.try_wait()? {
                // What came too late must not end the caller when it is unblocked.
                while signals.next().is_some() {}
                return Ok(status);
            }
            if foreground.mirrors_stops && self.has_stopped() {
                self.stop_with_program()?;
                continue;
            }
            self.sleep(&signals)?;
            while let Some(got) = signals.next() {
                if got.number == libc::SIGCONT {
                    // A shell has perhaps brought the caller to the foreground.
                    self.hand_over();
                } else if got.is_forwarded(foreground.forwarded, self.plan().apart) {
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
                if !controlling.leads_session() {
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
