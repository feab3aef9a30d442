//! The census sees what is left behind, and nothing else.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::mount::{MountFlags, mount};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, chdir, getrlimit, pidfd_open,
    set_dumpable_behavior, setrlimit,
};
use rustix::thread::UnshareFlags;
use tempfile::TempDir;

use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated, isolated_as_both, probe, require, sys};

/// What the action changes, as a report.
fn change<T>(action: impl FnOnce() -> T) -> (String, T) {
    let before = Census::take();
    let result = action();
    (before.difference(&Census::take()), result)
}

#[test]
fn nothing_done_is_no_change() {
    isolated_as_both(|| {
        let (report, ()) = change(|| ());
        assert_eq!(report, "");
    });
}

#[test]
fn what_is_given_back_is_no_change() {
    isolated_as_both(|| {
        let dir = TempDir::new().unwrap();
        let before = Census::take().with_files(dir.path());
        for _ in 0..3 {
            let file = dir.path().join("file");
            fs::write(&file, vec![1; 1 << 20]).unwrap();
            fs::remove_file(&file).unwrap();
            assert!(Command::new("/bin/true").status().unwrap().success());
            let strings: Vec<_> = (0..10_000).map(|n| n.to_string()).collect();
            drop(strings);
        }
        assert_same(&before, &Census::take().with_files(dir.path()));
    });
}

#[test]
fn a_descriptor_is_seen_and_its_flags() {
    isolated_as_both(|| {
        let (report, file) = change(|| File::open("/dev/null").unwrap());
        assert!(
            report.starts_with(&format!(
                "fds:\n  + {} -> /dev/null flags ",
                file.as_raw_fd()
            )),
            "{report}"
        );
        assert_eq!(report.lines().count(), 2, "{report}");

        let flags = fcntl_getfd(&file).unwrap();
        let (report, ()) = change(|| fcntl_setfd(&file, flags - FdFlags::CLOEXEC).unwrap());
        assert_eq!(report.lines().count(), 3, "{report}");
    });
}

#[test]
fn a_child_is_seen_alive_and_as_a_zombie() {
    isolated_as_both(|| {
        let (report, mut child) = change(|| {
            let child = Command::new("/bin/cat")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            // Until the call of execve has ended it has another name.
            let called = |process: probe::Process| process.comm == "cat";
            while !probe::Process::read(child.id()).is_some_and(called) {
                std::thread::yield_now();
            }
            child
        });
        assert!(
            report.contains(&format!("children:\n  + {} (cat) alive\n", child.id())),
            "{report}"
        );

        let before = Census::take();
        drop(child.stdin.take());
        let pid = rustix::process::Pid::from_child(&child);
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), ended).unwrap();
        let report = before.difference(&Census::take());
        assert!(
            report.contains(&format!("  + {} (cat) zombie\n", child.id())),
            "{report}"
        );
        child.wait().unwrap();
        assert_eq!(Census::take().section("children"), [""; 0]);
    });
}

#[test]
fn a_zombie_made_by_clone3_is_seen() {
    isolated_as_both(|| {
        require!(userns);
        let (report, pid) = change(|| {
            let kinds = libc::CLONE_NEWUSER | libc::CLONE_NEWPID;
            let pid = sys::clone3_vfork(kinds, || 0).unwrap();
            // vfork comes back before that.
            let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
            assert!(probe::ends_within(pidfd, Duration::from_secs(20)));
            pid
        });
        assert_eq!(
            report,
            format!("children:\n  + {pid} (leaks::a_zombie) zombie\n"),
            "{report}"
        );
        // What tells it where /proc does not.
        assert_eq!(sys::unreaped_child(), Some(pid));
        isolated::wait_for(pid);
        assert_eq!(sys::unreaped_child(), None);
    });
}

#[test]
fn a_thread_and_its_stack_are_seen() {
    isolated_as_both(|| {
        let (end, wait) = mpsc::channel::<()>();
        let (report, thread) = change(|| std::thread::spawn(move || wait.recv()));
        assert!(report.contains("\nthreads:\n  + "), "{report}");
        assert!(report.contains("maps:\n"), "{report}");
        drop(end);
        thread.join().unwrap().unwrap_err();
    });
}

