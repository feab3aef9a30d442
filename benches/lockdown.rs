//! What lock-down costs: spawn and wait, with each part of it and with all, over none.
//!
//! Goal: all of it for at most 0.15 ms; and the container preset, with everything that it consists of.

#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to report to but its user"
)]

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ringfence::lockdown::{
    Capabilities, Hardening, IoPriority, LandlockPaths, Resource, Rlimit, SeccompFilter,
};
use ringfence::{IdMap, Plan, Rootfs, Sandbox};

mod floor;

const ROUNDS: usize = 500;

fn plan(sandbox: Sandbox, program: &Path) -> Plan {
    match sandbox.command(program).env_clear().compile() {
        Ok(plan) => plan,
        Err(error) => panic!("{error:?}"),
    }
}

fn run(plan: &Plan) {
    let status = plan.spawn().and_then(|mut child| child.wait());
    assert!(status.is_ok_and(|status| status.success()));
}

fn filter() -> SeccompFilter {
    SeccompFilter::container().expect("this architecture has one")
}

fn limited(sandbox: Sandbox) -> Sandbox {
    let limited = Resource::ALL.into_iter().take(4);
    let limited = limited.fold(sandbox, |sandbox, resource| {
        sandbox.rlimit(resource, Rlimit::new(1 << 30, 1 << 30))
    });
    limited
        .nice(1)
        .io_priority(IoPriority::Idle)
        .affinity(0..64)
}

/// All that needs no file system of its own.
fn all(sandbox: Sandbox, landlock: &LandlockPaths) -> Sandbox {
    let sandbox = limited(sandbox)
        .capabilities(Capabilities::CONTAINER)
        .seccomp(filter());
    match landlock.ruleset() {
        Ok(ruleset) => sandbox.landlock(ruleset),
        Err(error) => {
            println!("without Landlock: {error:?}");
            sandbox
        }
    }
}

fn compare(name: &str, without: &Plan, with: &Plan) {
    let [without, with] = floor::interleave(ROUNDS, [&mut || run(without), &mut || run(with)]);
    floor::report("lock-down", name, &[("with", &with), ("without", &without)]);
}

fn parts(criterion: &mut Criterion) {
    let directory = floor::program_directory();
    let program = floor::tiny_program(directory.path());
    let landlock = LandlockPaths::new().execute(directory.path());
    let base = || Sandbox::new().user().user_map(IdMap::root());
    let none = plan(base(), &program);
    for (name, sandbox) in [
        ("no_new_privs", base().no_new_privs()),
        ("limits", limited(base())),
        ("capabilities", base().capabilities(Capabilities::CONTAINER)),
        ("filter", base().seccomp(filter())),
        ("all", all(base(), &landlock)),
    ] {
        compare(name, &none, &plan(sandbox, &program));
    }
    let init = || base().pid().init();
    let (without, with) = (init(), all(init(), &landlock));
    compare(
        "all, with init",
        &plan(without, &program),
        &plan(with, &program),
    );
    let inside = Path::new("/tiny");
    let rooted = || Rootfs::dir(directory.path());
    let container = || Sandbox::container(rooted()).expect("this architecture has a filter");
    let bare = container()
        .capabilities(ringfence::lockdown::CapabilitySets::new())
        .without_seccomp()
        .allow_new_privs();
    let masked = bare.clone();
    let bare = bare.harden(Hardening::new());
    compare(
        "masks of a container",
        &plan(bare.clone(), inside),
        &plan(masked, inside),
    );
    compare("container", &plan(bare, inside), &plan(container(), inside));
    let mut group = criterion.benchmark_group("lockdown");
    for (name, plan) in [
        ("none", none),
        ("all", plan(all(base(), &landlock), &program)),
        ("container", plan(container(), inside)),
    ] {
        group.bench_function(name, |b| b.iter(|| run(&plan)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .without_plots();
    targets = parts
}
criterion_main!(benches);
