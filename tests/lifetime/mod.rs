mod foreground;
mod gate;
mod nested;
mod orphaned;
mod shutdown;
mod terminal;

#[path = "../support/signal.rs"]
#[allow(dead_code, reason = "every test binary uses a part of this")]
mod signal;

use crate::common::seccomp;

/// The second stage takes its other form.
fn forbid_own_program() {
    seccomp::deny(&[(libc::SYS_execveat, libc::EPERM)]).unwrap();
}
