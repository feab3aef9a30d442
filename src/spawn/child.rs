//! The child: runs the operations of a plan, between clone and exec.
//!
//! Its memory is the caller's, whose thread is suspended meanwhile. So nothing here allocates, takes a
//! lock, panics, or calls into libc; system calls go to the kernel directly.
#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a panic or an allocation here would corrupt the caller"
)]

use super::record::{Call, Fail, Named, Note, Record};
use super::{inspect, namespaces, root, terminal};
use crate::plan::Compiled;
use crate::plan::op::{Action, Ids};
use crate::plan::stage::Form;
use crate::sys::fd::{self, CloseRange};
use crate::sys::{clone, exec, net, process, signal, stage as sys_stage};
use core::ffi::CStr;
use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Everything about one spawn that the child needs and the plan does not know.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) plan: &'a Compiled,
    pub(crate) record: &'a Record,
    /// Where the next process begins: 0, and after a split the operation behind it.
    pub(crate) next_op: AtomicUsize,
    /// Descriptors of the caller, from 3 on, that the child needs, ascending.
    pub(crate) needed: &'a [RawFd],
    /// Descriptors to put in place: standard streams and those handed over.
    pub(crate) placements: &'a [Placement],
    /// Numbers from 3 on that the program keeps, ascending.
    pub(crate) kept: &'a [RawFd],
    /// Soft and hard core limit of the caller.
    pub(crate) core_limit: (u64, u64),
    /// The caller's pid, as getppid shows it where the child stays in its pid namespace.
    pub(crate) parent: u32,
    /// Copies of trees of the caller's, made for this spawn.
    pub(crate) trees: &'a [OwnedFd],
    /// The terminal that the program's group takes, if the caller gives one away.
    pub(crate) terminal: Option<RawFd>,
    /// The stack, whose lower half a sibling may use.
    pub(crate) stack: (usize, usize),
}

/// One descriptor to put in place.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) source: RawFd,
    pub(crate) target: RawFd,
    /// Where the child has copied the source to, away from all targets.
    copy: AtomicI32,
}

impl Placement {
    pub(crate) fn new(source: RawFd, target: RawFd) -> Self {
        Self {
            source,
            target,
            copy: AtomicI32::new(source),
        }
    }
}

/// What the child holds on to between operations.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) root: Option<OwnedFd>,
    pub(super) stage: Option<root::Stage>,
    umask: Option<Mode>,
    /// `/proc/self` of the caller's mount namespace, known to be procfs.
    proc_self: Option<OwnedFd>,
    /// `/proc/self/stat`, kept where the new root may not show it.
    stat: Option<OwnedFd>,
    /// The list of the process's children, for the same reason, under a number that no placement takes.
    children: Option<RawFd>,
}

/// The first function of the child.
pub(crate) fn run(context: &Context<'_>) -> ! {
    let mut state = State::default();
    let first = context.next_op.load(Ordering::Acquire);
    for (index, op) in context.plan.ops.iter().enumerate().skip(first) {
        context.record.begin(index);
        if let Err(fail) = perform(context, &mut state, index, &op.action) {
            context.record.fail(fail);
            break;
        }
    }
    exec::exit_group(127)
}

