//! The injector makes exactly the call fail that it is told to, sees every call, and ends.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use tempfile::TempDir;

use crate::common::faults::{Faults, syscalls, window};
use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated, isolated_as_both, probe, require, sys};

/// EXDEV is an error that none of these calls gives of itself.
const INJECTED: i32 = libc::EXDEV;

fn open(path: &std::ffi::CStr) -> Result<(), Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(drop)
}

/// Starts a child as the crate does, which mounts and opens, and ends with the number of the step
/// that failed with the injected error, or 0.
fn spawn(target: &std::ffi::CStr) -> io::Result<i32> {
    let child = sys::clone3_vfork(libc::CLONE_NEWUSER | libc::CLONE_NEWNS, || {
        let tmpfs = || mount(c"none", target, c"tmpfs", MountFlags::empty(), None);
        let steps: [&dyn Fn() -> Result<(), Errno>; 4] =
            [&tmpfs, &|| open(c"/dev/null"), &tmpfs, &|| {
                open(c"/proc/self/status")
            }];
        for (number, step) in (1..).zip(steps) {
            match step() {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == INJECTED => return number,
                Err(_) => return 100,
            }
        }
        0
    })?;
    Ok(isolated::wait_for(child).code().unwrap_or(-1))
}

#[test]
fn the_kth_call_of_a_vfork_child_fails() {
    isolated_as_both(|| {
        require!(seccomp_notify, userns);
        let dir = TempDir::new().unwrap();
        let target = CString::new(dir.path().as_os_str().as_bytes()).unwrap();
        let faults = Faults::new(syscalls![SYS_clone3, SYS_mount, SYS_openat]);
        let body = || {
            // Not in the window, so not counted.
            open(c"/dev/null").unwrap();
            match window(|| spawn(&target)) {
                Ok(step) => println!("step {step}"),
                Err(error) => println!("no child: {error}"),
            }
            open(c"/dev/null").unwrap();
        };

        let clean = faults.watch(body);
        assert!(clean.succeeded(), "{clean}");
        assert!(clean.output.ends_with("step 0\n"), "{clean}");
        let seen: Vec<_> = clean
            .calls
            .iter()
            .map(|call| (call.syscall.name, call.by_body))
            .collect();
        let expected = [
            ("SYS_clone3", true),
            ("SYS_mount", false),
            ("SYS_openat", false),
            ("SYS_mount", false),
            ("SYS_openat", false),
        ];
        assert_eq!(seen, expected);
        assert_eq!(clean.windows, 1);
        assert!(clean.passed >= 2, "{clean}");
        let child = clean.calls[1].pid;
        assert!(
            clean.calls[1..].iter().all(|call| call.pid == child),
            "{clean}"
        );
        assert_ne!(clean.calls[0].pid, child);

        let mut outcomes = Vec::new();
        let count = faults.sweep(INJECTED, body, |k, run| {
            assert!(run.succeeded(), "{k}: {run}");
            assert!(run.left_behind.is_empty(), "{k}: {run}");
            assert_eq!(run.calls.len(), k, "{k}: {run}");
            outcomes.push(run.output.lines().last().unwrap().to_owned());
        });
        assert_eq!(count, 5);
        let refused = io::Error::from_raw_os_error(INJECTED);
        assert_eq!(outcomes[0], format!("no child: {refused}"));
        assert_eq!(outcomes[1..], ["step 1", "step 2", "step 3", "step 4"]);
    });
}

#[test]
fn the_injector_leaves_this_process_as_it_was() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        let faults = Faults::new(syscalls![SYS_openat]);
        let body = || window(|| assert!(open(c"/dev/null").is_ok()));
        assert!(faults.watch(body).succeeded());
        let before = Census::take();
        assert!(faults.watch(body).succeeded());
        assert!(!faults.fail(1, INJECTED, body).succeeded());
        assert_same(&before, &Census::take());
    });
}

#[test]
fn another_program_is_left_alone() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        let body = || {
            let child = window(|| {
                sys::clone3_vfork(0, || {
                    if open(c"/dev/null").is_err() || open(c"/dev/null").is_err() {
                        return 1;
                    }
                    // A failed execve leaves the child the same program.
                    sys::exec(c"/no/such/program");
                    if open(c"/dev/null").is_err() {
                        return 2;
                    }
                    sys::exec(c"/bin/true");
                    3
                })
            });
            let status = isolated::wait_for(child.unwrap());
            println!("{:?}", status.code());
        };
        let faults = Faults::new(syscalls![SYS_openat, SYS_execve]);
        let clean = faults.watch(body);
        assert!(clean.output.ends_with("Some(0)\n"), "{clean}");
        let names: Vec<_> = clean.calls.iter().map(|call| call.syscall.name).collect();
        assert_eq!(
            names,
            [
                "SYS_openat",
                "SYS_openat",
                "SYS_execve",
                "SYS_openat",
                "SYS_execve"
            ]
        );
        // The dynamic loader opens libc.
        assert!(clean.passed > 0, "{clean}");
        let mut outcomes = Vec::new();
        faults.sweep(INJECTED, body, |_, run| {
            outcomes.push(run.output.lines().last().unwrap().to_owned());
        });
        assert_eq!(
            outcomes,
            ["Some(1)", "Some(1)", "Some(0)", "Some(2)", "Some(3)"]
        );
    });
}

