//! Spawn and wait against the memory of the caller.

use crate::floor::{self, Floor};
use crate::{Contender, race, sandbox, standard, succeed, tools};
use std::hint::black_box;
use std::path::Path;

/// The name, the bytes, and in how many turns.
const SIZES: [(&str, usize, usize); 6] = [
    ("10 MiB", 10 << 20, 200),
    ("100 MiB", 100 << 20, 120),
    ("512 MiB", 512 << 20, 60),
    ("1 GiB", 1 << 30, 40),
    ("2 GiB", 2 << 30, 30),
    ("4 GiB", 4 << 30, 20),
];

pub(crate) fn compare(program: &Path) {
    let (unshare, bwrap) = (tools::find("unshare"), tools::find("bwrap"));
    let plan = sandbox::compile(sandbox::isolated(), program);
    let mut floor = Floor::of_kinds(sandbox::KINDS, program);
    let mut forked = Floor::of_kinds(sandbox::KINDS, program).copied();
    let mut standard = standard::isolated(program);
    let mut unshare = unshare.map(|tool| tools::unshare(&tool, program));
    let mut bwrap = bwrap.map(|tool| tools::bwrap(&tool, program));
    for (size, bytes, rounds) in SIZES {
        let ballast = black_box(floor::ballast(bytes));
        let mut contenders: Vec<Contender<'_>> = vec![
            ("ringfence", Box::new(|| sandbox::run(&plan))),
            ("floor", Box::new(|| floor.spawn_and_wait())),
            ("floor by fork", Box::new(|| forked.spawn_and_wait())),
            ("std with pre_exec", Box::new(|| succeed(&mut standard))),
        ];
        if let Some(unshare) = &mut unshare {
            contenders.push(("unshare(1)", Box::new(|| succeed(unshare))));
        }
        if let Some(bwrap) = &mut bwrap {
            contenders.push(("bwrap", Box::new(|| succeed(bwrap))));
        }
        race("parent memory", size, rounds, contenders);
        drop(ballast);
    }
}
