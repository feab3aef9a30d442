//! Nothing outlives its owner.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;
#[path = "lifetime/mod.rs"]
mod lifetime;
