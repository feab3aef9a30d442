//! The program as a child: its number at each level, its status, and what can happen to it on the way.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringfence::ns::{Namespace, Pid};
use ringfence::{ErrorKind, IdMap, NamespaceSet, Sandbox, Step};
use rustix::process::{
    Pid as RawPid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open,
    set_child_subreaper, waitpid,
};

use super::{link, stage, target};
use crate::common::leaks::{Census, assert_same};
use crate::common::{
    in_forked_child, isolated::wait_for, isolated_as_both, probe, require, seccomp,
};
use crate::seen::hold::held_if_it_comes;
use crate::support::{ENGINES, Waiting, is_privileged, signal::ignore};
use ringfence::Kind;

fn signal(pid: i32, signal: Signal) {
    kill_process(RawPid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn a_direct_child_with_a_number_at_each_level() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let outer = Waiting::start(&Sandbox::new().user().pid().user_map(IdMap::root()));
        let nested = Sandbox::new().join_all(outer.id()).pid();
        // Refused: there is one namespace of a kind to be in.
        assert!(nested.command("true").compile().is_err());
        let joined = Waiting::start(&Sandbox::new().join_all(outer.id()));
        let process = probe::Process::read(joined.id()).unwrap();
        assert_eq!(process.parent.cast_unsigned(), std::process::id());
        let numbers = probe::status(joined.id(), "NSpid").unwrap();
        let numbers: Vec<u32> = numbers
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        assert_eq!(numbers, [joined.id(), *numbers.last().unwrap()]);
        let pid: Namespace<Pid> = Namespace::of_pid(outer.id()).unwrap();
        assert_eq!(pid.pid_inside(joined.id()).unwrap(), Some(numbers[1]));
        assert!(numbers[1] > 1);
        assert_eq!(link(joined.id(), Kind::Pid), pid.to_string());
    });
}

#[test]
fn the_status_is_exact() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let shell = |script| {
            let command = Sandbox::new().join_all(target.id()).command("/bin/sh");
            command.args(["-c", script]).status().unwrap()
        };
        assert_eq!(shell("exit 0").code(), Some(0));
        assert_eq!(shell("exit 255").code(), Some(255));
        assert_eq!(shell("kill -9 $$").signal(), Some(libc::SIGKILL));
        assert_eq!(shell("kill -TERM $$").signal(), Some(libc::SIGTERM));
        let mut child = Sandbox::new()
            .join_all(target.id())
            .command("/bin/sleep")
            .arg("60")
            .spawn()
            .unwrap();
        child.signal(libc::SIGUSR1).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGUSR1));
        let dies = Sandbox::new().join_all(target.id()).command("/bin/true");
        assert!(dies.die_with_parent().status().unwrap().success());
    });
}

/// A program that is a sibling of the child made first, and may have ended before the caller has a pidfd of it.
fn siblings(target: &Waiting) -> Vec<Sandbox> {
    let mut all = vec![Sandbox::new().join_all(target.id())];
    if is_privileged() {
        let owned = Sandbox::new().user().pid().owner(1, 1);
        all.extend(ENGINES.map(|engine| owned.clone().engine(engine)));
    }
    all
}

/// The kernel reaps the program at its end.
#[test]
fn a_caller_that_ignores_sigchld() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let siblings = siblings(&target);
        ignore(libc::SIGCHLD);
        let joined = Waiting::start(&Sandbox::new().join_all(target.id()));
        assert_eq!(link(joined.id(), Kind::Pid), link(target.id(), Kind::Pid));
        for sandbox in siblings {
            let plan = sandbox.clone().command("/bin/true").compile().unwrap();
            for _ in 0..100 {
                let mut child = plan.spawn().unwrap();
                let error = child.wait().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ECHILD), "{error:?}");
                child.kill().unwrap();
            }
            let none = sandbox.clone().command("/nonexistent").spawn().unwrap_err();
            assert_eq!(none.kind(), ErrorKind::NotFound, "{none:?}");
        }
    });
}

/// Another thread of the caller reaps whatever it can get.
#[test]
fn a_caller_that_reaps_any_child() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let siblings = siblings(&target);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = waitpid(None, WaitOptions::NOHANG);
                    std::thread::yield_now();
                }
            });
            let spawned = siblings.into_iter().try_for_each(|sandbox| {
                let plan = sandbox.command("/bin/true").compile()?;
                (0..100).try_for_each(|_| match plan.spawn()?.wait() {
                    Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(()),
                    other => other.map(drop),
                })
            });
            over.store(true, Ordering::Relaxed);
            spawned.unwrap();
        });
    });
}

/// The caller could not end the program.
#[test]
fn nothing_is_started_where_no_pidfd_can_be_opened() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let set = NamespaceSet::of_pid(target.id()).unwrap();
        let (user, pid) = (set.user.unwrap(), set.pid.unwrap());
        seccomp::deny(&[(libc::SYS_pidfd_open, libc::EPERM)]).unwrap();
        let joins = Sandbox::new().join(&user).join(&pid).command("/bin/true");
        let error = joins.spawn().unwrap_err();
        assert_eq!(error.syscall(), Some("pidfd_open"), "{error:?}");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error:?}");
    });
}

