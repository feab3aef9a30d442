//! Runs a build where it can do no harm: the source cannot be changed, one directory takes the result, there is
//! no network but one of its own, and when the time is up, the build ends with all that it has started.
//!
//! ```text
//! cargo run --example build_sandbox -- --output target make -j4
//! cargo run --example build_sandbox -- --overlay --timeout 600 --tools /opt/toolchain ./configure
//! ```
//!
//! It needs no privilege. It ends as the build ends, or with 124 when the time is up, as timeout(1) does.

use ringfence::lockdown::{Resource, Rlimit};
use ringfence::{Command, IdMap, Overlay, Result, Rootfs, Sandbox, Tmpfs, exit_as};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str =
    "usage: build_sandbox [--source DIR] [--overlay] [--output DIR] [--tools DIR]...
                     [--timeout SECONDS] COMMAND [ARG ...]";
const GIB: u64 = 1 << 30;
/// What programs look up. Not all of `/etc`: run by root, the build would be able to read what only root may.
const SETTINGS: [&str; 7] = [
    "/etc/alternatives",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/ssl/certs",
];
const SIGTERM: i32 = 15;
/// How long the build may take to clean up when its time is up.
const GRACE: Duration = Duration::from_secs(2);
const TIMED_OUT: u8 = 124;

struct Build {
    source: PathBuf,
    /// The build may write into its source; what it writes is thrown away.
    overlay: bool,
    output: Option<PathBuf>,
    tools: Vec<PathBuf>,
    timeout: Duration,
    command: Vec<OsString>,
}

fn parse() -> std::result::Result<Build, Box<dyn std::error::Error>> {
    use lexopt::prelude::*;
    let mut build = Build {
        source: ".".into(),
        overlay: false,
        output: None,
        tools: Vec::new(),
        timeout: Duration::from_secs(3600),
        command: Vec::new(),
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("source") => build.source = arguments.value()?.into(),
            Long("overlay") => build.overlay = true,
            Long("output") => build.output = Some(arguments.value()?.into()),
            Long("tools") => build.tools.push(arguments.value()?.into()),
            Long("timeout") => {
                build.timeout = Duration::try_from_secs_f64(arguments.value()?.parse()?)?;
            }
            Value(program) => {
                build.command.push(program);
                build.command.extend(arguments.raw_args()?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    // Paths mean the same inside, so they have to be whole.
    for path in [&mut build.source]
        .into_iter()
        .chain(&mut build.output)
        .chain(&mut build.tools)
    {
        *path = path
            .canonicalize()
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    match build.command.is_empty() {
        true => Err("no command".into()),
        false => Ok(build),
    }
}

/// The system's programs, read-only; a directory for temporary files; the source; the output.
fn sandbox(build: &Build) -> Result<Sandbox> {
    let mut sandbox = Sandbox::container(Rootfs::tmpfs())?
        .user_map(IdMap::identity())
        .hostname("build")
        .bind_ro("/usr", "/usr")
        .tmpfs_with("/tmp", Tmpfs::new().size(2 * GIB));
    for name in ["bin", "sbin", "lib", "lib64"] {
        let path = PathBuf::from("/").join(name);
        sandbox = match path.read_link() {
            Ok(target) => sandbox.symlink(target, path),
            Err(_) => sandbox.bind_ro_try(&path, &path),
        };
    }
    for name in SETTINGS {
        sandbox = sandbox.bind_ro_try(name, name);
    }
    for tools in &build.tools {
        sandbox = sandbox.bind_ro(tools, tools);
    }
    let source = &build.source;
    sandbox = match build.overlay {
        true => sandbox.overlay(source, Overlay::new(source).throwaway()),
        false => sandbox.bind_ro(source, source),
    };
    if let Some(output) = &build.output {
        sandbox = sandbox.bind(output, output);
    }
    Ok(sandbox
        .rlimit(Resource::Core, Rlimit::fixed(0))
        .rlimit(Resource::FileSize, Rlimit::fixed(8 * GIB)))
}

fn command(build: &Build) -> Result<Command> {
    let (program, arguments) = build.command.split_at(1);
    let command = sandbox(build)?.command(&program[0]).args(arguments);
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    Ok(command
        .env_clear()
        .env("PATH", path)
        .env("HOME", "/tmp")
        .current_dir(&build.source)
        .die_with_parent())
}

fn main() -> ExitCode {
    let build = match parse() {
        Ok(build) => build,
        Err(error) => {
            eprintln!("build_sandbox: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut child = match command(&build).and_then(|command| command.spawn()) {
        Ok(child) => child,
        Err(error) => return failed(&error),
    };
    match child.wait_timeout(build.timeout) {
        Ok(Some(status)) => exit_as(status),
        Ok(None) => {
            eprintln!("build_sandbox: not done after {:?}", build.timeout);
            // Asks the build to end, then kills the whole pid namespace.
            match child.shutdown(SIGTERM, GRACE) {
                Ok(_) => ExitCode::from(TIMED_OUT),
                Err(error) => failed(&error),
            }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &ringfence::Error) -> ExitCode {
    eprintln!("build_sandbox: {error:#}");
    ExitCode::FAILURE
}
