//! Where the second stage cannot be a program of its own, it is a forked child.

use super::{assert_forked, is_own_program, require_stage, sandbox};
use crate::common::{in_forked_child, isolated, require, seccomp, sys};
use ringfence::Stdio;
use rustix::thread::UnshareFlags;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// `vm.memfd_noexec` belongs to the pid namespace.
fn with_noexec(level: &str, body: impl FnOnce()) {
    sys::unshare(UnshareFlags::NEWPID).unwrap();
    let status = in_forked_child(|| {
        std::fs::write("/proc/sys/vm/memfd_noexec", level).unwrap();
        body();
        0
    });
    assert!(status.success(), "{status}");
}

#[test]
fn executable_memfds_are_forbidden() {
    isolated(|| {
        require!(root, kernel(6, 3));
        with_noexec("2", || {
            assert_forked(&sandbox());
            let command = sandbox().command("/bin/sh").args(["-c", "exit 7"]);
            assert_eq!(command.status().unwrap().code(), Some(7));
        });
    });
}

#[test]
fn memfds_are_not_executable_unless_asked_for() {
    isolated(|| {
        require!(root, kernel(6, 3));
        require_stage!();
        with_noexec("1", || {
            assert!(is_own_program(&sandbox()));
            assert!(sandbox().command("/bin/true").status().unwrap().success());
        });
    });
}

#[test]
fn a_filter_hides_memfd_create() {
    isolated(|| {
        require!(userns);
        seccomp::deny(&[(libc::SYS_memfd_create, libc::ENOSYS)]).unwrap();
        assert_forked(&sandbox());
        assert!(sandbox().command("/bin/true").status().unwrap().success());
    });
}

/// While it runs, the kernel lets nobody write to it.
#[test]
fn the_program_cannot_be_changed_from_inside() {
    isolated(|| {
        require!(userns);
        require_stage!();
        let script = "echo x >> /proc/1/exe; echo x > /proc/1/exe; cat /proc/1/exe | head -c 4";
        let output = sandbox()
            .user_map(ringfence::IdMap::root())
            .mount()
            .proc("/proc")
            .command("/bin/sh")
            .args(["-c", script])
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"\x7fELF");
        let refused = String::from_utf8_lossy(&output.stderr);
        assert_eq!(refused.matches("/proc/1/exe").count(), 2, "{refused}");
    });
}

/// Whoever has it open waits until nobody executes it, as runc's CVE-2019-5736 does: the next program would be
/// started by what was written.
#[test]
fn the_program_cannot_be_changed_when_it_does_not_run() {
    isolated(|| {
        require!(root);
        require_stage!();
        let plan = sandbox().command("/bin/cat").stdin(Stdio::piped());
        let plan = plan.compile().unwrap();
        let mut child = plan.spawn().unwrap();
        let open = File::open(format!("/proc/{}/exe", child.id())).unwrap();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        let path = format!("/proc/self/fd/{}", open.as_raw_fd());
        let before = fs::read(&path).unwrap();
        assert!(before.starts_with(b"\x7fELF"));
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for refused in [
            file.write_at(b"evil", 0).map(drop),
            file.set_len(0),
            file.set_len(1 << 20),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
        drop(file);
        let mut child = plan.spawn().unwrap();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    });
}
