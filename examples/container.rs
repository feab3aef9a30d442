//! A container: an overlay over a root file system, written to and thrown away.
//!
//! ```text
//! cargo run --example container                                # a root made of the host's busybox
//! cargo run --example container -- --rootfs /srv/debian        # a shell in a real distribution
//! cargo run --example container -- --rootfs /srv/debian --upper /srv/changes --work /srv/work apt update
//! ```
//!
//! Without `--upper` and `--work`, what the command writes is kept in memory and gone with it. It needs no
//! privilege; root's files of the lower directory that are not the caller's belong to `nobody` then.

use ringfence::{IdMap, MountLock, Overlay, Rootfs, Sandbox};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str =
    "usage: container [--rootfs DIR] [--upper DIR --work DIR] [--] [COMMAND [ARG ...]]";

/// What the demonstration does in the container when no command is given.
const DEMONSTRATION: &str = r#"
echo "inside: $(id -un) on $(hostname), $(ls /bin | wc -l) programs, process $$"
echo changed > /etc/motd
rm -f /bin/vi && touch /new
echo "inside: /etc/motd says $(cat /etc/motd); /new is there; vi is gone: $(ls /bin/vi 2>&1)"
echo "inside: the root is $(grep ' / / ' /proc/self/mountinfo | sed 's/.* - //; s/ .*//')"
umount /proc 2>/dev/null || echo "inside: root cannot unmount what was mounted for it"
"#;

#[derive(Default)]
struct Arguments {
    rootfs: Option<PathBuf>,
    upper: Option<PathBuf>,
    work: Option<PathBuf>,
    command: Vec<OsString>,
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let mut parsed = Arguments::default();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--rootfs") => parsed.rootfs = Some(args.next()?.into()),
            Some("--upper") => parsed.upper = Some(args.next()?.into()),
            Some("--work") => parsed.work = Some(args.next()?.into()),
            Some("--") => break,
            Some(option) if option.starts_with('-') => return None,
            _ => {
                parsed.command.push(arg);
                break;
            }
        }
    }
    parsed.command.extend(args);
    (parsed.upper.is_some() == parsed.work.is_some()).then_some(parsed)
}

/// A root with nothing but a statically linked busybox, under all its names.
fn busybox_root(at: &Path) -> io::Result<()> {
    for dir in ["bin", "dev", "etc", "proc", "tmp"] {
        std::fs::create_dir(at.join(dir))?;
    }
    std::fs::copy("/bin/busybox", at.join("bin/busybox"))?;
    let names = Command::new("/bin/busybox").arg("--list").output()?;
    for name in String::from_utf8_lossy(&names.stdout).lines() {
        if name != "busybox" {
            symlink("busybox", at.join("bin").join(name))?;
        }
    }
    std::fs::write(at.join("etc/motd"), "as it was\n")?;
    std::fs::write(at.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n")
}

fn run(arguments: &Arguments, rootfs: &Path) -> ringfence::Result<i32> {
    let lower = Overlay::new(rootfs);
    let overlay = match (&arguments.upper, &arguments.work) {
        (Some(upper), Some(work)) => lower.upper(upper, work),
        _ => lower.throwaway(),
    };
    let sandbox = Sandbox::new()
        .all()
        .user_map(IdMap::root())
        .hostname("container")
        .rootfs(Rootfs::overlay(overlay))
        .proc("/proc")
        .dev("/dev")
        .tmpfs("/tmp")
        .lock_mounts(MountLock::Nested);
    let command = match arguments.command.split_first() {
        Some((program, args)) => sandbox.command(program).args(args),
        None if arguments.rootfs.is_some() => sandbox.command("/bin/sh"),
        None => sandbox.command("/bin/sh").args(["-c", DEMONSTRATION]),
    };
    let status = command
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .die_with_parent()
        .status()?;
    Ok(status.code().unwrap_or(1))
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let made = match tempfile::tempdir() {
        Ok(dir) => dir,
        Err(error) => {
            eprintln!("container: {error}");
            return ExitCode::from(125);
        }
    };
    let rootfs = arguments.rootfs.as_deref().unwrap_or(made.path());
    if arguments.rootfs.is_none()
        && let Err(error) = busybox_root(rootfs)
    {
        eprintln!("container: a root of /bin/busybox: {error}");
        return ExitCode::from(125);
    }
    match run(&arguments, rootfs) {
        Ok(code) => {
            if arguments.rootfs.is_none() {
                let motd = std::fs::read_to_string(rootfs.join("etc/motd")).unwrap_or_default();
                let new = rootfs.join("new").exists();
                println!(
                    "outside: /etc/motd says {}; /new exists: {new}",
                    motd.trim()
                );
            }
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("container: {error:?}");
            ExitCode::from(125)
        }
    }
}
