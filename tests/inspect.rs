//! Looking into namespaces: nothing is missed, nothing mixed up. The oracle is `/proc` and lsns(8).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
#[path = "inspect/mod.rs"]
mod inspect;
mod support;
