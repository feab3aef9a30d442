//! Namespaces as typed handles: opened, made, entered, pinned, related. The oracle is `/proc/PID/ns`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
#[path = "handles/mod.rs"]
mod handles;
mod raw;
mod support;
