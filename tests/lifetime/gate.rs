//! The program is held before exec, until it is released.

use super::forbid_own_program;
use crate::common::isolated::wait_for;
use crate::common::{isolated, probe, require, sys};
use ringfence::ns::{Namespace, Pid};
use ringfence::{ErrorKind, Sandbox, Stdio, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid as RawPid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, set_child_subreaper,
};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// For what should happen at once, on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(20);

fn sandboxes() -> [Sandbox; 3] {
    [
        Sandbox::new(),
        Sandbox::new().user().pid().uts(),
        Sandbox::new().user().pid().init(),
    ]
}

/// Each of them, and each with the other form of the second stage.
fn for_each(body: impl Fn(Sandbox)) {
    sandboxes().into_iter().for_each(&body);
    forbid_own_program();
    sandboxes().into_iter().for_each(&body);
}

#[test]
fn nothing_runs_before_the_release() {
    isolated(|| {
        require!(userns);
        for_each(|sandbox| {
            let dir = tempfile::tempdir().unwrap();
            let mark = dir.path().join("mark");
            let mut child = sandbox
                .command("/bin/sh")
                .args([
                    "-c",
                    "cat /proc/self/stat >/dev/null; echo hello; test -e $MARK && exit 8",
                ])
                .env("MARK", &mark)
                .stdout(Stdio::piped())
                .gate()
                .spawn()
                .unwrap();
            assert_eq!(probe::descendants(child.id().cast_signed()), []);
            assert_eq!(child.try_wait().unwrap(), None);
            fs::write(&mark, "").unwrap();
            child.release().unwrap();
            let mut text = String::new();
            child
                .stdout
                .take()
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "hello\n");
            assert_eq!(child.wait().unwrap().code(), Some(8));
            let again = child.release().unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::EINVAL));
        });
    });
}

#[test]
fn a_program_that_cannot_be_executed_is_an_error_of_the_release() {
    isolated(|| {
        require!(userns);
        for_each(|sandbox| {
            let mut child = sandbox.command("/nonexistent").gate().spawn().unwrap();
            let error = child.release().unwrap_err();
            assert_eq!(
                (error.step(), error.kind()),
                (Some(Step::Exec), ErrorKind::NotFound)
            );
            assert!(child.try_wait().unwrap().is_some(), "it has been reaped");
        });
    });
}

#[test]
fn it_can_be_killed_at_the_gate() {
    isolated(|| {
        require!(userns);
        for_each(|sandbox| {
            let mut child = sandbox.command("/bin/true").gate().spawn().unwrap();
            child.kill().unwrap();
            let error = child.release().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DiedBeforeExec, "{error:?}");
        });
    });
}

#[test]
fn who_has_waited_for_its_end_can_release_nothing() {
    isolated(|| {
        require!(userns);
        for_each(|sandbox| {
            let mut child = sandbox.command("/bin/true").gate().spawn().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            let error = child.release().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error:?}");
        });
    });
}

#[test]
fn what_nobody_could_release_is_refused() {
    isolated(|| {
        let command = Sandbox::new().command("/bin/true").gate();
        for error in [
            command.status().map(drop).unwrap_err(),
            command.output().map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
            assert_eq!(error.setter(), Some("gate"));
        }
    });
}

#[test]
fn it_does_not_wait_for_a_child_that_was_dropped() {
    isolated(|| {
        require!(userns);
        for_each(|sandbox| {
            let child = sandbox.command("/bin/true").gate().spawn().unwrap();
            let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
            drop(child);
            let status = wait_for(pid.as_raw_pid());
            assert_eq!((status.code(), status.signal()), (Some(127), None));
        });
    });
}

/// The names of what a process has open.
fn open_in(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = entries.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
    links.map(|link| link.display().to_string()).collect()
}

/// Held for as long as the caller likes, it must not hold up who waits for the end of the caller's pipes.
#[test]
fn nothing_of_the_callers_is_open_at_the_gate() {
    isolated(|| {
        require!(userns);
        for_each(|sandbox| {
            let (reader, writer) = std::io::pipe().unwrap();
            let mut child = sandbox.command("/bin/true").gate().spawn().unwrap();
            drop(writer);
            let mut ends = [PollFd::new(&reader, PollFlags::IN)];
            let now = Timespec::default();
            assert_eq!(poll(&mut ends, Some(&now)), Ok(1), "the writer is closed");
            // Process 1 lets nobody else look.
            if require::root().is_ok() {
                let sockets = open_in(child.id());
                let sockets = sockets.iter().filter(|name| name.starts_with("socket:"));
                assert_eq!(
                    sockets.count(),
                    1,
                    "its own end of the socket to the caller"
                );
            }
            child.release().unwrap();
            assert!(child.wait().unwrap().success());
        });
    });
}

/// The same for the process that keeps a pid namespace; its streams are none of the caller's either.
#[test]
fn nothing_of_the_callers_is_open_in_a_pid_namespace_without_a_program() {
    isolated(|| {
        require!(root);
        let create = || {
            let (reader, writer) = std::io::pipe().unwrap();
            let namespace = Namespace::<Pid>::create().unwrap();
            drop(writer);
            let mut ends = [PollFd::new(&reader, PollFlags::IN)];
            // Nobody waits until exec has closed what it closes.
            let limit = Timespec::try_from(LIMIT).unwrap();
            assert_eq!(poll(&mut ends, Some(&limit)), Ok(1), "the writer is closed");
            namespace
        };
        drop(create());
        forbid_own_program();
        let namespace = create();
        let open = open_in(namespace.pid_outside(1).unwrap().unwrap());
        let (streams, rest) = open.split_at(3);
        assert_eq!(streams, ["/dev/null"; 3]);
        assert!(
            matches!(rest, [one] if one.starts_with("socket:")),
            "{rest:?}"
        );
    });
}

/// A caller that does not drop the child, but exits.
#[test]
fn it_does_not_outlive_its_caller() {
    isolated(|| {
        require!(userns);
        set_child_subreaper(Some(getpid())).unwrap();
        for_each(|sandbox| {
            let (mut told, tell) = std::io::pipe().unwrap();
            let command = sandbox.command("/bin/true").gate();
            let caller = sys::fork().unwrap();
            let Some(caller) = caller else {
                let child = command.spawn().unwrap();
                (&tell).write_all(&child.id().to_ne_bytes()).unwrap();
                loop {
                    std::thread::park();
                }
            };
            drop(tell);
            let mut held = [0; 4];
            told.read_exact(&mut held).unwrap();
            let held = i32::from_ne_bytes(held);
            let pidfd = pidfd_open(RawPid::from_raw(held).unwrap(), PidfdFlags::empty());
            kill_process(RawPid::from_raw(caller).unwrap(), Signal::KILL).unwrap();
            wait_for(caller);
            assert!(probe::ends_within(pidfd.unwrap(), LIMIT), "it lives on");
            wait_for(held);
        });
    });
}
