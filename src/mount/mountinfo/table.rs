//! All mounts of a process or a namespace, and the tree that they form.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::{Mount, ParseError, parse};

/// The mounts of a process or a mount namespace, in the order of mountinfo.
///
/// Mountinfo shows what lies below a process's root directory, with paths seen from there. A mount
/// whose parent lies outside stands at the top of its own tree: usually there is one such mount, at
/// `/`; a process whose root is a plain directory (`chroot(2)`) has none there, and its table may
/// hold several trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountTable {
    mounts: Vec<Mount>,
    /// The position of a mount id; of two mounts with the same id, of the later.
    positions: HashMap<u32, usize>,
    tops: Vec<usize>,
    children: Vec<Vec<usize>>,
}

/// A step of [`MountTable::walk`].
#[derive(Clone, Copy, Debug)]
pub struct TreeEntry<'a> {
    /// The mount.
    pub mount: &'a Mount,
    /// How many mounts of the table it is mounted on, one on the other.
    pub depth: usize,
}

impl MountTable {
    /// Parses the text of `/proc/PID/mountinfo`.
    ///
    /// Any bytes are safe to give. Optional fields that are not known are passed over, as the kernel's
    /// documentation asks. A table that no kernel would print, with an id twice or a mount below
    /// itself, is cut into trees so that every mount is in one of them once.
    ///
    /// # Errors
    ///
    /// [`ParseError`] with the first line that has not the fields of mountinfo.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringfence::mount::{Propagation, mountinfo::MountTable};
    ///
    /// let line = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n";
    /// let table = MountTable::parse(line)?;
    /// let mount = table.get(36).expect("it was just parsed");
    /// assert_eq!(mount.target(), "/mnt 2");
    /// assert_eq!(mount.propagation().propagation(), Propagation::Slave);
    /// assert!(mount.super_options().contains("errors"));
    /// # Ok::<(), ringfence::mount::mountinfo::ParseError>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        parse::parse(bytes).map(Self::new)
    }

    pub(super) fn new(mounts: Vec<Mount>) -> Self {
        let positions: HashMap<u32, usize> = mounts
            .iter()
            .enumerate()
            .map(|(position, mount)| (mount.id, position))
            .collect();
        let mut parents: Vec<Option<usize>> = mounts
            .iter()
            .map(|mount| positions.get(&mount.parent).copied())
            .collect();
        cut_cycles(&mut parents);
        let mut tops = Vec::new();
        let mut children = vec![Vec::new(); mounts.len()];
        for (position, parent) in parents.iter().enumerate() {
            match parent {
                Some(parent) => children[*parent].push(position),
                None => tops.push(position),
            }
        }
        Self {
            mounts,
            positions,
            tops,
            children,
        }
    }

    /// The mounts in the order of mountinfo.
    pub fn iter(&self) -> std::slice::Iter<'_, Mount> {
        self.mounts.iter()
    }

    /// The number of mounts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mounts.len()
    }

    /// Whether there is no mount at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// The mount with this id.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&Mount> {
        self.positions
            .get(&id)
            .map(|position| &self.mounts[*position])
    }

    /// The mount that is the root directory. A process whose root is a plain directory has none.
    #[must_use]
    pub fn root(&self) -> Option<&Mount> {
        self.root_position().map(|position| &self.mounts[position])
    }

    /// The mounts whose parent is not in the table: the root, and what else stands on its own.
    pub fn tops(&self) -> impl Iterator<Item = &Mount> {
        self.tops.iter().map(|position| &self.mounts[*position])
    }

    /// What is mounted on the mount with this id, in order.
    pub fn children_of(&self, id: u32) -> impl Iterator<Item = &Mount> {
        let position = self.positions.get(&id);
        position
            .map(|position| self.children[*position].as_slice())
            .unwrap_or_default()
            .iter()
            .map(|position| &self.mounts[*position])
    }

    /// Every mount once, each before those that are mounted on it.
    pub fn walk(&self) -> impl Iterator<Item = TreeEntry<'_>> {
        let mut pending: Vec<_> = self.tops.iter().rev().map(|top| (*top, 0)).collect();
        std::iter::from_fn(move || {
            let (position, depth) = pending.pop()?;
            pending.extend(
                self.children[position]
                    .iter()
                    .rev()
                    .map(|child| (*child, depth + 1)),
            );
            Some(TreeEntry {
                mount: &self.mounts[position],
                depth,
            })
        })
    }

    /// The mount in which a path lies: where the kernel would end up that looked it up.
    ///
    /// Of several mounts on one target the topmost counts, and what it covers does not: with `/a/b`
    /// mounted before `/a`, the path `/a/b` lies in the mount at `/a`. Only on the root directory itself a
    /// further mount changes nothing, as a process that has the lower one for its root walks past it.
    ///
    /// The path must be absolute; it is taken as it is written, without a look at the file system:
    /// symbolic links are not followed. `None` for a relative path, one with `..`, and one that lies in
    /// none of the mounts.
    pub fn mount_over(&self, path: impl AsRef<Path>) -> Option<&Mount> {
        let path = path.as_ref();
        if !path.is_absolute() {
            return None;
        }
        let mut over = self.root_position();
        let mut prefix = PathBuf::from("/");
        for component in path.components() {
            match component {
                Component::Normal(name) => prefix.push(name),
                Component::RootDir | Component::CurDir => continue,
                Component::ParentDir | Component::Prefix(_) => return None,
            }
            while let Some(above) = self.mounted_at(over, &prefix) {
                over = Some(above);
            }
        }
        over.map(|position| &self.mounts[position])
    }

    fn root_position(&self) -> Option<usize> {
        self.mounted_at(None, Path::new("/"))
    }

    /// The last mount on this mount (or at the top of a tree) that has this target.
    fn mounted_at(&self, over: Option<usize>, target: &Path) -> Option<usize> {
        let candidates = over.map_or(&self.tops, |over| &self.children[over]);
        let at_target = |position: &&usize| self.mounts[**position].target == target;
        candidates.iter().rev().find(at_target).copied()
    }
}

impl<'a> IntoIterator for &'a MountTable {
    type Item = &'a Mount;
    type IntoIter = std::slice::Iter<'a, Mount>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for MountTable {
    type Item = Mount;
    type IntoIter = std::vec::IntoIter<Mount>;

    fn into_iter(self) -> Self::IntoIter {
        self.mounts.into_iter()
    }
}

/// Makes a forest of the links: the root of a namespace is its own parent, and text that was not the
/// kernel's may go round in longer circles.
fn cut_cycles(parents: &mut [Option<usize>]) {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        OnThisPath,
        Before,
    }
    let mut seen = vec![Seen::No; parents.len()];
    for start in 0..parents.len() {
        let mut path = Vec::new();
        let mut next = Some(start);
        while let Some(position) = next {
            match seen[position] {
                Seen::Before => break,
                Seen::OnThisPath => {
                    parents[position] = None;
                    break;
                }
                Seen::No => {
                    seen[position] = Seen::OnThisPath;
                    path.push(position);
                    next = parents[position];
                }
            }
        }
        for position in path {
            seen[position] = Seen::Before;
        }
    }
}
