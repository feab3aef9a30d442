//! The caller's controlling terminal, handed to a program and taken back as a job-control shell does it.

use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys::{process, signal};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Pid, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The terminal, while there is a program that it may be handed to.
#[derive(Debug)]
pub(crate) struct Controlling {
    fd: OwnedFd,
    /// The program's process group, once it is known.
    program: Option<Pid>,
    /// The caller has given the terminal away, or the child is about to take it.
    given: bool,
    /// Those that the caller has used.
    modes: Termios,
    /// Those that the program used when it was stopped.
    stopped_with: Option<Termios>,
}

impl Controlling {
    /// `None` where there is no controlling terminal.
    pub(crate) fn open() -> Result<Option<Self>> {
        let Some((fd, modes)) = find().and_then(|fd| tcgetattr(&fd).ok().map(|modes| (fd, modes)))
        else {
            return Ok(None);
        };
        // What is in the foreground may be the caller's own group. One that has a number is not.
        if process::own_group().is_none() && foreground_is_outside(fd.as_fd()) {
            return Err(unnamed_group());
        }
        Ok(Some(Self {
            given: is_foreground(fd.as_fd()),
            modes,
            fd,
            program: None,
            stopped_with: None,
        }))
    }

    /// The caller leads the session: nobody would continue it if it stopped.
    pub(crate) fn leads_session(&self) -> bool {
        process::own_group().is_some_and(|own| process::own_session() == Some(own))
    }

    /// The terminal for the child to take. Not from the background: there it is somebody else's.
    pub(crate) fn to_give(&self) -> Option<BorrowedFd<'_>> {
        self.given.then_some(self.fd.as_fd())
    }

    /// The program has been started, as the leader of this group.
    pub(crate) fn started(&mut self, program: Option<Pid>) {
        self.program = program;
    }

    /// The program has been stopped: the caller can use the terminal.
    pub(crate) fn stopped(&mut self) {
        if self.given {
            self.stopped_with = tcgetattr(&self.fd).ok();
        }
        self.take_back(true);
    }

    /// The program goes on, with the terminal if the caller has it.
    pub(crate) fn continued(&mut self) {
        let Some(program) = self.program else { return };
        // It has lost it again if the caller has it, who may have been stopped by somebody else.
        if !is_foreground(self.fd.as_fd()) {
            return;
        }
        let modes = self.stopped_with.take();
        self.given = from_background(|| {
            if let Some(modes) = modes {
                let _ = tcsetattr(&self.fd, OptionalActions::Now, &modes);
            }
            tcsetpgrp(&self.fd, program).is_ok()
        });
    }

    /// The program has ended. One that was killed may have left modes that nobody can type in.
    pub(crate) fn ended(&mut self, killed: bool) {
        self.take_back(killed);
    }

    fn take_back(&mut self, restore: bool) {
        if !mem::take(&mut self.given) || !self.is_the_programs() {
            return;
        }
        // A terminal that has hung up is nobody's any more.
        from_background(|| {
            if let Some(own) = process::own_group() {
                let _ = tcsetpgrp(&self.fd, own);
            }
            if restore {
                let _ = tcsetattr(&self.fd, OptionalActions::Now, &self.modes);
            }
        });
    }

    /// Nobody else has got it meanwhile, such as a shell that has stopped the caller.
    fn is_the_programs(&self) -> bool {
        tcgetpgrp(&self.fd).is_ok_and(|group| {
            self.program == Some(group) || test_kill_process_group(group) == Err(Errno::SRCH)
        })
    }
}

fn find() -> Option<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(fd) = rustix::fs::open(c"/dev/tty", flags, Mode::empty()) {
        return Some(fd);
    }
    // Where /dev is not the usual one.
    let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    [streams.0.as_fd(), streams.1.as_fd(), streams.2.as_fd()]
        .into_iter()
        .find(|stream| is_controlling(stream))
        .and_then(|stream| fcntl_dupfd_cloexec(stream, 3).ok())
}

/// The kernel tells the group of no other terminal, unless asked by the master's side.
fn is_controlling(stream: &BorrowedFd<'_>) -> bool {
    let is_master = rustix::pty::ptsname(stream, Vec::new()).is_ok();
    !is_master && (tcgetpgrp(stream).is_ok() || foreground_is_outside(stream.as_fd()))
}

/// Whether the caller's process group, which may change, is the one in the foreground.
fn is_foreground(terminal: BorrowedFd<'_>) -> bool {
    process::own_group().is_some_and(|own| tcgetpgrp(terminal) == Ok(own))
}

/// Whether the group in the foreground is not in the caller's pid namespace. The error is rustix's own.
fn foreground_is_outside(terminal: BorrowedFd<'_>) -> bool {
    tcgetpgrp(terminal) == Err(Errno::OPNOTSUPP)
}

fn unnamed_group() -> Error {
    let what = "the caller's process group is not in its pid namespace: the terminal could not be taken back";
    Error::other(ErrorKind::System, Step::Prepare, what)
        .with_hint(Some("make a group with setpgid(2) or a session with setsid(2) first, or leave the terminal to the whole group".into()))
}

/// Runs what the kernel would stop a background process for.
pub(super) fn from_background<T>(call: impl FnOnce() -> T) -> T {
    let before = signal::block(1 << (libc::SIGTTOU - 1));
    let result = call();
    if let Ok(before) = before {
        // Restoring a mask that was in force cannot fail.
        let _ = signal::set_mask(before);
    }
    result
}
