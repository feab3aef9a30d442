//! A drop-in for bwrap(1), bubblewrap, in terms of the library.
//!
//! ```text
//! cargo run --example bwrap -- --ro-bind / / --dev /dev --proc /proc --unshare-all sh -c 'id; ps'
//! ```
//!
//! Options, exit codes, JSON and the usual messages are those of bubblewrap. What differs:
//!
//! - Labels are not supported. With `--userns-block-fd` the program starts in `/`, unless `--chdir` says otherwise.
//! - `--userns2`: process 1 of a new pid namespace stays in the user namespace above. `--assert-userns-disabled` without `--disable-userns` is about
//!   what the caller can do, which is no less than what the program can.
//! - What the program leaves behind in a new pid namespace is killed when it ends, not waited for.
//! - Set-up is complete before `--info-fd` and `--json-status-fd` are written: if it fails, they are not.
//! - What is put into the sandbox before something is mounted on `/` itself is left out, as it would be hidden.
//! - `--remount-ro` also concerns what is mounted below, and what is no mount point becomes one.
//! - Missing directories on the way to a path have mode 0755. `--file` replaces no file that is there. A `..` in a path inside is an error.
//! - `--lock-file`, `--sync-fd`: the lock and the descriptor are held outside of the sandbox. No descriptor that an option
//!   names is handed on to the program, but for the standard streams, which stay open.
//! - Parts of `/proc` are read-only for any user, not only for one who might write to them.
//! - A working directory that is there only because something was put below a link may not be found; it is the next one then.
//! - With `--dev` the program of a user other than 0 is in the first user namespace, not in one below it.

mod descriptors;
mod message;
mod options;
mod sandbox;
mod setup;
mod status;
#[allow(dead_code, reason = "the parts for getopt(3) are of no use here")]
#[path = "../tool/mod.rs"]
mod tool;
mod working_dir;

use lexopt::Parser;
use options::{Options, Task};
use ringfence::{Child, Step};
use status::Listeners;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::sync::atomic::Ordering;
use tool::Result;

const USAGE: &str = include_str!("usage.txt");

fn main() -> ExitCode {
    let code = match options::parse(Parser::from_env()) {
        Ok(Task::Run(options)) => run(*options),
        Ok(Task::Help) => {
            print!("{}", usage());
            Ok(0)
        }
        Ok(Task::Usage) => {
            eprint!("{}", usage());
            Ok(1)
        }
        Ok(Task::Version) => {
            println!("bubblewrap from ringfence {}", env!("CARGO_PKG_VERSION"));
            Ok(0)
        }
        Err(failure) => Err(failure),
    };
    ExitCode::from(code.unwrap_or_else(|failure| {
        if options::HAS_LEVEL_PREFIX.load(Ordering::Relaxed) {
            eprint!("<3>");
        }
        failure.report()
    }))
}

/// With the name by which it was called.
fn usage() -> String {
    let name = std::env::args().next().unwrap_or_default();
    USAGE.replacen("bwrap", &name, 1)
}

fn run(mut options: Options) -> Result<u8> {
    if options.die_with_parent {
        sandbox::die_with_parent()?;
    }
    sandbox::assert_userns_disabled(&options)?;
    sandbox::join(&options)?;
    let listeners = Listeners::take(&mut options);
    let mut child = match &options.userns_block {
        Some(_) => start(&options, Some(listeners))?,
        None => {
            let child = start(&options, None)?;
            listeners.tell_of(&child)?;
            child
        }
    };
    let failed = |error| message::of(&error, &options.program);
    let locks = status::lock(&options, &child)?;
    if let Some(fd) = &options.block {
        status::wait_for(fd);
    }
    if options.gated {
        child.release().map_err(failed)?;
    }
    let code = exit_code(child.wait().map_err(failed)?);
    drop(locks);
    status::ended(&options, code)?;
    Ok(code)
}

/// In the first working directory that there is.
fn start(options: &Options, mut listeners: Option<Listeners>) -> Result<Child> {
    let mut dirs = working_dir::candidates(options).into_iter().peekable();
    loop {
        let dir = dirs.next().unwrap_or("/".into());
        let command = sandbox::command(options, &dir, listeners.take())?;
        match command.spawn() {
            Err(error) if error.step() == Some(Step::CurrentDir) && dirs.peek().is_some() => {}
            Err(error) => return Err(message::of(&error, &options.program)),
            // At the gate it has not been entered yet.
            Ok(child) if dirs.peek().is_some() && status::lacks(options, &child, &dir) => {}
            Ok(child) => return Ok(child),
        }
    }
}

/// As a shell has it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)
}