#[test]
fn the_children_of_another_program_are_left_alone() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        let faults = Faults::new(syscalls![SYS_openat, SYS_wait4]);
        let run = faults.watch(|| {
            let mut shell = Command::new("/bin/sh");
            shell
                .args(["-c", "cat /dev/null; (cat /dev/null; exit 3)"])
                .stdin(Stdio::null());
            assert_eq!(window(|| shell.status()).unwrap().code(), Some(3));
        });
        assert!(run.succeeded(), "{run}");
        assert!(run.calls.iter().all(|call| call.by_body), "{run}");
        assert!(run.passed > 5, "{run}");
    });
}

#[test]
fn a_thread_with_a_name_counts_and_so_does_its_child() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        let faults = Faults::new(syscalls![SYS_openat]);
        let run = faults.watch(|| {
            let thread = std::thread::Builder::new().name("named".into()).spawn(|| {
                window(|| {
                    open(c"/dev/null").unwrap();
                    sys::clone3_vfork(0, || i32::from(open(c"/dev/null").is_err()))
                })
            });
            let child = thread.unwrap().join().unwrap().unwrap();
            assert!(isolated::wait_for(child).success());
        });
        assert!(run.succeeded(), "{run}");
        let seen: Vec<_> = run.calls.iter().map(|call| call.by_body).collect();
        assert_eq!(seen, [true, false], "{run}");
        assert_ne!(run.calls[0].tid, run.calls[0].pid);
    });
}

#[test]
fn calls_that_the_injector_itself_makes_can_be_trapped() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        let faults = Faults::new(syscalls![
            SYS_sendmsg,
            SYS_close,
            SYS_write,
            SYS_mmap,
            SYS_munmap,
            SYS_brk,
            SYS_futex,
            SYS_prctl,
            SYS_fcntl,
            SYS_exit_group,
            SYS_rt_sigprocmask,
            SYS_openat,
            SYS_read,
        ]);
        let run = faults.watch(|| {
            let text = window(|| fs::read_to_string("/proc/self/status").unwrap());
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            drop((ours, theirs, text, vec![1; 1 << 20]));
        });
        assert!(run.succeeded(), "{run}");
        assert!(
            run.calls
                .iter()
                .any(|call| call.syscall.name == "SYS_openat"),
            "{run}"
        );
    });
}

#[test]
fn two_windows_are_one_count() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        let run = Faults::new(syscalls![SYS_openat]).fail(2, INJECTED, || {
            window(|| open(c"/dev/null")).unwrap();
            open(c"/dev/null").unwrap();
            assert_eq!(
                window(|| open(c"/dev/null")).unwrap_err().raw_os_error(),
                INJECTED
            );
            window(|| open(c"/dev/null")).unwrap();
        });
        assert!(run.succeeded(), "{run}");
        assert_eq!((run.windows, run.calls.len()), (3, 3));
    });
}

#[test]
fn a_body_that_hangs_is_killed_with_its_children() {
    isolated_as_both(|| {
        require!(seccomp_notify, userns);
        let hang = || {
            println!(
                "{}",
                Command::new("/bin/sleep").arg("1000").spawn().unwrap().id()
            );
            // The parent is held in vfork.
            let child = window(|| {
                sys::clone3_vfork(libc::CLONE_NEWUSER | libc::CLONE_NEWPID, || {
                    loop {
                        let _ = open(c"/dev/null");
                        let _ = rustix::event::poll(&mut [], None);
                    }
                })
            });
            child.unwrap();
        };
        // The time in which it comes to hang is not known.
        let mut limit = Duration::from_millis(300);
        let run = loop {
            let run = Faults::new(syscalls![SYS_openat])
                .timeout(limit)
                .watch(hang);
            assert_eq!(run.status, None, "{run}");
            if run.calls.len() == 1 || limit > isolated::timeout() {
                break run;
            }
            limit *= 2;
        };
        assert_eq!(run.calls.len(), 1, "{run}");
        let sleep = run.output.lines().last().unwrap();
        assert_eq!(probe::Process::read(sleep), None);
        assert_eq!(probe::Process::read(run.calls[0].pid), None);
        assert_eq!(probe::children(std::process::id().try_into().unwrap()), []);
    });
}

#[test]
fn what_is_left_behind_is_told_and_ended() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        let run = Faults::new(syscalls![SYS_openat]).watch(|| {
            let zombie = window(|| sys::clone3_vfork(0, || 0)).unwrap();
            let alive = Command::new("/bin/sleep").arg("1000").spawn().unwrap().id();
            println!("{zombie} {alive}");
        });
        assert!(run.succeeded(), "{run}");
        let pids: Vec<_> = run
            .left_behind
            .iter()
            .map(|process| process.pid.to_string())
            .collect();
        assert_eq!(pids.join(" "), run.output.lines().last().unwrap(), "{run}");
        assert_eq!(probe::children(std::process::id().try_into().unwrap()), []);
    });
}

#[test]
fn a_panic_of_the_body_is_a_failed_run() {
    isolated_as_both(|| {
        require!(seccomp_notify);
        let run = Faults::new(syscalls![SYS_openat]).fail(1, INJECTED, || {
            window(|| open(c"/dev/null").expect("a descriptor"));
        });
        assert!(!run.succeeded());
        assert!(run.output.contains("a descriptor: "), "{run}");
        assert!(run.to_string().contains("SYS_openat"), "{run}");
    });
}

#[test]
fn a_window_without_an_injector_is_just_the_call() {
    isolated_as_both(|| {
        assert_eq!(window(|| 5), 5);
    });
}

#[test]
#[should_panic(expected = "the body opened no window")]
fn a_body_without_a_window_fails_the_test() {
    isolated(|| {
        Faults::new(syscalls![SYS_openat]).watch(|| open(c"/dev/null").unwrap());
    });
}
