//! The command line in terms of the library.

use crate::options::Options;
use crate::setup;
use crate::status::{self, Listeners};
use crate::tool::{self, Result, fail, with_cause};
use ringfence::lockdown::{Capabilities, CapabilitySets};
use ringfence::ns::{Namespace, User};
use ringfence::{AnyNamespace, Command, IdMap, Namespaces, Sandbox, Setgroups};
use rustix::io::Errno;
use rustix::process::{Signal, getppid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Others take the time that they take.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

const NO_DESCENDANT: &str = "Joining the specified user namespace failed, it might not be a descendant of the current user namespace.";

pub(crate) fn die_with_parent() -> Result<()> {
    let parent = getppid();
    let set = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    match set {
        Ok(()) if getppid() == parent => Ok(()),
        Ok(()) => fail("the parent has ended"),
        Err(errno) => fail(with_cause("prctl", &errno.into())),
    }
}

/// The program, to be started in this directory.
pub(crate) fn command(
    options: &Options,
    dir: &Path,
    listeners: Option<Listeners>,
) -> Result<Command> {
    let mut sandbox = sandbox(options)?;
    if let (Some(fd), Some(listeners)) = (&options.userns_block, listeners) {
        sandbox = maps_of_others(sandbox, Arc::clone(fd), listeners);
    }
    let mut command = tool::command(sandbox, &options.program, None)
        .current_dir(dir)
        .env_clear()
        .envs(&options.env)
        .env("PWD", dir);
    if let Some(argv0) = &options.argv0 {
        command = command.arg0(argv0);
    }
    if options.userns.is_some() {
        let (own_uid, own_gid) = options.caller;
        if let Some(uid) = options.uid.filter(|&uid| uid != own_uid) {
            command = command.uid(uid).keep_groups();
        }
        if let Some(gid) = options.gid.filter(|&gid| gid != own_gid) {
            command = command.gid(gid);
        }
    }
    if options.new_session {
        command = command.new_session();
    }
    if options.die_with_parent {
        command = command.die_with_parent();
    }
    if options.gated {
        command = command.gate().kill_on_drop();
    }
    if options.userns_block.is_some() {
        command = command.setup_timeout(FOR_EVER);
    }
    Ok(command)
}

/// Somebody who is told of the process writes the maps, and then to the descriptor.
fn maps_of_others(sandbox: Sandbox, written: Arc<OwnedFd>, listeners: Listeners) -> Sandbox {
    let listeners = Mutex::new(Some(listeners));
    sandbox
        .setgroups(Setgroups::Allow)
        .map_writer(move |process| {
            let pid = process.id();
            let inode = |kind| Some(AnyNamespace::of_pid(kind, pid).ok()?.id().inode());
            let listeners = listeners.lock().ok().and_then(|mut one| one.take());
            let told = listeners.map_or(Ok(()), |listeners| listeners.tell(pid, inode));
            told.map_err(|_| Error::other("nobody can be told of the process"))?;
            status::wait_for(&written);
            Ok(())
        })
}

fn sandbox(options: &Options) -> Result<Sandbox> {
    let new = options.new | Namespaces::MOUNT;
    let mut sandbox = Sandbox::new().namespaces(new).no_new_privs();
    if new.contains(Namespaces::USER) {
        let (own_uid, own_gid) = options.caller;
        sandbox = sandbox
            .user_map(IdMap::single(options.uid.unwrap_or(own_uid)))
            .group_map(IdMap::single(options.gid.unwrap_or(own_gid)));
    }
    if let Some(fd) = &options.userns2 {
        sandbox = sandbox.join_user_last(&last(options, fd)?);
    }
    if let Some(name) = &options.hostname {
        sandbox = sandbox.hostname(name);
    }
    if new.contains(Namespaces::PID) && !options.as_pid_1 {
        sandbox = sandbox.init();
    }
    if options.disable_userns {
        sandbox = sandbox.disable_userns();
    }
    if let Some(sets) = capabilities(options) {
        sandbox = sandbox.capabilities(sets);
    }
    for filter in &options.filters {
        sandbox = sandbox.seccomp(filter.clone());
    }
    setup::file_system(sandbox, options)
}

/// The user namespace to end in, which cannot be below one that is new.
fn last(options: &Options, fd: &OwnedFd) -> Result<Namespace<User>> {
    let failed = |errno: Errno| fail(with_cause("Setting userns2 failed", &errno.into()));
    if options.new.contains(Namespaces::USER) {
        return failed(Errno::PERM);
    }
    let namespace = fd.try_clone().ok().and_then(|fd| fd.try_into().ok());
    namespace.map_or_else(|| failed(Errno::INVAL), Ok)
}

/// Root keeps what it has unless told otherwise, and gets no more in a user namespace; other users get what is added.
fn capabilities(options: &Options) -> Option<CapabilitySets> {
    let is_root = options.caller.0 == 0;
    let in_userns = options.new.contains(Namespaces::USER) || options.userns.is_some();
    let own = rustix::thread::capabilities(None).map(|sets| sets.permitted.bits());
    let start = match own {
        Ok(bits) if is_root => Capabilities::from_bits_retain(bits),
        _ => Capabilities::empty(),
    };
    if is_root && options.capabilities.is_empty() {
        let gains = in_userns && start != Capabilities::of_kernel();
        return gains.then(|| CapabilitySets::new().bounding(start));
    }
    let wanted = options
        .capabilities
        .iter()
        .fold(start, |all, (added, set)| match added {
            true => all | *set,
            false => all - *set,
        });
    let sets = CapabilitySets::new()
        .permitted(wanted)
        .effective(wanted)
        .ambient(wanted)
        .inheritable(wanted);
    // What root could get by executing a file, it does not get without new privilege.
    let bounds = !is_root || in_userns || options.userns2.is_some();
    Some(if bounds { sets.bounding(wanted) } else { sets })
}

pub(crate) fn assert_userns_disabled(options: &Options) -> Result<()> {
    if !options.assert_userns_disabled || options.disable_userns {
        return Ok(());
    }
    let tried = Sandbox::new().user().command("/proc/self/fd/none").spawn();
    match tried.map_err(|error| error.step()) {
        Err(Some(ringfence::Step::Clone)) => Ok(()),
        _ => fail("creation of new user namespaces was not disabled as requested"),
    }
}

/// This process has no other threads, and goes on in the namespaces of others, as bubblewrap does.
pub(crate) fn join(options: &Options) -> Result<()> {
    let joined = [
        (
            &options.userns,
            LinkNameSpaceType::User,
            "Joining specified user namespace failed",
        ),
        (
            &options.pidns,
            LinkNameSpaceType::ProcessID,
            "Setting pidns failed",
        ),
    ];
    for (fd, kind, failed) in joined {
        let Some(fd) = fd else { continue };
        match move_into_link_name_space(fd.as_fd(), Some(kind)) {
            Ok(()) => {}
            Err(Errno::INVAL) if kind == LinkNameSpaceType::User => return fail(NO_DESCENDANT),
            Err(errno) => return fail(with_cause(failed, &errno.into())),
        }
    }
    Ok(())
}

impl Options {
    pub(crate) fn has_own_pids(&self) -> bool {
        self.new.contains(Namespaces::PID) || self.pidns.is_some()
    }
}
