//! The floor by itself.

#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

mod floor;
use floor::{Floor, Row};

fn rows(criterion: &mut Criterion) {
    let directory = floor::program_directory();
    let program = floor::tiny_program(directory.path());

    let mut group = criterion.benchmark_group("10 MiB");
    let small = black_box(floor::ballast(10 << 20));
    for row in Row::ALL {
        let mut floor = Floor::new(row, &program, &[]);
        group.bench_function(row.name(), |b| b.iter(|| floor.spawn_and_wait()));
    }
    group.finish();
    drop(small);

    let mut group = criterion.benchmark_group("2 GiB");
    let large = black_box(floor::ballast(2 << 30));
    for row in [Row::NoNamespaces, Row::SixNamespaces] {
        let mut floor = Floor::new(row, &program, &[]);
        group.bench_function(row.name(), |b| b.iter(|| floor.spawn_and_wait()));
    }
    group.finish();
    drop(large);

    let mut group = criterion.benchmark_group("19000 descriptors");
    let descriptors = black_box(floor::many_descriptors(19_000));
    let mut floor = Floor::new(Row::NoNamespaces, &program, &[]);
    group.bench_function("close on exec", |b| b.iter(|| floor.spawn_and_wait()));
    let mut floor = floor.close_first();
    group.bench_function("close first", |b| b.iter(|| floor.spawn_and_wait()));
    group.finish();
    drop(descriptors);
}

/// How far apart two equal contenders come out: what a ratio has to exceed to mean anything.
fn noise(_: &mut Criterion) {
    let directory = floor::program_directory();
    let program = floor::tiny_program(directory.path());
    for row in Row::ALL {
        let mut one = Floor::new(row, &program, &[]);
        let mut other = Floor::new(row, &program, &[]);
        let [one, other] = floor::interleave(
            500,
            [&mut || one.spawn_and_wait(), &mut || other.spawn_and_wait()],
        );
        println!(
            "{}: lower quartiles {:?} {:?}, medians {:?} {:?}",
            row.name(),
            one.lower_quartile(),
            other.lower_quartile(),
            one.median(),
            other.median(),
        );
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .without_plots();
    targets = noise, rows
}
criterion_main!(benches);
