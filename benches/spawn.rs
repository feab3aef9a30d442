//! Spawn and wait: ringfence beside the floor of raw system calls, in one run.
//!
//! The ratios come first, measured in turns, so that a machine whose speed drifts does not matter; the
//! medians that criterion keeps follow.

#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to report to but its user"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use floor::{Floor, Row, Times, interleave};
use ringfence::{IdMap, Plan, Rootfs, Sandbox, TimeOffset};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

mod floor;

/// The same isolation as the row of the floor.
fn sandbox(row: Row) -> Sandbox {
    let mut sandbox = Sandbox::new();
    if row >= Row::SixNamespaces {
        sandbox = sandbox
            .user()
            .mount()
            .pid()
            .uts()
            .ipc()
            .cgroup()
            .user_map(IdMap::root());
    }
    if row >= Row::MinimalRoot {
        sandbox = sandbox.rootfs(Rootfs::tmpfs());
        for directory in floor::bound_directories() {
            sandbox = sandbox.bind_ro(directory, directory);
        }
        sandbox = sandbox.proc("/proc");
    }
    if row >= Row::AllEight {
        let day = TimeOffset::from(Duration::from_secs(86_400));
        sandbox = sandbox
            .net()
            .time()
            .monotonic_offset(day)
            .boottime_offset(day)
            .dev("/dev");
    }
    sandbox
}

fn plan(row: Row, program: &Path) -> Plan {
    sandbox(row)
        .command(program)
        .compile()
        .expect("this machine allows the sandbox")
}

fn run(plan: &Plan) {
    let status = plan
        .spawn()
        .and_then(|mut child| child.wait())
        .expect("the sandbox starts");
    assert!(status.success());
}

fn print(name: &str, ours: &Times, other: &Times, what: &str) {
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    println!(
        "{name}: {:.3} x {what} at the lower quartile ({:?} / {:?}), {:.3} x at the median ({:?} / {:?})",
        ratio(ours.lower_quartile(), other.lower_quartile()),
        ours.lower_quartile(),
        other.lower_quartile(),
        ratio(ours.median(), other.median()),
        ours.median(),
        other.median(),
    );
}

const ROUNDS: usize = 1000;
/// Where the rounds cannot take turns one by one, they do so in this many blocks.
const BLOCKS: usize = 4;

/// Ours beside the floor, for every row.
fn against_the_floor(program: &Path) {
    for row in Row::ALL {
        let plan = plan(row, program);
        let mut floor = Floor::new(row, program, &[]);
        let [ours, theirs] =
            interleave(ROUNDS, [&mut || run(&plan), &mut || floor.spawn_and_wait()]);
        print(row.name(), &ours, &theirs, "the floor");
    }
}

/// Ours with much against ours with little. A process cannot be large and small in turns quickly, so
/// the rounds alternate in blocks.
fn against_itself(program: &Path) {
    for row in [Row::NoNamespaces, Row::SixNamespaces, Row::MinimalRoot] {
        let plan = plan(row, program);
        let mut small = Vec::new();
        let mut large = Vec::new();
        for _ in 0..BLOCKS {
            let [times] = interleave(ROUNDS / BLOCKS, [&mut || run(&plan)]);
            small.push(times);
            let ballast = black_box(floor::ballast(2 << 30));
            let [times] = interleave(ROUNDS / BLOCKS, [&mut || run(&plan)]);
            large.push(times);
            drop(ballast);
        }
        let name = format!("{}, 2 GiB resident", row.name());
        print(
            &name,
            &Times::merge(large),
            &Times::merge(small),
            "as with 10 MiB",
        );
    }
    for row in [Row::NoNamespaces, Row::SixNamespaces] {
        let plan = plan(row, program);
        let piped = sandbox(row)
            .command(program)
            .stdout(ringfence::Stdio::piped())
            .compile()
            .expect("this machine allows the sandbox");
        for (how, plan) in [("", plan), (", piped", piped)] {
            let mut few = Vec::new();
            let mut many = Vec::new();
            for _ in 0..BLOCKS {
                let [times] = interleave(ROUNDS / BLOCKS, [&mut || run(&plan)]);
                few.push(times);
                let descriptors = black_box(floor::many_descriptors(19_000));
                let [times] = interleave(ROUNDS / BLOCKS, [&mut || run(&plan)]);
                many.push(times);
                drop(descriptors);
            }
            let name = format!("{}{how}, 19,000 descriptors", row.name());
            print(
                &name,
                &Times::merge(many),
                &Times::merge(few),
                "as with few",
            );
        }
    }
    late(program);
}

/// Pipes of a command that is compiled when the caller has many descriptors already.
fn late(program: &Path) {
    for row in [Row::NoNamespaces, Row::SixNamespaces] {
        let command = sandbox(row).command(program);
        let once = || {
            let output = command.output().expect("the sandbox starts");
            assert!(output.status.success());
        };
        let mut few = Vec::new();
        let mut many = Vec::new();
        for _ in 0..BLOCKS {
            let [times] = interleave(ROUNDS / BLOCKS, [&mut || once()]);
            few.push(times);
            let descriptors = black_box(floor::many_descriptors(19_000));
            let [times] = interleave(ROUNDS / BLOCKS, [&mut || once()]);
            many.push(times);
            drop(descriptors);
        }
        let name = format!("{}, output() once, 19,000 descriptors", row.name());
        print(
            &name,
            &Times::merge(many),
            &Times::merge(few),
            "as with few",
        );
    }
}

fn ratios(_: &mut Criterion) {
    let directory = floor::program_directory();
    let program = floor::tiny_program(directory.path());
    let small = black_box(floor::ballast(10 << 20));
    against_the_floor(&program);
    against_itself(&program);
    drop(small);
}

fn medians(criterion: &mut Criterion) {
    let directory = floor::program_directory();
    let program = floor::tiny_program(directory.path());
    for (size, bytes) in [("10 MiB", 10 << 20), ("2 GiB", 2 << 30)] {
        let ballast = black_box(floor::ballast(bytes));
        let mut group = criterion.benchmark_group(format!("spawn, {size}"));
        for row in Row::ALL {
            let plan = plan(row, &program);
            group.bench_function(format!("ringfence/{}", row.name()), |b| {
                b.iter(|| run(&plan))
            });
            let mut floor = Floor::new(row, &program, &[]);
            group.bench_function(format!("floor/{}", row.name()), |b| {
                b.iter(|| floor.spawn_and_wait());
            });
        }
        group.finish();
        drop(ballast);
    }
    criterion.bench_function("compile/all eight", |b| {
        b.iter(|| plan(Row::AllEight, &program));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .without_plots();
    targets = ratios, medians
}
criterion_main!(benches);
