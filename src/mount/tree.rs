//! Mount trees as descriptors.

use super::{Attributes, Propagation, Recursion};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::NamespaceSet;
use crate::sandbox::{IdMap, Sandbox};
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A mount, or a tree of them, held by a descriptor of its root.
///
/// A *detached* tree is in no mount namespace: only its holder can see it, and what is done to it cannot be
/// interfered with. [Attached](Tree::attach) it stays where it was put; dropped before, it is gone.
///
/// # Privileges
/// `CAP_SYS_ADMIN` in the user namespace that owns the caller's mount namespace.
///
/// # Kernel
/// Linux 5.2; attributes and propagation 5.12.
///
/// # Examples
/// ```no_run
/// use ringfence::mount::{Attributes, Recursion, Tree};
///
/// # fn main() -> ringfence::Result<()> {
/// let tree = Tree::clone_of("/srv/data", Recursion::Tree)?;
/// tree.set(Attributes::READ_ONLY | Attributes::NOSUID, Recursion::Tree)?;
/// tree.attach("/mnt")?; // nobody ever saw it writable there
/// # Ok(())
/// # }
/// ```
///
/// See [open_tree(2)](https://man7.org/linux/man-pages/man2/open_tree.2.html).
#[derive(Debug)]
pub struct Tree {
    fd: OwnedFd,
    /// For errors.
    name: String,
}

