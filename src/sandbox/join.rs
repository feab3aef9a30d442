//! Namespaces of others that the program runs in.

use super::Sandbox;
use crate::error::{Error, Result, Step};
use crate::ns::{AnyNamespace, Namespace, NamespaceSet, User, open_process};
use crate::process::Child;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is opened by a setter, which cannot fail, and looked at by the compiler.
pub(crate) type Opened<T> = Arc<Result<T>>;

/// The part of a [`Sandbox`] that says what to join.
#[derive(Clone, Debug, Default)]
pub(crate) struct Join {
    pub(crate) namespaces: Vec<Opened<AnyNamespace>>,
    /// The first error of [`Sandbox::join_all`].
    pub(crate) failed: Option<Arc<Error>>,
    /// The user namespace to enter last.
    pub(crate) last: Option<Opened<AnyNamespace>>,
    pub(crate) root: Option<JoinDir>,
    pub(crate) dir: Option<JoinDir>,
    pub(crate) credentials: Option<JoinCredentials>,
    pub(crate) cgroup: Option<JoinProcess>,
}

/// A process whose namespaces, root, ids or cgroup are meant: by its id, or by a pidfd. From then on it is one
/// process, even if its id is used again.
#[derive(Clone, Debug)]
pub struct JoinProcess {
    pub(crate) pidfd: Opened<OwnedFd>,
}

impl From<u32> for JoinProcess {
    /// The process with this id in the caller's pid namespace.
    fn from(pid: u32) -> Self {
        Self {
            pidfd: Arc::new(open_process(pid)),
        }
    }
}

impl From<BorrowedFd<'_>> for JoinProcess {
    /// The process of a pidfd.
    fn from(pidfd: BorrowedFd<'_>) -> Self {
        let copy = pidfd
            .try_clone_to_owned()
            .map_err(|error| Error::io(Step::Join, "a copy of a pidfd", error));
        Self {
            pidfd: Arc::new(copy),
        }
    }
}

impl From<&Child> for JoinProcess {
    /// A program of this crate; with [`init`](Sandbox::init) its process 1.
    fn from(child: &Child) -> Self {
        child.as_fd().into()
    }
}

/// A directory for [`Sandbox::join_root`] and [`Sandbox::join_dir`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum JoinDir {
    /// That of a process: its root, or its working directory.
    Of(JoinProcess),
    /// By a path of the caller's.
    Path(PathBuf),
    /// By a descriptor.
    Fd(Arc<OwnedFd>),
}

impl JoinDir {
    /// That of a process: its root, or its working directory.
    pub fn of(process: impl Into<JoinProcess>) -> Self {
        Self::Of(process.into())
    }
}

impl From<PathBuf> for JoinDir {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for JoinDir {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<&str> for JoinDir {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl From<OwnedFd> for JoinDir {
    fn from(fd: OwnedFd) -> Self {
        Self::Fd(Arc::new(fd))
    }
}

/// The ids of a program that joins a user namespace, where [`Command::uid`](super::Command::uid),
/// [`gid`](super::Command::gid) and [`groups`](super::Command::groups) do not say otherwise.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum JoinCredentials {
    /// User and group 0, without supplementary groups where the caller or the namespace may drop them; where 0 does
    /// not exist in the namespace, the caller's own ids, if they do. This is what holds if nothing is said.
    #[default]
    Root,
    /// The effective ids of a process, without supplementary groups.
    Of(JoinProcess),
    /// Those of the caller, whether they exist in the namespace or not: no ids are set.
    Preserve,
}

/// Joining.
impl Sandbox {
    /// Runs the program in this namespace: a [`Namespace`](crate::Namespace) of any kind or an [`AnyNamespace`], one of each
    /// kind.
    ///
    /// Other kinds can be new at the same time: they are made after this one has been joined, and belong to the
    /// user namespace that was. Where the caller already is, nothing is done. Mount and UTS namespaces can be
    /// joined and new, as a copy of what was joined.
    ///
    /// - **Net, UTS, IPC, cgroup**: a thread of the caller's enters them and makes the child, so everything else of
    ///   the sandbox, a root of its own for instance, can be combined with that.
    /// - **User, pid, mount, time**: others may be root there, and look into what enters. So the child first
    ///   becomes a small program that holds nothing of the caller's memory and that nobody may look into (see [`init`](Self::init)),
    ///   and this enters them all. It can add new namespaces but for user and time, and cannot make
    ///   mounts: [`rootfs`](Self::rootfs), the entries and [`propagation`](Self::propagation) are refused. In a new mount namespace
    ///   everything is private.
    ///
    /// The program is a direct child of the caller, also in another pid namespace. When process 1 of that ends, the
    /// kernel kills the program, and waits with that end until the caller has waited for the program.
    ///
    /// In a joined **user** namespace it has the ids of [`join_credentials`](Self::join_credentials), by default those of root, and the
    /// capabilities that the kernel gives: all as user 0, none as another one, unless
    /// [`keep_capabilities`](crate::Command::keep_capabilities) is set.
    ///
    /// In a joined **mount** namespace the root and the working directory are the root of that namespace, unless
    /// [`join_root`](Self::join_root), [`join_dir`](Self::join_dir) or [`current_dir`](crate::Command::current_dir) say otherwise.
    ///
    /// # Privileges
    /// `CAP_SYS_ADMIN` in the user namespace that owns the namespace, and in the caller's own or the joined one. A user
    /// namespace can be joined by who made it, and by root of those above it.
    ///
    /// # Kernel
    /// setns(2) with descriptors. Where the small program cannot be executed (`vm.memfd_noexec`, a filter), user, pid, mount and time
    /// namespaces are refused with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): a forked child would carry the caller's memory in.
    ///
    /// # Examples
    /// ```
    /// use ringfence::ns::{Namespace, Net};
    /// use ringfence::Sandbox;
    ///
    /// # fn main() -> ringfence::Result<()> {
    /// let net = Namespace::<Net>::current()?;
    /// assert!(Sandbox::new().join(&net).command("true").status()?.success());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// See [setns(2)](https://man7.org/linux/man-pages/man2/setns.2.html).
    #[doc(alias = "setns")]
    #[doc(alias = "nsenter")]
    pub fn join(mut self, namespace: impl AsRef<AnyNamespace>) -> Self {
        self.push(namespace.as_ref());
        self
    }