fn perform(
    context: &Context<'_>,
    state: &mut State,
    index: usize,
    action: &Action,
) -> Result<(), Fail> {
    match action {
        Action::OwnDescriptors => own_descriptors(context.needed),
        Action::Guard {
            seconds,
            nanoseconds,
            process_1,
        } => {
            guard(context, *seconds, *nanoseconds, *process_1)?;
            // Here, since every process that the child consists of begins with a guard.
            state.open_stat(context.plan)
        }
        Action::JoinCgroup { procs } => write_all(procs, b"0"),
        Action::WriteProc { file, text } => state.write_proc(file, text),
        Action::AwaitMaps => await_maps(context.record),
        Action::Unshare { flags } => process::unshare(*flags).named(Call::Unshare),
        Action::Split => split(context, index),
        Action::SetIds(ids) => set_ids(ids),
        Action::Hostname(name) => rustix::system::sethostname(name).named(Call::Sethostname),
        Action::Domainname(name) => rustix::system::setdomainname(name).named(Call::Setdomainname),
        Action::LoopbackUp => loopback_up(),
        Action::Propagation(flags) => rustix::mount::mount_change(c"/", *flags).named(Call::Mount),
        Action::ClearUmask => {
            state.umask = Some(rustix::process::umask(Mode::empty()));
            Ok(())
        }
        Action::SetUmask { mask } => {
            if let Some(mask) = mask.map(Mode::from_raw_mode).or(state.umask) {
                rustix::process::umask(mask);
            }
            Ok(())
        }
        Action::Stage { .. }
        | Action::Unstage
        | Action::RootTmpfs(_)
        | Action::RootDir { .. }
        | Action::RootOverlay(_)
        | Action::RootTree { .. }
        | Action::RootInherited { .. }
        | Action::Bind(_)
        | Action::Mount { .. }
        | Action::Overlay { .. }
        | Action::Dev { .. }
        | Action::Mask { .. }
        | Action::Remount { .. }
        | Action::Symlink { .. }
        | Action::Dir { .. }
        | Action::File { .. }
        | Action::FileFrom { .. }
        | Action::Chmod { .. }
        | Action::Write { .. }
        | Action::CutOff { .. }
        | Action::RootReadOnly
        | Action::PivotRoot
        | Action::Chroot
        | Action::KeepProc => root::perform(context.into(), state, action),
        Action::DropSysAdmin => drop_sys_admin(),
        Action::NewSession => rustix::process::setsid().map(drop).named(Call::Setsid),
        Action::CurrentDir { path, confined } => current_dir(path, *confined),
        Action::DieWithParent { signal } => die_with_parent(context, state, *signal),
        Action::Stdio => place_descriptors(context),
        Action::Terminal(wanted) => {
            terminal::open(wanted, &wanted.path, fd::borrow(&wanted.socket))
        }
        Action::ControllingTerminal { stream } => {
            rustix::process::ioctl_tiocsctty(fd::borrow(stream)).named(Call::Ioctl)
        }
        Action::Foreground => to_foreground(context.terminal),
        Action::Signals { reset } => restore_signals(context, *reset),
        Action::CloseOnExec { close } => close_others(context.kept, *close),
        Action::OpenChildren => state.open_children(context.placements),
        Action::PlaceChildren { number } => match state.children {
            Some(children) => place(children, *number),
            None => Err(Fail::new(Call::Dup, Errno::BADF)),
        },
        Action::Lockdown { list, .. } => list.apply().map_err(|(number, errno)| {
            Fail::new(Call::numbered(number).unwrap_or(Call::Prctl), errno)
        }),
        Action::AssertNoUserns => assert_no_userns(),
        Action::PassNamespaces { links } => pass_namespaces(context, state, links),
        Action::SecondStage => become_stage(context),
        Action::InStage { .. } => Ok(()),
        Action::Exec => execute(context),
    }
}

impl State {
    /// In a new pid namespace getppid shows nothing; the caller's procfs still does.
    fn open_stat(&mut self, plan: &Compiled) -> Result<(), Fail> {
        if plan.die_with_parent && plan.hides_parent() && self.stat.is_none() {
            let stat = rustix::fs::openat(
                self.proc_self()?,
                c"stat",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .named(Call::Openat)?;
            self.stat = Some(stat);
        }
        Ok(())
    }

    fn open_children(&mut self, placements: &[Placement]) -> Result<(), Fail> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = c"/proc/thread-self/children";
        let children = rustix::fs::openat(CWD, path, flags, Mode::empty()).named(Call::Openat)?;
        let stat = rustix::fs::fstatfs(&children).named(Call::Fstatfs)?;
        if stat.f_type != rustix::fs::PROC_SUPER_MAGIC {
            return Err(Fail::new(Call::Fstatfs, Errno::NODEV).noted(Note::NotProcfs));
        }
        self.children = Some(copy_away(placements, children.as_raw_fd())?);
        Ok(())
    }

