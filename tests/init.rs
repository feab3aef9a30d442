//! Process 1 of a sandbox: it reaps, forwards signals, and passes on how the program ended.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;
#[path = "init/mod.rs"]
mod init;
