//! The command line in terms of the library.

use crate::options::Options;
use crate::setup;
use crate::tool::{self, Result, fail, with_cause};
use ringfence::lockdown::{Capabilities, CapabilitySets};
use ringfence::{Command, IdMap, Namespaces, Sandbox};
use rustix::io::Errno;
use rustix::process::{Signal, getgid, getppid, getuid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::AsFd;
use std::path::Path;
use tempfile::NamedTempFile;

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

/// The program, to be started in this directory, and files that are needed until then.
pub(crate) fn command(options: &Options, dir: &Path) -> Result<(Command, Vec<NamedTempFile>)> {
    let (sandbox, files) = sandbox(options)?;
    let mut command = tool::command(sandbox, &options.program, None)
        .current_dir(dir)
        .env_clear()
        .envs(&options.env)
        .env("PWD", dir);
    if let Some(argv0) = &options.argv0 {
        command = command.arg0(argv0);
    }
    if options.userns.is_some() {
        let (uid, gid) = options.ids();
        command = command.uid(uid).gid(gid);
    }
    if options.new_session {
        command = command.new_session();
    }
    if options.die_with_parent {
        command = command.die_with_parent();
    }
    if options.is_gated() {
        command = command.gate().kill_on_drop();
    }
    Ok((command, files))
}

fn sandbox(options: &Options) -> Result<(Sandbox, Vec<NamedTempFile>)> {
    let new = options.new | Namespaces::MOUNT;
    let mut sandbox = Sandbox::new().namespaces(new).no_new_privs();
    if new.contains(Namespaces::USER) {
        let (uid, gid) = options.ids();
        sandbox = sandbox
            .user_map(IdMap::single(uid))
            .group_map(IdMap::single(gid));
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

/// Root keeps what it has unless told otherwise, and gets no more in a user namespace; other users get what is added.
fn capabilities(options: &Options) -> Option<CapabilitySets> {
    let is_root = getuid().is_root();
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
    let bounds = !is_root || in_userns;
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
    pub(crate) fn ids(&self) -> (u32, u32) {
        let uid = self.uid.unwrap_or_else(|| getuid().as_raw());
        let gid = self.gid.unwrap_or_else(|| getgid().as_raw());
        (uid, gid)
    }

    pub(crate) fn has_own_pids(&self) -> bool {
        self.new.contains(Namespaces::PID) || self.pidns.is_some()
    }

    /// The program is held until somebody knows of it.
    pub(crate) fn is_gated(&self) -> bool {
        let waits = [&self.info, &self.json_status, &self.block];
        waits.iter().any(|fd| fd.is_some()) || !self.lock_files.is_empty()
    }
}
