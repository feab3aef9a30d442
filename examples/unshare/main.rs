//! A drop-in for unshare(1) of util-linux: runs a program in new namespaces, and says what it does in terms of the
//! library.
//!
//! ```text
//! cargo run --example unshare -- --user --map-root-user --pid --fork --mount-proc sh -c 'id; ps'
//! ```
//!
//! Options, exit codes and the usual messages are those of unshare(1). What differs:
//!
//! - Without `--fork` unshare(1) becomes the program. Here the program is a child, and the tool stands for it: it
//!   passes signals on, stops and ends as the program does, and the program is killed if the tool is.
//! - What the tool mounts never shows outside: with `--propagation shared` or `unchanged`, `--mount-proc=DIR` is an
//!   error where DIR is no mount point.
//! - The working directory is entered with the ids of `--setuid` and `--setgid`.
//! - With `--keep-caps` the capabilities stay also where another user is set.
//! - Where something fails halfway, no file keeps a namespace.

mod options;
#[path = "../tool/mod.rs"]
mod tool;

use options::{Options, Spread, parse};
use ringfence::{Child, Command, Foreground, Kind, Namespaces, Sandbox, Setgroups, exit_as};
use std::process::ExitCode;
use tool::{Result, fail};

fn main() -> ExitCode {
    tool::main("unshare", include_str!("usage.txt"), parse, run)
}

fn run(options: Options) -> Result<()> {
    let command = command(&options, sandbox(&options));
    let mut child = match options.files.as_slice() {
        [] => command.spawn()?,
        _ => start_with_files(&options, command)?,
    };
    let status = child.wait_with(&foreground(&options))?;
    exit_as(status)
}

fn sandbox(options: &Options) -> Sandbox {
    let mut new = options.new;
    let for_children = new.contains(Namespaces::PID) && !options.fork;
    if for_children {
        new -= Namespaces::PID;
    }
    let mut sandbox = Sandbox::new().namespaces(new);
    if for_children {
        sandbox = sandbox.pid_for_children();
    }
    if new.contains(Namespaces::NET) {
        sandbox = sandbox.loopback_down();
    }
    if new.contains(Namespaces::USER) {
        sandbox = ids(options, sandbox);
    }
    if let Some(offset) = options.monotonic {
        sandbox = sandbox.monotonic_offset(offset);
    }
    if let Some(offset) = options.boottime {
        sandbox = sandbox.boottime_offset(offset);
    }
    if let Some(dir) = &options.root {
        sandbox = sandbox.chroot(dir);
    }
    if new.contains(Namespaces::MOUNT) {
        sandbox = mounts(options, sandbox);
    }
    sandbox
}

fn ids(options: &Options, sandbox: Sandbox) -> Sandbox {
    let one_group = options.groups.own.is_some() && options.groups.ranges.is_none();
    let usual = if one_group {
        Setgroups::Deny
    } else {
        Setgroups::Allow
    };
    let sandbox = sandbox
        .user_map(options.users.map())
        .group_map(options.groups.map())
        .setgroups(options.setgroups.unwrap_or(usual));
    match options.owner {
        Some((uid, gid)) => sandbox.owner(uid, gid),
        None => sandbox,
    }
}

fn mounts(options: &Options, mut sandbox: Sandbox) -> Sandbox {
    sandbox = match options.propagation {
        Some(Spread::Unchanged) => sandbox.inherit_propagation(),
        Some(Spread::As(propagation)) => sandbox.propagation(propagation),
        None => sandbox,
    };
    if let Some(dir) = &options.mount_proc {
        sandbox = sandbox.proc(dir);
    }
    if let Some(dir) = &options.mount_binfmt {
        sandbox = sandbox.binfmt_misc(dir);
        if let Some(interpreter) = &options.load_interp {
            sandbox = sandbox.binfmt_register(dir, interpreter.as_encoded_bytes());
        }
    }
    sandbox
}

fn command(options: &Options, sandbox: Sandbox) -> Command {
    let mut command = tool::command(sandbox, &options.program, std::env::var_os("SHELL"));
    if let Some(gid) = options.setgid {
        command = command.gid(gid).groups([]);
    }
    if let Some(uid) = options.setuid {
        command = command.uid(uid);
    }
    if let Some(dir) = &options.wd {
        command = command.current_dir(dir);
    }
    if options.keep_caps && options.new.contains(Namespaces::USER) {
        command = command.keep_capabilities();
    }
    if options.clear_env || !options.whitelist_env.is_empty() {
        command = command.env_clear();
        for name in &options.whitelist_env {
            if let Some(value) = std::env::var_os(name) {
                command = command.env(name, value);
            }
        }
    }
    match (options.kill_child, options.fork) {
        (Some(signal), _) => command.die_with_parent_by(signal),
        (None, false) => command.die_with_parent(),
        (None, true) => command,
    }
}

/// The program is held while its namespaces are bound to the files.
fn start_with_files(options: &Options, command: Command) -> Result<Child> {
    let mut child = command.gate().kill_on_drop().spawn()?;
    let namespaces = child.namespaces()?;
    let mut pins = Vec::new();
    for (kind, file) in &options.files {
        // A pid namespace in which there is no process yet cannot be bound.
        let namespace = match kind {
            Kind::Pid if !options.fork => None,
            kind => namespaces.get(*kind),
        };
        let Some(namespace) = namespace else {
            let file = file.display();
            return fail(format!("mount {kind} on {file} failed: see --fork"));
        };
        pins.push(namespace.pin_on(file)?);
    }
    for pin in pins {
        pin.keep();
    }
    child.release()?;
    Ok(child)
}

fn foreground(options: &Options) -> Foreground {
    let polite = [libc::SIGINT, libc::SIGTERM];
    match (options.fork, options.forward_signals) {
        (true, true) => Foreground::new().forward(polite),
        (true, false) => Foreground::new().hold(polite),
        (false, _) => tool::stand_in(),
    }
}
