//! The parent's half of a spawn: prepare, clone, and make sense of what came back.

use super::child::{Context, Placement, run};
use super::control::{Control, Start};
use super::dumpable::Hold;
use super::record::{Call, Note, Progress, Record};
use super::{lean, maps, pass, terminal, trees};
use crate::diagnose;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::plan::op::{Action, Op};
use crate::plan::stage::Form;
use crate::plan::{Compiled, Given, Method, Plan};
use crate::process::{Child, Pipes};
use crate::sandbox::stdio::Stream;
use crate::sys::arena::Arena;
use crate::sys::clone::{self, Cloned, Request};
use crate::sys::fd;
use crate::sys::process::{self, Target, Waited};
use crate::sys::shared::Shared;
use crate::sys::signal::{self, SigSet};
use crate::terminal::{Controlling, Pty};
use core::sync::atomic::{AtomicUsize, Ordering};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

/// Signals stay blocked as long as this exists.
struct Blocked(SigSet);

impl Blocked {
    fn new() -> Result<Self> {
        signal::set_mask(SigSet::MAX)
            .map(Self)
            .map_err(|errno| Error::system(Step::Prepare, "signal mask", "rt_sigprocmask", errno))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Restoring a mask that was in force cannot fail.
        let _ = signal::set_mask(self.0);
    }
}

pub(super) fn spawn(plan: &Plan) -> Result<Child> {
    let Plan {
        compiled: plan,
        given,
    } = plan;
    refuse_frozen(plan)?;
    let mut streams = Streams::open(plan, given)?;
    let reserve = plan.reserve.as_ref();
    let lowered = reserve.and_then(|reserve| reserve.lower(&streams.pipes));
    let sources = streams.sources(plan, given);
    let placements: Vec<_> = sources
        .iter()
        .map(|&(fd, target)| {
            let number = fd.as_raw_fd();
            let low = lowered.as_ref().map(|lowered| lowered.number(number));
            Placement::new(low.unwrap_or(number), target)
        })
        .collect();
    let worthwhile = highest(&placements) >= lean::HIGH && lean::suits(plan);
    let made = worthwhile
        .then(|| lean::spawn(plan, &sources))
        .flatten()
        .unwrap_or_else(|| make(plan, &placements, Some(&mut streams)));
    drop((lowered, placements));
    let (pid, pidfd) = match made {
        Ok(made) => made,
        Err(error) => {
            // The child may have taken the terminal before it failed.
            if let Some(controlling) = &mut streams.controlling {
                controlling.ended(true);
            }
            return Err(error);
        }
    };
    if let Some((ours, _)) = &streams.terminal {
        match terminal::receive(ours) {
            Ok(master) => streams.ours.pty = Some(Pty::new(master)),
            Err(error) => {
                kill(pid, Some(&pidfd));
                let _ = reap(pid, Some(&pidfd));
                return Err(error);
            }
        }
    }
    let Streams {
        ours,
        control,
        controlling,
        ..
    } = streams;
    let child = Child::new(plan, pid, pidfd, ours, control);
    Ok(child.with_terminal(controlling))
}

fn highest(placements: &[Placement]) -> RawFd {
    let sources = placements.iter().map(|placement| placement.source);
    sources.fold(2, RawFd::max)
}

