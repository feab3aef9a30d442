//! A scan beside lsns(8): a thousand processes in two hundred namespaces, which the bench makes.
//!
//! Needs root, and lsns. A scan is one pass over `/proc`: every process is opened once.

#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to report to but its user"
)]

use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ringfence::inspect::{Scan, Snapshot, Sources};

#[path = "floor/compare.rs"]
#[allow(dead_code, reason = "a part is for other benches")]
mod compare;
#[path = "inspect/raw.rs"]
mod raw;

use compare::{in_blocks, report};

const BLOCKS: usize = 5;
const ROUNDS: usize = 8;
/// Each group shares a mount, a UTS, an IPC and a cgroup namespace.
const GROUPS: usize = 50;
const IN_EACH: usize = 20;

fn scan(sources: Sources) -> Snapshot {
    Scan::new().sources(sources).run().expect("/proc")
}

fn lsns(arguments: &[&str]) {
    // It fails where a process ends while it looks.
    let _ = Command::new("lsns")
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("lsns");
}

fn against_lsns(criterion: &mut Criterion) {
    let _groups: Vec<_> = (0..GROUPS).map(|_| raw::Group::new(IN_EACH)).collect();
    let snapshot = scan(Sources::all());
    println!(
        "{} processes, {} namespaces",
        snapshot.processes().len(),
        snapshot.namespaces().len()
    );
    drop(snapshot);
    for (name, sources, arguments) in [
        ("as lsns", Sources::RELATIONS, &[] as &[&str]),
        (
            "as lsns --output-all",
            Sources::RELATIONS | Sources::MOUNTS | Sources::NETNSIDS,
            &["--output-all"],
        ),
        ("everything", Sources::all(), &["--output-all"]),
    ] {
        let mut ours = || drop(scan(sources));
        let mut theirs = || lsns(arguments);
        let times = in_blocks(BLOCKS, ROUNDS, &mut [&mut ours, &mut theirs]);
        let names = ["ringfence", "lsns"];
        let contenders: Vec<_> = names.into_iter().zip(&times).collect();
        report("inspect", name, &contenders);
        let (peak, kept) = raw::memory(|| scan(sources));
        println!(
            "{name}: {} KiB at most, {} KiB of result",
            peak >> 10,
            kept >> 10
        );
    }
    let mut group = criterion.benchmark_group("scan");
    group.bench_function("processes", |b| b.iter(|| scan(Sources::empty())));
    group.bench_function("relations", |b| b.iter(|| scan(Sources::RELATIONS)));
    group.bench_function("everything", |b| b.iter(|| scan(Sources::all())));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
        .without_plots();
    targets = against_lsns
}
criterion_main!(benches);
