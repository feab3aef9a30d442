//! What has become of the child: the program, or an error that says which operation failed.

use super::control::Start;
use super::record::{Call, Note, Progress, Record};
use crate::diagnose;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::plan::Compiled;
use crate::plan::op::Op;
use crate::sys::clone::Cloned;
use crate::sys::process::{self, Waited};
use crate::sys::shared::Shared;
use crate::sys::signal;
use core::sync::atomic::Ordering;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How the set-up went, as the caller has seen it.
pub(super) struct Course {
    pub(super) start: Option<Start>,
    pub(super) maps: Result<()>,
    pub(super) took: Duration,
}

/// The child that is to be the program. Where another child of the caller's has made it, its number is all that is
/// known, and the caller has perhaps reaped it, if it ignores `SIGCHLD` or waits for any child.
enum Sibling {
    There(OwnedFd),
    /// The pidfd is that of another child that has been reaped: they differ in nothing that the caller could see.
    Gone(OwnedFd),
}

impl Sibling {
    /// `ended` is the pidfd of a child that has been reaped.
    fn open(number: u32, ended: OwnedFd) -> Result<Self> {
        match open_child(number) {
            Ok(Some(pidfd)) => Ok(Self::There(pidfd)),
            Ok(None) => Ok(Self::Gone(ended)),
            Err(error) => {
                // There may have been no number left for it.
                drop(ended);
                if let Ok(Some(pidfd)) = open_child(number) {
                    kill(&pidfd);
                    let _ = reap(&pidfd);
                }
                Err(error)
            }
        }
    }

    /// The kernel reaps by itself only what has become a program.
    fn is_past_exec(&self) -> bool {
        match self {
            Self::There(pidfd) => !process::is_before_exec(pidfd.as_fd()),
            Self::Gone(_) => true,
        }
    }

    fn into_pidfd(self) -> OwnedFd {
        match self {
            Self::There(pidfd) | Self::Gone(pidfd) => pidfd,
        }
    }

    fn end(&self) -> Result<Waited, Errno> {
        match self {
            Self::There(pidfd) => {
                kill(pidfd);
                reap(pidfd)
            }
            Self::Gone(_) => Err(Errno::CHILD),
        }
    }
}

