//! Callers that are not what they were, or not where they seem to be: forked after a first spawn, or in
//! a pid namespace whose procfs is not mounted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
mod support;

use common::{in_forked_child, isolated, require, sys};
use ringfence::{Engine, ErrorKind, IdMap, Namespaces, Sandbox};
use rustix::thread::UnshareFlags;
use support::{ENGINES, Waiting};

/// A server that starts a program, then forks its workers, which start programs at the same time.
#[test]
fn forked_processes_do_not_disturb_each_other() {
    isolated(|| {
        for engine in [Engine::Auto, Engine::Fork] {
            let sandbox = Sandbox::new().engine(engine);
            let present = sandbox.clone().command("true").compile().unwrap();
            let absent = sandbox.command("/nonexistent").compile().unwrap();
            assert!(present.spawn().unwrap().wait().unwrap().success());
            let Some(worker) = sys::fork().unwrap() else {
                let found = (0..300).all(|_| {
                    let error = absent.spawn().unwrap_err();
                    error.kind() == ErrorKind::NotFound
                });
                sys::exit_now(i32::from(!found));
            };
            for _ in 0..300 {
                assert!(present.spawn().unwrap().wait().unwrap().success());
            }
            assert!(common::isolated::wait_for(worker).success(), "{engine:?}");
        }
    });
}

/// The body in a new pid namespace that has no procfs of its own.
fn in_pid_namespace(body: impl FnOnce()) {
    sys::unshare(UnshareFlags::NEWPID).unwrap();
    let status = in_forked_child(|| {
        body();
        0
    });
    assert!(status.success(), "{status}");
}

#[test]
fn maps_are_written_whatever_procfs_shows() {
    isolated(|| {
        require!(root);
        in_pid_namespace(|| {
            for engine in ENGINES {
                let sandbox = Sandbox::new()
                    .engine(engine)
                    .user()
                    .user_map(IdMap::range(0, 1000, 5));
                let plan = sandbox
                    .command("cat")
                    .arg("/proc/self/uid_map")
                    .stdout(ringfence::Stdio::piped())
                    .compile()
                    .unwrap();
                let output = plan.spawn().unwrap().wait_with_output().unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                let words: Vec<_> = text.split_whitespace().collect();
                assert_eq!(words, ["0", "1000", "5"], "{engine:?}");
            }
        });
    });
}

#[test]
fn namespaces_of_a_child_are_its_own_whatever_procfs_shows() {
    isolated(|| {
        require!(root);
        in_pid_namespace(|| {
            let child = Waiting::start(&Sandbox::new().uts());
            let ids = child.namespace_ids().unwrap();
            let uts = ids.get(ringfence::Kind::Uts).unwrap();
            let own = std::fs::read_link("/proc/self/ns/uts").unwrap();
            assert_ne!(uts.to_string(), own.to_str().unwrap());
            assert_eq!(child.namespace_ids().unwrap(), ids);
        });
    });
}

#[test]
fn a_parent_is_recognised_whatever_procfs_shows() {
    isolated(|| {
        require!(root);
        in_pid_namespace(|| {
            for engine in ENGINES {
                for namespaces in [Namespaces::empty(), Namespaces::PID] {
                    let status = Sandbox::new()
                        .engine(engine)
                        .namespaces(namespaces)
                        .command("true")
                        .die_with_parent()
                        .status()
                        .unwrap();
                    assert!(status.success(), "{engine:?}, {namespaces}");
                }
            }
        });
    });
}
