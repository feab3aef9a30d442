//! A drop-in for nsenter(1) of util-linux: runs a program in namespaces of others, and says what it does in terms of
//! the library.
//!
//! ```text
//! cargo run --example nsenter -- --target 1234 --net --mount ip addr
//! ```
//!
//! Options, exit codes and the usual messages are those of nsenter(1). What differs:
//!
//! - Without a pid namespace nsenter(1) becomes the program. Here the program is a child, and the tool stands for it: it
//!   passes signals on, stops and ends as the program does, and the program is killed if the tool is.
//! - To join where one is already takes no privilege.
//! - With `--user`, a group that may not be dropped is an error only if there is one.
//! - With `--mount` and `--root`, but no working directory, that is the new root, and not the root of the mount namespace.
//! - A `:nsid`, which may be the number that /proc shows or the one that is never used again, is looked for among the
//!   namespaces of the processes that /proc shows.
//! - With `--keep-caps` the capabilities stay also where another user is set.
//! - There is no `--follow-context`.

mod options;
mod target;
#[path = "../tool/mod.rs"]
mod tool;

use options::{Id, Options, Place, parse};
use ringfence::ns::User;
use ringfence::{
    AnyNamespace, Command, Extent, Foreground, JoinCredentials, JoinDir, Kind, Namespace, Sandbox,
    exit_as,
};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use target::Target;
use tool::{Result, fail, with_cause};

fn main() -> ExitCode {
    tool::main("nsenter", include_str!("usage.txt"), parse, run)
}

fn run(options: Options) -> Result<()> {
    let target = options.target.map(Target::open).transpose()?;
    let target = target.as_ref();
    let namespaces = target::namespaces(&options, target)?;
    let sandbox = sandbox(&options, target, &namespaces)?;
    let command = command(&options, target, &namespaces, sandbox)?;
    let forks = find(&namespaces, Kind::Pid).is_some() && !options.no_fork;
    let status = match forks {
        true => command
            .spawn()?
            .wait_with(&Foreground::new().mirror_stops()),
        false => {
            let mut child = command.die_with_parent().spawn()?;
            child.wait_with(&tool::stand_in())
        }
    }?;
    exit_as(status)
}

fn find(namespaces: &[AnyNamespace], kind: Kind) -> Option<&AnyNamespace> {
    namespaces.iter().find(|namespace| namespace.kind() == kind)
}

fn sandbox(
    options: &Options,
    target: Option<&Target>,
    namespaces: &[AnyNamespace],
) -> Result<Sandbox> {
    let mut sandbox = Sandbox::new().join_credentials(JoinCredentials::Preserve);
    for namespace in namespaces {
        sandbox = sandbox.join(namespace);
    }
    if options.no_fork && find(namespaces, Kind::Pid).is_some() {
        sandbox = sandbox.pid_for_children();
    }
    if let Some(root) = &options.root {
        sandbox = sandbox.join_root(dir(root, target)?);
    }
    let mount = find(namespaces, Kind::Mount);
    let stays = mount.is_none_or(|mount| mount.is_current().unwrap_or(false));
    match &options.wd {
        Some(wd) => sandbox = sandbox.join_dir(dir(wd, target)?),
        // To enter a mount namespace is to be at its root, even in one's own.
        None if mount.is_some() && stays => sandbox = sandbox.join_dir(opened("/".as_ref())?),
        // And a new root alone does not move one.
        None if options.root.is_some() && stays => {
            sandbox = sandbox.join_dir(opened(".".as_ref())?);
        }
        None => {}
    }
    if options.join_cgroup {
        sandbox = sandbox.join_cgroup(target::required(target)?.process());
    }
    Ok(sandbox)
}

fn dir(place: &Place, target: Option<&Target>) -> Result<JoinDir> {
    Ok(match place {
        Place::OfTarget => JoinDir::of(target::required(target)?.process()),
        Place::Path(path) => opened(path)?.into(),
    })
}

fn opened(path: &Path) -> Result<OwnedFd> {
    match File::open(path) {
        Ok(file) => Ok(file.into()),
        Err(error) => {
            let what = format!("cannot open {}", path.display());
            fail(with_cause(what, &error))
        }
    }
}

fn command(
    options: &Options,
    target: Option<&Target>,
    namespaces: &[AnyNamespace],
    sandbox: Sandbox,
) -> Result<Command> {
    let env = match options.env {
        true => Some(target::required(target)?.environment()?),
        false => None,
    };
    let shell = match &env {
        Some(env) => value(env, "SHELL"),
        None => std::env::var_os("SHELL"),
    };
    let mut command = tool::command(sandbox, &options.program, shell);
    if let Some(env) = env {
        command = command.env_clear().envs(env);
    }
    if let Some(dir) = &options.wdns {
        command = command.current_dir(dir);
    }
    let user = find(namespaces, Kind::User);
    let usual = user.filter(|_| !options.preserve_credentials);
    let usual = usual.map(|_| Id::Number(0));
    if let Some(gid) = options.gid.or(usual) {
        let gid = id(gid, target, user, Target::gid, Namespace::gid_map)?;
        command = command.gid(gid).groups([]);
    }
    if let Some(uid) = options.uid.or(usual) {
        command = command.uid(id(uid, target, user, Target::uid, Namespace::uid_map)?);
    }
    if options.keep_caps && user.is_some() {
        command = command.keep_capabilities();
    }
    Ok(command)
}

/// An id, as the user namespace counts that is entered.
fn id(
    wanted: Id,
    target: Option<&Target>,
    user: Option<&AnyNamespace>,
    own: fn(&Target) -> Result<u32>,
    map: fn(&Namespace<User>) -> ringfence::Result<Vec<Extent>>,
) -> Result<u32> {
    const OVERFLOW: u32 = 65534;
    let outside = match wanted {
        Id::Number(id) => return Ok(id),
        Id::OfTarget => own(target::required(target)?)?,
    };
    let Some(user) = user else {
        return Ok(outside);
    };
    let map = map(&user.try_clone()?.downcast()?)?;
    let inside = map.iter().find_map(|extent| {
        let offset = outside.checked_sub(extent.outside)?;
        (offset < extent.count).then_some(extent.inside + offset)
    });
    Ok(inside.unwrap_or(OVERFLOW))
}

fn value(env: &[(OsString, OsString)], name: &str) -> Option<OsString> {
    let mut found = env.iter().filter(|(key, _)| key == OsStr::new(name));
    found.next_back().map(|(_, value)| value.clone())
}
