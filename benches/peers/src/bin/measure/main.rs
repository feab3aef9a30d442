//! ringfence beside its peers, with the same isolation and in one run.
//!
//! Needs root and a quiet machine. With `RINGFENCE_RESULTS` the figures are kept, see `benches/peers/figures`.

mod containers;
mod facts;
#[path = "../../../../floor/mod.rs"]
mod floor;
mod memory;
mod names;
mod oci;
mod race;
mod sandbox;
mod standard;
mod threads;
mod tools;

use race::{Contender, race, succeed};

fn main() {
    facts::keep();
    let directory = floor::program_directory();
    let program = floor::tiny_program(directory.path());
    memory::compare(&program);
    threads::compare(&program);
    containers::compare();
    names::compare(&program);
}
