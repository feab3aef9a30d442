//! What a hostile process tries on another one.
#![allow(unsafe_code, reason = "ptrace and process_vm_readv take pointers")]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// What the caller has in its memory and must not be seen inside. Forked processes have it at the same address.
pub(super) static SECRET: [u8; 24] = *b"the caller's own secret\0";

/// Everything that lets one process look into another or take something from it. Returns what worked.
pub(super) fn attack(pid: i32) -> Vec<String> {
    let_go(libc::WNOHANG);
    let mut got = Vec::new();
    let proc = |name: &str| format!("/proc/{pid}/{name}");
    let exe = || fs::read_link(proc("exe")).unwrap_or_default();
    for name in ["exe", "root", "cwd", "environ", "maps", "mem"] {
        let Ok(mut file) = File::open(proc(name)) else {
            continue;
        };
        let mut text = Vec::new();
        match name {
            "mem" => {
                let mut bytes = [0; SECRET.len()];
                let at = SECRET.as_ptr().addr() as u64;
                let read = file.read_exact_at(&mut bytes, at);
                if read.is_ok() && bytes == SECRET {
                    got.push("mem holds the secret".into());
                }
            }
            "environ" | "maps" => drop(file.read_to_end(&mut text)),
            _ => {}
        }
        let text = String::from_utf8_lossy(&text).replace('\0', " ");
        got.push(format!("{name} of {:?}: {text:.200}", exe()));
    }
    if let Ok(entries) = fs::read_dir(proc("fd")) {
        // Their numbers are no secret, what they stand for is.
        for path in entries.flatten().map(|entry| entry.path()) {
            if let Ok(link) = fs::read_link(&path) {
                got.push(format!("{path:?} -> {link:?}"));
            }
            if File::open(&path).is_ok() {
                got.push(format!("{path:?} opened"));
            }
        }
    }
    if let Some(bytes) = read_memory(pid) {
        let whose = if bytes == SECRET {
            "the secret"
        } else {
            "something"
        };
        got.push(format!("process_vm_readv gives {whose}"));
    }
    if seize(pid) {
        got.push(format!("ptrace of {:?}", exe()));
    }
    for (number, fd) in descriptors(pid) {
        let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        got.push(format!("pidfd_getfd of {number}: {link:?}"));
    }
    got
}

/// Who is traced is not seen to end before the tracer has looked, and who has stopped late stays so. Of those that
/// nobody else holds none is traced any more, if this waits for them.
pub(super) fn let_go(options: i32) {
    loop {
        // SAFETY: no status is asked for.
        let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL | options) };
        if pid <= 0 {
            return;
        }
        // SAFETY: takes no pointers; it fails for one that has ended.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
    }
}

fn read_memory(pid: i32) -> Option<[u8; SECRET.len()]> {
    let mut bytes = [0_u8; SECRET.len()];
    let local = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: SECRET.as_ptr().cast_mut().cast(),
        iov_len: SECRET.len(),
    };
    // SAFETY: the local buffer has that length; the kernel checks the remote one.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    (read > 0).then_some(bytes)
}

/// Attaches, and detaches if the process stops for that within reason: one that is held at a system call by
/// others does not.
fn seize(pid: i32) -> bool {
    let ptrace = |request| {
        // SAFETY: these requests take no pointers.
        unsafe { libc::ptrace(request, pid, 0, 0) }
    };
    if ptrace(libc::PTRACE_SEIZE) != 0 {
        return false;
    }
    ptrace(libc::PTRACE_INTERRUPT);
    for _ in 0..1000 {
        let options = libc::__WALL | libc::WNOHANG;
        // SAFETY: no status is asked for.
        if unsafe { libc::waitpid(pid, std::ptr::null_mut(), options) } == pid {
            ptrace(libc::PTRACE_DETACH);
            break;
        }
        std::thread::yield_now();
    }
    true
}

/// What can be taken from its table, with the numbers there.
pub(super) fn descriptors(pid: i32) -> Vec<(i32, OwnedFd)> {
    let pidfd = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(pidfd) = pidfd else {
        return Vec::new();
    };
    let take = |number| pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok();
    (0..24)
        .filter_map(|number| Some((number, take(number)?)))
        .collect()
}
