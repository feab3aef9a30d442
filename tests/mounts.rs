//! What a sandbox mounts, seen from inside: by the newer calls, and by mount(2) where they are missing.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by a panic")]

mod common;

#[path = "mounts/data.rs"]
mod data;
#[path = "mounts/entries.rs"]
mod entries;
#[path = "mounts/fallback.rs"]
mod fallback;
#[path = "mounts/inside.rs"]
mod inside;
#[path = "mounts/locked.rs"]
mod locked;
#[path = "mounts/refused.rs"]
mod refused;
mod support;
#[path = "mounts/tree.rs"]
mod tree;