    pub(super) fn proc_self(&mut self) -> Result<BorrowedFd<'_>, Fail> {
        if self.proc_self.is_none() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(CWD, c"/proc/self", flags, Mode::empty())
                .map_err(|errno| Fail::new(Call::Openat, errno).noted(Note::NotProcfs))?;
            let stat = rustix::fs::fstatfs(&directory).named(Call::Fstatfs)?;
            if stat.f_type != rustix::fs::PROC_SUPER_MAGIC {
                return Err(Fail::new(Call::Fstatfs, Errno::NODEV).noted(Note::NotProcfs));
            }
            self.proc_self = Some(directory);
        }
        self.proc_self
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or(Fail::new(Call::Openat, Errno::BADF))
    }

    fn write_proc(&mut self, file: &CStr, text: &[u8]) -> Result<(), Fail> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.proc_self()?, file, flags, Mode::empty())
            .named(Call::Openat)?;
        write_all(&file, text)
    }
}

/// The kernel takes such texts in one write or not at all.
pub(super) fn write_all(file: &OwnedFd, mut text: &[u8]) -> Result<(), Fail> {
    while !text.is_empty() {
        match rustix::io::write(file, text) {
            Ok(0) => return Err(Fail::new(Call::Write, Errno::IO)),
            Ok(written) => text = text.get(written..).unwrap_or(&[]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Fail::new(Call::Write, errno)),
        }
    }
    Ok(())
}

fn guard(
    context: &Context<'_>,
    seconds: u64,
    nanoseconds: u32,
    process_1: bool,
) -> Result<(), Fail> {
    let signals: &[i32] = if process_1 {
        signal::exit_when_expired().named(Call::Sigaction)?;
        let expired = 1 << (signal::SIGNALS.wrapping_sub(1));
        signal::set_mask(!expired).named(Call::Sigprocmask)?;
        // A stopped process takes the first signal only when the second wakes it.
        &[signal::EXPIRED, libc::SIGCONT]
    } else {
        &[libc::SIGKILL]
    };
    for &number in signals {
        match signal::create_timer(number) {
            Ok(timer) => {
                signal::start_timer(timer, seconds, nanoseconds).named(Call::TimerSettime)?;
            }
            // A kernel without POSIX timers leaves nothing to guard with.
            Err(Errno::NOSYS) => {}
            Err(errno) => return Err(Fail::new(Call::TimerCreate, errno)),
        }
    }
    // A limit of 1 also holds back the handlers of core_pattern, which 0 does not.
    match context.core_limit {
        (_, 0) => Ok(()),
        (_, hard) => process::set_core_limit(1, hard).named(Call::Prlimit),
    }
}

fn await_maps(record: &Record) -> Result<(), Fail> {
    // Should the caller die now, nobody would ever write the maps.
    process::set_parent_death_signal(libc::SIGKILL).named(Call::Prctl)?;
    record.await_maps()?;
    process::set_parent_death_signal(0).named(Call::Prctl)
}

/// Leaves the rest to a process that is born into the time and pid namespaces made for children.
fn split(context: &Context<'_>, index: usize) -> Result<(), Fail> {
    context
        .next_op
        .store(index.saturating_add(1), Ordering::Release);
    let half = (context.stack.0, context.stack.1 / 2);
    let wait = !context.plan.forks();
    clone::fork_sibling(half, run, context, &context.record.sibling, wait).named(Call::Clone)?;
    // The sibling tells the parent how it went.
    exec::exit_group(0)
}

fn set_ids(ids: &Ids) -> Result<(), Fail> {
    if let Some(groups) = &ids.groups {
        rustix::thread::set_thread_groups(groups).named(Call::Setgroups)?;
    }
    if let Some(gid) = ids.gid {
        rustix::thread::set_thread_res_gid(gid, gid, gid).named(Call::Setresgid)?;
    }
    if let Some(uid) = ids.uid {
        rustix::thread::set_thread_res_uid(uid, uid, uid).named(Call::Setresuid)?;
    }
    Ok(())
}