impl Tree {
    /// Holds the mount that is attached at a path.
    ///
    /// # Errors
    /// What opening the path gives.
    #[doc(alias = "open_tree")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::by_path(path.as_ref(), OpenTreeFlags::empty())
    }

    /// A detached copy of the mount that a path lies in, with the path as its root: what a bind mount
    /// is before it has a place.
    ///
    /// # Errors
    /// What opening the path gives; `EPERM` without the privilege; `EINVAL` for an unbindable mount, and
    /// without [`Recursion::Tree`] where a mount that was inherited from a more privileged namespace is
    /// below the path.
    #[doc(alias = "OPEN_TREE_CLONE")]
    #[doc(alias = "MS_BIND")]
    pub fn clone_of(path: impl AsRef<Path>, recursion: Recursion) -> Result<Self> {
        Self::by_path(path.as_ref(), cloning(recursion))
    }

    /// A detached copy of this tree.
    ///
    /// # Errors
    /// As of [`clone_of`](Self::clone_of); `EINVAL` if this tree is detached and the kernel before
    /// 6.15.
    pub fn try_clone(&self, recursion: Recursion) -> Result<Self> {
        let flags = cloning(recursion) | OpenTreeFlags::AT_EMPTY_PATH;
        let fd = self.failed(
            "open_tree",
            rustix::mount::open_tree(&self.fd, c"", CLOEXEC | flags),
        )?;
        Ok(Self::new(fd, self.name.clone()))
    }

    fn by_path(path: &Path, flags: OpenTreeFlags) -> Result<Self> {
        let name = path.display().to_string();
        let opened = rustix::mount::open_tree(CWD, path, CLOEXEC | flags);
        let fd = failed(&name, "open_tree", opened)?;
        Ok(Self::new(fd, name))
    }

    pub(super) fn new(fd: OwnedFd, name: String) -> Self {
        Self { fd, name }
    }

    /// Sets attributes, and leaves the others as they are.
    ///
    /// # Errors
    /// `EINVAL` if this is not the root of a mount; `EPERM` for access time attributes that are locked,
    /// as they are in a mount inherited from a more privileged namespace.
    #[doc(alias = "mount_setattr")]
    pub fn set(&self, attributes: Attributes, recursion: Recursion) -> Result<()> {
        self.change(
            recursion,
            MountAttr {
                attr_set: attributes.kernel(),
                attr_clr: attributes.cleared_first(),
                ..MountAttr::default()
            },
        )
    }

    /// Clears attributes, and leaves the others as they are. Access time attributes are changed by
    /// setting another one.
    ///
    /// # Errors
    /// `EPERM` for an attribute that is locked.
    pub fn clear(&self, attributes: Attributes, recursion: Recursion) -> Result<()> {
        self.change(
            recursion,
            MountAttr {
                attr_clr: (attributes - Attributes::ACCESS_TIMES).kernel(),
                ..MountAttr::default()
            },
        )
    }

    /// Sets the propagation type.
    ///
    /// # Errors
    /// `EINVAL` if this is not the root of a mount.
    pub fn set_propagation(&self, propagation: Propagation, recursion: Recursion) -> Result<()> {
        for step in propagation.steps() {
            let attr = MountAttr {
                propagation: u64::from(step.bits()),
                ..MountAttr::default()
            };
            self.change(recursion, attr)?;
        }
        Ok(())
    }

    /// Shows the owners of files through the id maps of a user namespace: a file that belongs on disk to an
    /// id inside that namespace belongs, through this mount, to the id outside that it is mapped to.
    ///
    /// # Errors
    /// `EINVAL` if the tree is attached, or the file system does not know id-mapped mounts; `EPERM` if it
    /// has an id map already, if the maps of the namespace are not written, or without `CAP_SYS_ADMIN`
    /// in the user namespace of the file system.
    ///
    /// # Kernel
    /// Linux 5.12; which file systems know it differs, tmpfs 6.3, overlay 5.19 for its layers only.
    #[doc(alias = "MOUNT_ATTR_IDMAP")]
    pub fn idmapped(self, user_namespace: impl AsFd, recursion: Recursion) -> Result<Self> {
        let userns = user_namespace.as_fd().as_raw_fd();
        self.change(
            recursion,
            MountAttr {
                attr_set: libc::MOUNT_ATTR_IDMAP,
                userns_fd: u64::from(userns.cast_unsigned()),
                ..MountAttr::default()
            },
        )?;
        Ok(self)
    }

    /// [`idmapped`](Self::idmapped) through a user namespace that is made for it, with this map for users and
    /// groups: an id on disk is `inside`, the one that is seen `outside`.
    ///
    /// # Errors
    /// Those of [`idmapped`](Self::idmapped), and those of the map, see [`Sandbox::user_map`].
    ///
    /// # Examples
    /// ```no_run
    /// use ringfence::IdMap;
    /// use ringfence::mount::{Recursion, Tree};
    ///
    /// # fn main() -> ringfence::Result<()> {
    /// // What belongs to 1000 on disk is root's here, and the other way round for what root makes.
    /// let home = Tree::clone_of("/home/joe", Recursion::MountOnly)?
    ///     .idmapped_by(IdMap::range(1000, 0, 1), Recursion::MountOnly)?;
    /// home.attach("/mnt")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn idmapped_by(self, map: impl Into<IdMap>, recursion: Recursion) -> Result<Self> {
        let map = map.into();
        let sandbox = Sandbox::new().user().user_map(map.clone()).group_map(map);
        let made = NamespaceSet::create(&sandbox)?;
        match &made.user {
            Some(user) => self.idmapped(user, recursion),
            None => Err(Error::other(
                ErrorKind::System,
                Step::Mount,
                "a user namespace for the id map has not been made",
            )),
        }
    }

    fn change(&self, recursion: Recursion, attr: MountAttr) -> Result<()> {
        let flags = AtFlags::EMPTY_PATH.bits()
            | match recursion {
                Recursion::MountOnly => 0,
                Recursion::Tree => OpenTreeFlags::AT_RECURSIVE.bits(),
            };
        self.failed(
            "mount_setattr",
            mount_setattr(self.fd.as_fd(), c"", flags, &attr),
        )
    }

    /// Attaches the tree at a path, or moves it there if it is attached already. Symbolic links are
    /// followed.
    ///
    /// # Errors
    /// What opening the path gives; `ENOTDIR` for a directory on a file or the other way round; `EINVAL`
    /// if the mount that it was attached to is shared.
    #[doc(alias = "move_mount")]
    pub fn attach(&self, at: impl AsRef<Path>) -> Result<()> {
        let at = at.as_ref();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let to = rustix::fs::open(at, flags, Mode::empty());
        let to = failed(&at.display(), "openat", to)?;
        let object = format!("{} at {}", self.name, at.display());
        failed(&object, "move_mount", self.attach_to(to.as_fd()))
    }

    /// Attaches the tree at the file or directory that a descriptor refers to.
    ///
    /// # Errors
    /// As of [`attach`](Self::attach).
    pub fn attach_at(&self, at: impl AsFd) -> Result<()> {
        self.failed("move_mount", self.attach_to(at.as_fd()))
    }

    fn attach_to(&self, to: BorrowedFd<'_>) -> Result<(), Errno> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&self.fd, c"", to, c"", flags)
    }

    fn failed<T>(&self, syscall: &'static str, result: Result<T, Errno>) -> Result<T> {
        failed(&self.name, syscall, result)
    }
}

impl AsFd for Tree {
    /// The root of the tree, as an `O_PATH` descriptor.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Tree> for OwnedFd {
    fn from(tree: Tree) -> Self {
        tree.fd
    }
}

const CLOEXEC: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLOEXEC;

fn cloning(recursion: Recursion) -> OpenTreeFlags {
    match recursion {
        Recursion::MountOnly => OpenTreeFlags::OPEN_TREE_CLONE,
        Recursion::Tree => OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE,
    }
}

fn failed<T>(
    object: &dyn std::fmt::Display,
    syscall: &'static str,
    result: Result<T, Errno>,
) -> Result<T> {
    result.map_err(|errno| {
        let error = Error::system(Step::Mount, object, syscall, errno);
        error.with_hint(match errno {
            Errno::NOSYS => Some(format!(
                "{syscall} is missing from this kernel, or a seccomp filter hides it"
            )),
            Errno::PERM => Some(
                "mounting needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace"
                    .into(),
            ),
            _ => None,
        })
    })
}