/// The pidfd of a child of the caller's by its number. `None` if it has been reaped; then the number may already
/// be that of a stranger.
fn open_child(number: u32) -> Result<Option<OwnedFd>> {
    match open_pidfd(number) {
        Ok(pidfd) => Ok(process::is_child(pidfd.as_fd()).then_some(pidfd)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The child has exec'd or ended. Which, and if it ended, why? `reserved` keeps a number for a pidfd.
pub(super) fn judge(
    plan: &Compiled,
    record: &Record,
    work: Option<&Shared>,
    cloned: Cloned,
    reserved: Option<OwnedFd>,
    Course { start, maps, took }: Course,
) -> Result<(u32, OwnedFd)> {
    let sibling_now = || match work {
        Some(work) => work.number(),
        None => record.sibling.load(Ordering::Acquire),
    };
    let sibling = sibling_now();
    let mut first_failed = false;
    let child = if sibling == 0 {
        Sibling::There(cloned.pidfd)
    } else {
        if work.is_some() {
            // It has nothing left to do, but somebody may have stopped it.
            kill(&cloned.pidfd);
        }
        let first = reap(&cloned.pidfd);
        first_failed = work.is_none() && !matches!(first, Ok(Waited { status: 0, .. }));
        drop(reserved);
        Sibling::open(sibling, cloned.pidfd)?
    };
    // The mark is set before exec; a child that was killed in exec has not become the program.
    let started = match record.progress() {
        Progress::Exec => child.is_past_exec(),
        Progress::Done => true,
        Progress::At(_) | Progress::Failed(_) => false,
    };
    let running = matches!(start, None | Some(Start::Running | Start::AtGate));
    if started && !first_failed && running {
        let pid = if sibling == 0 { cloned.pid } else { sibling };
        return Ok((pid, child.into_pidfd()));
    }
    let waited = child.end();
    // A child that lives on beside the caller may have split when it was looked at already.
    let late = sibling_now();
    if late != sibling {
        let _ = Sibling::open(late, child.into_pidfd()).map(|late| late.end());
    }
    maps?;
    Err(match start {
        Some(start) if record.progress() == Progress::Exec => start_error(plan, &start, waited),
        _ => explain(plan, record, waited, took),
    })
}

/// The error of a program that the second stage did not start.
pub(crate) fn start_error(plan: &Compiled, start: &Start, waited: Result<Waited, Errno>) -> Error {
    let step = |wanted| plan.ops.iter().rfind(|op| op.step == wanted);
    let (Some(exec), Some(init)) = (step(Step::Exec), step(Step::Init)) else {
        return Error::other(ErrorKind::DiedBeforeExec, Step::Init, "");
    };
    let said = match start {
        Start::Failed(heard) => heard.failure().map(|failure| (heard, failure)),
        _ => None,
    };
    match (start, said) {
        (_, Some((heard, (fail, text)))) => {
            let op = match heard.operation().and_then(|index| plan.ops.get(index)) {
                Some(op) => op,
                None if fail.call == Call::Execve => exec,
                None => init,
            };
            let error = Error::system(op.step, &op.object, fail.call.name(), fail.errno);
            error.with_hint(diagnose::child(plan, op, &fail, &text))
        }
        (Start::TimedOut, None) => timed_out(plan, exec),
        _ => died(plan, exec, waited),
    }
}

pub(super) fn open_pidfd(pid: u32) -> Result<OwnedFd> {
    let raw = rustix::process::Pid::from_raw(pid.cast_signed());
    let opened = match raw {
        Some(raw) => pidfd_open(raw, PidfdFlags::empty()),
        None => Err(Errno::SRCH),
    };
    opened.map_err(|errno| {
        Error::system(
            Step::Clone,
            format!("pidfd of process {pid}"),
            "pidfd_open",
            errno,
        )
    })
}

pub(super) fn kill(pidfd: &OwnedFd) {
    // It may have ended, which is fine.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}

pub(super) fn reap(pidfd: &OwnedFd) -> Result<Waited, Errno> {
    process::wait(pidfd.as_fd(), true).and_then(|waited| waited.ok_or(Errno::CHILD))
}

/// The error of a child that did not get as far as its program.
fn explain(
    plan: &Compiled,
    record: &Record,
    waited: Result<Waited, Errno>,
    took: Duration,
) -> Error {
    let at = match record.progress() {
        Progress::At(index) | Progress::Failed(index) => plan.ops.get(index),
        Progress::Exec | Progress::Done => plan.ops.last(),
    };
    let Some(op) = at else {
        return Error::other(ErrorKind::DiedBeforeExec, Step::Clone, "the child");
    };
    if let Progress::Failed(_) = record.progress() {
        let fail = record.failure();
        if fail.note == Note::Orphaned {
            return Error::other(
                ErrorKind::DiedBeforeExec,
                op.step,
                "the caller ended meanwhile",
            );
        }
        let error = Error::system(op.step, &op.object, fail.call.name(), fail.errno);
        return error.with_hint(diagnose::child(plan, op, &fail, &record.text()));
    }
    let given_up = waited.is_ok_and(|waited| {
        waited.status == libc::SIGKILL || waited.status == signal::EXPIRED_STATUS << 8
    });
    if given_up && took >= plan.setup_timeout {
        return timed_out(plan, op);
    }
    died(plan, op, waited)
}

fn timed_out(plan: &Compiled, op: &Op) -> Error {
    Error::other(
        ErrorKind::TimedOut,
        op.step,
        format!("{}: not done within {:?}", op.object, plan.setup_timeout),
    )
    .with_hint(Some(
        "somebody stopped or froze the child, or the system is overloaded; see Command::setup_timeout"
            .into(),
    ))
}

fn died(plan: &Compiled, op: &Op, waited: Result<Waited, Errno>) -> Error {
    let signal = waited.map_or(0, |waited| waited.status & 0x7f);
    let error = Error::other(
        ErrorKind::DiedBeforeExec,
        op.step,
        format!("{}: ended by signal {signal}", op.object),
    );
    error.with_hint(diagnose::killed(plan, signal))
}
