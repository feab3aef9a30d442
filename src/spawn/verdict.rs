//! What has become of the child: the program, or an error that says which operation failed.

use super::control::Start;
use super::record::{Call, Note, Progress, Record};
use crate::diagnose;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::plan::Compiled;
use crate::plan::op::Op;
use crate::sys::clone::Cloned;
use crate::sys::process::{self, Target, Waited};
use crate::sys::shared::Shared;
use crate::sys::signal;
use core::sync::atomic::Ordering;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::{AsFd, OwnedFd};

/// The child has exec'd or ended. Which, and if it ended, why?
pub(super) fn judge(
    plan: &Compiled,
    record: &Record,
    work: Option<&Shared>,
    cloned: Cloned,
    start: Option<Start>,
    maps: Result<()>,
    took: std::time::Duration,
) -> Result<(u32, OwnedFd)> {
    let sibling_now = || match work {
        Some(work) => work.number(),
        None => record.sibling.load(Ordering::Acquire),
    };
    let sibling = sibling_now();
    let (pid, pidfd, first) = if sibling == 0 {
        (cloned.pid, Some(cloned.pidfd), None)
    } else {
        if work.is_some() {
            // It has nothing left to do, but somebody may have stopped it.
            kill(cloned.pid, Some(&cloned.pidfd));
        }
        (sibling, None, Some(reap(cloned.pid, Some(&cloned.pidfd))))
    };
    let first_failed = work.is_none()
        && first.is_some_and(|waited| !matches!(waited, Ok(Waited { status: 0, .. })));
    // The mark is set before exec; a child that was killed in exec has not become the program.
    let started = match record.progress() {
        Progress::Exec => !process::is_before_exec(target(pid, pidfd.as_ref())),
        Progress::Done => true,
        Progress::At(_) | Progress::Failed(_) => false,
    };
    let running = matches!(start, None | Some(Start::Running | Start::AtGate));
    if started && !first_failed && running {
        let pidfd = match pidfd {
            Some(pidfd) => Ok(pidfd),
            None => open_pidfd(pid),
        };
        return pidfd.map(|pidfd| (pid, pidfd)).inspect_err(|_| {
            kill(pid, None);
            let _ = reap(pid, None);
        });
    }
    kill(pid, pidfd.as_ref());
    let waited = reap(pid, pidfd.as_ref());
    // A child that lives on beside the caller may have split when it was looked at already.
    let late = sibling_now();
    if late != sibling {
        kill(late, None);
        let _ = reap(late, None);
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

pub(super) fn kill(pid: u32, pidfd: Option<&OwnedFd>) {
    // The child is ours and not yet reaped, so the number is its own; it may have ended, which is fine.
    match (pidfd, rustix::process::Pid::from_raw(pid.cast_signed())) {
        (Some(pidfd), _) => drop(pidfd_send_signal(pidfd, Signal::KILL)),
        (None, Some(pid)) => drop(rustix::process::kill_process(pid, Signal::KILL)),
        (None, None) => {}
    }
}

fn target(pid: u32, pidfd: Option<&OwnedFd>) -> Target<'_> {
    pidfd.map_or(Target::Pid(pid), |pidfd| Target::Pidfd(pidfd.as_fd()))
}

pub(super) fn reap(pid: u32, pidfd: Option<&OwnedFd>) -> Result<Waited, Errno> {
    process::wait(target(pid, pidfd), true).and_then(|waited| waited.ok_or(Errno::CHILD))
}

/// The error of a child that did not get as far as its program.
fn explain(
    plan: &Compiled,
    record: &Record,
    waited: Result<Waited, Errno>,
    took: std::time::Duration,
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
