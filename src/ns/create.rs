//! New namespaces, and no process left behind.

use super::run_in::on_thread;
use super::{AnyNamespace, Kind, Namespace, NamespaceKind, NamespaceSet, Namespaces, of_process};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::process::Child;
use crate::sandbox::{IdMap, Sandbox, Stdio};
use crate::sys::net::loopback_up;
use crate::sys::signal;
use crate::sys::unshare::unshare_namespaces;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::os::fd::AsFd;
use std::sync::Arc;

impl<K: NamespaceKind> Namespace<K> {
    /// A new namespace, which lives as long as something holds it: this handle, a [pin](AnyNamespace::pin), a process in
    /// it.
    ///
    /// No process stays behind. Mount, net, uts, ipc, cgroup and time namespaces are made by a thread that
    /// then ends. A new mount namespace has the caller's mounts, all private; a new network
    /// namespace has its loopback interface up.
    ///
    /// A user namespace is made by a process that has ended when this returns and has executed nothing, with the map
    /// [`IdMap::identity`]; for others there is [`NamespaceSet::create`].
    ///
    /// The exception is a pid namespace, which is of no use without a first process. There is one that
    /// waits and does nothing, a child of the caller; it lives as long as the handle and its
    /// [clones](Self::try_clone), and ends when the caller does, and with it the kernel ends whatever else is in the
    /// namespace.
    ///
    /// # Errors
    /// `EPERM` without the privilege; `ENOSPC` if there are too many, or too deeply nested;
    /// [`ErrorKind::Unsupported`] for pid namespaces where the crate has no second stage for the architecture.
    /// `/proc` has to be mounted, but for pid namespaces.
    ///
    /// # Privileges
    /// `CAP_SYS_ADMIN`, but for user namespaces. Without it, [`NamespaceSet::create`] makes namespaces together
    /// with a user namespace that owns them.
    ///
    /// See [unshare(2)](https://man7.org/linux/man-pages/man2/unshare.2.html).
    #[doc(alias = "unshare")]
    pub fn create() -> Result<Self> {
        let sandbox = match K::KIND {
            Kind::User => Sandbox::new().user(),
            Kind::Pid => Sandbox::new().pid(),
            kind => return on_own_thread(kind).and_then(AnyNamespace::downcast),
        };
        let mut set = NamespaceSet::create(&sandbox)?;
        let namespace = set.remove(K::KIND).ok_or_else(|| {
            let what = format!("{} has not been made", K::KIND);
            Error::other(ErrorKind::System, Step::Namespace, what)
        })?;
        namespace.downcast()
    }
}

impl Namespace<super::User> {
    /// [`create`](Self::create), with this map for users and groups.
    ///
    /// # Errors
    /// Those of [`create`](Self::create) and those of the map, see [`Sandbox::user_map`].
    pub fn create_with_map(map: impl Into<IdMap>) -> Result<Self> {
        let set = NamespaceSet::create(&Sandbox::new().user().user_map(map))?;
        set.user.ok_or_else(|| {
            let what = "a user namespace has not been made";
            Error::other(ErrorKind::System, Step::Namespace, what)
        })
    }
}

impl NamespaceSet {
    /// The new namespaces of a sandbox, set up as it says, id maps, clocks, names and mounts included, without
    /// a program. With [`Sandbox::user`] this needs no privilege.
    ///
    /// They are made by a process that has ended when this returns, but for a pid namespace, for
    /// which it stays: see [`Namespace::create`].
    ///
    /// # Errors
    /// Those of [`Plan::spawn`](crate::Plan::spawn). With a pid namespace, `EACCES` without privilege where the second stage
    /// cannot be executed as a program of its own (see [`Sandbox::init`]); as well as where a user namespace is
    /// [joined](Sandbox::join). Without either, what `/proc` is needed for where it is not mounted.
    ///
    /// # Examples
    /// ```
    /// use ringfence::{IdMap, NamespaceSet, Sandbox};
    ///
    /// # fn main() -> ringfence::Result<()> {
    /// let sandbox = Sandbox::new().user().user_map(IdMap::root()).net();
    /// let set = match NamespaceSet::create(&sandbox) {
    ///     # Err(error) if error.hint().is_some() => return Ok(()), // user namespaces are switched off here
    ///     other => other?,
    /// };
    /// let net = set.net.expect("was asked for");
    /// assert_eq!(Some(net.user_namespace()?), set.user);
    /// # Ok(())
    /// # }
    /// ```
    pub fn create(sandbox: &Sandbox) -> Result<Self> {
        // Nothing is executed, so the name does not matter.
        let mut command = sandbox.clone().command("/").env_clear().current_dir("/");
        command.never_runs = true;
        let plan = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .gate()
            .kill_on_drop()
            .compile()?;
        let Some(made) = plan.make_namespaces() else {
            return Self::of_held(sandbox, plan.spawn()?);
        };
        let mut set = Self::default();
        for (kind, fd) in sandbox.namespaces.kinds().zip(made?) {
            set.insert(AnyNamespace::of_kind(fd, kind)?)?;
        }
        Ok(set)
    }

