//! The caller's end of the socket to the second stage.

use super::inspect;
use super::record::{Call, Fail, Note};
use crate::error::{Error, Result, Step};
use crate::plan::stage::Stage;
use crate::process::ResourceUsage;
use crate::sys::process::usage_from_bytes;
use crate::sys::stage::message::{self, Report, Request, call, note};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What the stage says, and what it adds to that.
pub(crate) struct Heard {
    pub(crate) report: Report,
    tail: Vec<u8>,
}

impl Heard {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (words, tail) = bytes.split_at_checked(size_of::<Report>())?;
        let word = |index: usize| {
            let bytes = words.get(4 * index..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*bytes))
        };
        Some(Self {
            report: Report {
                kind: word(0)?,
                value: word(1)?.cast_signed(),
                call: word(2)?,
                note: word(3)?,
            },
            tail: tail.to_vec(),
        })
    }

    /// The status of [`ENDED`](message::ENDED), and what the program has used.
    pub(crate) fn ended(&self) -> Option<(ExitStatus, ResourceUsage)> {
        let status = std::os::unix::process::ExitStatusExt::from_raw(self.report.value);
        let usage = usage_from_bytes(&self.tail)?;
        (self.report.kind == message::ENDED).then(|| (status, ResourceUsage::from(&usage)))
    }

    /// The operation of the plan that [`FAILED`](message::FAILED) speaks of, if it is one that the stage
    /// carries out: of the `join` role, or of the lock-down of the program.
    pub(crate) fn operation(&self) -> Option<usize> {
        (self.report.call >= call::SETNS).then_some(self.report.note as usize)
    }

    /// The failure of [`FAILED`](message::FAILED), and the path of an interpreter that is missing. `None` if that
    /// is no errno, as the stage never says.
    pub(crate) fn failure(&self) -> Option<(Fail, String)> {
        let value = self.report.value;
        let errno = (1..4096)
            .contains(&value)
            .then(|| Errno::from_raw_os_error(value))?;
        Some(self.failure_by(errno))
    }

    fn failure_by(&self, errno: Errno) -> (Fail, String) {
        if let Some(number) = self.report.call.checked_sub(call::LOCKDOWN) {
            let call = Call::numbered(number.into()).unwrap_or(Call::Prctl);
            return (Fail::new(call, errno), String::new());
        }
        let call = match self.report.call {
            call::CLONE => Call::Clone,
            call::SETSID => Call::Setsid,
            call::SETPGID => Call::Setpgid,
            call::IOCTL => Call::Ioctl,
            call::SIGNALFD => Call::Signalfd,
            call::SETNS => Call::Setns,
            call::UNSHARE => Call::Unshare,
            call::FCHDIR => Call::Fchdir,
            call::CHROOT => Call::Chroot,
            call::CHDIR => Call::Chdir,
            call::SETHOSTNAME => Call::Sethostname,
            call::SETDOMAINNAME => Call::Setdomainname,
            call::MOUNT => Call::Mount,
            call::SOCKET => Call::Socket,
            call::LOOPBACK => Call::Ioctl,
            call::SETGROUPS => Call::Setgroups,
            call::SETRESGID => Call::Setresgid,
            call::SETRESUID => Call::Setresuid,
            call::PRCTL => Call::Prctl,
            call::FORK => Call::Clone,
            _ => Call::Execve,
        };
        let fail = Fail::new(call, errno);
        if self.operation().is_some() {
            return (fail, String::new());
        }
        match self.report.note {
            note::EXISTS => (
                fail.noted(Note::InterpreterMissing),
                inspect::interpreter_in(&self.tail),
            ),
            note::NOEXEC => (fail.noted(Note::NoExec), String::new()),
            note::NOT_EXECUTABLE => (fail.noted(Note::NotExecutable), String::new()),
            _ => (fail, String::new()),
        }
    }
}

