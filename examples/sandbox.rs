//! Runs a command in a sandbox of its own: all eight namespaces, a root of its own.
//!
//! ```text
//! cargo run --example sandbox -- sh -c 'id; hostname; ps; ip addr; cat /proc/self/uid_map'
//! cargo run --example sandbox -- --rootfs /srv/debian /bin/bash
//! cargo run --example sandbox -- --plan true
//! ```
//!
//! Without `--rootfs` the root is an empty tmpfs with the host's programs and libraries bound
//! read-only. `--plan` prints what would be done, and does nothing.

use ringfence::{IdMap, Rootfs, Sandbox};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: sandbox [--plan] [--rootfs DIR] [--] COMMAND [ARG ...]";

struct Arguments {
    plan_only: bool,
    rootfs: Option<PathBuf>,
    command: Vec<OsString>,
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let mut parsed = Arguments {
        plan_only: false,
        rootfs: None,
        command: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--plan") => parsed.plan_only = true,
            Some("--rootfs") => parsed.rootfs = Some(args.next()?.into()),
            Some("--") => break,
            Some(option) if option.starts_with('-') => return None,
            _ => {
                parsed.command.push(arg);
                break;
            }
        }
    }
    parsed.command.extend(args);
    Some(parsed)
}

/// The host's programs, libraries and the configuration that they need, and nothing else.
fn host_programs(mut sandbox: Sandbox) -> Sandbox {
    sandbox = sandbox.rootfs(Rootfs::tmpfs()).bind_ro("/usr", "/usr");
    for dir in ["bin", "sbin", "lib", "lib32", "lib64"] {
        let path = Path::new("/").join(dir);
        sandbox = match path.read_link() {
            Ok(target) => sandbox.symlink(target, path),
            Err(_) if path.is_dir() => sandbox.bind_ro(&path, &path),
            Err(_) => sandbox,
        };
    }
    for file in [
        "/etc/passwd",
        "/etc/group",
        "/etc/ld.so.cache",
        "/etc/alternatives",
    ] {
        if Path::new(file).exists() {
            sandbox = sandbox.bind_ro(file, file);
        }
    }
    sandbox.tmpfs("/tmp")
}

fn main() -> ExitCode {
    let arguments = parse(std::env::args_os().skip(1));
    let Some((arguments, (program, args))) = arguments
        .as_ref()
        .and_then(|arguments| Some((arguments, arguments.command.split_first()?)))
    else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let sandbox = Sandbox::new()
        .all()
        .user_map(IdMap::root())
        .hostname("ringfence");
    let sandbox = match &arguments.rootfs {
        Some(dir) => sandbox.rootfs(Rootfs::dir(dir)),
        None => host_programs(sandbox),
    };
    let command = sandbox
        .proc("/proc")
        .dev("/dev")
        .command(program)
        .args(args)
        .die_with_parent();
    let result = command.compile().and_then(|plan| {
        if arguments.plan_only {
            println!("{plan}");
            return Ok(None);
        }
        plan.spawn()?.wait().map(Some)
    });
    match result {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(status)) => {
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("sandbox: {error:?}");
            ExitCode::from(125)
        }
    }
}
