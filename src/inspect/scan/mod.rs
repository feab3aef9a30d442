//! One pass over `/proc`.

mod descriptors;
mod mounts;
mod netnsid;
mod process;
mod procfs;
mod registry;
mod workers;

use super::model::{ProcessInfo, Snapshot, Unseen};
use super::watch::Watch;
use crate::error::Result;
use crate::ns::{Kind, Namespaces};
use procfs::Procfs;
use registry::Registry;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

bitflags::bitflags! {
    /// Where a [`Scan`] looks besides the namespaces of processes, and what it reads of them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Sources: u32 {
        /// The namespaces of threads other than the first of their process.
        const THREADS = 1;
        /// Descriptors of namespaces.
        const DESCRIPTORS = 1 << 1;
        /// Sockets of other network namespaces than that of the process.
        const SOCKETS = 1 << 2;
        /// Mounts of namespaces, in every mount namespace that is found.
        const MOUNTS = 1 << 3;
        /// The namespaces of future children.
        const FOR_CHILDREN = 1 << 4;
        /// 64-bit ids, owners and parents, and through them namespaces that nothing else leads to.
        const RELATIONS = 1 << 5;
        /// The id maps of user namespaces.
        const MAPS = 1 << 6;
        /// The numbers of network namespaces.
        const NETNSIDS = 1 << 7;
        /// The command lines of all processes, not only of leaders.
        const COMMANDS = 1 << 8;
        /// The numbers of processes in nested pid namespaces.
        const NUMBERS = 1 << 9;
        /// The cgroups of processes.
        const CGROUPS = 1 << 10;
    }
}

impl Default for Sources {
    /// All of them.
    fn default() -> Self {
        Self::all()
    }
}

/// A look at all namespaces that are visible from here.
///
/// Any process can do it; what of it the caller may not see is counted in
/// [`Snapshot::unseen`]. The names of processes and namespaces are those of the mounted `/proc`.
///
/// # Examples
/// ```
/// use ringfence::inspect::{Scan, Sources};
///
/// # fn main() -> ringfence::Result<()> {
/// let snapshot = Scan::new().sources(Sources::THREADS | Sources::RELATIONS).run()?;
/// let me = snapshot.process(std::process::id()).expect("this process is there");
/// for namespace in snapshot.namespaces_of(me.pid) {
///     println!("{} with {:?}", namespace.id, namespace.members);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Scan {
    sources: Sources,
    kinds: Namespaces,
}

impl Default for Scan {
    fn default() -> Self {
        Self::new()
    }
}

impl Scan {
    /// Of all kinds, from all sources.
    pub fn new() -> Self {
        Self {
            sources: Sources::all(),
            kinds: Namespaces::all(),
        }
    }

    /// From these sources only. Processes are looked at in any case.
    pub fn sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }

    /// Of these kinds only. Owners, which are user namespaces, are found all the same.
    pub fn kinds(mut self, kinds: Namespaces) -> Self {
        self.kinds = kinds;
        self
    }

    /// Looks.
    ///
    /// While it runs it holds a descriptor of each namespace, but half of those that are left to the calling process at
    /// most. Where there are hundreds of processes they are shared out to a few threads, all of whose signals are blocked,
    /// and which end before this returns.
    ///
    /// # Errors
    /// If `/proc` is not mounted, or cannot be read at all.
    ///
    /// # Privileges
    /// None. `CAP_SYS_PTRACE` shows the processes of others, `CAP_SYS_ADMIN` the mounts of mount namespaces without
    /// processes, `CAP_NET_ADMIN` the network namespaces of sockets.
    ///
    /// # Kernel
    /// What needs a newer kernel than 5.10 is left out of the result where it is missing: 64-bit ids (6.18, of mount
    /// namespaces 6.11), pins in other mount namespaces that nothing else leads to (5.12) are known by number only.
    #[doc(alias = "lsns")]
    pub fn run(&self) -> Result<Snapshot> {
        let procfs = Procfs::open()?;
        let mut scanner = workers::scan(*self, &procfs)?;
        if self.has(Sources::MOUNTS) {
            scanner.mounts_without_members();
        }
        if self.has(Sources::NETNSIDS) {
            netnsid::fill(&mut scanner.registry);
        }
        Ok(scanner.finish())
    }

    /// Scans again and again, and tells which namespaces have come and which have gone.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn watch(self, interval: Duration) -> Result<Watch> {
        Watch::new(self, interval)
    }

    fn has(&self, source: Sources) -> bool {
        self.sources.contains(source)
    }
}

/// A scan under way, or one worker's part of it.
struct Scanner<'a> {
    scan: Scan,
    kinds: Vec<Kind>,
    procfs: &'a Procfs,
    registry: Registry,
    unseen: Unseen,
    /// Numbers of the sockets that were looked at.
    sockets: HashSet<u64>,
    processes: Vec<ProcessInfo>,
    cgroups: HashSet<Arc<Path>>,
    /// For the texts of files.
    text: Vec<u8>,
}

impl<'a> Scanner<'a> {
    /// One that may hold so many descriptors.
    fn new(scan: Scan, procfs: &'a Procfs, budget: usize) -> Self {
        let mut kinds = scan.kinds;
        // Whether they are asked for or not, the mounts in them are.
        kinds.set(
            Namespaces::MOUNT,
            kinds.contains(Namespaces::MOUNT) || scan.has(Sources::MOUNTS),
        );
        let kinds = kinds.kinds().filter(|&kind| procfs.has(kind));
        Self {
            kinds: kinds.collect(),
            registry: Registry::new(procfs.device, scan.has(Sources::RELATIONS), budget),
            unseen: Unseen::default(),
            scan,
            procfs,
            sockets: HashSet::new(),
            processes: Vec::new(),
            cgroups: HashSet::new(),
            text: Vec::with_capacity(8 << 10),
        }
    }

    /// What another worker has found as well.
    fn merge(&mut self, other: Self) {
        self.registry.merge(other.registry);
        self.processes.extend(other.processes);
        for (all, more) in [
            (&mut self.unseen.processes, other.unseen.processes),
            (&mut self.unseen.threads, other.unseen.threads),
            (&mut self.unseen.descriptors, other.unseen.descriptors),
            (&mut self.unseen.sockets, other.unseen.sockets),
            (&mut self.unseen.mounts, other.unseen.mounts),
        ] {
            all.add(more);
        }
    }

    fn finish(mut self) -> Snapshot {
        self.processes.sort_unstable_by_key(|process| process.pid);
        self.unseen.hidden_processes = self.procfs.hides_processes();
        self.unseen.processes_outside = self.procfs.is_nested();
        Snapshot {
            namespaces: self.registry.finish(self.scan.kinds, &mut self.unseen),
            processes: self.processes,
            unseen: self.unseen,
            pid_namespace: self.procfs.pid_namespace,
        }
    }
}
