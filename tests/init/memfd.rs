//! Where the second stage cannot be a program of its own, it is a forked child.

use super::{assert_forked, is_own_program, require_stage, sandbox};
use crate::common::{in_forked_child, isolated, require, seccomp, sys};
use rustix::thread::UnshareFlags;

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

#[test]
fn the_program_cannot_be_changed() {
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
