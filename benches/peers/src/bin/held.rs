//! What a namespace of each kind costs in memory of the kernel, by a thousand of each that are held.
//!
//! Needs root, and a run of its own: what else grows meanwhile is counted too. All are held to the end, so that no
//! kind gets what another has given back.

#[path = "../../../floor/mod.rs"]
mod floor;

use ringfence::ns::{Cgroup, Ipc, Mount, Namespace, NamespaceKind, Net, Pid, Time, User, Uts};

/// Of each, in as many batches: what happens elsewhere in one of them is not counted.
const NUMBER: u64 = 1000;
const BATCHES: usize = 4;
/// Of `/proc/meminfo`.
const KERNEL: [&str; 4] = ["Slab", "Percpu", "KernelStack", "PageTables"];

fn main() {
    floor::allow_descriptors();
    // The first is the kind that processes hold, for those have a table of the descriptors that there are.
    let _held = (
        hold::<Pid>(),
        hold::<User>(),
        hold::<Uts>(),
        hold::<Ipc>(),
        hold::<Cgroup>(),
        hold::<Time>(),
        hold::<Mount>(),
        hold::<Net>(),
    );
}

fn hold<K: NamespaceKind>() -> Vec<Namespace<K>> {
    // What is made once and not for each.
    drop(Namespace::<K>::create().expect("root"));
    let mut held = Vec::new();
    let mut growth = [0; BATCHES].map(|_: u64| {
        let before = kernel_memory();
        let number = NUMBER / BATCHES as u64;
        held.extend((0..number).map(|_| Namespace::<K>::create().expect("root")));
        kernel_memory().saturating_sub(before) / number
    });
    growth.sort_unstable();
    let each = u64::midpoint(growth[BATCHES / 2 - 1], growth[BATCHES / 2]);
    println!("{}: {each} bytes", K::KIND);
    floor::keep(&serde_json::json!({
        "figure": "held",
        "case": K::KIND.proc_name(),
        "contender": "kernel memory",
        "bytes": each,
    }));
    held
}

fn kernel_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("/proc");
    let kib = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse::<u64>().ok())
            .expect("a line of meminfo")
    };
    KERNEL.into_iter().map(kib).sum::<u64>() << 10
}
