//! The typed handle.

use super::{AnyNamespace, NamespaceKind, of_process};
use crate::error::{Error, ErrorKind, Result, Step};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// A namespace of the kind `K`, such as [`Net`](super::Net), by a descriptor that it owns and that keeps the
/// namespace alive.
///
/// It can do whatever [`AnyNamespace`] can, and what only its kind can.
///
/// See [namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html).
///
/// # Examples
/// A namespace of one kind is not accepted for one of another:
/// ```compile_fail,E0308
/// use ringfence::ns::{Namespace, Net, Uts};
///
/// let net: Namespace<Net> = Namespace::<Uts>::current().unwrap();
/// ```
pub struct Namespace<K: NamespaceKind> {
    any: AnyNamespace,
    kind: PhantomData<K>,
}

impl<K: NamespaceKind> Namespace<K> {
    pub(super) fn from_any(any: AnyNamespace) -> Result<Self> {
        if any.kind() != K::KIND {
            return Err(Error::other(
                ErrorKind::NotThatNamespace,
                Step::Namespace,
                format!(
                    "{any} is of kind {}, where {} is asked for",
                    any.kind(),
                    K::KIND
                ),
            ));
        }
        Ok(Self {
            any,
            kind: PhantomData,
        })
    }

    /// That of the calling thread, which need not be that of other threads.
    ///
    /// # Errors
    /// `ENOENT` if the kernel does not have this kind, or if `/proc` is not mounted and the kernel does not
    /// have another way.
    pub fn current() -> Result<Self> {
        of_process::current(K::KIND).and_then(Self::from_any)
    }

    /// That of a thread, of any process, by its id. Otherwise as [`of_pid`](Self::of_pid).
    ///
    /// # Errors
    /// Those of [`of_pid`](Self::of_pid).
    pub fn of_thread(tid: u32) -> Result<Self> {
        of_process::of_thread(K::KIND, tid).and_then(Self::from_any)
    }

    /// That of a process, by its id in the caller's pid namespace.
    ///
    /// The id may have been given to another process before the call; from then on it is one
    /// process that is asked. [`of_pidfd`](Self::of_pidfd) is about the right one also before that.
    ///
    /// # Errors
    /// `ESRCH` if there is no such process, or none any more; `EACCES` or `EPERM` without the privilege; `ENOENT`
    /// if the kernel does not have this kind. A zombie has none: `ESRCH` or `ENOENT`.
    ///
    /// # Privileges
    /// Those of `PTRACE_MODE_READ_FSCREDS` on the process.
    pub fn of_pid(pid: u32) -> Result<Self> {
        of_process::of_pid(K::KIND, pid).and_then(Self::from_any)
    }

    /// That of the process of a pidfd.
    ///
    /// # Errors
    /// Those of [`of_pid`](Self::of_pid).
    ///
    /// # Privileges
    /// Those of [`of_pid`](Self::of_pid).
    ///
    /// # Kernel
    /// `PIDFD_GET_*_NAMESPACE` of Linux 6.11. Otherwise the link in `/proc`, by the number that `/proc` shows for the
    /// pidfd: if the process is there after it was opened, the number was its own until then.
    #[doc(alias = "PIDFD_GET_NET_NAMESPACE")]
    pub fn of_pidfd(pidfd: impl AsFd) -> Result<Self> {
        of_process::of_pidfd(K::KIND, pidfd.as_fd()).and_then(Self::from_any)
    }

    /// The namespace at a path: a link in `/proc/PID/ns`, or a [pin](AnyNamespace::pin).
    ///
    /// # Errors
    /// [`ErrorKind::NotThatNamespace`] if there is something else or a namespace of another kind, and what
    /// opening the path gives.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        AnyNamespace::open(path).and_then(Self::from_any)
    }

    /// Another descriptor of the same namespace.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            any: self.any.try_clone()?,
            kind: PhantomData,
        })
    }
}

impl<K: NamespaceKind> Deref for Namespace<K> {
    type Target = AnyNamespace;

    fn deref(&self) -> &AnyNamespace {
        &self.any
    }
}

impl<K: NamespaceKind> AsRef<AnyNamespace> for Namespace<K> {
    fn as_ref(&self) -> &AnyNamespace {
        &self.any
    }
}

impl<K: NamespaceKind> From<Namespace<K>> for AnyNamespace {
    fn from(namespace: Namespace<K>) -> Self {
        namespace.any
    }
}

impl<K: NamespaceKind> TryFrom<AnyNamespace> for Namespace<K> {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::NotThatNamespace`] if it is of another kind.
    fn try_from(any: AnyNamespace) -> Result<Self> {
        Self::from_any(any)
    }
}

impl<K: NamespaceKind> TryFrom<OwnedFd> for Namespace<K> {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::NotThatNamespace`] if the descriptor is something else or a namespace of another kind.
    fn try_from(fd: OwnedFd) -> Result<Self> {
        AnyNamespace::try_from(fd).and_then(Self::from_any)
    }
}

impl<K: NamespaceKind> From<Namespace<K>> for OwnedFd {
    /// The descriptor alone. The first process of a [created](Namespace::create) pid namespace ends with its
    /// last handle.
    fn from(namespace: Namespace<K>) -> Self {
        namespace.any.into()
    }
}

impl<K: NamespaceKind> AsFd for Namespace<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.any.as_fd()
    }
}

impl<K: NamespaceKind> AsRawFd for Namespace<K> {
    fn as_raw_fd(&self) -> RawFd {
        self.any.as_raw_fd()
    }
}

impl<K: NamespaceKind> PartialEq for Namespace<K> {
    fn eq(&self, other: &Self) -> bool {
        self.any == other.any
    }
}

impl<K: NamespaceKind> Eq for Namespace<K> {}

impl<K: NamespaceKind> Hash for Namespace<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.any.hash(state);
    }
}

impl<K: NamespaceKind> fmt::Display for Namespace<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.any, f)
    }
}

impl<K: NamespaceKind> fmt::Debug for Namespace<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.any, f)
    }
}
