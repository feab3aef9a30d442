//! What a scan has found.

use crate::ns::{Kind, NamespaceId, NamespaceIds};
use crate::sandbox::Extent;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(feature = "serde")]
use super::json;

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NamespaceInfo {
    /// Its identity.
    pub id: NamespaceId,
    /// A number that no other namespace has had or will have until the machine is started again (Linux 6.18, for
    /// mount namespaces 6.11).
    pub unique_id: Option<u64>,
    /// The user namespace that owns it; for a user namespace, its parent. `None` if it was not asked for or is not
    /// visible.
    pub owner: Option<NamespaceId>,
    /// The user who made the owner, or for a user namespace, who made this one.
    pub owner_uid: Option<u32>,
    /// The user or pid namespace that a user or pid namespace lies in. `None` for the first one, and for one whose
    /// parent is not visible.
    pub parent: Option<NamespaceId>,
    /// How many namespaces a user or pid namespace lies in that are visible.
    pub level: Option<usize>,
    /// The processes whose first thread is in it, in ascending order.
    pub members: Vec<u32>,
    /// The member with the lowest id; where there is none, the process with the lowest id that has a thread in it.
    pub leader: Option<Leader>,
    /// What else keeps it alive.
    pub holders: Vec<Holder>,
    /// The id maps of a user namespace, `outside` being ids of the caller's user namespace. `None` if no process
    /// in it could be read.
    pub maps: Option<Maps>,
    /// The number by which the caller's network namespace knows a network namespace.
    pub netnsid: Option<i32>,
}

impl NamespaceInfo {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.id.kind()
    }

    /// The paths at which it is pinned, in any mount namespace.
    pub fn pins(&self) -> impl Iterator<Item = &Holder> {
        let is_pin = |holder: &&Holder| matches!(holder, Holder::Mount { .. });
        self.holders.iter().filter(is_pin)
    }

    /// Whether it is one of those that the kernel started with, by their fixed numbers. `None` where the kernel has
    /// none: for mount and network namespaces before Linux 6.18.
    #[must_use]
    pub fn is_initial(&self) -> Option<bool> {
        is_initial(self.id)
    }
}

/// The numbers of <linux/nsfs.h>.
pub(super) fn is_initial(id: NamespaceId) -> Option<bool> {
    let (number, always) = match id.kind() {
        Kind::Ipc => (0xEFFF_FFFF, true),
        Kind::Uts => (0xEFFF_FFFE, true),
        Kind::User => (0xEFFF_FFFD, true),
        Kind::Pid => (0xEFFF_FFFC, true),
        Kind::Cgroup => (0xEFFF_FFFB, true),
        Kind::Time => (0xEFFF_FFFA, true),
        Kind::Net => (0xEFFF_FFF9, false),
        Kind::Mount => (0xEFFF_FFF8, false),
    };
    let matches = id.inode() == number;
    (always || matches).then_some(matches)
}

/// The process that a namespace is shown by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Leader {
    /// Its id.
    pub pid: u32,
    /// Its command line; for a process without one, its name alone.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::texts"))]
    pub command: Vec<OsString>,
}

/// What keeps a namespace alive besides the processes in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "type", rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Holder {
    /// A thread whose process's first thread is elsewhere, or has ended.
    Thread {
        /// The process.
        pid: u32,
        /// The thread.
        tid: u32,
    },
    /// A descriptor of the namespace.
    Descriptor {
        /// The process that has it.
        pid: u32,
        /// Its number.
        fd: u32,
    },
    /// A socket of a network namespace.
    Socket {
        /// A process that has it.
        pid: u32,
        /// The number of the descriptor.
        fd: u32,
    },
    /// A mount of the namespace's file: a pin.
    Mount {
        /// The mount namespace in which it is mounted.
        within: NamespaceId,
        /// Where, seen from the root of that mount namespace.
        #[cfg_attr(feature = "serde", serde(serialize_with = "json::path"))]
        target: PathBuf,
    },
    /// A process, or thread, whose future children will be in it.
    ForChildren {
        /// The process.
        pid: u32,
    },
    /// A namespace that lies in it, or is owned by it.
    Namespace {
        /// That namespace.
        id: NamespaceId,
    },
}