/// Kills and reaps a child that nobody will get.
pub(super) fn discard(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// The child could not run in a frozen cgroup, and the calling thread waits for it.
fn refuse_frozen(plan: &Compiled) -> Result<()> {
    let Some(cgroup) = &plan.cgroup else {
        return Ok(());
    };
    if cgroup.is_frozen()? {
        return Err(Error::other(
            ErrorKind::System,
            Step::Cgroup,
            format!("{} is frozen", cgroup.path.display()),
        )
        .with_hint(Some(
            "thaw it first: write 0 to its cgroup.freeze and to that of its parents".into(),
        )));
    }
    Ok(())
}

/// The standard streams of one spawn.
pub(super) struct Streams {
    /// The child's ends of new pipes.
    pipes: Vec<OwnedFd>,
    /// The child's end of a terminal that the caller has opened.
    slave: Option<OwnedFd>,
    ours: Pipes,
    control: Option<Control>,
    /// The caller's end of the socket that the child sends the master of its terminal by, and the child's.
    terminal: Option<(OwnedFd, OwnedFd)>,
    /// The second stage's end of the socket.
    socket: Option<OwnedFd>,
    /// The caller's terminal, where the program's group is to have it.
    controlling: Option<Controlling>,
    /// What the second stage is to join, and where the pid of its sibling is stored.
    work: Option<Shared>,
    /// The child's end of the socket that it sends the listener of a filter by.
    listener: Option<OwnedFd>,
}

impl Streams {
    fn open(plan: &Compiled, given: &Given) -> Result<Self> {
        let mut streams = Self {
            pipes: Vec::new(),
            slave: None,
            ours: Pipes::default(),
            control: None,
            terminal: None,
            socket: None,
            controlling: plan.foreground.then(Controlling::open).flatten(),
            work: None,
            listener: None,
        };
        if let Some(work) = &plan.join.by_stage {
            streams.work = Some(work.share()?);
        }
        if let Some(stage) = &plan.stage {
            let (ours, theirs) = Control::pair(stage.reaps())?;
            streams.control = Some(ours);
            streams.socket = Some(theirs);
        }
        if plan.bound.listener.is_some() {
            let (ours, theirs) = pass::socket()
                .map_err(|errno| Error::system(Step::Prepare, "a socket", "socketpair", errno))?;
            streams.ours.listener = Some(ours);
            streams.listener = Some(theirs);
        }
        if given
            .stdio
            .iter()
            .any(|stream| matches!(stream, Stream::Pty))
        {
            streams.open_terminal(plan)?;
        }
        for (index, stream) in given.stdio.iter().enumerate() {
            if !matches!(stream, Stream::Piped) {
                continue;
            }
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)
                .map_err(|errno| Error::system(Step::Prepare, "a pipe", "pipe2", errno))?;
            let theirs = match index {
                0 => {
                    streams.ours.stdin = Some(write.into());
                    read
                }
                1 => {
                    streams.ours.stdout = Some(read.into());
                    write
                }
                _ => {
                    streams.ours.stderr = Some(read.into());
                    write
                }
            };
            streams.pipes.push(theirs);
        }
        Ok(streams)
    }

    /// A terminal of the caller's, or a socket that the child sends the master of its own by.
    fn open_terminal(&mut self, plan: &Compiled) -> Result<()> {
        let failed = |call| move |errno| Error::system(Step::Prepare, "a terminal", call, errno);
        if plan.terminal_socket().is_some() {
            self.terminal = Some(pass::socket().map_err(failed("socketpair"))?);
            return Ok(());
        }
        let (master, slave) = terminal::open_here(plan.window_size).map_err(failed("openpt"))?;
        self.ours.pty = Some(Pty::new(master));
        self.slave = Some(slave);
        Ok(())
    }

    /// The caller's terminal, if it is given away.
    fn given(&self) -> Option<BorrowedFd<'_>> {
        self.controlling.as_ref().and_then(Controlling::to_give)
    }

    /// The caller's descriptors that the child gets, and their numbers there.
    fn sources<'a>(&'a self, plan: &'a Compiled, given: &'a Given) -> Vec<(BorrowedFd<'a>, RawFd)> {
        let mut pipes = self.pipes.iter();
        let further = given.descriptors.iter().map(|(fd, at)| (fd.as_fd(), *at));
        let terminal = self
            .terminal
            .as_ref()
            .map(|(_, theirs)| theirs.as_fd())
            .zip(plan.terminal_socket());
        let bound = plan.bound.descriptors.iter();
        let bound = bound.map(|(fd, number)| (fd.as_fd(), *number));
        let listener = self.listener.as_ref().map(AsFd::as_fd);
        let listener = listener.zip(plan.bound.listener);
        let stage = plan.stage.iter().flat_map(|stage| {
            let numbers = stage.numbers;
            let socket = self
                .socket
                .iter()
                .map(move |fd| (fd.as_fd(), numbers.control));
            // Without a terminal to give, something that is none.
            let terminal = self.given().or(self.socket.as_ref().map(AsFd::as_fd));
            let terminal = terminal.filter(|_| plan.foreground);
            let terminal = terminal.map(|fd| (fd, numbers.terminal));
            let image = match &stage.form {
                Form::Program { image, number } => Some((image.as_fd(), *number)),
                Form::Forked => None,
            };
            let lists = stage.lists.file();
            socket.chain(image).chain(lists).chain(terminal)
        });
        let work = plan.join.by_stage.as_ref().zip(self.work.as_ref());
        let work = work
            .into_iter()
            .flat_map(|(work, shared)| work.sources(shared));
        (0..)
            .zip(&given.stdio)
            .filter_map(|(at, stream)| {
                let fd = match stream {
                    Stream::Inherit => return None,
                    Stream::Null => plan.null.as_ref()?.as_fd(),
                    Stream::Fd(fd) => fd.as_fd(),
                    Stream::Piped => pipes.next()?.as_fd(),
                    Stream::Pty => self.slave.as_ref()?.as_fd(),
                };
                Some((fd, at))
            })
            .chain(further)
            .chain(stage)
            .chain(work)
            .chain(bound)
            .chain(listener)
            .chain(terminal)
            .collect()
    }
}

