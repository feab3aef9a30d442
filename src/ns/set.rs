//! All namespaces of a process.

use super::of_process::{self, open_process};
use super::{AnyNamespace, Cgroup, Ipc, Kind, Mount, Namespace, Net, Pid, Time, User, Uts};
use crate::error::{Error, Result};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// Handles of the namespaces of a process. What the kernel does not have is `None`.
///
/// # Examples
/// ```
/// use ringfence::NamespaceSet;
///
/// # fn main() -> ringfence::Result<()> {
/// let own = NamespaceSet::current()?;
/// for namespace in own.iter() {
///     println!("{namespace}");
/// }
/// assert!(own.net.is_some_and(|net| net.is_current().is_ok_and(|is| is)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct NamespaceSet {
    /// The user namespace.
    pub user: Option<Namespace<User>>,
    /// The pid namespace.
    pub pid: Option<Namespace<Pid>>,
    /// The mount namespace.
    pub mount: Option<Namespace<Mount>>,
    /// The network namespace.
    pub net: Option<Namespace<Net>>,
    /// The UTS namespace.
    pub uts: Option<Namespace<Uts>>,
    /// The IPC namespace.
    pub ipc: Option<Namespace<Ipc>>,
    /// The cgroup namespace.
    pub cgroup: Option<Namespace<Cgroup>>,
    /// The time namespace.
    pub time: Option<Namespace<Time>>,
}

impl NamespaceSet {
    /// Those of the calling thread.
    ///
    /// # Errors
    /// Those of [`Namespace::current`].
    pub fn current() -> Result<Self> {
        Self::collect(of_process::current)
    }

    /// Those of a thread.
    ///
    /// # Errors
    /// Those of [`Namespace::of_thread`].
    pub fn of_thread(tid: u32) -> Result<Self> {
        Self::collect(|kind| of_process::of_thread(kind, tid))
    }

    /// Those of a process, all of the same one.
    ///
    /// # Errors
    /// Those of [`Namespace::of_pid`].
    pub fn of_pid(pid: u32) -> Result<Self> {
        Self::of_pidfd(open_process(pid)?)
    }

    /// Those of the process of a pidfd.
    ///
    /// # Errors
    /// Those of [`Namespace::of_pid`].
    pub fn of_pidfd(pidfd: impl AsFd) -> Result<Self> {
        Self::collect(|kind| of_process::of_pidfd(kind, pidfd.as_fd()))
    }

    fn collect(open: impl Fn(Kind) -> Result<AnyNamespace>) -> Result<Self> {
        let mut set = Self::default();
        for kind in Kind::ALL {
            match open(kind) {
                Ok(namespace) => set.insert(namespace)?,
                Err(error) if is_missing(&error) && !exists(kind) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(set)
    }

    pub(super) fn insert(&mut self, namespace: AnyNamespace) -> Result<()> {
        match namespace.kind() {
            Kind::User => self.user = Some(namespace.downcast()?),
            Kind::Pid => self.pid = Some(namespace.downcast()?),
            Kind::Mount => self.mount = Some(namespace.downcast()?),
            Kind::Net => self.net = Some(namespace.downcast()?),
            Kind::Uts => self.uts = Some(namespace.downcast()?),
            Kind::Ipc => self.ipc = Some(namespace.downcast()?),
            Kind::Cgroup => self.cgroup = Some(namespace.downcast()?),
            Kind::Time => self.time = Some(namespace.downcast()?),
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, kind: Kind) -> Option<AnyNamespace> {
        match kind {
            Kind::User => self.user.take().map(Into::into),
            Kind::Pid => self.pid.take().map(Into::into),
            Kind::Mount => self.mount.take().map(Into::into),
            Kind::Net => self.net.take().map(Into::into),
            Kind::Uts => self.uts.take().map(Into::into),
            Kind::Ipc => self.ipc.take().map(Into::into),
            Kind::Cgroup => self.cgroup.take().map(Into::into),
            Kind::Time => self.time.take().map(Into::into),
        }
    }

    /// The namespace of one kind.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<&AnyNamespace> {
        match kind {
            Kind::User => self.user.as_deref(),
            Kind::Pid => self.pid.as_deref(),
            Kind::Mount => self.mount.as_deref(),
            Kind::Net => self.net.as_deref(),
            Kind::Uts => self.uts.as_deref(),
            Kind::Ipc => self.ipc.as_deref(),
            Kind::Cgroup => self.cgroup.as_deref(),
            Kind::Time => self.time.as_deref(),
        }
    }

    /// All of them, in the order of [`Kind::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = &AnyNamespace> {
        Kind::ALL.into_iter().filter_map(|kind| self.get(kind))
    }
}

fn is_missing(error: &Error) -> bool {
    error.raw_os_error() == Some(Errno::NOENT.raw_os_error())
}

/// Whether the kernel has this kind at all, as far as the caller can tell.
fn exists(kind: Kind) -> bool {
    of_process::current(kind).is_ok()
}
