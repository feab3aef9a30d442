//! The namespaces found so far, each once.

use crate::inspect::{Denied, Holder, NamespaceInfo};
use crate::ns::{Kind, NamespaceId};
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
}

#[derive(Debug)]
pub(super) struct Registry {
    device: u64,
    relations: bool,
    found: Vec<Found>,
    positions: HashMap<(Kind, u64), Position>,
    /// How many descriptors may still be held.
    budget: usize,
    pub(super) unheld: u32,
    pub(super) owners: Denied,
}

impl Registry {
    pub(super) fn new(device: u64, relations: bool) -> Self {
        Self {
            device,
            relations,
            found: Vec::new(),
            positions: HashMap::new(),
            budget: budget(),
            unheld: 0,
            owners: Denied::default(),
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
        } else {
            self.unheld = self.unheld.saturating_add(1);
        }
        Ok(position)
    }

    /// A namespace of which only the number is known.
    pub(super) fn add_unopened(&mut self, kind: Kind, inode: u64) -> Position {
        match self.position(kind, inode) {
            Some(position) => position,
            None => self.insert(NamespaceId::new(kind, self.device, inode)),
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
                    self.owners.count(errno);
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

    /// All that something keeps alive besides this scan.
    pub(super) fn finish(self) -> Vec<NamespaceInfo> {
        let Self {
            found, positions, ..
        } = self;
        let place = |id: NamespaceId| positions.get(&(id.kind(), id.inode())).map(|at| at.0);
        let mut alive = vec![false; found.len()];
        let mut pending: Vec<usize> = (0..found.len())
            .filter(|&at| {
                let info = &found[at].info;
                !info.members.is_empty() || !info.holders.is_empty()
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
            info.holders.sort_unstable();
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
fn budget() -> usize {
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
