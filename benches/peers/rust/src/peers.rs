//! Each crate with the isolation of [`crate::sandbox`], or with some kinds of it.
#![allow(unsafe_code, reason = "pre_exec is unsafe")]

use crate::standard;
use std::path::Path;
use unshare::{GidMap, Namespace, UidMap};

const UNSHARE: [(libc::c_int, Namespace); 5] = [
    (libc::CLONE_NEWNS, Namespace::Mount),
    (libc::CLONE_NEWPID, Namespace::Pid),
    (libc::CLONE_NEWUTS, Namespace::Uts),
    (libc::CLONE_NEWIPC, Namespace::Ipc),
    (libc::CLONE_NEWCGROUP, Namespace::Cgroup),
];

pub(crate) fn unshare(kinds: libc::c_int, program: &Path) -> unshare::Command {
    let mut command = unshare::Command::new(program);
    let chosen = UNSHARE.iter().filter(|(kind, _)| kinds & kind != 0);
    command.unshare(chosen.map(|(_, namespace)| namespace));
    if kinds & libc::CLONE_NEWUSER != 0 {
        let uid = UidMap {
            inside_uid: 0,
            outside_uid: rustix::process::geteuid().as_raw(),
            count: 1,
        };
        let gid = GidMap {
            inside_gid: 0,
            outside_gid: rustix::process::getegid().as_raw(),
            count: 1,
        };
        command.set_id_maps(vec![uid], vec![gid]);
    }
    if kinds & libc::CLONE_NEWNS != 0 {
        // SAFETY: one system call.
        unsafe { command.pre_exec(standard::make_private) };
    }
    command
}

pub(crate) fn run_unshare(command: &mut unshare::Command) {
    let status = command.status().expect("the sandbox starts");
    assert!(status.success());
}

/// In a root of its own, as it always is with a mount namespace: the directory of the program.
#[cfg(feature = "hakoniwa")]
pub(crate) fn hakoniwa(kinds: libc::c_int, program: &Path) -> hakoniwa::Command {
    use hakoniwa::{Container, Namespace};
    let all = [
        (libc::CLONE_NEWUSER, Namespace::User),
        (libc::CLONE_NEWNS, Namespace::Mount),
        (libc::CLONE_NEWPID, Namespace::Pid),
        (libc::CLONE_NEWUTS, Namespace::Uts),
        (libc::CLONE_NEWIPC, Namespace::Ipc),
        (libc::CLONE_NEWCGROUP, Namespace::Cgroup),
    ];
    let mut container = Container::empty();
    for (_, namespace) in all.into_iter().filter(|(kind, _)| kinds & kind != 0) {
        container.unshare(namespace);
    }
    if kinds & libc::CLONE_NEWUSER != 0 {
        container.uidmap(0).gidmap(0);
    }
    let mut path = program.to_path_buf();
    if kinds & libc::CLONE_NEWNS != 0 {
        container.rootdir(program.parent().expect("a file is in a directory"));
        path = Path::new("/").join(program.file_name().expect("the program is a file"));
    }
    container.command(&path.to_string_lossy())
}

#[cfg(feature = "hakoniwa")]
pub(crate) fn run_hakoniwa(command: &mut hakoniwa::Command) {
    let status = command.status().expect("the sandbox starts");
    assert!(status.success(), "{}", status.reason);
}
