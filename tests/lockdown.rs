//! What binds the program: its `/proc/PID/status` is exactly what was asked for, or it never runs.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;
#[path = "mounts/inside.rs"]
mod inside;
#[path = "lockdown/mod.rs"]
mod lockdown;
