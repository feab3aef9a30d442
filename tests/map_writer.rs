//! Id maps that a function of the caller's writes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
mod support;

use std::fs;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ringfence::{ErrorKind, IdMap, Sandbox, Setgroups, Step, Unmapped};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{getegid, geteuid};
use rustix::thread::gettid;

use common::leaks::{Census, assert_same};
use common::{isolated_as_both, isolated_as_user, require};
use support::{ENGINES, Waiting, sh, text_of, with_programs};

/// The caller is 7 and 8.
fn write(process: Unmapped<'_>) -> std::io::Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let pid = process.id();
    fs::write(format!("/proc/{pid}/uid_map"), format!("7 {uid} 1"))?;
    fs::write(format!("/proc/{pid}/gid_map"), format!("8 {gid} 1"))
}

fn mapped() -> Sandbox {
    let sandbox = Sandbox::new().user().user_map(IdMap::single(7));
    sandbox.group_map(IdMap::single(8)).map_writer(write)
}

#[test]
fn it_is_asked_before_anything_depends_on_ids() {
    isolated_as_both(|| {
        require!(userns);
        for engine in ENGINES {
            let seen = Arc::new(AtomicU32::new(0));
            let pid = Arc::clone(&seen);
            let sandbox = mapped().engine(engine).map_writer(move |process| {
                assert_eq!(text_of(format!("/proc/{}/uid_map", process.id())), "");
                pid.store(process.id(), Ordering::Relaxed);
                write(process)
            });
            let waiting = Waiting::start(&sandbox);
            assert_eq!(waiting.id(), seen.load(Ordering::Relaxed), "{engine:?}");
            let map = text_of(format!("/proc/{}/uid_map", waiting.id()));
            let uid = geteuid().to_string();
            assert!(map.split_whitespace().eq(["7", &uid, "1"]), "{map}");
            let setgroups = text_of(format!("/proc/{}/setgroups", waiting.id()));
            assert_eq!(setgroups.trim(), "deny");
            let inside = with_programs(mapped().engine(engine)).dir("/made");
            assert_eq!(sh(&inside, "id -u; id -g; stat -c %u /made"), "7\n8\n7");
        }
    });
}

#[test]
fn its_error_is_that_of_the_start() {
    isolated_as_both(|| {
        require!(userns);
        for engine in ENGINES {
            let sandbox = mapped().engine(engine);
            drop(Waiting::start(&sandbox));
            let before = Census::take().without(&["maps"]);
            let refuses =
                sandbox.map_writer(|_| Err(std::io::Error::from_raw_os_error(libc::EADDRINUSE)));
            let error = refuses.command("/bin/true").spawn().unwrap_err();
            assert_eq!(error.step(), Some(Step::IdMap), "{error:?}");
            assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{error:?}");
            assert_same(&before, &Census::take().without(&["maps"]));
        }
    });
}

#[test]
fn its_panic_is_an_error_too() {
    isolated_as_both(|| {
        require!(userns);
        drop(Waiting::start(&mapped()));
        std::panic::set_hook(Box::new(|_| {}));
        let before = Census::take().without(&["maps"]);
        let panics = mapped().map_writer(|_| panic!("as it should"));
        let error = panics.command("/bin/true").spawn().unwrap_err();
        assert_eq!(error.step(), Some(Step::IdMap), "{error:?}");
        assert!(error.to_string().contains("panicked"), "{error:?}");
        assert_same(&before, &Census::take().without(&["maps"]));
    });
}

/// Whoever waits in the function hears of it when the process has been killed.
#[test]
fn the_end_of_the_process_is_seen() {
    isolated_as_both(|| {
        require!(userns);
        let sandbox = mapped().map_writer(|process| {
            let pid = rustix::process::Pid::from_raw(process.id().cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            let limit = Timespec {
                tv_sec: 20,
                tv_nsec: 0,
            };
            let pidfd = process.as_fd();
            let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit))?;
            assert_eq!(ready, 1);
            Ok(())
        });
        let error = sandbox.command("/bin/true").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiedBeforeExec);
    });
}

