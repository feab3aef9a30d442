//! A sandbox that a shell runs in, and what that shell sees.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::Path;
use std::process::Output;

use ringfence::{IdMap, Rootfs, Sandbox};

use crate::common::seccomp;

/// All namespaces that the mounts of the tests need, with the caller as root inside.
pub(crate) fn namespaces() -> Sandbox {
    Sandbox::new()
        .user()
        .mount()
        .pid()
        .net()
        .ipc()
        .cgroup()
        .user_map(IdMap::root())
}

/// The host's programs and libraries in a root, for `/bin/sh`.
pub(crate) fn programs(sandbox: Sandbox) -> Sandbox {
    let mut sandbox = sandbox.bind_ro("/usr", "/usr");
    for dir in ["bin", "sbin", "lib", "lib64"] {
        let path = Path::new("/").join(dir);
        sandbox = match path.read_link() {
            Ok(target) => sandbox.symlink(target, path),
            Err(_) => sandbox.bind_ro_try(&path, &path),
        };
    }
    sandbox
}

/// A root in memory with the host's programs, a procfs and a /dev.
pub(crate) fn in_tmpfs() -> Sandbox {
    programs(namespaces().rootfs(Rootfs::tmpfs()))
        .proc("/proc")
        .dev("/dev")
}

/// Runs a script; it must succeed, and say nothing on its standard error.
#[track_caller]
pub(crate) fn sh(sandbox: &Sandbox, script: &str) -> String {
    let output = try_sh(sandbox, script).unwrap();
    let (out, err) = texts(&output);
    assert!(
        output.status.success() && err.is_empty(),
        "{script}: {}\n{out}{err}",
        output.status
    );
    out
}

/// `! command` is no failure to a shell that ends at failures, so what must fail is run by this.
const PRELUDE: &str = r#"refused() { if "$@" 2>/dev/null; then echo "not refused: $*"; fi; }
"#;

pub(crate) fn try_sh(sandbox: &Sandbox, script: &str) -> ringfence::Result<Output> {
    sandbox
        .clone()
        .command("/bin/sh")
        .env("LC_ALL", "C")
        .args(["-euc", &format!("{PRELUDE}{script}")])
        .output()
}

pub(crate) fn texts(output: &Output) -> (String, String) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// The per-mount options of each mount point inside, the last one mounted there winning.
#[track_caller]
pub(crate) fn options(sandbox: &Sandbox, point: &str) -> Vec<String> {
    let table = sh(sandbox, "cat /proc/self/mountinfo");
    let line = table
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(point))
        .unwrap_or_else(|| panic!("nothing is mounted at {point}:\n{table}"));
    let options = line.split(' ').nth(5).unwrap_or_default();
    options.split(',').map(str::to_owned).collect()
}

/// What the kernel and the filters in front of it offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    New,
    /// As before Linux 5.12.
    WithoutSetattr,
    /// As behind a filter that knows mount(2) only.
    Classic,
}

impl Kernel {
    pub(crate) fn pretend(self) {
        let six = [
            libc::SYS_mount_setattr,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
        ];
        let missing: &[libc::c_long] = match self {
            Self::New => &[],
            Self::WithoutSetattr => &six[..1],
            Self::Classic => &six,
        };
        let denied: Vec<_> = missing.iter().map(|&call| (call, libc::ENOSYS)).collect();
        if !denied.is_empty() {
            seccomp::deny(&denied).unwrap();
        }
    }
}
