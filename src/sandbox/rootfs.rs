//! The root of the sandbox and what is put into it.

use std::path::PathBuf;
use std::sync::Arc;

/// The file system that becomes `/` of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs(pub(crate) RootKind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RootKind {
    Dir(PathBuf),
    Tmpfs(Tmpfs),
}

impl Rootfs {
    /// An existing directory of the caller, with everything mounted below it. What the program writes
    /// there stays.
    #[must_use]
    pub fn dir(path: impl Into<PathBuf>) -> Self {
        Self(RootKind::Dir(path.into()))
    }

    /// An empty tmpfs, gone with the sandbox.
    #[must_use]
    pub fn tmpfs() -> Self {
        Self::from(Tmpfs::new().mode(0o755))
    }
}

impl From<Tmpfs> for Rootfs {
    fn from(tmpfs: Tmpfs) -> Self {
        Self(RootKind::Tmpfs(tmpfs))
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
    Bind { source: PathBuf, access: Access },
    Tmpfs(Tmpfs),
    Proc,
    Sysfs,
    Mqueue,
    Dev,
    Symlink { target: PathBuf },
    Dir { mode: u32 },
    File { bytes: Arc<[u8]>, mode: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadWrite,
    ReadOnly,
}

impl What {
    /// The name of the method that made the entry.
    pub(crate) fn setter(&self) -> &'static str {
        match self {
            Self::Bind {
                access: Access::ReadWrite,
                ..
            } => "bind",
            Self::Bind {
                access: Access::ReadOnly,
                ..
            } => "bind_ro",
            Self::Tmpfs(_) => "tmpfs",
            Self::Proc => "proc",
            Self::Sysfs => "sysfs",
            Self::Mqueue => "mqueue",
            Self::Dev => "dev",
            Self::Symlink { .. } => "symlink",
            Self::Dir { .. } => "dir",
            Self::File { .. } => "file",
        }
    }
}
