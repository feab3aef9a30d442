//! Programs in namespaces of others. The oracle is `/proc/PID` and what the program itself sees.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
#[path = "join/mod.rs"]
mod join;
mod seen;
mod support;
