//! Looking things up in a snapshot.

use super::model::{NamespaceInfo, ProcessInfo, Snapshot, is_initial};
use crate::ns::{Kind, NamespaceId, Namespaces};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "serde")]
use super::json;

impl Snapshot {
    /// The namespace with this identity.
    #[must_use]
    pub fn get(&self, id: NamespaceId) -> Option<&NamespaceInfo> {
        let found = self.namespaces.binary_search_by_key(&id, |info| info.id);
        found.ok().and_then(|at| self.namespaces.get(at))
    }

    /// The namespace with this inode number, which is unique among all kinds.
    #[must_use]
    pub fn by_inode(&self, inode: u64) -> Option<&NamespaceInfo> {
        self.namespaces.iter().find(|info| info.id.inode() == inode)
    }

    /// The namespaces of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &NamespaceInfo> {
        self.namespaces
            .iter()
            .filter(move |info| info.kind() == kind)
    }

    /// The process with this id.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&ProcessInfo> {
        let found = self
            .processes
            .binary_search_by_key(&pid, |process| process.pid);
        found.ok().and_then(|at| self.processes.get(at))
    }

    /// The namespaces that a process is in, by its first thread.
    pub fn namespaces_of(&self, pid: u32) -> impl Iterator<Item = &NamespaceInfo> {
        let process = self.process(pid).into_iter();
        let ids = process.flat_map(|process| process.namespaces.iter());
        ids.filter_map(|id| self.get(id))
    }

    /// The processes whose first thread is in a namespace.
    pub fn members(&self, id: NamespaceId) -> impl Iterator<Item = &ProcessInfo> {
        let members = self.get(id).into_iter().flat_map(|info| &info.members);
        members.filter_map(|&pid| self.process(pid))
    }

    /// The other processes that are in the same namespace as this one of each of these kinds.
    pub fn sharing_all(&self, pid: u32, kinds: Namespaces) -> impl Iterator<Item = &ProcessInfo> {
        self.sharing(pid, move |same| same.contains(kinds))
    }

    /// The other processes that are in the same namespace as this one of at least one of these kinds.
    pub fn sharing_any(&self, pid: u32, kinds: Namespaces) -> impl Iterator<Item = &ProcessInfo> {
        self.sharing(pid, move |same| same.intersects(kinds))
    }

    fn sharing(
        &self,
        pid: u32,
        shares: impl Fn(Namespaces) -> bool,
    ) -> impl Iterator<Item = &ProcessInfo> {
        let one = self.process(pid).into_iter();
        one.flat_map(|one| self.processes.iter().map(move |other| (one, other)))
            .filter(move |(one, other)| {
                one.pid != other.pid && shares(Comparison::of(one, other).same)
            })
            .map(|(_, other)| other)
    }

    /// In which namespaces two processes are together. `None` if one of them is not there.
    #[must_use]
    pub fn compare(&self, pid: u32, other: u32) -> Option<Comparison> {
        Some(Comparison::of(self.process(pid)?, self.process(other)?))
    }

    /// In which namespaces a process is with process 1. `None` if one of them is not there.
    #[must_use]
    pub fn difference_to_init(&self, pid: u32) -> Option<Comparison> {
        self.compare(pid, 1)
    }

    /// Whether a process is in a container: in another pid, user or mount namespace than those that the kernel
    /// started with or, where their numbers do not tell, than process 1. `None` if it cannot be known.
    ///
    /// Unlike [`difference_to_init`](Self::difference_to_init), this is also seen from within the container.
    #[must_use]
    pub fn is_container(&self, pid: u32) -> Option<bool> {
        let process = self.process(pid)?;
        let is_elsewhere = |kind| {
            let id = process.namespaces.get(kind)?;
            let by_number = is_initial(id).map(|initial| !initial);
            by_number.or_else(|| Some(self.process(1)?.namespaces.get(kind)? != id))
        };
        let found = [Kind::Pid, Kind::User, Kind::Mount].map(is_elsewhere);
        if found.contains(&Some(true)) {
            Some(true)
        } else if found.contains(&None) {
            None
        } else {
            Some(false)
        }
    }

    /// The user or pid namespaces that lie directly in this one.
    pub fn children(&self, id: NamespaceId) -> impl Iterator<Item = &NamespaceInfo> {
        self.namespaces
            .iter()
            .filter(move |info| info.parent == Some(id))
    }

    /// The namespaces that this user namespace owns, its children among them.
    pub fn owned(&self, id: NamespaceId) -> impl Iterator<Item = &NamespaceInfo> {
        self.namespaces
            .iter()
            .filter(move |info| info.owner == Some(id))
    }

    /// The namespaces that a user or pid namespace lies in, the nearest first.
    pub fn ancestors(&self, id: NamespaceId) -> impl Iterator<Item = &NamespaceInfo> {
        let above = |info: &&NamespaceInfo| self.get(info.parent?);
        std::iter::successors(self.get(id), above).skip(1)
    }

    /// The numbers that processes have in a pid namespace: of those in it and of those in the namespaces below.
    ///
    /// Needs [`Sources::NUMBERS`](super::Sources::NUMBERS) and [`RELATIONS`](super::Sources::RELATIONS); what was not
    /// read is left out.
    #[must_use]
    pub fn pid_table(&self, namespace: NamespaceId) -> PidTable {
        let entries = self.processes.iter().filter_map(|process| {
            Some(PidEntry {
                pid: process.pid,
                inside: self.number_in(process, namespace)?,
            })
        });
        PidTable {
            namespace,
            entries: entries.collect(),
        }
    }

    /// The number that a process has in a pid namespace. `None` if it has none there, or was not read.
    #[must_use]
    pub fn pid_inside(&self, pid: u32, namespace: NamespaceId) -> Option<u32> {
        self.number_in(self.process(pid)?, namespace)
    }

    fn number_in(&self, process: &ProcessInfo, namespace: NamespaceId) -> Option<u32> {
        let numbers = process.numbers.as_deref()?;
        let own = process.namespaces.get(Kind::Pid)?;
        let above = if own == namespace {
            0
        } else {
            let mut ancestors = self.ancestors(own);
            ancestors.position(|info| info.id == namespace)? + 1
        };
        numbers.iter().rev().nth(above).copied()
    }

    /// The processes grouped by pid namespace, mount namespace and cgroup, but for those that share both namespaces with
    /// the host: the first process, or where that is not visible, the namespaces that the kernel started
    /// with.
    ///
    /// Without [`Sources::CGROUPS`](super::Sources::CGROUPS) by the namespaces alone.
    #[must_use]
    pub fn containers(&self) -> Vec<Container> {
        let mut groups: BTreeMap<_, Container> = BTreeMap::new();
        for process in &self.processes {
            let ids = &process.namespaces;
            let (Some(pid), Some(mount)) = (ids.get(Kind::Pid), ids.get(Kind::Mount)) else {
                continue;
            };
            if self.is_host(pid) && self.is_host(mount) {
                continue;
            }
            let key = (pid.inode(), mount.inode(), process.cgroup.clone());
            let group = groups.entry(key).or_insert_with(|| Container {
                pid,
                mount,
                cgroup: process.cgroup.clone(),
                processes: Vec::new(),
            });
            group.processes.push(process.pid);
        }
        groups.into_values().collect()
    }

    fn is_host(&self, id: NamespaceId) -> bool {
        let first = self
            .process(1)
            .and_then(|first| first.namespaces.get(id.kind()));
        match first {
            Some(first) => first == id,
            // The first that was found of a kind has the lowest number where the kernel has not fixed it.
            None => is_initial(id).unwrap_or_else(|| {
                self.of_kind(id.kind())
                    .next()
                    .is_some_and(|info| info.id == id)
            }),
        }
    }
}

