//! What handles cost, each beside the bare calls: to make and close one of each kind, to open, to enter.
//!
//! Needs root. A user or pid namespace is made by a process, the others by a thread; a pid namespace needs one that
//! stays, and so a program, since a copy of the caller would keep all of its memory. A number of a process means one
//! of the caller's pid namespace, so the floor of `of_pid` is a pidfd, not /proc, which may be of another.

#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to report to but its user"
)]

use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ringfence::ns::{
    Cgroup, Enterable, Ipc, Mount, Namespace, NamespaceKind, Net, Pid, Time, User, Uts,
};
use ringfence::{AnyNamespace, IdMap, Kind, Plan, Sandbox};
use rustix::thread::UnshareFlags;

#[path = "floor/compare.rs"]
#[allow(dead_code, reason = "a part is for other benches")]
mod compare;
#[path = "floor/program.rs"]
mod program;
#[path = "namespaces/raw.rs"]
mod raw;

use compare::{interleave, report};
use raw::Memory;

const ROUNDS: usize = 500;

fn compare(figure: &str, case: &str, mut ours: impl FnMut(), mut floor: impl FnMut()) {
    let [ours, floor] = interleave(ROUNDS, [&mut ours, &mut floor]);
    report(figure, case, &[("ringfence", &ours), ("floor", &floor)]);
}

fn create<K: NamespaceKind>() -> Namespace<K> {
    Namespace::create().expect("root")
}

fn thread_kind<K: NamespaceKind>(flag: UnshareFlags) {
    let link = match K::KIND.proc_name() {
        "time" => "time_for_children",
        other => other,
    };
    let floor = || drop(raw::create(flag, link));
    let ours = || drop(create::<K>());
    compare("create", K::KIND.proc_name(), ours, floor);
}

fn run_in<K: Enterable>() {
    let namespace = create::<K>();
    let path = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&namespace)
    );
    let fd = raw::open(&path);
    let fs = K::KIND == ringfence::Kind::Mount;
    let ours = || namespace.run_in(|| ()).expect("root");
    compare("run_in", K::KIND.proc_name(), ours, || raw::enter(&fd, fs));
}

/// A program in all namespaces of another process, and in a network alone. The crate executes one more program, which
/// has none of the caller's memory, as it has to be to be safe from root of those namespaces. A copy of the caller is not,
/// nor is a child on its memory: in addition to that, the floor executes another tiny program.
fn join() {
    let directory = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("our own");
    let tiny = program::tiny_program(directory.path());
    let path = CString::new(tiny.as_os_str().as_encoded_bytes()).expect("no nul byte");
    let target = Sandbox::new()
        .all()
        .user_map(IdMap::root())
        .command("/bin/sleep")
        .arg("infinity")
        .kill_on_drop()
        .spawn()
        .expect("root");
    let open = |kind: &Kind| raw::open(&format!("/proc/{}/ns/{kind}", target.id()));
    use ringfence::Kind::{Cgroup, Ipc, Mount, Net, Pid, Time, User, Uts};
    let kinds = [User, Net, Uts, Ipc, Cgroup, Pid, Mount];
    let mut shared = raw::Joining::new(kinds.iter().map(open).collect(), &path);
    let with_time = kinds.iter().chain([&Time]);
    let mut copied = raw::Joining::new(with_time.map(open).collect(), &path);
    let plan = |sandbox: Sandbox| {
        let command = sandbox.command(&tiny).env_clear();
        command.compile().expect("valid")
    };
    let run = |plan: &Plan| {
        let status = plan.spawn().and_then(|mut child| child.wait());
        assert!(status.expect("root").success());
    };
    let all = plan(Sandbox::new().join_all(target.id()));
    let floor = || raw::join(&mut copied, Memory::Copied);
    compare("join", "all eight, floor on a copy", || run(&all), floor);
    let but_time = kinds.iter().fold(Sandbox::new(), |sandbox, kind| {
        sandbox.join(AnyNamespace::of_pid(*kind, target.id()).expect("root"))
    });
    let but_time = plan(but_time);
    let mut another = raw::Starting::new(&path);
    let floor = || {
        raw::run(&mut another);
        raw::join(&mut shared, Memory::Shared);
    };
    compare("join", "all but time", || run(&but_time), floor);
    let net = ringfence::Namespace::<ringfence::ns::Net>::create().expect("root");
    let alone = plan(Sandbox::new().join(&net));
    let plain = plan(Sandbox::new());
    let fd = raw::open(&format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&net)
    ));
    compare(
        "join",
        "net",
        || run(&alone),
        || raw::on_thread_in(&fd, || run(&plain)),
    );
}

fn with_first_process() {
    let directory = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    let program = program::waiting_program(directory.path());
    let path = CString::new(program.as_os_str().as_encoded_bytes()).expect("no nul byte");
    let mut starting = raw::Starting::new(&path);
    let floor = || raw::pid(&mut starting);
    compare("create", "pid", || drop(create::<Pid>()), floor);
}

fn against_the_floor(_: &mut Criterion) {
    join();
    thread_kind::<Mount>(UnshareFlags::NEWNS);
    thread_kind::<Uts>(UnshareFlags::NEWUTS);
    thread_kind::<Ipc>(UnshareFlags::NEWIPC);
    thread_kind::<Cgroup>(UnshareFlags::NEWCGROUP);
    thread_kind::<Time>(UnshareFlags::NEWTIME);
    thread_kind::<Net>(UnshareFlags::NEWNET);
    let floor = || drop(raw::user());
    compare("create", "user", || drop(create::<User>()), floor);
    with_first_process();
    run_in::<Mount>();
    run_in::<Uts>();
    run_in::<Ipc>();
    run_in::<Cgroup>();
    run_in::<Net>();
    let path = "/proc/self/ns/net";
    let ours = || drop(Namespace::<Net>::open(path).expect("/proc"));
    compare("open", "a path", ours, || drop(raw::open(path)));
    let me = std::process::id();
    let ours = || drop(Namespace::<Net>::of_pid(me).expect("/proc"));
    compare("open", "of a process", ours, || drop(raw::net_of(me)));
}

fn figures(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("create");
    group.bench_function("mount", |b| b.iter(create::<Mount>));
    group.bench_function("uts", |b| b.iter(create::<Uts>));
    group.bench_function("ipc", |b| b.iter(create::<Ipc>));
    group.bench_function("user", |b| b.iter(create::<User>));
    group.bench_function("pid", |b| b.iter(create::<Pid>));
    group.bench_function("net", |b| b.iter(create::<Net>));
    group.finish();
    let net = create::<Net>();
    criterion.bench_function("run_in/net", |b| {
        b.iter(|| net.run_in(|| ()).expect("root"))
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .without_plots();
    targets = against_the_floor, figures
}
criterion_main!(benches);
