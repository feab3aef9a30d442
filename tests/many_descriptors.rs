//! A caller with thousands of descriptors: the child gets what it needs, whichever way the engine takes.
#![expect(clippy::unwrap_used, reason = "what fails fails the test")]

mod common;
mod support;

use common::isolated;
use common::leaks::{Census, assert_same};
use common::threads::from_threads;
use ringfence::{Sandbox, Stdio};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;

/// More than enough for new pipes to have high numbers.
const MANY: u64 = 3000;

/// Opens many descriptors. `None`, with a message, if the limit forbids it.
fn many() -> Option<Vec<OwnedFd>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < MANY + 100) {
        eprintln!(
            "SKIPPED {}: the limit on descriptors is {limit:?}",
            module_path!()
        );
        return None;
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(MANY + 100),
            ..limit
        },
    )
    .unwrap();
    let null = File::open("/dev/null").unwrap();
    Some(
        (0..MANY)
            .map(|_| null.try_clone().unwrap().into())
            .collect(),
    )
}

#[test]
fn pipes_work_for_a_command_that_is_compiled_late() {
    isolated(|| {
        let Some(_held) = many() else { return };
        let run = || {
            let mut given = tempfile::tempfile().unwrap();
            given.write_all(b"given").unwrap();
            given.rewind().unwrap();
            let output = Sandbox::new()
                .command("sh")
                .args(["-c", "cat; cat <&7; echo $(ls /proc/self/fd) >&2"])
                .stdin(Stdio::null())
                .descriptor(OwnedFd::from(given), 7)
                .output()
                .unwrap();
            assert_eq!(output.stdout, b"given");
            // 3 is the directory that ls reads; nothing of the caller's, nothing of the engine's.
            assert_eq!(output.stderr, b"0 1 2 3 7\n");
        };
        run();
        let before = Census::take();
        run();
        assert_same(&before, &Census::take());
    });
}

#[test]
fn pipes_work_for_a_plan_that_was_compiled_early() {
    isolated(|| {
        let plan = Sandbox::new()
            .command("sh")
            .args(["-c", "cat; echo $(ls /proc/self/fd) >&2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .compile()
            .unwrap();
        let Some(_held) = many() else { return };
        let run = || {
            let mut child = plan.spawn().unwrap();
            child.stdin.take().unwrap().write_all(b"text").unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.stdout, b"text");
            assert_eq!(output.stderr, b"0 1 2 3\n");
        };
        run();
        let before = Census::take();
        run();
        assert_same(&before, &Census::take());
        // The kept numbers serve one spawn at a time; the others do without. Threads leave memory behind.
        let before = Census::take().without(&["maps"]);
        from_threads(4, |_| (0..20).for_each(|_| run()));
        assert_same(&before, &Census::take().without(&["maps"]));
    });
}

#[test]
fn failures_come_through() {
    isolated(|| {
        let Some(_held) = many() else { return };
        let fail = || {
            let error = Sandbox::new().command("/nonexistent").output().unwrap_err();
            assert_eq!(error.step(), Some(ringfence::Step::Exec));
            assert_eq!(error.raw_os_error(), Some(2));
        };
        fail();
        let before = Census::take();
        fail();
        assert_same(&before, &Census::take());
    });
}

#[test]
fn a_program_bound_to_its_parent_outlives_the_thread_that_made_it() {
    isolated(|| {
        let Some(_held) = many() else { return };
        let output = Sandbox::new()
            .command("sh")
            .args(["-c", "sleep 0.2; echo alive"])
            .die_with_parent()
            .output()
            .unwrap();
        assert_eq!(output.status.signal(), None);
        assert_eq!(output.stdout, b"alive\n");
    });
}

#[test]
fn a_caller_that_ignores_the_end_of_children_still_starts_programs() {
    isolated(|| {
        let Some(_held) = many() else { return };
        support::signal::ignore(libc::SIGCHLD);
        for _ in 0..20 {
            let mut child = Sandbox::new()
                .command("true")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let error = child.wait().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
        }
    });
}

#[test]
fn maps_are_written_from_the_table_that_the_child_was_made_in() {
    isolated(|| {
        common::require!(root);
        let Some(_held) = many() else { return };
        for engine in support::ENGINES {
            let output = Sandbox::new()
                .engine(engine)
                .user()
                .user_map(ringfence::IdMap::range(0, 1000, 5))
                .command("cat")
                .arg("/proc/self/uid_map")
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let words: Vec<_> = text.split_whitespace().collect();
            assert_eq!(words, ["0", "1000", "5"], "{engine:?}");
        }
    });
}

/// The socket that a listener of a filter comes by, and the pipes, have high numbers.
#[test]
fn a_listener_of_a_filter_comes_through() {
    use ringfence::lockdown::SeccompFilter;
    isolated(|| {
        common::require!(seccomp_notify);
        let Some(_held) = many() else { return };
        let allow = SeccompFilter::new([common::seccomp::ALLOW]);
        let sandbox = Sandbox::new()
            .seccomp(allow.clone())
            .seccomp(allow.notify());
        let run = || {
            let command = sandbox.clone().command("/bin/ls").arg("/proc/self/fd");
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            assert!(child.seccomp_listener().is_some());
            let output = child.wait_with_output().unwrap();
            // The last is that of the directory that is listed.
            assert_eq!(output.stdout, b"0\n1\n2\n3\n");
        };
        run();
        let before = Census::take();
        run();
        assert_same(&before, &Census::take());
    });
}
