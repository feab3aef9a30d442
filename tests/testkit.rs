//! Tests of the test support itself.

mod common;

#[path = "testkit/isolation.rs"]
mod isolation;
#[path = "testkit/leaks.rs"]
mod leaks;
#[path = "testkit/needs.rs"]
mod needs;