    /// Those of a child that is held at the gate.
    fn of_held(sandbox: &Sandbox, child: Child) -> Result<Self> {
        let mut set = Self::default();
        let mut of_pid = None;
        for kind in sandbox.namespaces.kinds() {
            let opened = match kind {
                // Held as a copy of the caller, it has not executed anything, which would let it in.
                Kind::Time => of_process::time_for_children(child.as_fd()),
                kind => AnyNamespace::of_pidfd(kind, &child),
            };
            let namespace = opened.map_err(|error| {
                let hidden = error.kind() == ErrorKind::PermissionDenied;
                let hint = match sandbox.join.namespaces.is_empty() {
                    true => HIDDEN,
                    false => HIDDEN_BY_JOINING,
                };
                error.with_hint(hidden.then(|| hint.to_owned()))
            })?;
            if kind == Kind::Pid {
                of_pid = Some(namespace);
            } else {
                set.insert(namespace)?;
            }
        }
        if let Some(mut namespace) = of_pid {
            namespace.keep(Arc::new(child));
            set.insert(namespace)?;
        }
        Ok(set)
    }
}

const HIDDEN: &str = "where no program in a memfd can be executed (vm.memfd_noexec, a filter), a copy of the caller makes the namespaces, and only a caller with CAP_SYS_PTRACE may look into that";

const HIDDEN_BY_JOINING: &str = "what joins a user namespace is hidden from all, so that only a caller with CAP_SYS_PTRACE may take namespaces from it";

fn on_own_thread(kind: Kind) -> Result<AnyNamespace> {
    let object = format!("a new {kind} namespace");
    let failed = |syscall| {
        let object = &object;
        move |errno| Error::system(Step::Namespace, object, syscall, errno)
    };
    on_thread(Step::Namespace, &object, || {
        signal::leave_to_others();
        let unshare = || {
            unshare_namespaces(Namespaces::from(kind).bits())
                .map_err(|errno| failed("unshare")(errno).with_hint(hint(kind, errno)))?;
            // The thread itself stays in its time namespace, and its children would be in the new one.
            let link = match kind {
                Kind::Time => "time_for_children",
                _ => kind.proc_name(),
            };
            let path = format!("/proc/thread-self/ns/{link}");
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed("open"))?;
            AnyNamespace::from_fd(fd, &path)
        };
        match kind {
            Kind::Mount => {
                let namespace = younger_than_current(unshare)?;
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                rustix::mount::mount_change("/", private).map_err(failed("mount(MS_PRIVATE)"))?;
                Ok(namespace)
            }
            Kind::Net => {
                let namespace = unshare()?;
                bring_loopback_up().map_err(failed("ioctl(SIOCSIFFLAGS)"))?;
                Ok(namespace)
            }
            _ => unshare(),
        }
    })
}

/// A mount namespace that can be pinned in the caller's, which takes only those with a higher number.
/// Linux 6.18 numbers them for each processor apart: the one that the caller's is from gives a higher one.
fn younger_than_current(unshare: impl Fn() -> Result<AnyNamespace>) -> Result<AnyNamespace> {
    let current = AnyNamespace::current(Kind::Mount)?.unique_id();
    let is_younger = |namespace: &AnyNamespace| namespace.unique_id() > current;
    let mut namespace = unshare()?;
    if is_younger(&namespace) || current.is_none() {
        return Ok(namespace);
    }
    let processors = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    for processor in (0..CpuSet::MAX_CPU).filter(|processor| processors.is_set(*processor)) {
        let mut only = CpuSet::new();
        only.set(processor);
        // For this thread, which ends soon.
        if sched_setaffinity(None, &only).is_ok() {
            namespace = unshare()?;
            if is_younger(&namespace) {
                break;
            }
        }
    }
    Ok(namespace)
}

fn bring_loopback_up() -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    loopback_up(socket.as_fd())
}

fn hint(kind: Kind, errno: Errno) -> Option<String> {
    match errno {
        Errno::PERM => Some(format!(
            "needs CAP_SYS_ADMIN; without it, NamespaceSet::create makes {kind} together with a user namespace"
        )),
        Errno::NOSPC => Some(format!("see user.max_{kind}_namespaces")),
        Errno::INVAL => Some(format!("this kernel has no {kind} namespaces")),
        _ => None,
    }
}
