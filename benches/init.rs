//! What process 1 costs: spawn and wait, with init and without, from a small and from a large caller.
//!
//! Goal: at most 0.15 ms more with init, whatever the size of the caller.

#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to report to but its user"
)]

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ringfence::{Plan, Sandbox};

mod floor;

fn plans(program: &Path) -> [(&'static str, Plan); 2] {
    let sandbox = Sandbox::new().user().pid();
    let plan = |sandbox: &Sandbox| {
        let command = sandbox.clone().command(program).env_clear();
        match command.compile() {
            Ok(plan) => plan,
            Err(error) => panic!("{error:?}"),
        }
    };
    [
        ("without", plan(&sandbox)),
        ("with", plan(&sandbox.clone().init())),
    ]
}

fn run(plan: &Plan) {
    let status = plan.spawn().and_then(|mut child| child.wait());
    assert!(status.is_ok_and(|status| status.success()));
}

fn sizes(criterion: &mut Criterion) {
    let directory = floor::program_directory();
    let program = floor::tiny_program(directory.path());
    for (name, bytes) in [("10 MiB", 10 << 20), ("2 GiB", 2 << 30)] {
        let memory = black_box(floor::ballast(bytes));
        let [(_, without), (_, with)] = plans(&program);
        let [without, with] = floor::interleave(500, [&mut || run(&without), &mut || run(&with)]);
        let contenders = [("with process 1", &with), ("without", &without)];
        floor::report("process 1", name, &contenders);
        let mut group = criterion.benchmark_group(name);
        for (which, plan) in plans(&program) {
            group.bench_function(which, |b| b.iter(|| run(&plan)));
        }
        group.finish();
        drop(memory);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .without_plots();
    targets = sizes
}
criterion_main!(benches);
