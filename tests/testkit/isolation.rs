//! A test in a process of its own, and as another user.

use std::env;
use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::{DumpableBehavior, dumpable_behavior, geteuid, getpid, kill_process};
use rustix::process::{Signal, getgroups};
use rustix::thread::{UnshareFlags, gettid};

use crate::common::{
    in_forked_child, isolated, isolated_as_both, isolated_as_user, isolated_as_user_with_subids,
    isolated_test, probe, require, sys, test_name, user,
};

/// Set by the tests that run another test of this file in an unusual way.
const UNUSUAL: &str = "TESTKIT_UNUSUAL";

#[test]
fn a_body_is_alone_in_its_process() {
    isolated_as_both(|| {
        assert_eq!(gettid(), getpid());
        assert_eq!(probe::status("self", "Threads").unwrap(), "1");
        let this = probe::Process::read("self").unwrap();
        assert_ne!(this.group, this.pid);
        let parent = probe::Process::read(this.parent).unwrap();
        assert_eq!(this.group, parent.group);
        assert_eq!(probe::children(this.pid), []);
    });
}

#[test]
fn a_body_may_enter_a_user_namespace() {
    isolated_as_both(|| {
        require!(userns);
        let before = probe::namespace("self", "user").unwrap();
        sys::unshare(UnshareFlags::NEWUSER).unwrap();
        assert_ne!(probe::namespace("self", "user").unwrap(), before);
    });
}

isolated_test! {
    fn a_forked_child_hands_back_its_status() {
        assert_eq!(in_forked_child(|| 7).code(), Some(7));
        assert_eq!(in_forked_child(|| panic!("meant to be")).code(), Some(101));
    }
}

#[test]
fn libtest_itself_has_a_second_thread() {
    // The reason for the fork; should that change, the fork can go.
    let threads = probe::status("self", "Threads").unwrap();
    assert!(threads.parse::<u32>().unwrap() > 1, "{threads}");
}

#[test]
fn a_test_knows_its_name() {
    assert_eq!(test_name!(), "isolation::a_test_knows_its_name");
    let nested = || test_name!();
    assert_eq!(nested(), "isolation::a_test_knows_its_name");
}

#[test]
#[should_panic(expected = "this is what went wrong")]
fn a_panic_of_the_body_fails_the_test() {
    isolated(|| panic!("this is what went wrong"));
}

#[test]
#[should_panic(expected = "ended with signal: 9")]
fn the_death_of_the_body_fails_the_test() {
    isolated(|| {
        kill_process(getpid(), Signal::KILL).unwrap();
    });
}

#[test]
#[should_panic(expected = "no test of the name")]
fn a_test_that_is_not_there_fails() {
    let absent = "isolation::absent";
    let ended = isolated::start(isolated::command(absent), isolated::timeout());
    isolated::report(absent, ended);
}

#[test]
fn what_takes_too_long_is_killed_with_all_its_children() {
    let sleeping = |ended: &isolated::Ended| {
        let sleeping = |line: &&str| line.contains("(sleep, child of ");
        ended.doing.lines().filter(sleeping).count()
    };
    // The time in which both come to sleep is not known.
    let mut limit = Duration::from_millis(500);
    let ended = loop {
        let mut shell = Command::new("/bin/sh");
        shell.args([
            "-c",
            "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; wait",
        ]);
        let ended = isolated::start(shell, limit);
        assert_eq!(ended.status, None);
        if sleeping(&ended) == 2 || limit > isolated::timeout() {
            break ended;
        }
        limit *= 2;
    };
    assert_eq!(sleeping(&ended), 2, "{}", ended.doing);
    let pids: Vec<_> = ended.output.lines().collect();
    assert_eq!(pids.len(), 2, "{}", ended.output);
    for pid in pids {
        let left = probe::Process::read(pid);
        assert!(
            left.as_ref().is_none_or(probe::Process::is_zombie),
            "{left:?}"
        );
    }
}

#[test]
fn a_body_leaves_no_process_behind() {
    let test = "isolation::a_body_that_leaves_a_process_behind";
    let mut command = isolated::command(test);
    command.env(UNUSUAL, "1");
    let ended = isolated::start(command, isolated::timeout());
    let left = ended
        .output
        .lines()
        .find(|line| line.starts_with("left behind"));
    let left = left.unwrap_or_else(|| panic!("{}", ended.output));
    assert!(left.contains("comm: \"sleep\""), "{left}");
    let pid = left
        .split("pid: ")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .unwrap();
    assert_eq!(probe::Process::read(pid), None);
}

