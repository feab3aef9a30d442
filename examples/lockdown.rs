//! A container as it should be, around the host's programs: what a program that is not trusted gets.
//!
//! ```text
//! cargo run --example lockdown
//! cargo run --example lockdown -- --plan
//! cargo run --example lockdown -- sh -c 'unshare -m true; mount -t tmpfs none /tmp'
//! ```
//!
//! Without a command it shows what the kernel says of a program in it.

use ringfence::lockdown::{Resource, Rlimit};
use ringfence::{Command, Rootfs, Sandbox};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

const DEMONSTRATION: &str = r#"
grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status
unshare --mount true 2>&1
(echo 1 > /proc/sys/kernel/hostname) 2>&1
wc -c < /proc/interrupts
"#;

fn sandbox() -> ringfence::Result<Sandbox> {
    let mut sandbox = Sandbox::container(Rootfs::tmpfs().read_only())?
        .hostname("container")
        .bind_ro("/usr", "/usr")
        .tmpfs("/tmp")
        .rlimit(Resource::Processes, Rlimit::fixed(64))
        .rlimit(Resource::Core, Rlimit::fixed(0));
    for name in ["/bin", "/sbin", "/lib", "/lib64"] {
        sandbox = match Path::new(name).read_link() {
            Ok(target) => sandbox.symlink(target, name),
            Err(_) => sandbox.bind_ro_try(name, name),
        };
    }
    Ok(sandbox)
}

fn command(sandbox: Sandbox, mut args: Vec<OsString>) -> Command {
    if args.is_empty() {
        args = ["sh", "-c", DEMONSTRATION].map(OsString::from).into();
    }
    let program = args.remove(0);
    let command = sandbox.command(program).args(args).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("LC_ALL", "C")
}

fn main() -> ringfence::Result<ExitCode> {
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    let only_plan = args.first().is_some_and(|arg| arg == "--plan");
    if only_plan {
        args.remove(0);
    }
    let command = command(sandbox()?, args);
    if only_plan {
        println!("{}", command.compile()?);
        return Ok(ExitCode::SUCCESS);
    }
    let status = command.status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
