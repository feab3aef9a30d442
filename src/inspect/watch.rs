//! What comes and goes between scans.

use super::model::{NamespaceInfo, Snapshot};
use super::scan::Scan;
use crate::error::Result;
use crate::ns::NamespaceId;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// A namespace that has come or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(tag = "type", content = "namespace", rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Change {
    /// It was not there at the scan before.
    Came(NamespaceInfo),
    /// It is not there any more; as it was last seen.
    Went(NamespaceInfo),
}

impl Change {
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &NamespaceInfo {
        match self {
            Self::Came(info) | Self::Went(info) => info,
        }
    }
}

/// Scans again and again; from [`Scan::watch`].
///
/// As an iterator it waits, and ends never; [`poll`](Self::poll) looks now. A namespace that comes and goes
/// between two scans is not seen. Where a number is given to another namespace, that is noticed by the 64-bit id
/// (Linux 6.18), or else by another leader.
#[derive(Debug)]
pub struct Watch {
    scan: Scan,
    interval: Duration,
    next: Instant,
    last: Snapshot,
    changes: VecDeque<Change>,
}

impl Watch {
    pub(super) fn new(scan: Scan, interval: Duration) -> Result<Self> {
        Ok(Self {
            scan,
            interval,
            last: scan.run()?,
            next: Instant::now() + interval,
            changes: VecDeque::new(),
        })
    }

    /// What was there at the last scan.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.last
    }

    /// Scans now, and returns what has changed, the namespaces that went first.
    ///
    /// # Errors
    /// Those of [`Scan::run`].
    pub fn poll(&mut self) -> Result<Vec<Change>> {
        let now = self.scan.run()?;
        self.changes.extend(changes(&self.last, &now));
        self.last = now;
        self.next = Instant::now() + self.interval;
        Ok(self.changes.drain(..).collect())
    }
}

impl Iterator for Watch {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Some(Ok(change));
            }
            std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
            match self.poll() {
                Ok(changes) => self.changes.extend(changes),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// What tells a namespace from another one that has the same number later.
#[derive(PartialEq, Eq)]
enum Mark {
    Unique(u64),
    Leader(Option<(u32, u64)>),
}

fn marks(snapshot: &Snapshot) -> HashMap<NamespaceId, (Mark, &NamespaceInfo)> {
    let mark = |info: &NamespaceInfo| match info.unique_id {
        Some(id) => Mark::Unique(id),
        None => {
            let leader = info.leader.as_ref();
            let process = leader.and_then(|leader| snapshot.process(leader.pid));
            Mark::Leader(process.map(|process| (process.pid, process.start_time)))
        }
    };
    let infos = snapshot.namespaces().iter();
    infos.map(|info| (info.id, (mark(info), info))).collect()
}

fn changes(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    let (old, new) = (marks(before), marks(after));
    let is_same = |id: &NamespaceId| match (old.get(id), new.get(id)) {
        (Some((Mark::Unique(one), _)), Some((Mark::Unique(other), _))) => one == other,
        // A leader may end while others stay: only if none of the members has, it is another namespace.
        (Some((one, before)), Some((other, after))) => {
            one == other || before.members.iter().any(|pid| after.members.contains(pid))
        }
        _ => false,
    };
    let only_in = |infos: &[NamespaceInfo]| {
        let infos = infos.iter().filter(|info| !is_same(&info.id));
        infos.cloned().collect::<Vec<_>>()
    };
    let went = only_in(before.namespaces()).into_iter().map(Change::Went);
    let came = only_in(after.namespaces()).into_iter().map(Change::Came);
    went.chain(came).collect()
}