/// In which namespaces two processes are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Comparison {
    /// The kinds of which both are in the same one.
    pub same: Namespaces,
    /// The kinds of which they are in two.
    pub different: Namespaces,
    /// The kinds of which that is not known.
    pub unknown: Namespaces,
}

impl Comparison {
    fn of(one: &ProcessInfo, other: &ProcessInfo) -> Self {
        let (mut same, mut different) = (Namespaces::empty(), Namespaces::empty());
        for id in one.namespaces.iter() {
            match other.namespaces.get(id.kind()) {
                Some(theirs) if theirs == id => same |= id.kind().into(),
                Some(_) => different |= id.kind().into(),
                None => {}
            }
        }
        Self {
            same,
            different,
            unknown: Namespaces::all() - same - different,
        }
    }
}

/// The numbers of processes in a pid namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PidTable {
    /// The pid namespace.
    pub namespace: NamespaceId,
    /// One for each process, in the order of the ids in `/proc`.
    pub entries: Vec<PidEntry>,
}

impl PidTable {
    /// The number inside of the process with this id in `/proc`.
    #[must_use]
    pub fn inside(&self, pid: u32) -> Option<u32> {
        let mut entries = self.entries.iter();
        entries
            .find(|entry| entry.pid == pid)
            .map(|entry| entry.inside)
    }

    /// The id in `/proc` of the process with this number inside.
    #[must_use]
    pub fn outside(&self, inside: u32) -> Option<u32> {
        let mut entries = self.entries.iter();
        entries
            .find(|entry| entry.inside == inside)
            .map(|entry| entry.pid)
    }
}

/// The two numbers of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PidEntry {
    /// In `/proc`.
    pub pid: u32,
    /// In the pid namespace of the table.
    pub inside: u32,
}

/// Processes that share pid namespace, mount namespace and cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Container {
    /// Their pid namespace.
    pub pid: NamespaceId,
    /// Their mount namespace.
    pub mount: NamespaceId,
    /// Their cgroup, as in [`ProcessInfo::cgroup`].
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::optional_path"))]
    pub cgroup: Option<Arc<Path>>,
    /// Their ids, in ascending order.
    pub processes: Vec<u32>,
}
