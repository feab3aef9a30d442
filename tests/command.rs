//! The command: as std's, and what std has not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
mod support;

#[path = "command/child.rs"]
mod child;
#[path = "command/descriptors.rs"]
mod descriptors;
#[path = "command/lifetime.rs"]
mod lifetime;
#[path = "command/parity.rs"]
mod parity;