#[test]
fn a_large_allocation_is_seen() {
    isolated_as_both(|| {
        let (report, _block) = change(|| vec![0_u8; 1 << 20]);
        assert!(report.starts_with("maps:\n"), "{report}");
    });
}

#[test]
fn a_mount_and_a_namespace_are_seen() {
    isolated_as_both(|| {
        require!(userns);
        let point = TempDir::new().unwrap();
        let target = point.path();
        let user = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
        let (report, ()) = change(|| sys::unshare(user).unwrap());
        assert!(report.contains("namespaces:\n"), "{report}");
        assert!(report.contains("  + user user:["), "{report}");

        let (report, ()) =
            change(|| mount(c"none", target, c"tmpfs", MountFlags::empty(), None).unwrap());
        assert_eq!(report.lines().count(), 2, "{report}");
        assert!(report.starts_with("mounts:\n  + "), "{report}");
        assert!(report.contains(target.to_str().unwrap()), "{report}");
        rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn a_network_device_is_seen() {
    isolated(|| {
        require!(root, netns, program("ip"));
        sys::unshare(UnshareFlags::NEWNET).unwrap();
        let before = Census::take();
        assert_eq!(before.section("links"), ["lo"]);
        let mut ip = Command::new("ip");
        ip.args(["link", "add", "one", "type", "veth", "peer", "name", "two"]);
        assert!(ip.status().unwrap().success());
        let report = before.difference(&Census::take());
        assert_eq!(report, "links:\n  + two\n  + one\n");
    });
}

#[test]
fn the_callers_own_state_is_seen() {
    isolated_as_both(|| {
        let (report, _) = change(|| rustix::process::umask(Mode::RWXU));
        assert!(report.contains("status:\n  - Umask:"), "{report}");

        let (report, ()) = change(|| chdir("/proc").unwrap());
        assert_eq!(report.lines().last().unwrap(), "  + cwd /proc", "{report}");

        let (report, ()) = change(|| set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap());
        assert!(report.contains("  + dumpable Ok(NotDumpable)"), "{report}");
        set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();

        let limit = getrlimit(Resource::Core);
        let (report, ()) = change(|| {
            setrlimit(
                Resource::Core,
                Rlimit {
                    current: Some(1),
                    ..limit
                },
            )
            .unwrap()
        });
        assert!(
            report.starts_with("rlimits:\n  - Max core file size"),
            "{report}"
        );

        let (report, ()) = change(|| rustix::thread::set_keep_capabilities(true).unwrap());
        assert!(report.contains("  + keepcaps Ok(true)"), "{report}");
    });
}

#[test]
fn what_is_done_on_a_signal_is_seen() {
    isolated(|| {
        // The standard library ignores SIGPIPE.
        let ignored = format!("signal {}: handler {:#x} ", libc::SIGPIPE, libc::SIG_IGN);
        let census = Census::take();
        let signals = census.section("signals");
        assert!(
            signals.iter().any(|line| line.starts_with(&ignored)),
            "{signals:?}"
        );
    });
}

#[test]
fn a_file_is_seen() {
    isolated_as_both(|| {
        let dir = TempDir::new().unwrap();
        let before = Census::take().with_files(dir.path());
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "text").unwrap();
        let report = before.difference(&Census::take().with_files(dir.path()));
        assert_eq!(report, "files:\n  + sub/\n  + sub/file 4 bytes\n");
    });
}

#[test]
fn sections_can_be_left_out() {
    isolated(|| {
        let before = Census::take().without(&["fds"]);
        let _file = File::open("/dev/null").unwrap();
        assert_same(&before, &Census::take());
    });
}

#[test]
#[should_panic(expected = "the process is not as it was:\nfds:\n  + ")]
fn a_difference_fails_the_test() {
    isolated(|| {
        let before = Census::take();
        let _file = File::open("/dev/null").unwrap();
        assert_same(&before, &Census::take());
    });
}
