//! The program is held before exec, until it is released.

use super::forbid_own_program;
use crate::common::{isolated, probe, require};
use ringfence::{ErrorKind, Sandbox, Stdio, Step};
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;

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
fn it_does_not_wait_for_a_child_that_was_dropped() {
    isolated(|| {
        require!(userns);
        for_each(|sandbox| {
            let child = sandbox.command("/bin/true").gate().spawn().unwrap();
            let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
            drop(child);
            let status = crate::common::isolated::wait_for(pid.as_raw_pid());
            assert_eq!((status.code(), status.signal()), (Some(127), None));
        });
    });
}
