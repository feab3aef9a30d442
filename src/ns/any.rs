//! A handle whose kind is known at run time.

use super::id::parse;
use super::{Keeper, Kind, Namespace, NamespaceId, NamespaceKind, Namespaces, of_process};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys::nsfs;
use crate::sys::statmount::{mnt_ns_id, namespace_type};
use core::sync::atomic::{AtomicU64, Ordering};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// `NSFS_MAGIC` of <linux/magic.h>.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// The device of nsfs, of which there is one as long as the machine runs; 0 until it has been seen.
static NSFS_DEVICE: AtomicU64 = AtomicU64::new(0);

/// A namespace of any kind, by a descriptor that it owns and that keeps the namespace alive.
///
/// Two handles are equal if they are of the same namespace. Printed as the kernel writes it,
/// `net:[4026531840]`.
pub struct AnyNamespace {
    fd: OwnedFd,
    id: NamespaceId,
    keeper: Option<Keeper>,
}

impl AnyNamespace {
    /// That of the calling thread, as [`Namespace::current`].
    ///
    /// # Errors
    /// Those of [`Namespace::current`].
    pub fn current(kind: Kind) -> Result<Self> {
        of_process::current(kind)
    }

    /// That of a thread, as [`Namespace::of_thread`].
    ///
    /// # Errors
    /// Those of [`Namespace::of_pid`].
    pub fn of_thread(kind: Kind, tid: u32) -> Result<Self> {
        of_process::of_thread(kind, tid)
    }

    /// That of a process, as [`Namespace::of_pid`].
    ///
    /// # Errors
    /// Those of [`Namespace::of_pid`].
    pub fn of_pid(kind: Kind, pid: u32) -> Result<Self> {
        of_process::of_pid(kind, pid)
    }

    /// That of the process of a pidfd, as [`Namespace::of_pidfd`].
    ///
    /// # Errors
    /// Those of [`Namespace::of_pid`].
    pub fn of_pidfd(kind: Kind, pidfd: impl AsFd) -> Result<Self> {
        of_process::of_pidfd(kind, pidfd.as_fd())
    }

    /// The namespace at a path: a link in `/proc/PID/ns`, or a [pin](Self::pin).
    ///
    /// # Errors
    /// [`ErrorKind::NotThatNamespace`] if there is something else, and what opening the path gives.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Neither a FIFO nor a terminal at that path shall have a hold on the caller.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::system(Step::Namespace, path.display(), "open", errno))?;
        Self::from_fd(fd, &path.display())
    }

    pub(super) fn from_fd(fd: OwnedFd, object: &dyn fmt::Display) -> Result<Self> {
        let failed = |call| move |errno| Error::system(Step::Namespace, object, call, errno);
        let stat = rustix::fs::fstat(&fd).map_err(failed("fstat"))?;
        // On other files the numbers of the ioctls may mean something else.
        if stat.st_dev != NSFS_DEVICE.load(Ordering::Relaxed) {
            let magic = rustix::fs::fstatfs(&fd).map_err(failed("fstatfs"))?.f_type;
            #[allow(
                clippy::unnecessary_cast,
                clippy::cast_lossless,
                reason = "the type differs by architecture"
            )]
            if magic as i64 != NSFS_MAGIC {
                return Err(Error::other(
                    ErrorKind::NotThatNamespace,
                    Step::Namespace,
                    format!("{object} is not a namespace"),
                ));
            }
            NSFS_DEVICE.store(stat.st_dev, Ordering::Relaxed);
        }
        let kind = kind_of(fd.as_fd()).map_err(failed("ioctl(NS_GET_NSTYPE)"))?;
        Ok(Self {
            fd,
            id: NamespaceId::of_stat(&stat, kind),
            keeper: None,
        })
    }

    /// A descriptor that the kernel gave as a namespace of this kind.
    pub(super) fn of_kind(fd: OwnedFd, kind: Kind) -> Result<Self> {
        let id = NamespaceId::of_fd(fd.as_fd(), kind).map_err(|errno| {
            let object = format!("descriptor {}", fd.as_raw_fd());
            Error::system(Step::Namespace, object, "fstat", errno)
        })?;
        Ok(Self {
            fd,
            id,
            keeper: None,
        })
    }

    pub(super) fn keep(&mut self, keeper: Keeper) {
        self.keeper = Some(keeper);
    }

    /// The typed handle.
    ///
    /// # Errors
    /// [`ErrorKind::NotThatNamespace`] if it is of another kind.
    pub fn downcast<K: NamespaceKind>(self) -> Result<Namespace<K>> {
        Namespace::from_any(self)
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.id.kind()
    }

    /// The identity: device and inode number of the descriptor.
    #[must_use]
    pub fn id(&self) -> NamespaceId {
        self.id
    }

    /// A number that no other namespace has had or will have until the machine is started again.
    ///
    /// # Kernel
    /// `NS_GET_ID` of Linux 6.18; for mount namespaces `NS_GET_MNTNS_ID` of 6.11. `None` before.
    #[must_use]
    #[doc(alias = "NS_GET_ID")]
    pub fn unique_id(&self) -> Option<u64> {
        let id = nsfs::unique_id(self.as_fd()).ok();
        id.or_else(|| {
            let is_mount = self.kind() == Kind::Mount;
            is_mount.then(|| mnt_ns_id(self.as_fd()).ok()).flatten()
        })
    }

    /// Whether the calling thread is in it.
    ///
    /// # Errors
    /// Those of [`current`](Self::current).
    pub fn is_current(&self) -> Result<bool> {
        Ok(Self::current(self.kind())? == *self)
    }

    /// Another descriptor of the same namespace.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone();
        Ok(Self {
            fd: fd.map_err(|error| Error::io(Step::Namespace, self, error))?,
            id: self.id,
            keeper: self.keeper.clone(),
        })
    }
}

/// By ioctl, or where a filter forbids that, by the name that /proc shows.
fn kind_of(fd: BorrowedFd<'_>) -> Result<Kind, Errno> {
    let error = match namespace_type(fd) {
        Ok(flag) => {
            let flags = Namespaces::from_bits_retain(flag.cast_unsigned());
            return flags.kinds().next().ok_or(Errno::INVAL);
        }
        Err(error) => error,
    };
    let link = format!("/proc/thread-self/fd/{}", fd.as_raw_fd());
    let name = std::fs::read_link(link).ok();
    let kind = name.and_then(|name| parse(name.to_str()?).map(|(kind, _)| kind));
    kind.ok_or(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

impl TryFrom<OwnedFd> for AnyNamespace {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::NotThatNamespace`] if the descriptor is something else.
    fn try_from(fd: OwnedFd) -> Result<Self> {
        let number = fd.as_raw_fd();
        Self::from_fd(fd, &format_args!("descriptor {number}"))
    }
}

impl From<AnyNamespace> for OwnedFd {
    /// The descriptor alone. The first process of a [created](Namespace::create) pid namespace ends with its
    /// last handle.
    fn from(namespace: AnyNamespace) -> Self {
        namespace.fd
    }
}

impl AsRef<Self> for AnyNamespace {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsFd for AnyNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for AnyNamespace {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl PartialEq for AnyNamespace {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for AnyNamespace {}

impl Hash for AnyNamespace {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Display for AnyNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl fmt::Debug for AnyNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (descriptor {})", self.id, self.fd.as_raw_fd())
    }
}
