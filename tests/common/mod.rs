//! Support shared by the integration tests; a test binary takes it in with `mod common;`.
//!
//! It does not use the crate under test: what a test learns here comes from the kernel.
//!
//! - [`isolated`]: a test body in a process of its own, as the caller or as an unprivileged user.
//! - [`require`]: what the machine can do, found by trying; what is missing skips the test.
//! - [`leaks`]: the state of a process, before and after.
//! - [`faults`]: makes the k-th system call of a process tree fail, from outside.
//! - [`seccomp`]: system calls switched off.
//! - [`alloc`]: an allocator that ends any process but the one that armed it.
//! - [`probe`]: readers of /proc.
//! - [`shell`]: scripts that take signals.
//! - [`terminal`]: a terminal whose user is the test.
//! - [`threads`]: the same work from several threads at once.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "every test binary uses a part"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test fails by a panic"
)]

/// The name that libtest gives the test this is used in.
macro_rules! test_name {
    () => {{
        fn here() {}
        $crate::common::isolated::test_of(std::any::type_name_of_val(&here))
    }};
}
pub(crate) use test_name;

pub(crate) mod alloc;
pub(crate) mod faults;
pub(crate) mod isolated;
pub(crate) mod leaks;
pub(crate) mod probe;
pub(crate) mod require;
pub(crate) mod seccomp;
pub(crate) mod shell;
pub(crate) mod sys;
pub(crate) mod terminal;
pub(crate) mod threads;
pub(crate) mod user;

pub(crate) use isolated::{in_forked_child, isolated, isolated_test};
pub(crate) use require::require;
pub(crate) use user::{isolated_as_both, isolated_as_user, isolated_as_user_with_subids};
