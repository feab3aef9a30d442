//! The handle of a running program, and what is set for the program itself.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use ringfence::{ErrorKind, IdMap, Sandbox, Stdio, Step};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated, isolated_as_both, probe, require};
use crate::support::{ENGINES, Waiting, signal};

#[test]
fn waits() {
    isolated_as_both(|| {
        for engine in ENGINES {
            let command = Sandbox::new().engine(engine).command("sh");
            let command = command.args(["-c", "read x; exit 9"]).stdin(Stdio::piped());
            let mut child = command.spawn().unwrap();
            assert_eq!(child.try_wait().unwrap(), None);
            let begun = Instant::now();
            let limit = Duration::from_millis(50);
            assert_eq!(child.wait_timeout(limit).unwrap(), None);
            assert!(begun.elapsed() >= limit);
            assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), None);
            assert_eq!(child.resource_usage(), None);
            // Ends its standard input.
            assert_eq!(child.wait().unwrap().code(), Some(9));
            for _ in 0..2 {
                assert_eq!(child.wait().unwrap().code(), Some(9));
                assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(9));
                let again = child.wait_timeout(Duration::MAX).unwrap();
                assert_eq!(again.unwrap().code(), Some(9));
            }

            let mut child = command.spawn().unwrap();
            drop(child.stdin.take());
            let status = child.wait_timeout(Duration::MAX).unwrap().unwrap();
            assert_eq!(status.code(), Some(9));
        }
    });
}

#[test]
fn signals_and_kills() {
    isolated_as_both(|| {
        for engine in ENGINES {
            let command = Waiting::command(&Sandbox::new().engine(engine)).stdin(Stdio::piped());
            let mut child = command.spawn().unwrap();
            child.signal(0).unwrap();
            let error = child.signal(1000).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            assert_eq!(error.step(), Some(Step::Wait));
            child.signal(libc::SIGTERM).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
            // It has ended, which is no error.
            child.signal(libc::SIGTERM).unwrap();
            child.kill().unwrap();

            let mut child = command.spawn().unwrap();
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
            let gone = child.namespace_ids().unwrap_err();
            assert_eq!(gone.step(), Some(Step::Wait));
        }
    });
}

#[test]
fn the_pidfd_is_that_of_the_program() {
    isolated_as_both(|| {
        require!(userns);
        for engine in ENGINES {
            let child = Waiting::start(&Sandbox::new().user().pid().engine(engine));
            let info = |fd: &std::os::fd::BorrowedFd<'_>| {
                use std::os::fd::AsRawFd;
                let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
                let text = std::fs::read_to_string(path).unwrap();
                let pid = text.lines().find(|line| line.starts_with("Pid:"));
                pid.unwrap().to_owned()
            };
            let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
            let opened = pidfd_open(pid, PidfdFlags::empty()).unwrap();
            assert_eq!(info(&child.as_fd()), info(&opened.as_fd()));
            let flags = rustix::io::fcntl_getfd(child.as_fd()).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            assert!(!probe::ends_within(child.as_fd(), Duration::ZERO));
            let mut child = child;
            child.kill().unwrap();
            assert!(probe::ends_within(child.as_fd(), Duration::from_secs(10)));
        }
    });
}

#[test]
fn output_of_two_full_pipes() {
    isolated(|| {
        let script = "cat; head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero; \
             head -c 300000 /dev/zero >&2; exec 2>&-; head -c 300000 /dev/zero";
        for engine in ENGINES {
            let command = Sandbox::new()
                .engine(engine)
                .command("sh")
                .args(["-c", script]);
            let output = command.output().unwrap();
            assert!(output.status.success());
            assert_eq!(
                (output.stdout.len(), output.stderr.len()),
                (600_000, 600_000)
            );

            let child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            let mut child = child.spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(b"begins ").unwrap();
            drop(input);
            let output = child.wait_with_output().unwrap();
            assert!(output.stdout.starts_with(b"begins \0"));
            assert_eq!(output.stdout.len(), 600_007);
            assert_eq!(output.stderr, b"");
        }
    });
}

#[test]
fn pipes_are_the_programs_alone() {
    isolated(|| {
        let command = Sandbox::new().command("cat");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut one = command.spawn().unwrap();
        // Had this one a copy of the first one's input, that would not end.
        let mut two = command.spawn().unwrap();
        drop(one.stdin.take());
        let mut text = String::new();
        one.stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(one.wait().unwrap().success());
        assert_eq!(two.try_wait().unwrap(), None);
        assert!(two.wait().unwrap().success());
    });
}

