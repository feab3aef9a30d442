//! Roots of a few and of many binds: by the newer calls, by mount(2), from a template, and the floor.
//!
//! Each contender is the whole life of a sandbox, from spawn to the end of a tiny program. They take turns,
//! so that a busy machine is unfair to none.

#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to report to but its user"
)]

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ringfence::{IdMap, Plan, Rootfs, Sandbox};

mod floor;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/common/seccomp.rs"]
mod seccomp;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/common/sys.rs"]
mod sys;

use floor::{Floor, Row, report};

/// A root that a template can be made of.
fn sandbox(binds: usize) -> Sandbox {
    with_root(Rootfs::tmpfs().read_only(), binds)
}

/// The root of the floor.
fn plain(binds: usize) -> Sandbox {
    with_root(Rootfs::tmpfs(), binds)
}

fn with_root(root: Rootfs, binds: usize) -> Sandbox {
    let bound = floor::bound_directories();
    let mut sandbox = Sandbox::new()
        .user()
        .mount()
        .pid()
        .uts()
        .ipc()
        .cgroup()
        .user_map(IdMap::root())
        .rootfs(root);
    for number in 0..binds {
        let source = bound[number % bound.len()];
        sandbox = match number.checked_sub(bound.len()) {
            None => sandbox.bind_ro(source, source),
            Some(more) => sandbox.bind_ro(source, format!("/more{more}")),
        };
    }
    sandbox.proc("/proc")
}

fn plan(sandbox: Sandbox, program: &Path) -> Plan {
    sandbox.command(program).compile().unwrap()
}

/// A plan made where the newer calls are missing; it does without them everywhere.
fn plan_by_mount(sandbox: Sandbox, program: &Path) -> Plan {
    let compile = || {
        let missing = [
            libc::SYS_mount_setattr,
            libc::SYS_open_tree,
            libc::SYS_fsopen,
        ];
        seccomp::deny(&missing.map(|call| (call, libc::ENOSYS))).unwrap();
        plan(sandbox, program)
    };
    // The filter holds for one thread.
    std::thread::scope(|scope| scope.spawn(compile).join().unwrap())
}

fn run(plan: &Plan) {
    assert!(plan.spawn().unwrap().wait().unwrap().success());
}

fn rows(criterion: &mut Criterion) {
    let directory = floor::program_directory();
    let program = floor::tiny_program(directory.path());
    let template = plan(sandbox(5).template(), &program);
    let template_works = template.spawn().and_then(|mut child| child.wait()).is_ok();
    for binds in [5, 50] {
        let mut group = criterion.benchmark_group(format!("{binds} binds"));
        let new = plan(sandbox(binds), &program);
        group.bench_function("newer calls", |b| b.iter(|| run(&new)));
        let classic = plan_by_mount(sandbox(binds), &program);
        group.bench_function("mount(2)", |b| b.iter(|| run(&classic)));
        if template_works {
            let template = plan(sandbox(binds).template(), &program);
            group.bench_function("template", |b| b.iter(|| run(&template)));
        }
        let mut floor = Floor::new(Row::MinimalRoot, &program, &[]).binds(binds);
        group.bench_function("floor", |b| b.iter(|| floor.spawn_and_wait()));
        group.finish();
    }
}

/// The same side by side.
fn ratios(_: &mut Criterion) {
    let directory = floor::program_directory();
    let program = floor::tiny_program(directory.path());
    for binds in [5, 50] {
        let new = plan(sandbox(binds), &program);
        let classic = plan_by_mount(sandbox(binds), &program);
        let template = plan(sandbox(binds).template(), &program);
        let [new, classic] = floor::interleave(300, [&mut || run(&new), &mut || run(&classic)]);
        let case = format!("{binds} binds");
        report(
            "mount calls",
            &case,
            &[("newer calls", &new), ("mount(2)", &classic)],
        );
        if template.spawn().and_then(|mut child| child.wait()).is_ok() {
            let fresh = plan(sandbox(binds), &program);
            let [fresh, template] =
                floor::interleave(300, [&mut || run(&fresh), &mut || run(&template)]);
            report(
                "template",
                &case,
                &[("template", &template), ("fresh", &fresh)],
            );
        }
        let ours = plan(plain(binds), &program);
        let mut floor = Floor::new(Row::MinimalRoot, &program, &[]).binds(binds);
        let [ours, floor] =
            floor::interleave(300, [&mut || run(&ours), &mut || floor.spawn_and_wait()]);
        report("binds", &case, &[("ringfence", &ours), ("floor", &floor)]);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .without_plots();
    targets = ratios, rows
}
criterion_main!(benches);
