mod exec;
mod memfd;
mod memory;
mod reaping;
mod signals;
mod status;
mod subreaper;

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
                    crate::init::require_stage!();
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
fn is_own_program(sandbox: &Sandbox) -> bool {
    let plan = sandbox.clone().command("true").compile().unwrap();
    let plan = plan.to_string();
    let forked = plan.contains("init: a copy of the caller");
    assert!(
        forked || plan.contains("init: a program of its own"),
        "{plan}"
    );
    !forked
}

fn assert_forked(sandbox: &Sandbox) {
    assert!(!is_own_program(sandbox));
}

/// Where the crate was built without the second stage, there is only one form.
macro_rules! require_stage {
    () => {
        if !crate::init::is_own_program(&crate::init::sandbox()) {
            let test = crate::common::test_name!();
            crate::common::require::missing(test, "stage", "built without it");
            return;
        }
    };
}
use require_stage;

fn sandbox() -> Sandbox {
    Sandbox::new().user().pid().init()
}

fn shell(script: &str) -> Command {
    sandbox().command("/bin/sh").args(["-c", script])
}
