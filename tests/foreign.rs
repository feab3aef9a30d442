//! Callers that are not what they were, or not where they seem to be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;

use common::{isolated, sys};
use ringfence::{Engine, ErrorKind, Sandbox};

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
