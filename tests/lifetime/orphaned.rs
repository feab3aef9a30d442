//! The caller is killed at any moment: nothing survives.

use super::forbid_own_program;
use crate::common::{isolated, isolated_as_user, probe, require, sys, threads};
use ringfence::Sandbox;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 200;
const LIMIT: Duration = Duration::from_secs(20);

/// A different moment each time, some of them after the spawn.
fn moments(spawn: Duration) -> impl Iterator<Item = Duration> {
    let limit = u64::try_from(spawn.as_nanos()).unwrap() * 2;
    let mut state = u64::from(std::process::id()) | 1;
    println!("seed {state}");
    (0..ROUNDS).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Duration::from_nanos(state % limit)
    })
}

/// Starts a caller, kills it, and waits until all that it has left behind has ended as well.
fn kill_callers(sandbox: &Sandbox) {
    set_child_subreaper(Some(getpid())).unwrap();
    let command = sandbox
        .clone()
        .command("/bin/sleep")
        .arg("1000")
        .die_with_parent();
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    let spawn = begun.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    // That bound the program to the caller: what it locks last would stay locked in the callers.
    threads::await_end_of_others();
    let mut running = 0;
    for moment in moments(spawn) {
        let caller = match sys::fork().unwrap() {
            Some(pid) => Pid::from_raw(pid).unwrap(),
            None => {
                let _child = command.spawn();
                loop {
                    std::thread::park();
                }
            }
        };
        let begun = Instant::now();
        while begun.elapsed() < moment {
            std::hint::spin_loop();
        }
        running += usize::from(probe::descendants(caller.as_raw_pid()).len() > 1);
        kill_process(caller, Signal::KILL).unwrap();
        until_none_are_left();
    }
    println!("{running} callers had got further than the first process");
}

fn until_none_are_left() {
    let deadline = Instant::now() + LIMIT;
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return,
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) if Instant::now() < deadline => std::thread::yield_now(),
            Ok(None) => panic!("{:?}", probe::descendants(getpid().as_raw_pid())),
            Err(errno) => panic!("wait: {errno}"),
        }
    }
}

#[test]
fn with_init() {
    isolated(|| {
        require!(userns);
        kill_callers(&Sandbox::new().user().pid().init());
    });
}

#[test]
fn with_init_as_an_unprivileged_user() {
    isolated_as_user(|| {
        require!(userns);
        kill_callers(&Sandbox::new().user().pid().mount().init());
    });
}

#[test]
fn with_a_forked_init() {
    isolated(|| {
        require!(userns);
        forbid_own_program();
        kill_callers(&Sandbox::new().user().pid().init());
    });
}

#[test]
fn with_a_subreaper() {
    isolated(|| kill_callers(&Sandbox::new().init()));
}

#[test]
fn with_a_forked_subreaper() {
    isolated(|| {
        forbid_own_program();
        kill_callers(&Sandbox::new().init());
    });
}

#[test]
fn without_init() {
    isolated(|| {
        require!(userns);
        kill_callers(&Sandbox::new().user().pid());
    });
}

#[test]
fn without_namespaces() {
    isolated(|| kill_callers(&Sandbox::new()));
}