/// The id maps of a user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Maps {
    /// Of users.
    pub uid: Vec<Extent>,
    /// Of groups.
    pub gid: Vec<Extent>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ProcessInfo {
    /// Its id, as `/proc` shows it.
    pub pid: u32,
    /// That of its parent; 0 if the parent is not visible here.
    pub ppid: u32,
    /// When it was started, in clock ticks after the boot: with the id, this identifies a process.
    pub start_time: u64,
    /// `R`, `S`, `D`, `Z` and the like.
    pub state: char,
    /// How many threads it has.
    pub thread_count: u32,
    /// The user to whom its directory in `/proc` belongs: the effective user, or 0 for a process that is not
    /// dumpable.
    pub uid: u32,
    /// Its name, of at most 15 bytes but for kernel threads.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::text"))]
    pub comm: OsString,
    /// Its command line, if [those of all](super::Sources::COMMANDS) were asked for.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::optional_texts"))]
    pub command: Option<Vec<OsString>>,
    /// The namespaces of its first thread. None if the caller may not look; of a zombie, only the user and the pid
    /// namespace.
    pub namespaces: NamespaceIds,
    /// The pid namespace of its future children, where that is another one.
    pub pid_for_children: Option<NamespaceId>,
    /// The time namespace of its future children, where that is another one.
    pub time_for_children: Option<NamespaceId>,
    /// The threads in other namespaces than the first.
    pub threads: Vec<Thread>,
    /// Its numbers in the pid namespace of `/proc` and in each below it down to its own, if
    /// [asked for](super::Sources::NUMBERS).
    pub numbers: Option<Vec<u32>>,
    /// Its cgroup, if [asked for](super::Sources::CGROUPS): that of cgroup 2; where it is at the root of that, the first of
    /// version 1 in which it is not.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::optional_path"))]
    pub cgroup: Option<Arc<std::path::Path>>,
}

/// A thread in other namespaces than the first one of its process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Thread {
    /// Its id.
    pub tid: u32,
    /// Its namespaces, of all kinds.
    pub namespaces: NamespaceIds,
}

/// How often something could not be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Denied {
    /// Refusals with `EACCES`.
    pub eacces: u32,
    /// Refusals with `EPERM`.
    pub eperm: u32,
    /// Any other failure, but for that of what had gone.
    pub other: u32,
}

impl Denied {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.eacces
            .saturating_add(self.eperm)
            .saturating_add(self.other)
    }
}

/// What a scan could not see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Unseen {
    /// Processes whose namespaces are not shown.
    pub processes: Denied,
    /// Threads whose namespaces are not shown.
    pub threads: Denied,
    /// Processes whose descriptors are not shown.
    pub descriptors: Denied,
    /// Sockets of which the network namespace is not told.
    pub sockets: Denied,
    /// Mount namespaces whose mounts are not shown, or not all.
    pub mounts: Denied,
    /// Namespaces that were seen but could not be opened, so that nothing but their number is known.
    pub unopened: Denied,
    /// Namespaces whose owner is not told: one above the caller's own.
    pub owners: Denied,
    /// Namespaces that could not be held until the end, for want of descriptors: should one of them have ended during the
    /// scan, another with the same number would be taken for it.
    pub unheld: u32,
    /// `/proc` does not list the processes of others (`hidepid`).
    pub hidden_processes: bool,
    /// The caller is in a pid namespace other than the first: there are processes outside.
    pub processes_outside: bool,
}

impl Unseen {
    /// Whether nothing was kept from the scan.
    ///
    /// Even then, what holds a namespace without showing in `/proc` is not found: a descriptor on its way through a
    /// socket, or a file system, such as a procfs of a pid namespace that has ended.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_complete() {
            return f.write_str("nothing");
        }
        let mut separator = "";
        let mut part = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            let result = write!(f, "{separator}{text}");
            separator = ", ";
            result
        };
        for (denied, what) in [
            (self.processes, "processes"),
            (self.threads, "threads"),
            (self.descriptors, "descriptor tables"),
            (self.sockets, "sockets"),
            (self.mounts, "mount tables"),
            (self.unopened, "namespaces not opened"),
            (self.owners, "owners"),
        ] {
            if denied.total() > 0 {
                part(f, format_args!("{} {what}", denied.total()))?;
            }
        }
        if self.unheld > 0 {
            part(f, format_args!("{} namespaces not held", self.unheld))?;
        }
        if self.hidden_processes {
            part(f, format_args!("processes hidden by hidepid"))?;
        }
        if self.processes_outside {
            part(f, format_args!("processes outside this pid namespace"))?;
        }
        Ok(())
    }
}

/// The namespaces and processes that a [`Scan`](super::Scan) has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Snapshot {
    pub(super) namespaces: Vec<NamespaceInfo>,
    pub(super) processes: Vec<ProcessInfo>,
    pub(super) unseen: Unseen,
    /// The pid namespace of `/proc`, whose ids are used here.
    pub(super) pid_namespace: Option<NamespaceId>,
}

impl Snapshot {
    /// The namespaces, ordered by kind and number.
    #[must_use]
    pub fn namespaces(&self) -> &[NamespaceInfo] {
        &self.namespaces
    }

    /// The processes, in ascending order of their ids, zombies among them.
    #[must_use]
    pub fn processes(&self) -> &[ProcessInfo] {
        &self.processes
    }

    /// What could not be seen.
    #[must_use]
    pub fn unseen(&self) -> &Unseen {
        &self.unseen
    }
}
