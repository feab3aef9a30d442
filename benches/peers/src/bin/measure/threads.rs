//! How starts from several threads at once get in each other's way.

use crate::floor::{self, Floor};
use crate::{sandbox, standard, succeed};
use std::hint::black_box;
use std::path::Path;

const THREADS: [u32; 4] = [1, 2, 4, 8];
const ROUNDS: usize = 10;
/// By each thread in each round.
const SPAWNS: u32 = 20;

fn on_threads(number: u32, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..number {
            scope.spawn(&work);
        }
    });
}

pub(crate) fn compare(program: &Path) {
    let plan = sandbox::compile(sandbox::isolated(), program);
    let ballast = black_box(floor::ballast(10 << 20));
    for number in THREADS {
        let ours = || (0..SPAWNS).for_each(|_| sandbox::run(&plan));
        let by_hand = || {
            let mut floor = Floor::of_kinds(sandbox::KINDS, program);
            (0..SPAWNS).for_each(|_| floor.spawn_and_wait());
        };
        let standard = || {
            let mut command = standard::isolated(program);
            (0..SPAWNS).for_each(|_| succeed(&mut command));
        };
        let times = floor::interleave(
            ROUNDS,
            [
                &mut || on_threads(number, ours),
                &mut || on_threads(number, by_hand),
                &mut || on_threads(number, standard),
            ],
        );
        let [ours, by_hand, standard] = times.map(|times| times.each_of(number * SPAWNS));
        let contenders = [
            ("ringfence", &ours),
            ("floor", &by_hand),
            ("std with pre_exec", &standard),
        ];
        floor::report("threads", &number.to_string(), &contenders);
    }
    drop(ballast);
}
