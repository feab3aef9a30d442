//! Short ways to run something in a sandbox and to look at it from outside.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "every test binary uses a part of this"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test fails by a panic"
)]

use std::fs;
use std::io::{Read, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ringfence::{Child, Command, Engine, Kind, Namespaces, Rootfs, Sandbox, Stdio};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use crate::common::{require, sys};

pub(crate) mod signal;

/// All ways to make a child.
pub(crate) const ENGINES: [Engine; 4] = [Engine::Auto, Engine::Clone3, Engine::Clone, Engine::Fork];

/// Whether new namespaces need no user namespace.
pub(crate) fn is_privileged() -> bool {
    require::root().is_ok()
}

/// With a user namespace where the caller cannot do without.
pub(crate) fn sandbox() -> Sandbox {
    match is_privileged() {
        true => Sandbox::new(),
        false => Sandbox::new().user(),
    }
}

/// Runs the body with all capabilities over a mount namespace of its own: as root, and as a user
/// in a user namespace.
macro_rules! with_capabilities {
    ($body:expr) => {
        $crate::common::isolated_as_both(|| {
            if !$crate::support::is_privileged() {
                $crate::common::require!(userns);
                $crate::support::enter_userns(0, rustix::thread::UnshareFlags::NEWNS);
            }
            $body
        })
    };
}
pub(crate) use with_capabilities;

/// The host's programs, read-only, in an otherwise empty root.
pub(crate) fn with_programs(sandbox: Sandbox) -> Sandbox {
    let mut sandbox = sandbox
        .mount()
        .rootfs(Rootfs::tmpfs())
        .bind_ro("/usr", "/usr");
    for dir in ["bin", "sbin", "lib", "lib32", "lib64"] {
        let path = Path::new("/").join(dir);
        sandbox = match path.read_link() {
            Ok(target) => sandbox.symlink(target, path),
            Err(_) if path.is_dir() => sandbox.bind_ro(&path, &path),
            Err(_) => sandbox,
        };
    }
    sandbox
}

/// What a shell script writes in the sandbox, on both streams.
#[track_caller]
pub(crate) fn sh(sandbox: &Sandbox, script: &str) -> String {
    stdout(&shell(sandbox, script))
}

pub(crate) fn shell(sandbox: &Sandbox, script: &str) -> Command {
    sandbox
        .clone()
        .command("/bin/sh")
        .args(["-c", &format!("exec 2>&1; {script}")])
}

/// What a command writes to standard output, without the newline at the end.
#[track_caller]
pub(crate) fn stdout(command: &Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{error:?}"));
    let mut text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {text}", output.status);
    text.truncate(text.trim_end_matches('\n').len());
    text
}

/// A program that waits, to be looked at; ended when dropped.
#[derive(Debug)]
pub(crate) struct Waiting(Child);

impl Waiting {
    #[track_caller]
    pub(crate) fn start(sandbox: &Sandbox) -> Self {
        Self::of(Self::command(sandbox))
    }

    /// The command that [`start`](Self::start) runs, for more to be added: it copies
    /// its standard input to its standard output, which are pipes.
    pub(crate) fn command(sandbox: &Sandbox) -> Command {
        sandbox.clone().command("/bin/cat")
    }

    /// Returns when the program runs: the kernel lets the caller go on when exec can no longer
    /// fail, a moment before it closes descriptors and sets the name.
    #[track_caller]
    pub(crate) fn of(command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .kill_on_drop()
            .spawn()
            .unwrap_or_else(|error| panic!("{error:?}"));
        let mut byte = [0];
        child.stdin.as_ref().unwrap().write_all(b"?").unwrap();
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut byte)
            .unwrap();
        Self(child)
    }
}

impl Deref for Waiting {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Waiting {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// Ids and gids of a new user namespace for this process, which must have one thread: it is
/// `inside` there.
pub(crate) fn enter_userns(inside: u32, others: UnshareFlags) {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER | others).unwrap();
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{inside} {uid} 1")),
        ("gid_map", format!("{inside} {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text).unwrap();
    }
}

/// A file of one's own as a C string would be: the bytes up to the first NUL.
pub(crate) fn text_of(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref())
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// Process 1 of a pid namespace with its own `/proc`, and no other process in it.
pub(crate) fn in_quiet_place(body: impl FnOnce()) {
    use rustix::mount::{MountFlags, mount};
    use rustix::thread::UnshareFlags;
    let new = UnshareFlags::NEWPID | UnshareFlags::NEWNS;
    match is_privileged() {
        true => crate::common::sys::unshare(new).unwrap(),
        false => enter_userns(0, new),
    }
    let status = crate::common::in_forked_child(|| {
        mount("proc", "/proc", "proc", MountFlags::empty(), None).unwrap();
        body();
        0
    });
    assert!(status.success(), "{status}");
}