/// What came of the clone.
struct Outcome {
    cloned: Result<Cloned, Errno>,
    start: Option<Start>,
    maps: Result<()>,
    took: std::time::Duration,
}

/// Makes the child, from the descriptor table of the calling thread.
pub(super) fn make(
    plan: &Compiled,
    placements: &[Placement],
    streams: Option<&mut Streams>,
) -> Result<(u32, OwnedFd)> {
    let trees = trees::copies(plan)?;
    let mut arena = Arena::take()
        .map_err(|(call, errno)| Error::system(Step::Prepare, "the child's stack", call, errno))?;
    let made = make_on(plan, placements, streams, &trees, &mut arena);
    arena.put();
    made
}

/// Descriptors of the caller that operations use.
fn held_by_ops(plan: &Compiled) -> impl Iterator<Item = RawFd> + '_ {
    plan.ops.iter().filter_map(|op| match &op.action {
        Action::JoinCgroup { procs } => Some(procs.as_raw_fd()),
        Action::FileFrom { from, .. } => Some(from.as_raw_fd()),
        _ => None,
    })
}

/// Whether the child needs no descriptors of the caller's but those that it places.
pub(super) fn needs_no_more(plan: &Compiled) -> bool {
    plan.cgroup.is_none()
        && plan.stage.is_none()
        && plan.terminal_socket().is_none()
        && !plan.foreground
        && plan.trees.is_empty()
        && plan.template.is_none()
        && held_by_ops(plan).next().is_none()
}

fn make_on(
    plan: &Compiled,
    placements: &[Placement],
    mut streams: Option<&mut Streams>,
    trees: &[OwnedFd],
    arena: &mut Arena,
) -> Result<(u32, OwnedFd)> {
    let mut kept: Vec<RawFd> = placements
        .iter()
        .map(|placement| placement.target)
        .filter(|&target| target > 2 && Some(target) != plan.terminal_socket())
        .collect();
    if plan.is_subreaped() {
        kept.extend(plan.stage.iter().map(|stage| stage.numbers.children));
    }
    kept.sort_unstable();
    let terminal = streams.as_ref().and_then(|streams| streams.given());
    let terminal = terminal.map(|fd| fd.as_raw_fd());
    let highest = held_by_ops(plan)
        .chain(terminal)
        .chain(trees.iter().map(AsRawFd::as_raw_fd))
        .fold(highest(placements), RawFd::max);
    let stack = arena.stack();
    let record: &Record = arena.shared();
    let context = Context {
        plan,
        record,
        next_op: AtomicUsize::new(0),
        first_unneeded: highest + 1,
        placements,
        kept: &kept,
        core_limit: process::core_limit()
            .map_err(|errno| Error::system(Step::Prepare, "core limit", "prlimit64", errno))?,
        parent: parent_number(plan)?,
        trees,
        terminal,
        stack,
    };
    let outcome = {
        let _hold = Hold::new(plan.needs_dumpable, plan.changes_ids)
            .map_err(|errno| Error::system(Step::Prepare, "the dumpable flag", "prctl", errno))?;
        let _blocked = Blocked::new()?;
        start(plan, &context, streams.as_deref_mut())?
    };
    let cloned = outcome.cloned.map_err(|errno| {
        let call = match plan.method {
            Method::Clone3 => "clone3",
            Method::Clone => "clone",
        };
        let what = if plan.namespaces.is_empty() {
            "a child".to_owned()
        } else {
            format!("a child with new namespaces: {}", plan.namespaces)
        };
        let error = Error::system(Step::Clone, what, call, errno);
        error.with_hint(diagnose::clone(plan, errno))
    })?;
    let work = streams.and_then(|streams| streams.work.as_ref());
    judge(
        plan,
        record,
        work,
        cloned,
        outcome.start,
        outcome.maps,
        outcome.took,
    )
}

/// The caller's pid as the child will see it, if it looks for it: where it looks into the caller's procfs, that may be the
/// procfs of another pid namespace.
fn parent_number(plan: &Compiled) -> Result<u32> {
    if !plan.die_with_parent {
        return Ok(0);
    }
    if !plan.hides_parent() {
        return Ok(std::process::id());
    }
    let failed = |errno| {
        Error::system(Step::Prepare, "the caller in /proc", "readlinkat", errno)
            .with_hint(Some(diagnose::NOT_PROCFS.to_owned()))
    };
    let shown = rustix::fs::readlink(c"/proc/self", Vec::new()).map_err(failed)?;
    let number = shown.to_str().ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| failed(Errno::INVAL))
}