/// A caller without privilege needs its dumpable flag for each new user namespace; a program that takes on other ids
/// clears it, and so keeps all others from starting meanwhile. Those that the function waits for would wait for ever.
#[test]
fn what_it_starts_itself_cannot_wait_for_it() {
    isolated_as_user(|| {
        require!(userns);
        for engine in ENGINES {
            let nested = Sandbox::new().user().engine(engine);
            let outer = Sandbox::new().user().engine(engine);
            // Takes on id 0, which no caller has.
            let other_ids = outer.clone().user_map(IdMap::range(0, 100_000, 10));
            let sandbox = other_ids.map_writer(move |_| {
                let error = nested.clone().command("/bin/true").spawn().unwrap_err();
                assert_eq!(error.step(), Some(Step::Prepare), "{error:?}");
                assert!(error.hint().is_some(), "{error:?}");
                Err(std::io::Error::from_raw_os_error(
                    error.raw_os_error().unwrap(),
                ))
            });
            let error = sandbox.command("/bin/true").spawn().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EDEADLK), "{error:?}");
        }
    });
}

/// On another thread it is not known that the function waits for it.
#[test]
fn what_another_thread_starts_for_it_gives_up_in_time() {
    isolated_as_user(|| {
        require!(userns);
        let nested = Sandbox::new().user().command("/bin/true");
        let nested = nested.setup_timeout(Duration::from_millis(100));
        let sandbox = Sandbox::new().user().user_map(IdMap::range(0, 100_000, 10));
        let sandbox = sandbox.map_writer(move |_| {
            let error = std::thread::scope(|scope| {
                let thread = scope.spawn(|| nested.spawn());
                thread.join().unwrap().unwrap_err()
            });
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
            Err(std::io::Error::from_raw_os_error(libc::EADDRINUSE))
        });
        let error = sandbox.command("/bin/true").spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{error:?}");
        // And all is as before.
        assert!(
            Sandbox::new()
                .user()
                .command("/bin/true")
                .status()
                .unwrap()
                .success()
        );
    });
}

/// Where the ids stay, what it starts goes on beside it, whoever else waits.
#[test]
fn it_can_start_what_takes_on_no_other_ids() {
    isolated_as_user(|| {
        require!(userns);
        let waits = Sandbox::new().user().user_map(IdMap::range(0, 100_000, 10));
        let waits = waits.map_writer(|_| Err(std::io::Error::from_raw_os_error(libc::EADDRINUSE)));
        let waits = waits.command("/bin/true");
        let (sender, receiver) = std::sync::mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        let sandbox = mapped().map_writer(move |process| {
            let waits = waits.clone();
            let (tid, told) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                tid.send(gettid()).unwrap();
                waits.spawn().unwrap_err().raw_os_error()
            });
            let call = format!("/proc/self/task/{}/syscall", told.recv().unwrap());
            let futex = format!("{} ", libc::SYS_futex);
            while !text_of(&call).starts_with(&futex) {
                std::thread::yield_now();
            }
            sender.lock().unwrap().send(thread).unwrap();
            let nested = Sandbox::new().user().command("/bin/true").status();
            assert!(nested.unwrap().success());
            write(process)
        });
        let status = sandbox.command("/bin/true").status().unwrap();
        assert!(status.success());
        let waited = receiver.recv().unwrap().join().unwrap();
        assert_eq!(waited, Some(libc::EADDRINUSE));
    });
}

#[test]
fn the_plan_says_so_and_contradictions_are_refused() {
    let plan = mapped().command("true").compile().unwrap().to_string();
    assert!(plan.contains("uid 7 = "), "{plan}");
    assert!(
        plan.contains("written by a function of the caller's"),
        "{plan}"
    );
    // Who writes them may be able to.
    let allowed = mapped().setgroups(Setgroups::Allow).command("true");
    allowed.compile().unwrap();
    let error = Sandbox::new().map_writer(write).command("true").compile();
    assert_eq!(error.unwrap_err().setter(), Some("map_writer"));
}
