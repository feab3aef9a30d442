//! ringfence beside the crates for sandboxes, with the same isolation and in one run.
//!
//! Needs root and a quiet machine. With `RINGFENCE_RESULTS` the figures are kept, see `benches/peers/figures`.

#[path = "../../../floor/mod.rs"]
mod floor;
mod peers;
#[path = "../../src/bin/measure/race.rs"]
mod race;
#[path = "../../src/bin/measure/sandbox.rs"]
mod sandbox;
#[path = "../../src/bin/measure/standard.rs"]
mod standard;
mod versions;

use floor::Floor;
use race::{Contender, race, succeed};
use ringfence::Sandbox;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

/// The name, the bytes, and in how many turns.
const SIZES: [(&str, usize, usize); 2] = [("10 MiB", 10 << 20, 400), ("2 GiB", 2 << 30, 40)];

struct Isolation {
    name: &'static str,
    sandbox: Sandbox,
    /// `CLONE_NEW*`.
    kinds: libc::c_int,
    /// By `std::process`, if it can be had in that way.
    standard: Option<(&'static str, Command)>,
}

fn isolations(program: &Path) -> [Isolation; 3] {
    [
        Isolation {
            name: "no namespaces",
            sandbox: Sandbox::new(),
            kinds: 0,
            standard: Some(("std", Command::new(program))),
        },
        Isolation {
            name: "five namespaces",
            sandbox: sandbox::isolated(),
            kinds: sandbox::KINDS,
            standard: Some(("std with pre_exec", standard::isolated(program))),
        },
        Isolation {
            name: "six namespaces",
            sandbox: sandbox::isolated().pid(),
            kinds: sandbox::KINDS | libc::CLONE_NEWPID,
            standard: None,
        },
    ]
}

impl Isolation {
    fn compare(self, size: &str, rounds: usize, program: &Path) {
        let plan = sandbox::compile(self.sandbox, program);
        let mut forked = Floor::of_kinds(self.kinds, program).copied();
        let mut unshare = peers::unshare(self.kinds, program);
        let mut contenders: Vec<Contender<'_>> = vec![
            ("ringfence", Box::new(|| sandbox::run(&plan))),
            ("floor by fork", Box::new(|| forked.spawn_and_wait())),
        ];
        if let Some((name, mut command)) = self.standard {
            contenders.push((name, Box::new(move || succeed(&mut command))));
        }
        contenders.push(("unshare", Box::new(|| peers::run_unshare(&mut unshare))));
        #[cfg(feature = "hakoniwa")]
        {
            let mut hakoniwa = peers::hakoniwa(self.kinds, program);
            let run = move || peers::run_hakoniwa(&mut hakoniwa);
            contenders.push(("hakoniwa", Box::new(run)));
        }
        let case = format!("{}, {size}", self.name);
        race("Rust peers", &case, rounds, contenders);
    }
}

fn main() {
    versions::keep();
    let directory = floor::program_directory();
    let program = floor::tiny_program(directory.path());
    for (size, bytes, rounds) in SIZES {
        let ballast = black_box(floor::ballast(bytes));
        for isolation in isolations(&program) {
            isolation.compare(size, rounds, &program);
        }
        drop(ballast);
    }
}