#[test]
fn a_body_that_leaves_a_process_behind() {
    isolated(|| {
        if env::var_os(UNUSUAL).is_some() {
            let child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
            // Until the call of execve has ended it has another name.
            let called = |process: probe::Process| process.comm == "sleep";
            while !probe::Process::read(child.id()).is_some_and(called) {
                std::thread::yield_now();
            }
            std::mem::forget(child);
        }
    });
}

#[test]
fn what_is_missing_skips_the_test_and_says_so() {
    let mut command = isolated::command("isolation::a_body_that_may_be_skipped");
    command
        .env(UNUSUAL, "1")
        .env_remove("RINGFENCE_TEST_REQUIRE");
    let ended = isolated::start(command, isolated::timeout());
    let skipped = "SKIPPED isolation::a_body_that_may_be_skipped: kernel: the kernel is ";
    assert!(
        ended.output.lines().any(|line| line.starts_with(skipped)),
        "{}",
        ended.output
    );
    assert!(!ended.output.contains("not reached"), "{}", ended.output);
    assert_eq!(ended.status.unwrap().code(), Some(isolated::PASSED));
}

#[test]
#[should_panic(expected = "needs kernel, which RINGFENCE_TEST_REQUIRE promises")]
fn what_is_missing_but_promised_fails_the_test() {
    let mut command = isolated::command("isolation::a_body_that_may_be_skipped");
    command
        .env(UNUSUAL, "1")
        .env("RINGFENCE_TEST_REQUIRE", "root,kernel");
    let ended = isolated::start(command, isolated::timeout());
    isolated::report("isolation::a_body_that_may_be_skipped", ended);
}

#[test]
fn a_body_that_may_be_skipped() {
    isolated(|| {
        if env::var_os(UNUSUAL).is_some() {
            require!(kernel(9999, 0));
            println!("not reached");
        }
    });
}

#[test]
fn the_user_has_no_privileges() {
    isolated_as_user(|| {
        assert!(!geteuid().is_root());
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(
                probe::status("self", set).unwrap(),
                "0000000000000000",
                "{set}"
            );
        }
        assert!(require::root().is_err());
        // What a change of ids without exec would have taken, and the maps need.
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
        tempfile::tempfile().unwrap();
        fs::read("/proc/self/exe").unwrap();
    });
}

#[test]
fn root_becomes_a_user_without_groups() {
    // In the process started for it the test is that user already.
    if !isolated::is_started_for(test_name!()) {
        require!(root);
    }
    isolated_as_user(|| {
        assert_eq!(geteuid().as_raw(), user::UID);
        assert_eq!(getgroups().unwrap(), []);
        assert_eq!(
            probe::status("self", "Gid").unwrap(),
            format!("{0}\t{0}\t{0}\t{0}", user::UID)
        );
        let dir = env::temp_dir();
        fs::write(dir.join("file"), "text").unwrap();
    });
}

#[test]
fn root_gives_the_user_subordinate_ids() {
    if !isolated::is_started_for(test_name!()) {
        require!(root, program("newuidmap"));
    }
    let mounts = probe::mountinfo("self").unwrap();
    isolated_as_user_with_subids(|| {
        assert_eq!(geteuid().as_raw(), user::UID);
        require!(subuid);
        let ids = require::subids().unwrap();
        assert_eq!(ids.uid, (user::FIRST_SUBID, 65536));
        assert_eq!(ids.gid, (user::FIRST_SUBID, 65536));
    });
    let overs = |mounts: &[String]| mounts.iter().filter(|line| line.contains(" /etc/")).count();
    assert_eq!(overs(&probe::mountinfo("self").unwrap()), overs(&mounts));
}

#[test]
fn the_reader_of_proc_knows_every_process() {
    isolated(|| {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "sleep 1000 | cat"])
            .spawn()
            .unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let mut names = Vec::new();
        while names.len() < 2 {
            names = probe::descendants(pid)
                .into_iter()
                .map(|process| process.comm)
                .collect();
            names.retain(|name| name == "sleep" || name == "cat");
            std::thread::yield_now();
        }
        probe::kill_descendants(pid);
        assert!(
            probe::descendants(pid)
                .iter()
                .all(probe::Process::is_zombie)
        );
        shell.wait().unwrap();
        assert_eq!(probe::Process::read(pid), None);
        assert!(
            probe::mount_at("self", "/proc")
                .unwrap()
                .unwrap()
                .contains(" - proc ")
        );
    });
}