/// Out of the bounding set first, so that no later exec brings it back.
fn drop_sys_admin() -> Result<(), Fail> {
    use rustix::thread::{
        CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities,
    };
    remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN).named(Call::Prctl)?;
    let mut sets = capabilities(None).named(Call::Capset)?;
    for set in [
        &mut sets.effective,
        &mut sets.permitted,
        &mut sets.inheritable,
    ] {
        set.remove(CapabilitySet::SYS_ADMIN);
    }
    set_capabilities(None, sets).named(Call::Capset)
}

/// The process would be in one that nobody wants if it could be made, but it ends then.
fn assert_no_userns() -> Result<(), Fail> {
    const NEWUSER: u64 = libc::CLONE_NEWUSER.unsigned_abs() as u64;
    match process::unshare(NEWUSER) {
        // The limit, and not something else that may change.
        Err(Errno::NOSPC) => Ok(()),
        Err(errno) => Err(Fail::new(Call::Unshare, errno)),
        Ok(()) => Err(Fail::new(Call::Unshare, Errno::EXIST).noted(Note::UsernsMade)),
    }
}

fn loopback_up() -> Result<(), Fail> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .named(Call::Socket)?;
    net::loopback_up(socket.as_fd()).named(Call::Ioctl)
}

/// The last operation of a child that has no program.
fn pass_namespaces(context: &Context<'_>, state: &mut State, links: &[&CStr]) -> Result<(), Fail> {
    let [socket] = context.placements else {
        return Err(Fail::new(Call::Sendmsg, Errno::BADF));
    };
    namespaces::pass(links, state.proc_self()?, fd::borrow(&socket.source))?;
    context.record.done();
    exec::exit_group(0)
}

/// In a new root the path must not lead out of it, be it through a descriptor in /proc.
fn current_dir(path: &CStr, confined: bool) -> Result<(), Fail> {
    if !confined {
        return rustix::process::chdir(path).named(Call::Chdir);
    }
    let directory = rustix::fs::openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    )
    .named(Call::Openat2)?;
    rustix::process::fchdir(directory).named(Call::Fchdir)
}

/// The signal is bound to the thread that made the child, and is lost when ids change: so it comes after
/// the ids, and then the parent is looked for once more.
fn die_with_parent(context: &Context<'_>, state: &mut State, signal: i32) -> Result<(), Fail> {
    process::set_parent_death_signal(signal).named(Call::Prctl)?;
    let parent = match state.stat.take() {
        Some(stat) => inspect::parent_in_stat(&stat)?,
        None => {
            rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
        }
    };
    if parent == context.parent {
        Ok(())
    } else {
        Err(Fail::new(Call::Prctl, Errno::SRCH).noted(Note::Orphaned))
    }
}

/// Puts descriptors in place. A source that stands where another one has to go is copied away first.
fn place_descriptors(context: &Context<'_>) -> Result<(), Fail> {
    let placements = context.placements;
    for placement in placements {
        let in_the_way = placements
            .iter()
            .any(|other| other.target == placement.source && other.source != placement.source);
        let source = if in_the_way {
            copy_away(placements, placement.source)?
        } else {
            placement.source
        };
        placement.copy.store(source, Ordering::Relaxed);
    }
    for placement in placements {
        let source = placement.copy.load(Ordering::Relaxed);
        place(source, placement.target)?;
    }
    Ok(())
}

fn place(source: RawFd, target: RawFd) -> Result<(), Fail> {
    if source == target {
        fd::clear_cloexec(source).named(Call::Fcntl)
    } else {
        fd::dup_to(source, target).named(Call::Dup)
    }
}

/// A copy under a number that is no target. Not just above all targets, which may reach up to the limit.
fn copy_away(placements: &[Placement], source: RawFd) -> Result<RawFd, Fail> {
    let mut first = 3;
    loop {
        let copy = fd::dup_above(source, first).named(Call::Fcntl)?;
        if placements.iter().all(|placement| placement.target != copy) {
            return Ok(copy);
        }
        first = copy.saturating_add(1);
    }
}

