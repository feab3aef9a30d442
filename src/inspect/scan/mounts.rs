//! Namespaces that are kept by a mount of their file, in any mount namespace.

use super::procfs::{contains, read};
use super::registry::Position;
use super::{Scanner, Sources};
use crate::inspect::Holder;
use crate::mount::mountinfo::{Mount, MountTable};
use crate::ns::{Kind, Namespace, parse_id};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A mount of a namespace's file.
struct PinMount {
    kind: Kind,
    inode: u64,
    target: PathBuf,
}

impl Scanner<'_> {
    /// The mounts of a mount namespace, as the first process in it shows them whose root is that of the namespace.
    pub(super) fn mounts_of_member(&mut self, directory: &OwnedFd, position: Position) {
        if !self.scan.has(Sources::MOUNTS) || self.registry.get(position).mounts_read {
            return;
        }
        let root = rustix::fs::readlinkat(directory, c"root", Vec::new());
        if !root.is_ok_and(|root| root.as_bytes() == b"/") {
            return;
        }
        if read(directory, c"mountinfo", &mut self.text).is_err() {
            return;
        }
        // The file stays with the namespace that the process had when it was opened.
        if self.namespace(directory, c"ns/mnt", Kind::Mount) != Ok(position) {
            return;
        }
        let lines = self.text.split_inclusive(|&byte| byte == b'\n');
        let lines = lines.filter(|line| contains(line, b" - nsfs "));
        let Ok(table) = MountTable::parse(&lines.collect::<Vec<_>>().concat()) else {
            return self.unseen.mounts.count(Errno::INVAL);
        };
        self.registry.get(position).mounts_read = true;
        let pins: Vec<_> = table.iter().filter_map(pin_mount).collect();
        if pins.is_empty() {
            return;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(directory, c"root", flags, Mode::empty());
        self.pins(position, pins, |target| match &root {
            Ok(root) => open_cached(root, target),
            Err(errno) => Err(*errno),
        });
    }

    /// The mounts of mount namespaces that no process could show.
    pub(super) fn mounts_without_members(&mut self) {
        // Another mount namespace may be found in one.
        while let Some(position) = self.next_without_mounts() {
            let found = self.registry.get(position);
            found.mounts_read = true;
            let Some(fd) = &found.fd else {
                self.unseen.mounts.count(Errno::BADF);
                continue;
            };
            let duplicate = fd.try_clone();
            let table = MountTable::of_mount_namespace(fd);
            let table = match table {
                Ok(table) => table,
                Err(error) => {
                    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
                    self.unseen.mounts.count(errno.unwrap_or(Errno::PERM));
                    continue;
                }
            };
            let pins: Vec<_> = table.iter().filter_map(pin_mount).collect();
            if pins.is_empty() {
                continue;
            }
            let namespace = duplicate
                .ok()
                .and_then(|fd| Namespace::<crate::ns::Mount>::try_from(fd).ok());
            self.pins(position, pins, |target| {
                let namespace = namespace.as_ref().ok_or(Errno::BADF)?;
                let opened = namespace.run_in(|| open_cached(CWD, target));
                opened.unwrap_or(Err(Errno::PERM))
            });
        }
    }

    fn next_without_mounts(&mut self) -> Option<Position> {
        let mut positions = self.registry.of_kind(Kind::Mount).into_iter();
        positions.find(|&position| !self.registry.get(position).mounts_read)
    }

    fn pins(
        &mut self,
        within: Position,
        pins: Vec<PinMount>,
        open: impl Fn(&Path) -> Result<OwnedFd, Errno>,
    ) {
        let within = self.registry.id(within);
        for PinMount {
            kind,
            inode,
            target,
        } in pins
        {
            if !self.scan.kinds.contains(kind.into()) {
                continue;
            }
            let position = match self.registry.position(kind, inode) {
                Some(position) => position,
                None => match open(&target).and_then(|path| self.add_by_path(path, kind)) {
                    Ok(found) if self.registry.id(found).inode() == inode => found,
                    // Covered by another mount, or on a file system that would have to be asked.
                    result => {
                        let errno = match result {
                            Err(errno @ (Errno::ACCESS | Errno::PERM)) => errno,
                            _ => Errno::AGAIN,
                        };
                        self.registry.add_unopened(kind, inode, errno)
                    }
                },
            };
            let holders = &mut self.registry.get(position).info.holders;
            holders.push(Holder::Mount { within, target });
        }
    }
}

fn pin_mount(mount: &Mount) -> Option<PinMount> {
    if mount.fs_type() != "nsfs" {
        return None;
    }
    let (kind, inode) = parse_id(mount.root().to_str()?)?;
    Some(PinMount {
        kind,
        inode,
        target: mount.target().to_owned(),
    })
}

/// Opens what the kernel has in memory, as it has every mount point and what is above it. So no file system of
/// somebody's is asked, which may never answer.
fn open_cached(root: impl AsFd, target: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
    openat2(
        root,
        target,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )
}
