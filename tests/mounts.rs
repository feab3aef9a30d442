//! What a sandbox mounts, seen from inside: by the newer calls, and by mount(2) where they are missing.

mod common;

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
#[path = "mounts/tree.rs"]
mod tree;
