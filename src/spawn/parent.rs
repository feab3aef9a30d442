//! The parent's half of a spawn: prepare, clone, and make sense of what came back.

use super::child::{Context, Placement, run};
use super::control::Start;
use super::dumpable::{self, Hold};
use super::record::Record;
use super::streams::Streams;
use super::verdict::{Course, judge, kill, open_pidfd, reap};
use super::{lean, maps, pass, terminal, trees};
use crate::diagnose;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::plan::op::Action;
use crate::plan::{Compiled, Method, Plan};
use crate::process::Child;
use crate::sys::arena::Arena;
use crate::sys::clone::{self, Cloned, Request};
use crate::sys::fd;
use crate::sys::process::{self};
use crate::sys::signal::{self, SigSet};
use crate::terminal::Pty;
use core::sync::atomic::{AtomicUsize, Ordering};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
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
                kill(&pidfd);
                let _ = reap(&pidfd);
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

/// The new namespaces of a plan that [passes](Compiled::passes) them, in the order of their kinds. The child has
/// ended when this returns.
pub(super) fn namespaces(plan: &Compiled) -> Result<Vec<OwnedFd>> {
    refuse_frozen(plan)?;
    let (ours, theirs) = pass::socket()
        .map_err(|errno| Error::system(Step::Prepare, "a socket", "socketpair", errno))?;
    let number = theirs.as_raw_fd();
    let (_, pidfd) = make(plan, &[Placement::new(number, number)], None)?;
    let failed = |call| {
        let object = "new namespaces";
        move |errno| Error::system(Step::Namespace, object, call, errno)
    };
    reap(&pidfd).map_err(failed("waitid"))?;
    let passed = pass::receive_all(&ours).map_err(failed("recvmsg"))?;
    match passed.len() == plan.namespaces.kinds().count() {
        true => Ok(passed),
        false => Err(failed("recvmsg")(Errno::MFILE)),
    }
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

/// What came of the clone.
struct Outcome {
    cloned: Result<Cloned, Errno>,
    course: Course,
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
    let mut needed: Vec<RawFd> = held_by_ops(plan)
        .chain(terminal)
        .chain(trees.iter().map(AsRawFd::as_raw_fd))
        .chain(placements.iter().map(|placement| placement.source))
        .filter(|&number| number > 2)
        .collect();
    needed.sort_unstable();
    let stack = arena.stack();
    let record: &Record = arena.shared();
    let context = Context {
        plan,
        record,
        next_op: AtomicUsize::new(0),
        needed: &needed,
        placements,
        kept: &kept,
        core_limit: process::core_limit()
            .map_err(|errno| Error::system(Step::Prepare, "core limit", "prlimit64", errno))?,
        parent: parent_number(plan)?,
        trees,
        terminal,
        stack,
    };
    // Made before anything else, so that it is known that the pidfd of a sibling can be had.
    let reserved = plan
        .may_split()
        .then(|| open_pidfd(std::process::id()))
        .transpose()?;
    let outcome = {
        let _hold = Hold::new(plan)?;
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
    judge(plan, record, work, cloned, reserved, outcome.course)
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
            if plan.stays_held() {
                // Once it is executed it can do nothing but wait, so there is nothing to hear from it.
                return Some(Start::AtGate);
            }
            Some(control.await_start(begun.checked_add(plan.setup_timeout)))
        });
        (cloned, start, begun.elapsed())
    };
    let Some(waiting) = plan.maps.as_ref().filter(|maps| maps.waits()) else {
        let (cloned, start, took) = go();
        let maps = Ok(());
        let course = Course { start, maps, took };
        return Ok(Outcome { cloned, course });
    };
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new()
            .name("ringfence-maps".into())
            .spawn_scoped(scope, || {
                dumpable::waited_for(plan, || {
                    maps::serve(waiting, context.record, plan.setup_timeout)
                })
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
        let course = Course { start, maps, took };
        Ok(Outcome { cloned, course })
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
        let watch = std::thread::Builder::new()
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
        // The end of the scope does not wait for the last steps of the thread, and a caller that forks during
        // these could start no thread in its child.
        let _ = watch.join();
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
