//! The namespaces found so far, each once.

use crate::inspect::{Holder, NamespaceInfo, Unseen};
use crate::ns::{Kind, NamespaceId, Namespaces};
use crate::sys::nsfs;
use crate::sys::statmount::mnt_ns_id;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The position of a namespace in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(usize);

#[derive(Debug)]
pub(super) struct Found {
    pub(super) info: NamespaceInfo,
    /// Held to the end, so that no other namespace can be given the number.
    pub(super) fd: Option<OwnedFd>,
    /// Of a mount namespace: whether its mounts have been looked at.
    pub(super) mounts_read: bool,
    /// Why it could not be opened.
    unopened: Option<Errno>,
    /// Why its owner is not known.
    no_owner: Option<Errno>,
}

impl Found {
    /// What another worker knows of the same namespace.
    fn merge(&mut self, other: Self) {
        let theirs = other.info;
        // A member comes before a process that only has a thread in it, then the lowest id.
        let rank = |info: &NamespaceInfo| {
            let pid = info.leader.as_ref().map(|leader| leader.pid);
            (info.members.is_empty(), pid.is_none(), pid)
        };
        let ours = &mut self.info;
        if rank(&theirs) < rank(ours) {
            ours.leader = theirs.leader;
        }
        ours.members.extend(theirs.members);
        ours.holders.extend(theirs.holders);
        ours.maps = ours.maps.take().or(theirs.maps);
        if self.unopened.is_some() {
            (ours.unique_id, ours.owner) = (theirs.unique_id, theirs.owner);
            (ours.owner_uid, ours.parent) = (theirs.owner_uid, theirs.parent);
            (self.unopened, self.no_owner) = (other.unopened, other.no_owner);
        }
        self.fd = self.fd.take().or(other.fd);
        self.mounts_read |= other.mounts_read;
    }
}

#[derive(Debug)]
pub(super) struct Registry {
    device: u64,
    relations: bool,
    found: Vec<Found>,
    positions: HashMap<(Kind, u64), Position>,
    /// How many descriptors may still be held.
    budget: usize,
}

impl Registry {
    pub(super) fn new(device: u64, relations: bool, budget: usize) -> Self {
        Self {
            device,
            relations,
            found: Vec::new(),
            positions: HashMap::new(),
            budget,
        }
    }

    pub(super) fn position(&self, kind: Kind, inode: u64) -> Option<Position> {
        self.positions.get(&(kind, inode)).copied()
    }

    pub(super) fn get(&mut self, position: Position) -> &mut Found {
        &mut self.found[position.0]
    }

