//! Thousands of spawns, from many threads and under signals, leave nothing behind.
#![allow(
    clippy::unwrap_used,
    reason = "what goes wrong in a test fails the test"
)]

mod common;
mod raw;
mod seen;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use common::leaks::{Census, assert_same};
use common::threads::from_threads;
use common::{isolated, isolated_as_both, probe, require, sys};
use ringfence::{Engine, ErrorKind, IdMap, Plan, Sandbox, Step};
use rustix::process::{Pid, Signal, getpid, kill_process};
use seen::{SetOnDrop, await_threads, minimal};

const THREADS: usize = 8;

/// A root of its own, all that is cheap to make, and a program that ends at once.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new().user().pid().uts().ipc().cgroup();
    minimal(sandbox.user_map(IdMap::root()).hostname("box"))
}

/// Calls `work` from 8 threads at once, `each` times from each.
fn from_8_threads(each: usize, work: impl Fn() + Sync) {
    from_threads(THREADS, |_| (0..each).for_each(|_| work()));
    await_threads(1);
}

/// The stacks for children: each comes with one page that stays shared.
fn stacks() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_shared_page = |line: &&str| line.contains(" rw-s ") && line.contains("/dev/zero");
    maps.lines().filter(is_shared_page).count()
}

/// Private memory that can be written; what the allocator has only reserved does not count.
fn writable() -> usize {
    let size = probe::status("self", "VmData").unwrap();
    size.trim_end_matches("kB").trim().parse::<usize>().unwrap() << 10
}

/// `count` times the work, from 8 threads, after which everything is as before.
fn leaves_nothing(count: usize, work: impl Fn() + Sync) {
    from_8_threads(20, &work);
    let census = || Census::take().without(&["maps"]);
    let (before, size) = (census(), writable());
    from_8_threads(count / THREADS, &work);
    assert_same(&before, &census());
    // Not more than are in use at once.
    assert!(stacks() <= THREADS, "{} stacks", stacks());
    // A stack of 128 KiB left by every spawn would be more; the stacks of threads, which libc keeps, are
    // less.
    let grown = writable().saturating_sub(size);
    assert!(grown < 32 << 20, "the memory grew by {grown} bytes");
}

fn runs(plan: &Plan) {
    let status = plan.spawn().unwrap().wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn of_2000_spawns_from_8_threads() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let plan = sandbox().command("/bin/true").compile().unwrap();
        leaves_nothing(2000, || runs(&plan));
    });
}

#[test]
fn of_spawns_that_die_with_their_parent() {
    isolated(|| {
        let plan = Sandbox::new().command("/bin/true").die_with_parent();
        let plan = plan.compile().unwrap();
        leaves_nothing(400, || runs(&plan));
    });
}

#[test]
fn of_spawns_whose_maps_the_caller_writes() {
    isolated(|| {
        require!(root);
        let plan = seen::many_ids().command("/bin/true").uid(5).compile();
        let plan = plan.unwrap();
        leaves_nothing(400, || runs(&plan));
    });
}

#[test]
fn of_500_programs_that_are_missing() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let plan = sandbox().command("/no/such/program").compile().unwrap();
        leaves_nothing(500, || {
            let error = plan.spawn().unwrap_err();
            assert_eq!(
                (error.step(), error.kind()),
                (Some(Step::Exec), ErrorKind::NotFound)
            );
        });
    });
}

#[test]
fn of_500_failures_in_the_middle() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let sandbox = sandbox().dev("/dev").bind("/no/such/source", "/mnt");
        let plan = sandbox.tmpfs("/tmp").command("/bin/true").compile();
        let plan = plan.unwrap();
        leaves_nothing(500, || {
            let error = plan.spawn().unwrap_err();
            assert_eq!(
                (error.step(), error.kind()),
                (Some(Step::Bind), ErrorKind::NotFound)
            );
        });
    });
}

#[test]
fn of_children_that_are_killed_when_dropped() {
    isolated(|| {
        let plan = Sandbox::new()
            .command("/bin/sleep")
            .arg("1000")
            .kill_on_drop();
        let plan = plan.compile().unwrap();
        leaves_nothing(400, || drop(plan.spawn().unwrap()));
    });
}

/// A process that sends signals to its parent as fast as it can.
struct Storm(i32);

impl Storm {
    fn new(signal: Signal) -> Self {
        let target = getpid();
        match sys::fork().unwrap() {
            Some(pid) => Self(pid),
            None => {
                common::isolated::die_with_parent();
                while kill_process(target, signal).is_ok() {
                    std::thread::yield_now();
                }
                sys::exit_now(0);
            }
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        kill_process(Pid::from_raw(self.0).unwrap(), Signal::KILL).unwrap();
        common::isolated::wait_for(self.0);
    }
}

#[test]
fn signals_to_the_caller_stay_with_the_caller() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        raw::count(libc::SIGUSR1);
        let works = sandbox().command("/bin/true").compile().unwrap();
        let fails = sandbox().command("/no/such/program").compile().unwrap();
        // Another thread of the caller takes part.
        let by_thread = Sandbox::new().command("/bin/true").die_with_parent();
        let by_thread = by_thread.compile().unwrap();
        let storm = Storm::new(Signal::USR1);
        from_8_threads(30, || {
            runs(&works);
            runs(&by_thread);
            assert_eq!(fails.spawn().unwrap_err().step(), Some(Step::Exec));
        });
        drop(storm);
        assert!(raw::counted() > 100, "{} signals only", raw::counted());
        assert_eq!(raw::counted_elsewhere(), 0, "the handler ran in a child");
    });
}

/// The whole group gets it, so the child as well, before it has become the program.
#[test]
fn signals_to_the_group_do_not_run_the_handler_in_the_child() {
    isolated(|| {
        rustix::process::setpgid(None, None).unwrap();
        raw::count(libc::SIGUSR1);
        let done = AtomicBool::new(false);
        let plans = [Engine::Auto, Engine::Clone, Engine::Fork].map(|engine| {
            let sandbox = Sandbox::new().engine(engine);
            sandbox.command("/bin/true").compile().unwrap()
        });
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let group = rustix::process::getpgrp();
                    rustix::process::kill_process_group(group, Signal::USR1).unwrap();
                    std::thread::yield_now();
                }
            });
            let _done = SetOnDrop(&done);
            for plan in plans.iter().cycle().take(300) {
                // The default action may end the program, or the child just before it is the program.
                match plan.spawn() {
                    Ok(mut child) => drop(child.wait().unwrap()),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::DiedBeforeExec, "{error:?}"),
                }
            }
        });
        assert!(raw::counted() > 100, "{} signals only", raw::counted());
        assert_eq!(raw::counted_elsewhere(), 0, "the handler ran in a child");
    });
}
