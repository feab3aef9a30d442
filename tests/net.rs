//! Networks: what the crate makes is what ip(8) sees, and the reverse, and packets cross. All of it in
//! namespaces that the test makes, as root and in a user namespace.
#![cfg(feature = "net")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
#[path = "net/mod.rs"]
mod net;
mod support;