    /// [Joins](Self::join) all namespaces that a process is in now: by its id, a pidfd, or a [`Child`].
    ///
    /// Where the caller already is, nothing is joined, so that without privilege one can join a process in one's own
    /// user namespace that shares other namespaces with the caller.
    ///
    /// What else binds that process does not come along: its capabilities, filters, limits and cgroup. In a container the
    /// program is root with all capabilities of its user namespace, unless it is bound by
    /// [`capabilities`](Self::capabilities), [`seccomp`](Self::seccomp), [`join_cgroup`](Self::join_cgroup) and the like.
    pub fn join_all(mut self, process: impl Into<JoinProcess>) -> Self {
        let process = process.into();
        let set = match process.pidfd.as_ref() {
            Ok(pidfd) => NamespaceSet::of_pidfd(pidfd),
            Err(error) => Err(error.again()),
        };
        match set {
            Ok(set) => self.join_set(&set),
            Err(error) => {
                self.join.failed.get_or_insert(Arc::new(error));
                self
            }
        }
    }

    /// [Joins](Self::join) all namespaces of a set.
    pub fn join_set(mut self, set: &NamespaceSet) -> Self {
        for namespace in set.iter() {
            self.push(namespace);
        }
        self
    }

    /// Runs the program in this user namespace, which is entered last of all: when all else has been set up, and
    /// before the program is [bound](crate::lockdown) and executed.
    ///
    /// So the sandbox is made with the privilege that there is before, the caller's or that in a
    /// [joined](Self::join) user namespace, and the program has none over it: it may be root in its user namespace, but its other
    /// namespaces and its mounts belong to the one above. Process 1 of [`init`](Self::init) stays above as well.
    ///
    /// [`uid`](crate::Command::uid), [`gid`](crate::Command::gid) and [`groups`](crate::Command::groups) are taken on before
    /// it, and are numbers of the namespace above. Capabilities and securebits are those in the namespace.
    ///
    /// Who is root in that namespace could look into who enters. So this is done by the small program that
    /// [`join`](Self::join) tells of, which holds nothing of the caller's memory.
    ///
    /// Not together with [`user`](Self::user): one that exists is not below one that is new.
    ///
    /// # Privileges
    /// `CAP_SYS_ADMIN` in the namespace, as those have who made it, and root of those above it.
    ///
    /// # Kernel
    /// As for [`join`](Self::join): refused where the small program cannot be executed.
    ///
    /// # Examples
    /// ```no_run
    /// use ringfence::ns::{Namespace, User};
    /// use ringfence::{IdMap, Sandbox};
    ///
    /// # fn main() -> ringfence::Result<()> {
    /// // As root: a network that not even the program's root can change.
    /// let user = Namespace::<User>::create_with_map(IdMap::range(0, 100_000, 65_536))?;
    /// let sandbox = Sandbox::new().net().join_user_last(&user);
    /// assert!(sandbox.command("id").uid(100_000).gid(100_000).status()?.success());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
    pub fn join_user_last(mut self, namespace: &Namespace<User>) -> Self {
        let any: &AnyNamespace = namespace;
        self.join.last = Some(Arc::new(any.try_clone()));
        self
    }

    fn push(&mut self, namespace: &AnyNamespace) {
        let copy = Arc::new(namespace.try_clone());
        self.join.namespaces.push(copy);
    }

    /// Where a namespace is joined, makes this directory the root of the program, as chroot(2) does, and its working
    /// directory. It is opened before anything is joined: a path is one of the caller's.
    pub fn join_root(mut self, dir: impl Into<JoinDir>) -> Self {
        self.join.root = Some(dir.into());
        self
    }

    /// Where a namespace is joined, makes this the working directory of the program. It is opened before anything is
    /// joined: a path is one of the caller's. [`Command::current_dir`](crate::Command::current_dir) names a path inside.
    pub fn join_dir(mut self, dir: impl Into<JoinDir>) -> Self {
        self.join.dir = Some(dir.into());
        self
    }

    /// The ids of the program where a user namespace is joined.
    pub fn join_credentials(mut self, credentials: JoinCredentials) -> Self {
        self.join.credentials = Some(credentials);
        self
    }

    /// Starts the program in the cgroup (v2) of a process, as [`into_cgroup`](Self::into_cgroup) does. It stays that of
    /// the process: [`Child::kill_all`](crate::Child::kill_all) does not end what is there.
    pub fn join_cgroup(mut self, process: impl Into<JoinProcess>) -> Self {
        self.join.cgroup = Some(process.into());
        self
    }
}
