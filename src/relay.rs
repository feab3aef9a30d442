//! Between the caller's terminal and the program's: what is typed here is read there.

mod copy;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::process::Child;
use crate::signals::{FORWARDED, Signals, set};
use crate::terminal::{Pty, RawMode};
use copy::Copy;
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{tcgetwinsize, tcsetwinsize};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitStatus;

impl Child {
    /// Waits for the end of the program, and meanwhile connects its [terminal](crate::Stdio::pty) with `input` and
    /// `output`, usually the caller's standard streams: what is read from `input` the program reads as
    /// typed, and what it writes goes to `output`.
    ///
    /// If `input` is a terminal, it is in raw mode meanwhile, so that every key reaches the program,
    /// `Ctrl-C` too; its modes are restored afterwards, also when the program is stopped, and the caller with
    /// it. The program's terminal takes on the size of `output`, or of `input` if that is no terminal, and follows
    /// it; [`Command::window_size`](crate::Command::window_size) gives it that size from the beginning. At the end of `input` the program gets the character that means the end in its terminal.
    ///
    /// Signals that processes send to the caller are passed on, and blocked in the calling thread, as by
    /// [`wait_in_foreground`](Self::wait_in_foreground). A thread is not needed, nor is anything left to be
    /// read from [`Child::pty`]: what processes write that have outlived the program is lost.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the program has no terminal, or its [`Pty`] has been taken; when
    /// `output` cannot be written to; and as [`wait`](Self::wait). The program goes on then.
    ///
    /// # Examples
    /// ```no_run
    /// use ringfence::{Sandbox, Stdio, WindowSize};
    /// use std::io::{stdin, stdout};
    ///
    /// # fn main() -> ringfence::Result<()> {
    /// let shell = Sandbox::new().user().pid().init().command("/bin/sh");
    /// let shell = shell.stdin(Stdio::pty()).stdout(Stdio::pty()).stderr(Stdio::pty());
    /// let size = WindowSize::of(stdout()).unwrap_or_default();
    /// let status = shell.window_size(size).spawn()?.relay(stdin(), stdout())?;
    /// # drop(status);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "cfmakeraw")]
    pub fn relay(&mut self, input: impl AsFd, output: impl AsFd) -> Result<ExitStatus> {
        drop(self.stdin.take());
        let Some(pty) = self.pty.take() else {
            return Err(Error::other(
                ErrorKind::InvalidInput,
                Step::Wait,
                "the program has no terminal that could be relayed",
            )
            .with_hint(Some("give it one as a stream, by Stdio::pty".into())));
        };
        let ends = Ends {
            pty: &pty,
            input: input.as_fd(),
            output: output.as_fd(),
        };
        let status = self.relay_between(ends);
        self.pty = Some(pty);
        status
    }

    fn relay_between(&mut self, ends: Ends<'_>) -> Result<ExitStatus> {
        let passed_on = set(FORWARDED);
        let signals = Signals::block(passed_on)?;
        let raw = RawMode::enter(ends.input)
            .map_err(|errno| failed("the caller's terminal", "ioctl", errno))?;
        ends.copy_size();
        let mut copy = Copy::new(&ends)?;
        loop {
            let ended = self.try_wait()?;
            if let Some(status) = ended
                && copy.is_done()
            {
                return Ok(status);
            }
            if ended.is_none() && self.has_stopped() {
                raw.as_ref().inspect(|raw| raw.pause());
                // Returns when the caller is continued.
                let _ = kill_process(getpid(), Signal::STOP);
                ends.resume(raw.as_ref());
                self.signal(libc::SIGCONT)?;
                continue;
            }
            let mut others = vec![signals.as_fd()];
            if ended.is_none() {
                others.push(self.as_fd());
                others.extend(self.control().and_then(|control| control.to_watch()));
            }
            copy.turn(&others)?;
            while let Some(got) = signals.next() {
                match (got.number, ended) {
                    (libc::SIGWINCH, _) => ends.copy_size(),
                    (libc::SIGCONT, _) => ends.resume(raw.as_ref()),
                    // Nobody takes in what is left of the output.
                    (_, Some(status)) if got.is_forwarded(passed_on, true) => return Ok(status),
                    _ if got.is_forwarded(passed_on, true) => self.signal(got.number)?,
                    _ => {}
                }
            }
        }
    }
}

/// What is connected.
struct Ends<'a> {
    pty: &'a Pty,
    input: BorrowedFd<'a>,
    output: BorrowedFd<'a>,
}

impl Ends<'_> {
    /// The kernel tells the program, if its size is another one now.
    fn copy_size(&self) {
        let size = tcgetwinsize(self.output).or_else(|_| tcgetwinsize(self.input));
        if let Ok(size) = size {
            // The only thing that can be wrong with it has been checked: that it is a terminal.
            let _ = tcsetwinsize(self.pty, size);
        }
    }

    /// The caller has been stopped, and has gone on.
    fn resume(&self, raw: Option<&RawMode<'_>>) {
        // A terminal that has hung up will be noticed by reading from it.
        let _ = raw.map(RawMode::resume);
        self.copy_size();
    }
}

fn failed(object: &'static str, call: &'static str, errno: Errno) -> Error {
    Error::system(Step::Wait, object, call, errno)
}
