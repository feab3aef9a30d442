//! The floor: the calls alone, each on the kind of thread or process that it needs.
#![allow(
    unsafe_code,
    reason = "unshare and clone are called raw, apart from the crate"
)]

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::{UnshareFlags, move_into_link_name_space, unshare_unsafe};

pub(crate) fn open(path: &str) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("/proc")
}

fn unshare(flags: UnshareFlags) {
    // SAFETY: only CLONE_FILES is unsafe, and nobody passes that.
    unsafe { unshare_unsafe(flags) }.expect("privilege");
}

fn on_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(run).join()).expect("no panic")
}

/// A new namespace, made by a thread that ends.
pub(crate) fn create(flag: UnshareFlags, link: &str) -> OwnedFd {
    on_thread(|| {
        unshare(flag);
        if flag == UnshareFlags::NEWNS {
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).expect("privilege");
        }
        open(&format!("/proc/thread-self/ns/{link}"))
    })
}

/// A thread that enters a namespace and ends.
pub(crate) fn enter(namespace: &OwnedFd, fs: bool) {
    on_thread(|| {
        if fs {
            unshare(UnshareFlags::FS);
        }
        move_into_link_name_space(namespace.as_fd(), None).expect("privilege");
    });
}

/// A new user or pid namespace, by a forked child that is held until it has been opened.
pub(crate) fn fork(flag: libc::c_int, link: &str) -> OwnedFd {
    let (wait, mut release) = std::io::pipe().expect("a pipe");
    let flags = flag | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child has a copy of the memory, and it makes system calls only.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if child == 0 {
        let mut wait = wait;
        let _ = wait.read(&mut [0]);
        // SAFETY: takes a number and does not return.
        unsafe { libc::_exit(0) }
    }
    let child = i32::try_from(child)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a child");
    let pid = child.as_raw_pid();
    if flag == libc::CLONE_NEWUSER {
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny").expect("own child");
        std::fs::write(format!("/proc/{pid}/uid_map"), "0 0 1").expect("own child");
        std::fs::write(format!("/proc/{pid}/gid_map"), "0 0 1").expect("own child");
    }
    let namespace = open(&format!("/proc/{pid}/ns/{link}"));
    release.write_all(b"!").expect("the child reads");
    let _ = rustix::process::kill_process(child, Signal::KILL);
    rustix::process::waitpid(Some(child), WaitOptions::empty()).expect("own child");
    namespace
}
