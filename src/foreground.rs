//! Waiting as a tool does that stands for its program: what happens to one happens to the other.

use crate::error::{Error, Result, Step};
use crate::process::Child;
use crate::sys::process;
use crate::sys::signal::{self, SigSet};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, getpid, kill_process, pidfd_open};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// What [`Child::wait_in_foreground`] passes on.
const FORWARDED: [i32; 7] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

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

fn set(signals: impl IntoIterator<Item = i32>) -> SigSet {
    let kept = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD];
    let signals = signals.into_iter().filter(|signal| !kept.contains(signal));
    let numbers = signals.filter_map(|signal| u32::try_from(signal).ok());
    numbers
        .filter(|number| (1..=signal::SIGNALS).contains(number))
        .fold(0, |set, number| set | 1 << (number - 1))
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

/// Returns if the caller did not die of the signal.
fn die_by(number: i32) {
    let Ok(own) = pidfd_open(getpid(), PidfdFlags::empty()) else {
        return;
    };
    let _ = std::io::stdout().flush();
    if let Ok((_, hard)) = process::core_limit() {
        // A limit of 0 would still start the handlers of core_pattern.
        let _ = process::set_core_limit(hard.min(1), hard);
    }
    let _ = signal::reset(number.unsigned_abs());
    let _ = signal::unblock(1 << (number - 1));
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
    /// Meanwhile these signals, and `SIGCHLD`, are blocked in the calling thread. A caller with other
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
                // Returns when the caller is continued.
                let _ = kill_process(getpid(), Signal::STOP);
                self.signal(libc::SIGCONT)?;
                continue;
            }
            self.sleep(&signals)?;
            while let Some(got) = signals.next() {
                let forwarded = foreground.forwarded & set([got.number]) != 0;
                if forwarded && (got.by_process || self.is_apart()) {
                    self.signal(got.number)?;
                }
            }
        }
    }

    /// The program is in another process group than the caller.
    fn is_apart(&self) -> bool {
        self.plan().apart
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
    fn block(signals: SigSet) -> Result<Self> {
        let failed = |call| move |errno| Error::system(Step::Wait, "signals", call, errno);
        let wanted = signals | 1 << (libc::SIGCHLD - 1);
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