/// All signals are blocked, so that `SIGTTOU` does not stop it.
fn to_foreground(terminal: Option<RawFd>) -> Result<(), Fail> {
    rustix::process::setpgid(None, None).named(Call::Setpgid)?;
    let Some(terminal) = terminal else {
        return Ok(());
    };
    let group = rustix::process::getpid();
    rustix::termios::tcsetpgrp(fd::borrow(&terminal), group).named(Call::Ioctl)
}

/// All of them: which ones the caller ignores at this moment would cost as many calls to find out.
fn restore_signals(context: &Context<'_>, reset: signal::SigSet) -> Result<(), Fail> {
    for number in 1..=signal::SIGNALS {
        let bit = 1_u64.wrapping_shl(number.wrapping_sub(1));
        let fixed = matches!(number.cast_signed(), libc::SIGKILL | libc::SIGSTOP);
        if reset & bit != 0 && !fixed {
            signal::reset(number).named(Call::Sigaction)?;
        }
    }
    // A signal that has waited acts now, and a core file would be of the caller's memory.
    signal::set_mask(0).map(drop).named(Call::Sigprocmask)?;
    match context.core_limit {
        (_, 0) => Ok(()),
        (soft, hard) => process::set_core_limit(soft, hard).named(Call::Prlimit),
    }
}

/// Whoever waits for the end of a pipe or socket of the caller's must not have to wait for the set-up.
fn own_descriptors(needed: &[RawFd]) -> Result<(), Fail> {
    let behind = needed.last().map_or(3, |last| last.saturating_add(1));
    // First, as it leaves out of the copy what it closes.
    fd::close_range(behind, u32::MAX, CloseRange::Unshare).named(Call::CloseRange)?;
    close_between(needed, CloseRange::Close).map(drop)
}

/// Everything from 3 on but what the program keeps.
fn close_others(kept: &[RawFd], close: CloseRange) -> Result<(), Fail> {
    let behind = close_between(kept, close)?;
    fd::close_range(behind, u32::MAX, close).named(Call::CloseRange)
}

/// What lies below and between these numbers, from 3 on. Returns the number behind the last.
fn close_between(kept: &[RawFd], close: CloseRange) -> Result<RawFd, Fail> {
    let mut first: RawFd = 3;
    for &keep in kept {
        if keep > first {
            let last = keep.saturating_sub(1).unsigned_abs();
            fd::close_range(first, last, close).named(Call::CloseRange)?;
        }
        first = keep.saturating_add(1);
    }
    Ok(first)
}

/// Leaves the program to the second stage, which tells the caller how it went.
fn become_stage(context: &Context<'_>) -> Result<(), Fail> {
    let plan = context.plan;
    let Some(stage) = &plan.stage else {
        return Ok(());
    };
    context.record.exec();
    match stage.form {
        Form::Program { number, .. } => {
            fd::set_cloexec(number).named(Call::Fcntl)?;
            let errno = exec::execveat(number, &stage.arguments, &plan.program.envp);
            Err(Fail::new(Call::Execveat, errno))
        }
        Form::Forked => sys_stage::run(
            stage.numbers.inherited(),
            stage.settings,
            plan.program.candidates.len(),
            &stage.arguments,
            &plan.program.envp,
            stage.lists.words(),
        ),
    }
}

/// As execvp does: goes on along PATH where there is nothing to execute, and remembers that something
/// was there but might not be executed, or lacks its interpreter.
fn execute(context: &Context<'_>) -> Result<(), Fail> {
    let program = &context.plan.program;
    let mut refused = None;
    let mut last = Errno::NOENT;
    context.record.exec();
    for path in &program.candidates {
        let errno = exec::execve(path, &program.argv, &program.envp);
        let fail = inspect::exec_failure(context.record, path, errno);
        match errno {
            Errno::ACCESS => refused = Some(fail),
            Errno::NOENT if fail.note != Note::Nothing => refused = Some(fail),
            Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {
                last = errno;
            }
            _ => return Err(fail),
        }
    }
    Err(refused.unwrap_or(Fail::new(Call::Execve, last)))
}
