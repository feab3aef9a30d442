//! The root of the sandbox and what is put into it.

use super::overlay::Overlay;
use crate::mount::{Attributes, Tree};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// The file system that becomes `/` of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Rootfs {
    pub(crate) kind: RootKind,
    pub(crate) read_only: bool,
    pub(crate) entry: RootEntry,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RootKind {
    Dir {
        path: PathBuf,
        /// What holds before anything is put into it.
        options: Option<super::Bind>,
    },
    Tmpfs(Tmpfs),
    Overlay(Overlay),
}

/// How the root is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootEntry {
    Pivot,
    Chroot,
}

impl Rootfs {
    /// An existing directory of the caller, with everything mounted below it. What the program writes
    /// there stays.
    pub fn dir(path: impl Into<PathBuf>) -> Self {
        Self::new(RootKind::Dir {
            path: path.into(),
            options: None,
        })
    }

    /// [`dir`](Self::dir), restricted as a bind mount in its whole depth. That holds before anything is put into it: in
    /// a [read-only](super::Bind::read_only) one, places for what is put into it are not made, they have to be there.
    pub fn bind(path: impl Into<PathBuf>, options: super::Bind) -> Self {
        Self::new(RootKind::Dir {
            path: path.into(),
            options: Some(options),
        })
    }

    /// An empty tmpfs, gone with the sandbox.
    pub fn tmpfs() -> Self {
        Self::from(Tmpfs::new().mode(0o755))
    }

    /// Directories of the caller above each other; see [`Overlay`] for where writes go.
    #[doc(alias = "overlayfs")]
    pub fn overlay(overlay: Overlay) -> Self {
        Self::new(RootKind::Overlay(overlay))
    }

    /// Makes the root read-only once everything has been put into it. Mounts put into it keep their own
    /// access; those that came with a [`dir`](Self::dir) become read-only with it.
    #[doc(alias = "MS_RDONLY")]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Enters the root by pivot_root(2), after which nothing of the old one is left. This is the default.
    #[doc(alias = "pivot_root")]
    pub fn pivot(mut self) -> Self {
        self.entry = RootEntry::Pivot;
        self
    }

    /// Enters the root by chroot(2), for a caller whose own root is an initramfs, where pivot_root(2) is
    /// impossible.
    ///
    /// This is **weaker**: the old root stays mounted below the new one, and a program with
    /// `CAP_SYS_CHROOT`, which root inside a new user namespace has, gets back to it. Inside, no user
    /// namespaces can be made.
    pub fn chroot(mut self) -> Self {
        self.entry = RootEntry::Chroot;
        self
    }

    fn new(kind: RootKind) -> Self {
        Self {
            kind,
            read_only: false,
            entry: RootEntry::Pivot,
        }
    }
}

impl From<Tmpfs> for Rootfs {
    fn from(tmpfs: Tmpfs) -> Self {
        Self::new(RootKind::Tmpfs(tmpfs))
    }
}

impl From<Overlay> for Rootfs {
    fn from(overlay: Overlay) -> Self {
        Self::overlay(overlay)
    }
}

/// A tmpfs: file contents in memory, gone when it is unmounted.
///
/// See [tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tmpfs {
    pub(crate) size: Option<u64>,
    pub(crate) inodes: Option<u64>,
    pub(crate) mode: Option<u32>,
}

impl Tmpfs {
    /// A tmpfs with the kernel's limits, half of the memory, and mode 1777.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// At most this many bytes, rounded up to whole pages.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// At most this many files and directories.
    #[must_use]
    pub fn inodes(mut self, count: u64) -> Self {
        self.inodes = Some(count);
        self
    }

    /// Permission bits of its top directory, `0o1777` if not set.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }
}

/// One thing put into the root, in the caller's order.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: PathBuf,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Bind {
        source: BindSource,
        options: super::Bind,
        setter: &'static str,
    },
    Tmpfs(Tmpfs),
    Proc(super::Proc),
    Sysfs {
        writable: bool,
    },
    Mqueue,
    Devpts,
    Cgroup2 {
        writable: bool,
    },
    Overlay(Overlay),
    Dev,
    Mask {
        optional: bool,
    },
    Remount {
        attributes: Attributes,
        optional: bool,
    },
    Symlink {
        target: PathBuf,
    },
    Dir {
        mode: u32,
    },
    File {
        bytes: Arc<[u8]>,
        mode: u32,
    },
    FileFrom {
        fd: Arc<OwnedFd>,
        mode: u32,
    },
    Chmod {
        mode: u32,
    },
    BinfmtMisc,
    /// Bytes for a file of the kernel's.
    Write {
        bytes: Arc<[u8]>,
        setter: &'static str,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum BindSource {
    Path(PathBuf),
    Fd(Arc<OwnedFd>),
    Tree(Arc<Tree>),
    /// A file in memory.
    Data {
        bytes: Arc<[u8]>,
        mode: u32,
    },
}

impl What {
    /// The name of the method that made the entry.
    pub(crate) fn setter(&self) -> &'static str {
        match self {
            Self::Bind { setter, .. } => setter,
            Self::Tmpfs(_) => "tmpfs",
            Self::Proc(_) => "proc",
            Self::Sysfs { .. } => "sysfs",
            Self::Mqueue => "mqueue",
            Self::Devpts => "devpts",
            Self::Cgroup2 { .. } => "cgroup2",
            Self::Overlay(_) => "overlay",
            Self::Dev => "dev",
            Self::Mask { .. } => "mask",
            Self::Remount { .. } => "remount",
            Self::Symlink { .. } => "symlink",
            Self::Dir { .. } => "dir",
            Self::File { .. } => "file",
            Self::FileFrom { .. } => "file_from",
            Self::Chmod { .. } => "chmod",
            Self::BinfmtMisc => "binfmt_misc",
            Self::Write { setter, .. } => setter,
        }
    }

    /// Whether it changes the mounts.
    pub(crate) fn mounts(&self) -> bool {
        !matches!(
            self,
            Self::Symlink { .. }
                | Self::Dir { .. }
                | Self::File { .. }
                | Self::FileFrom { .. }
                | Self::Chmod { .. }
                | Self::Write { .. }
        )
    }
}
