//! Tests of the test support itself.

mod common;

#[path = "testkit/faults.rs"]
mod faults;
#[path = "testkit/isolation.rs"]
mod isolation;
#[path = "testkit/leaks.rs"]
mod leaks;
#[path = "testkit/needs.rs"]
mod needs;
#[path = "testkit/switches.rs"]
mod switches;

use common::alloc::ParentOnly;

#[global_allocator]
static ALLOC: ParentOnly = ParentOnly;