    pub(super) fn id(&self, position: Position) -> NamespaceId {
        self.found[position.0].info.id
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Found> {
        self.found.iter_mut()
    }

    /// Positions of a kind, in the order in which they were found.
    pub(super) fn of_kind(&self, kind: Kind) -> Vec<Position> {
        let all = self.found.iter().zip(0..);
        all.filter(|(found, _)| found.info.kind() == kind)
            .map(|(_, position)| Position(position))
            .collect()
    }

    /// Whether a descriptor of this process is one that the scan itself holds.
    pub(super) fn holds(&self, fd: u32) -> bool {
        let is_it = |held: &OwnedFd| held.as_raw_fd().unsigned_abs() == fd;
        self.found
            .iter()
            .any(|found| found.fd.as_ref().is_some_and(is_it))
    }

    /// A namespace by its descriptor, with its owner and its ancestors.
    pub(super) fn add(&mut self, kind: Kind, fd: OwnedFd) -> Result<Position, Errno> {
        let id = NamespaceId::of_fd(fd.as_fd(), kind)?;
        if let Some(position) = self.position(kind, id.inode()) {
            return Ok(position);
        }
        let position = self.insert(id);
        if self.relations {
            self.relate(position, fd.as_fd());
        }
        if self.budget > 0 {
            self.budget -= 1;
            self.get(position).fd = Some(fd);
        }
        Ok(position)
    }

    /// A namespace of which only the number is known.
    pub(super) fn add_unopened(&mut self, kind: Kind, inode: u64, errno: Errno) -> Position {
        let position = self.insert(NamespaceId::new(kind, self.device, inode));
        self.get(position).unopened = Some(errno);
        position
    }

    /// What another one has found as well.
    pub(super) fn merge(&mut self, other: Self) {
        self.budget += other.budget;
        for found in other.found {
            let id = found.info.id;
            match self.position(id.kind(), id.inode()) {
                Some(position) => self.get(position).merge(found),
                None => {
                    let position = Position(self.found.len());
                    self.positions.insert((id.kind(), id.inode()), position);
                    self.found.push(found);
                }
            }
        }
    }

    fn insert(&mut self, id: NamespaceId) -> Position {
        let position = Position(self.found.len());
        self.positions.insert((id.kind(), id.inode()), position);
        self.found.push(Found {
            info: NamespaceInfo {
                id,
                unique_id: None,
                owner: None,
                owner_uid: None,
                parent: None,
                level: None,
                members: Vec::new(),
                leader: None,
                holders: Vec::new(),
                maps: None,
                netnsid: None,
            },
            fd: None,
            mounts_read: false,
            unopened: None,
            no_owner: None,
        });
        position
    }

    fn relate(&mut self, position: Position, fd: BorrowedFd<'_>) {
        let kind = self.id(position).kind();
        let unique_id = nsfs::unique_id(fd).ok();
        let by_mounts = || (kind == Kind::Mount).then(|| mnt_ns_id(fd).ok()).flatten();
        self.get(position).info.unique_id = unique_id.or_else(by_mounts);
        let owner = match nsfs::owner(fd).and_then(|owner| self.add(Kind::User, owner)) {
            Ok(owner) => Some(owner),
            Err(errno) => {
                // The first user namespace has none.
                if (kind, errno) != (Kind::User, Errno::PERM) {
                    self.get(position).no_owner = Some(errno);
                }
                None
            }
        };
        let parent = match kind {
            Kind::User => owner,
            Kind::Pid => nsfs::parent(fd)
                .and_then(|parent| self.add(Kind::Pid, parent))
                .ok(),
            _ => None,
        };
        let owner_uid = match kind {
            Kind::User => nsfs::owner_uid(fd).ok(),
            _ => owner.and_then(|owner| self.get(owner).info.owner_uid),
        };
        let (owner, parent) = (
            owner.map(|owner| self.id(owner)),
            parent.map(|parent| self.id(parent)),
        );
        let info = &mut self.get(position).info;
        (info.owner, info.parent, info.owner_uid) = (owner, parent, owner_uid);
    }

    /// All of these kinds that something keeps alive besides this scan, with their owners.
    pub(super) fn finish(self, kinds: Namespaces, unseen: &mut Unseen) -> Vec<NamespaceInfo> {
        let Self {
            found, positions, ..
        } = self;
        let place = |id: NamespaceId| positions.get(&(id.kind(), id.inode())).map(|at| at.0);
        let mut alive = vec![false; found.len()];
        let mut pending: Vec<usize> = (0..found.len())
            .filter(|&at| {
                let info = &found[at].info;
                let is_asked = kinds.contains(info.kind().into());
                is_asked && (!info.members.is_empty() || !info.holders.is_empty())
            })
            .collect();
        while let Some(at) = pending.pop() {
            if std::mem::replace(&mut alive[at], true) {
                continue;
            }
            let info = &found[at].info;
            pending.extend(
                [info.owner, info.parent]
                    .into_iter()
                    .flatten()
                    .filter_map(place),
            );
        }
        for (found, _) in found.iter().zip(&alive).filter(|(_, alive)| **alive) {
            found
                .unopened
                .into_iter()
                .for_each(|errno| unseen.unopened.count(errno));
            found
                .no_owner
                .into_iter()
                .for_each(|errno| unseen.owners.count(errno));
            unseen.unheld += u32::from(found.fd.is_none() && found.unopened.is_none());
        }
        let mut infos: Vec<NamespaceInfo> = found.into_iter().map(|found| found.info).collect();
        for at in (0..infos.len()).filter(|&at| alive[at]) {
            let NamespaceInfo {
                id, owner, parent, ..
            } = infos[at];
            let parent = parent.filter(|_| parent != owner);
            for above in [owner, parent].into_iter().flatten().filter_map(place) {
                infos[above].holders.push(Holder::Namespace { id });
            }
            infos[at].level =
                matches!(id.kind(), Kind::User | Kind::Pid).then(|| level(&infos, at, &place));
        }
        let mut alive = alive.into_iter();
        infos.retain(|_| alive.next() == Some(true));
        infos.sort_unstable_by_key(|info| info.id);
        for info in &mut infos {
            info.members.sort_unstable();
            info.holders.sort_unstable();
            info.holders.dedup();
        }
        infos
    }
}

fn level(
    infos: &[NamespaceInfo],
    at: usize,
    place: &impl Fn(NamespaceId) -> Option<usize>,
) -> usize {
    let above = |at: &usize| infos.get(*at)?.parent.and_then(place);
    // The kernel's own limit is 32.
    std::iter::successors(above(&at), above)
        .take(infos.len())
        .count()
}

/// Half of the descriptors that the process may still open.
pub(super) fn budget() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    // Linux 6.2 tells the number of open descriptors as a size.
    let open = std::fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len());
    match usize::try_from(open) {
        Ok(0) | Err(_) => limit / 4,
        Ok(open) => limit.saturating_sub(open) / 2,
    }
}