/// How the start of the stage went.
pub(crate) enum Start {
    /// The program has been executed.
    Running,
    AtGate,
    Failed(Heard),
    /// The stage has ended without a word.
    Lost,
    TimedOut,
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct Control {
    socket: OwnedFd,
    reaps: bool,
    /// Whether it says something and stays, rather than end or become the program.
    stays: bool,
    state: Mutex<State>,
}

/// What has been heard of the program.
#[derive(Debug, Default)]
struct State {
    ended: Option<(ExitStatus, ResourceUsage)>,
    stopped: bool,
    /// There is nothing more to come.
    over: bool,
}

impl Control {
    /// The caller's end, and the stage's.
    pub(crate) fn pair(stage: &Stage) -> Result<(Self, OwnedFd)> {
        let pair = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        );
        let (socket, theirs) = pair.map_err(|errno| {
            Error::system(
                Step::Prepare,
                "a socket to the second stage",
                "socketpair",
                errno,
            )
        })?;
        let state = Mutex::default();
        Ok((
            Self {
                socket,
                reaps: stage.reaps(),
                stays: stage.reaps() || stage.waits(),
                state,
            },
            theirs,
        ))
    }

    /// Whether the stage stays, as process 1.
    pub(crate) fn reaps(&self) -> bool {
        self.reaps
    }

    /// The next thing that the stage says, `Ok(None)` when it will not say any more.
    fn next(&self, deadline: Option<Instant>) -> Result<Option<Heard>, Errno> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            // Where what is said is followed by the end, waiting for that wakes this thread once.
            let events = match self.stays {
                true => PollFlags::IN,
                false => PollFlags::empty(),
            };
            match poll(&mut [PollFd::new(&self.socket, events)], left.as_ref()) {
                // It may have been stopped after it had said why it fails.
                Ok(0) => return self.receive().map_err(|_| Errno::TIMEDOUT),
                Ok(_) => return self.receive(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn receive(&self) -> Result<Option<Heard>, Errno> {
        let mut bytes = [0_u8; 2048];
        loop {
            match rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => return Ok(bytes.get(..length).and_then(Heard::parse)),
                Err(Errno::CONNRESET) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Waits until the program has been executed, or is held at the gate, or neither will happen.
    pub(crate) fn await_start(&self, deadline: Option<Instant>) -> Start {
        let mut started = false;
        loop {
            match self.next(deadline) {
                Ok(Some(heard)) => match heard.report.kind {
                    message::AT_GATE => return Start::AtGate,
                    message::STARTED if self.reaps => return Start::Running,
                    message::STARTED => started = true,
                    message::FAILED => return Start::Failed(heard),
                    _ => return Start::Lost,
                },
                // Without a reaper, exec closes the socket.
                Ok(None) if started => return Start::Running,
                Ok(None) => return Start::Lost,
                Err(Errno::TIMEDOUT) => return Start::TimedOut,
                Err(_) => return Start::Lost,
            }
        }
    }

    /// What the stage has said about the program's end, once the stage has ended itself.
    pub(crate) fn ended(&self) -> Option<(ExitStatus, ResourceUsage)> {
        self.hear();
        self.heard().ended.take()
    }

    /// Whether the program has been stopped since this was asked last, and still is.
    pub(crate) fn has_stopped(&self) -> bool {
        self.hear();
        std::mem::take(&mut self.heard().stopped)
    }

    /// Readable when there is something to [hear](Self::has_stopped). Not at the end, which would be reported
    /// again and again.
    pub(crate) fn to_watch(&self) -> Option<BorrowedFd<'_>> {
        (!self.heard().over).then_some(self.socket.as_fd())
    }

    /// Takes in what the stage has said.
    fn hear(&self) {
        loop {
            let next = match self.receive() {
                Ok(Some(next)) => next,
                Ok(None) => {
                    self.heard().over = true;
                    return;
                }
                Err(_) => return,
            };
            let mut heard = self.heard();
            match next.report.kind {
                message::ENDED => heard.ended = next.ended(),
                message::STOPPED => heard.stopped = true,
                message::CONTINUED => heard.stopped = false,
                _ => {}
            }
            drop(heard);
            if matches!(next.report.kind, message::STOPPED | message::CONTINUED) {
                // When it has ended there is nothing more to come.
                let _ = self.ask(message::SEEN, 0);
            }
        }
    }

    fn heard(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the stage for something; `EPIPE` when it has ended.
    pub(crate) fn ask(&self, kind: u32, value: u32) -> Result<(), Errno> {
        let request = Request { kind, value };
        let mut bytes = [0_u8; size_of::<Request>()];
        let (first, second) = bytes.split_at_mut(4);
        first.copy_from_slice(&request.kind.to_ne_bytes());
        second.copy_from_slice(&request.value.to_ne_bytes());
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match rustix::net::send(&self.socket, &bytes, flags) {
                Err(Errno::INTR) => {}
                other => return other.map(drop),
            }
        }
    }
}