/// Clones, with a thread beside it that writes the maps if the child cannot.
fn start(
    plan: &Compiled,
    context: &Context<'_>,
    mut streams: Option<&mut Streams>,
) -> Result<Outcome> {
    let mut go = || {
        let begun = Instant::now();
        let cloned = clone_watched(plan, context);
        // Nothing must hold the child's ends open any more, or their end would not be seen.
        let start = streams.as_mut().and_then(|streams| {
            streams.pipes.clear();
            streams.socket = None;
            streams.slave = None;
            streams.listener = None;
            let control = streams.control.as_ref().filter(|_| cloned.is_ok())?;
            Some(control.await_start(begun.checked_add(plan.setup_timeout)))
        });
        (cloned, start, begun.elapsed())
    };
    let Some(waiting) = plan.maps.as_ref().filter(|maps| maps.waits()) else {
        let (cloned, start, took) = go();
        return Ok(Outcome {
            cloned,
            start,
            maps: Ok(()),
            took,
        });
    };
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new()
            .name("ringfence-maps".into())
            .spawn_scoped(scope, || {
                maps::serve(waiting, context.record, plan.setup_timeout)
            })
            .map_err(|error| Error::io(Step::Prepare, "a thread that writes the maps", error))?;
        let (cloned, start, took) = go();
        context.record.cancel_maps();
        let maps = writer.join().unwrap_or_else(|_| {
            Err(Error::other(
                ErrorKind::System,
                Step::IdMap,
                "the thread that writes the maps has panicked",
            ))
        });
        Ok(Outcome {
            cloned,
            start,
            maps,
            took,
        })
    })
}

/// Process 1 of a pid namespace that is frozen, or in a call that cannot be interrupted, ends by nothing but
/// `SIGKILL` from outside: a thread beside it sends that when the time is over.
fn clone_watched(plan: &Compiled, context: &Context<'_>) -> Result<Cloned, Errno> {
    if !plan.watched {
        return clone_child(plan, context);
    }
    std::thread::scope(|scope| {
        let (done, over) = mpsc::channel::<()>();
        std::thread::Builder::new()
            .name("ringfence-watch".into())
            .spawn_scoped(scope, move || {
                let late = over.recv_timeout(plan.setup_timeout) == Err(RecvTimeoutError::Timeout);
                let pidfd = context.record.pidfd.load(Ordering::Acquire);
                if late && pidfd >= 0 {
                    // It is open as long as the calling thread waits for the child.
                    let _ = process::pidfd_signal(fd::borrow(&pidfd), libc::SIGKILL);
                }
            })
            .map_err(|_| Errno::AGAIN)?;
        let cloned = clone_child(plan, context);
        drop(done);
        cloned
    })
}

fn clone_child(plan: &Compiled, context: &Context<'_>) -> Result<Cloned, Errno> {
    let request = Request {
        flags: plan.flags,
        stack: context.stack,
        pidfd: &context.record.pidfd,
        cgroup: plan
            .cgroup
            .as_ref()
            .filter(|_| plan.born_in_cgroup)
            .map(|cgroup| cgroup.fd.as_raw_fd()),
    };
    match plan.method {
        Method::Clone3 => clone::clone3(&request, run, context),
        Method::Clone => clone::legacy_clone(&request, run, context),
    }
}

/// The child has exec'd or ended. Which, and if it ended, why?
fn judge(
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
    let started = record.progress() == Progress::Exec
        && !process::is_before_exec(target(pid, pidfd.as_ref()));
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
    match start {
        Start::Failed(heard) => {
            let (fail, text) = heard.failure();
            let op = match heard.operation().and_then(|index| plan.ops.get(index)) {
                Some(op) => op,
                None if fail.call == Call::Execve => exec,
                None => init,
            };
            let error = Error::system(op.step, &op.object, fail.call.name(), fail.errno);
            error.with_hint(diagnose::child(plan, op, &fail, &text))
        }
        Start::TimedOut => timed_out(plan, exec),
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

fn kill(pid: u32, pidfd: Option<&OwnedFd>) {
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

fn reap(pid: u32, pidfd: Option<&OwnedFd>) -> Result<Waited, Errno> {
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
        Progress::Exec => plan.ops.last(),
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