/// Its end ends what joins: also a program that does not expect it.
#[test]
fn the_end_of_the_namespace_ends_the_program() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let mut target = target();
        let sandbox = Sandbox::new().join_all(target.id());
        let mut child = sandbox.command("/bin/sleep").arg("60").spawn().unwrap();
        // Process 1 is not gone before the caller has reaped what else was there.
        target.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    });
}

/// The first limit that is tried.
const SHORT: Duration = Duration::from_millis(500);
/// That of a spawn without a limit of its own.
const USUAL: Duration = Duration::from_secs(10);

/// What happens to the stage, or to the process that it makes, while it is at a system call. `None` if its time was over
/// before it came there.
fn held_up(call: libc::c_long, act: fn(i32), limit: Option<Duration>) -> Option<ErrorKind> {
    let target = target();
    let command = Sandbox::new().join_all(target.id()).command("/bin/true");
    assert!(command.status().unwrap().success());
    let plan = match limit {
        Some(limit) => command.setup_timeout(limit).compile().unwrap(),
        None => command.compile().unwrap(),
    };
    let before = Census::take().without(&["maps", "status"]);
    let begun = Instant::now();
    let (spawned, came) = held_if_it_comes(call, || plan.spawn(), act);
    let (error, took) = (spawned.unwrap_err(), begun.elapsed());
    super::await_single_thread();
    assert_same(&before, &Census::take());
    assert_eq!(error.step(), Some(Step::Exec), "{error:?}");
    assert!(took < USUAL, "took {took:?}");
    came.then(|| error.kind())
}

fn is_killed(call: libc::c_long) {
    let found = held_up(call, |pid| signal(pid, Signal::KILL), None);
    assert_eq!(found, Some(ErrorKind::DiedBeforeExec));
}

const TOO_SHORT: i32 = 75;

/// On a machine that does other things, too, it may need more time to come to the call.
fn is_stopped(call: libc::c_long) {
    let limits = (0..).map(|tries| SHORT * 2_u32.pow(tries));
    for limit in limits.take_while(|limit| *limit < USUAL / 2) {
        let status = in_forked_child(|| {
            match held_up(call, |pid| signal(pid, Signal::STOP), Some(limit)) {
                Some(kind) => assert_eq!(kind, ErrorKind::TimedOut),
                None => return TOO_SHORT,
            }
            0
        });
        if status.code() != Some(TOO_SHORT) {
            return assert!(status.success(), "{status}");
        }
    }
    panic!("it does not come to the call");
}

macro_rules! at_each_call {
    ($($name:ident: $call:ident;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn stopped() {
                isolated_as_both(|| {
                    require!(seccomp_notify, userns);
                    stage!();
                    is_stopped(libc::$call);
                });
            }

            #[test]
            fn killed() {
                isolated_as_both(|| {
                    require!(seccomp_notify, userns);
                    stage!();
                    is_killed(libc::$call);
                });
            }
        })*
    };
}

// The first join, the clone of the program's process by the stage, and its first call there.
at_each_call! {
    entering: SYS_setns;
    cloning: SYS_clone;
    cloned: SYS_setgroups;
    becoming_root: SYS_setresuid;
}

/// Also where the program is the child of nobody that it sees.
#[test]
fn the_end_of_the_caller_ends_the_program() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let (mut told, mut tell) = std::io::pipe().unwrap();
        // The orphan comes here.
        set_child_subreaper(Some(getpid())).unwrap();
        let status = in_forked_child(|| {
            let command = Sandbox::new().join_all(target.id()).command("/bin/sleep");
            let child = command.arg("60").die_with_parent().spawn().unwrap();
            tell.write_all(&child.id().to_ne_bytes()).unwrap();
            0
        });
        assert!(status.success());
        let mut number = [0; 4];
        told.read_exact(&mut number).unwrap();
        let pid = RawPid::from_raw(i32::from_ne_bytes(number)).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert!(probe::ends_within(pidfd, Duration::from_secs(10)));
        // Before that, the end of the namespace would not be complete.
        wait_for(pid.as_raw_pid());
        set_child_subreaper(None).unwrap();
    });
}

#[test]
fn from_several_threads_at_once() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let plan = Sandbox::new().join_all(target.id()).command("/bin/true");
        let plan = plan.compile().unwrap();
        assert!(plan.spawn().unwrap().wait().unwrap().success());
        let before = Census::take().without(&["maps"]);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        assert!(plan.spawn().unwrap().wait().unwrap().success());
                    }
                });
            }
        });
        super::await_single_thread();
        assert_same(&before, &Census::take().without(&["maps"]));
    });
}
