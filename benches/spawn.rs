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
use floor::{Floor, Row, Times, interleave, report};
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
        sandbox = a_day_later(sandbox.net()).dev("/dev");
    }
    sandbox
}

fn a_day_later(sandbox: Sandbox) -> Sandbox {
    let day = TimeOffset::from(Duration::from_secs(86_400));
    sandbox.time().monotonic_offset(day).boottime_offset(day)
}

fn plan(row: Row, program: &Path) -> Plan {
    compile(sandbox(row), program)
}

fn compile(sandbox: Sandbox, program: &Path) -> Plan {
    sandbox
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
        let contenders = [("ringfence", &ours), ("floor", &theirs)];
        report("spawn", row.name(), &contenders);
    }
}

/// The same for each kind alone, which takes root.
fn kind_by_kind(program: &Path) {
    let none = Sandbox::new;
    let kinds = [
        (
            "user",
            libc::CLONE_NEWUSER,
            none().user().user_map(IdMap::root()),
        ),
        ("mnt", libc::CLONE_NEWNS, none().mount()),
        ("pid", libc::CLONE_NEWPID, none().pid()),
        ("net", libc::CLONE_NEWNET, none().net()),
        ("uts", libc::CLONE_NEWUTS, none().uts()),
        ("ipc", libc::CLONE_NEWIPC, none().ipc()),
        ("cgroup", libc::CLONE_NEWCGROUP, none().cgroup()),
        ("time", libc::CLONE_NEWTIME, a_day_later(none())),
    ];
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED kinds: not root");
        return;
    }
    for (name, kind, sandbox) in kinds {
        let plan = compile(sandbox, program);
        let mut floor = Floor::of_kinds(kind, program);
        let [ours, theirs] = interleave(
            ROUNDS / 2,
            [&mut || run(&plan), &mut || floor.spawn_and_wait()],
        );
        report("kinds", name, &[("ringfence", &ours), ("floor", &theirs)]);
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
        let (large, small) = (Times::merge(large), Times::merge(small));
        let contenders = [("2 GiB resident", &large), ("10 MiB resident", &small)];
        report("caller's memory", row.name(), &contenders);
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
            descriptors(&format!("{}{how}", row.name()), many, few);
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
        descriptors(&format!("{}, compiled late, piped", row.name()), many, few);
    }
}

fn descriptors(case: &str, many: Vec<Times>, few: Vec<Times>) {
    let (many, few) = (Times::merge(many), Times::merge(few));
    let contenders = [("19,000 open", &many), ("few open", &few)];
    report("caller's descriptors", case, &contenders);
}

fn ratios(_: &mut Criterion) {
    let directory = floor::program_directory();
    let program = floor::tiny_program(directory.path());
    let small = black_box(floor::ballast(10 << 20));
    against_the_floor(&program);
    kind_by_kind(&program);
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
