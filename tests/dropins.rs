//! The drop-ins beside the tools that they replace: the same command lines, and what the program then sees.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
#[path = "dropins/mod.rs"]
mod dropins;
mod seen;
mod support;