#[test]
fn resources_that_were_used() {
    isolated(|| {
        for engine in ENGINES {
            let script = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done";
            let command = Sandbox::new().engine(engine).command("sh");
            let mut child = command.args(["-c", script]).spawn().unwrap();
            child.wait().unwrap();
            let usage = child.resource_usage().unwrap();
            let time = usage.user_time + usage.system_time;
            assert!(
                time > Duration::ZERO && time < Duration::from_secs(60),
                "{usage:?}"
            );
            // A shell takes more than a hundred KiB.
            assert!(usage.max_resident > 100 << 10, "{usage:?}");
            assert!(usage.minor_faults > 0, "{usage:?}");
        }
    });
}

#[test]
fn umask_and_session() {
    isolated_as_both(|| {
        for engine in ENGINES {
            let command = || Waiting::command(&Sandbox::new().engine(engine));
            let own = probe::Process::read("self").unwrap();
            let child = Waiting::of(command());
            let process = probe::Process::read(child.id()).unwrap();
            assert_eq!((process.group, process.session), (own.group, own.session));
            assert_eq!(
                probe::status(child.id(), "Umask"),
                probe::status("self", "Umask")
            );

            let child = Waiting::of(command().new_session().umask(0o137));
            let process = probe::Process::read(child.id()).unwrap();
            assert_eq!((process.group, process.session), (process.pid, process.pid));
            assert_eq!(probe::status(child.id(), "Umask").unwrap(), "0137");
        }
        let umask = probe::status("self", "Umask").unwrap();
        assert_ne!(umask, "0137");
    });
}

#[test]
fn ids_inside_and_outside() {
    isolated(|| {
        require!(root);
        for engine in ENGINES {
            let command = Waiting::command(&Sandbox::new().engine(engine));
            let child = Waiting::of(command.uid(1000).gid(1001).groups([1002, 1003]));
            let status = |field| probe::status(child.id(), field).unwrap();
            assert_eq!(status("Uid"), "1000\t1000\t1000\t1000");
            assert_eq!(status("Gid"), "1001\t1001\t1001\t1001");
            assert_eq!(status("Groups"), "1002 1003");
            for set in ["CapEff", "CapPrm", "CapAmb"] {
                assert_eq!(status(set), "0000000000000000", "{set}");
            }
        }
    });
}

#[test]
fn ids_that_the_caller_may_not_take_on() {
    crate::common::isolated_as_user(|| {
        let before = Census::take();
        for command in [
            Sandbox::new().command("true").uid(0),
            Sandbox::new().command("true").gid(0),
            Sandbox::new().command("true").groups([0]),
        ] {
            let error = command.spawn().map(drop).unwrap_err();
            assert_eq!(error.step(), Some(Step::Ids), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        }
        assert_same(
            &before.without(&["maps"]),
            &Census::take().without(&["maps"]),
        );
    });
}

/// A caller that has the kernel reap its children loses the status, but not the reason of a failure.
#[test]
fn callers_that_ignore_the_end_of_children() {
    isolated(|| {
        signal::ignore(libc::SIGCHLD);
        for engine in ENGINES {
            let sandbox = Sandbox::new().engine(engine);
            let error = sandbox.clone().command("/nonexistent").spawn().map(drop);
            let error = error.unwrap_err();
            assert_eq!(error.step(), Some(Step::Exec), "{error:?}");
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error:?}");
            let error = Waiting::start(&sandbox).wait().unwrap_err();
            assert_eq!(error.step(), Some(Step::Wait), "{error:?}");
            assert!(error.hint().unwrap().contains("SIGCHLD"), "{error:?}");
        }
    });
}

#[test]
fn a_sandboxed_program_has_its_handle_too() {
    isolated_as_both(|| {
        require!(userns);
        for engine in ENGINES {
            let sandbox = Sandbox::new()
                .user()
                .pid()
                .user_map(IdMap::root())
                .engine(engine);
            // The kernel does not deliver to process 1 what it has no handler for.
            let mut child = Waiting::start(&sandbox);
            child.signal(libc::SIGTERM).unwrap();
            child.stdin.as_ref().unwrap().write_all(b"?").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        }
    });
}

#[test]
fn what_is_usually_ignored_is_reset_although_it_was_not_ignored_at_the_compile() {
    isolated(|| {
        for engine in ENGINES {
            let plan = Sandbox::new()
                .engine(engine)
                .command("grep")
                .args(["SigIgn", "/proc/self/status"])
                .stdout(Stdio::piped())
                .compile()
                .unwrap();
            for number in [libc::SIGUSR1, libc::SIGHUP, libc::SIGTERM] {
                signal::ignore(number);
            }
            let output = plan.spawn().unwrap().wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text, "SigIgn:\t0000000000000000\n", "{engine:?}");
        }
    });
}
