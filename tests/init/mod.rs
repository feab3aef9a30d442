mod exec;
mod memfd;
mod memory;
mod reaping;
mod signals;
mod status;

use crate::common::seccomp;
use ringfence::{Command, Sandbox};

/// Both forms of the second stage: as a program of its own, and forked.
///
/// The body runs in a process of its own, in which the second time no file can be executed by its
/// descriptor.
macro_rules! both_forms {
    ($($(#[$attr:meta])* fn $name:ident() $body:block)*) => {
        $(mod $name {
            use super::*;

            fn body() $body

            #[test]
            $(#[$attr])*
            fn own_program() {
                crate::common::isolated(|| {
                    crate::common::require!(userns);
                    body();
                });
            }

            #[test]
            $(#[$attr])*
            fn forked() {
                crate::common::isolated(|| {
                    crate::common::require!(userns);
                    crate::init::forbid_own_program();
                    body();
                });
            }
        })*
    };
}
use both_forms;

fn forbid_own_program() {
    seccomp::deny(&[(libc::SYS_execveat, libc::EPERM)]).unwrap();
    assert_forked(&sandbox());
}

/// The plan tells which form was chosen.
fn assert_forked(sandbox: &Sandbox) {
    let plan = sandbox
        .clone()
        .command("true")
        .compile()
        .unwrap()
        .to_string();
    assert!(plan.contains("init: a copy of the caller"), "{plan}");
}

fn sandbox() -> Sandbox {
    Sandbox::new().user().pid().init()
}

fn shell(script: &str) -> Command {
    sandbox().command("/bin/sh").args(["-c", script])
}
