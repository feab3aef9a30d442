//! What can be put into the root of a sandbox beyond plain binds and file systems.

use super::rootfs::{BindSource, What};
use super::{Overlay, Sandbox};
use crate::mount::{Attributes, Propagation, Tree};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// How a bind mount restricts what it shows, in its whole depth.
///
/// Set-user-id bits and device files are without effect unless allowed; restrictions of the source stay,
/// whatever is allowed here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Bind {
    pub(crate) read_only: bool,
    pub(crate) optional: bool,
    pub(crate) dev: bool,
    pub(crate) suid: bool,
    pub(crate) noexec: bool,
    pub(crate) nosymfollow: bool,
}

impl Bind {
    /// Read-write, nosuid, nodev.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing can be written.
    #[doc(alias = "MS_RDONLY")]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Without the source, nothing is bound, and that is no error.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Device files work, where the caller's rights suffice.
    #[doc(alias = "MS_NODEV")]
    pub fn allow_dev(mut self) -> Self {
        self.dev = true;
        self
    }

    /// Set-user-id bits and file capabilities work.
    #[doc(alias = "MS_NOSUID")]
    pub fn allow_suid(mut self) -> Self {
        self.suid = true;
        self
    }

    /// No program can be executed.
    #[doc(alias = "MS_NOEXEC")]
    pub fn noexec(mut self) -> Self {
        self.noexec = true;
        self
    }

    /// No symbolic link is followed (Linux 5.10, but for 5.12 and 5.13, where it is an error).
    #[doc(alias = "MS_NOSYMFOLLOW")]
    pub fn nosymfollow(mut self) -> Self {
        self.nosymfollow = true;
        self
    }
}

/// What a procfs shows of other processes.
///
/// See [proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Proc {
    pub(crate) subset_pid: bool,
    pub(crate) hidepid: Option<HidePid>,
}

impl Proc {
    /// All of it, as the kernel has it by default.
    pub fn new() -> Self {
        Self::default()
    }

    /// The directories of processes only, nothing of the system (Linux 5.8).
    #[doc(alias = "subset=pid")]
    pub fn subset_pid(mut self) -> Self {
        self.subset_pid = true;
        self
    }

    /// What a user sees of the processes of others.
    pub fn hidepid(mut self, hidepid: HidePid) -> Self {
        self.hidepid = Some(hidepid);
        self
    }
}

/// What a user sees in procfs of processes that are not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HidePid {
    /// Everything (0).
    Off,
    /// Their directories, but nothing sensitive in them (1).
    NoAccess,
    /// Nothing (2).
    Invisible,
    /// Nothing but what the user may ptrace (4; Linux 5.8).
    Ptraceable,
}

/// Why root inside can neither remount nor unmount what the caller mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MountLock {
    /// The program runs in one more user namespace and mount namespace, in which all mounts are locked.
    /// It may make mounts of its own. Its ids are those that it has in the sandbox, one user and one
    /// group; it has no power over the other namespaces of the sandbox, such as the network.
    Nested,
    /// `CAP_SYS_ADMIN` is gone for good. The program can mount nothing, except in a user namespace that
    /// it makes, where the mounts are locked.
    DropCapability,
}

impl Sandbox {
    /// [`bind`](Self::bind) with [options](Bind).
    pub fn bind_with(
        self,
        source: impl Into<PathBuf>,
        at: impl Into<PathBuf>,
        options: Bind,
    ) -> Self {
        let source = BindSource::Path(source.into());
        self.bound("bind_with", source, at, options)
    }

    /// [`bind`](Self::bind), unless the source is missing.
    pub fn bind_try(self, source: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Self {
        let source = BindSource::Path(source.into());
        self.bound("bind_try", source, at, Bind::new().optional())
    }

    /// [`bind_ro`](Self::bind_ro), unless the source is missing.
    pub fn bind_ro_try(self, source: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Self {
        let source = BindSource::Path(source.into());
        let options = Bind::new().read_only().optional();
        self.bound("bind_ro_try", source, at, options)
    }

    /// [`bind`](Self::bind) with device files that work.
    pub fn dev_bind(self, source: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Self {
        let source = BindSource::Path(source.into());
        self.bound("dev_bind", source, at, Bind::new().allow_dev())
    }

    /// Binds what a descriptor of the caller's refers to, with everything mounted below it.
    ///
    /// The kernel lets no descriptor of one mount namespace be bound in another. So the path of the
    /// descriptor is looked up when the command is compiled, and what is found there when the program
    /// starts must be the same file: it is an error if something else was put there.
    pub fn bind_fd(
        self,
        source: impl Into<Arc<OwnedFd>>,
        at: impl Into<PathBuf>,
        options: Bind,
    ) -> Self {
        let source = BindSource::Fd(source.into());
        self.bound("bind_fd", source, at, options)
    }

    /// Attaches a copy of a detached tree, with the attributes that it has.
    ///
    /// # Privileges
    /// `CAP_SYS_ADMIN` in the caller: it makes the copy, before every start of the program.
    ///
    /// # Kernel
    /// Linux 6.15.
    pub fn bind_tree(self, source: impl Into<Arc<Tree>>, at: impl Into<PathBuf>) -> Self {
        let source = BindSource::Tree(source.into());
        let as_it_is = Bind::new().allow_dev().allow_suid();
        self.bound("bind_tree", source, at, as_it_is)
    }

    /// Binds a file in memory of this mode that has these contents and nobody else sees: outside of the file
    /// system that `at` is on, so that this may be read-only, and [`file`](Self::file) makes one there.
    ///
    /// Each program has a file of its own, which is gone with the sandbox. Written to, unless the options say otherwise, it
    /// takes memory without a limit but that of the cgroup.
    pub fn bind_data(
        self,
        contents: impl AsRef<[u8]>,
        at: impl Into<PathBuf>,
        mode: u32,
        options: Bind,
    ) -> Self {
        let bytes = contents.as_ref().into();
        self.bound("bind_data", BindSource::Data { bytes, mode }, at, options)
    }

    pub(super) fn bound(
        self,
        setter: &'static str,
        source: BindSource,
        at: impl Into<PathBuf>,
        options: Bind,
    ) -> Self {
        self.entry(
            at,
            What::Bind {
                source,
                options,
                setter,
            },
        )
    }

    /// [`proc`](Self::proc) that shows less.
    pub fn proc_with(self, at: impl Into<PathBuf>, proc: Proc) -> Self {
        self.entry(at, What::Proc(proc))
    }

    /// Mounts pseudo-terminals of the sandbox's own, with a `ptmx` that everybody inside may open.
    /// [`dev`](Self::dev) has them already.
    ///
    /// See [pts(4)](https://man7.org/linux/man-pages/man4/pts.4.html).
    pub fn devpts(self, at: impl Into<PathBuf>) -> Self {
        self.entry(at, What::Devpts)
    }

    /// Mounts the cgroup (v2) hierarchy read-only, with the program's cgroup as its root. Where there is a
    /// new user namespace there must be a new cgroup namespace too.
    ///
    /// See [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html).
    pub fn cgroup2(self, at: impl Into<PathBuf>) -> Self {
        self.entry(at, What::Cgroup2 { writable: false })
    }

    /// [`cgroup2`](Self::cgroup2), writable, for a program that has cgroups delegated to it.
    pub fn cgroup2_writable(self, at: impl Into<PathBuf>) -> Self {
        self.entry(at, What::Cgroup2 { writable: true })
    }

    /// [`sysfs`](Self::sysfs), writable, for a program that sets up its network namespace by it. What else is in it
    /// is the machine's, and is the program's to write where it is root of the machine.
    ///
    /// In a user namespace the kernel refuses it where the `/sys` outside is read-only.
    pub fn sysfs_writable(self, at: impl Into<PathBuf>) -> Self {
        self.entry(at, What::Sysfs { writable: true })
    }

    /// Mounts the interpreters of programs that the kernel starts by their first bytes or their name: those of the
    /// new user namespace, which needs [`user`](Self::user). They replace those of the system for every program
    /// in that namespace.
    ///
    /// # Kernel
    /// Linux 6.7.
    ///
    /// See [binfmt_misc](https://docs.kernel.org/admin-guide/binfmt-misc.html).
    pub fn binfmt_misc(self, at: impl Into<PathBuf>) -> Self {
        self.entry(at, What::BinfmtMisc)
    }

    /// Registers an interpreter, `:name:type:offset:magic:mask:interpreter:flags`, in a
    /// [`binfmt_misc`](Self::binfmt_misc) that was mounted at this path. With the flag `F` the interpreter is the
    /// one that the caller's root has, otherwise the one in the root of the program that needs it.
    pub fn binfmt_register(self, at: impl Into<PathBuf>, interpreter: impl AsRef<[u8]>) -> Self {
        let bytes = interpreter.as_ref().into();
        let setter = "binfmt_register";
        let register = at.into().join("register");
        self.entry(register, What::Write { bytes, setter })
    }

    /// Mounts an overlay at a path inside, without effect of set-user-id bits and device files.
    ///
    /// # Kernel
    /// In a user namespace Linux 5.11.
    #[doc(alias = "overlayfs")]
    pub fn overlay(self, at: impl Into<PathBuf>, overlay: Overlay) -> Self {
        self.entry(at, What::Overlay(overlay))
    }

    /// Hides what is at a path inside: a directory behind an empty one, anything else behind the null
    /// device. It is an error if nothing is there.
    ///
    /// Root inside can lift it unless it lacks `CAP_SYS_ADMIN` or the mounts are [locked](Self::lock_mounts).
    pub fn mask(self, at: impl Into<PathBuf>) -> Self {
        self.entry(at, What::Mask { optional: false })
    }

    /// Makes what is at a path inside read-only, with all mounts below it.
    ///
    /// Root inside can make it writable again unless it lacks `CAP_SYS_ADMIN` or the mounts are [locked](Self::lock_mounts).
    pub fn read_only(self, at: impl Into<PathBuf>) -> Self {
        self.remount(at, Attributes::READ_ONLY)
    }

    /// Adds attributes to what is at a path inside, and to all mounts below it. Those that are set
    /// already stay, also where the kernel has locked them. What is no mount point becomes one.
    ///
    /// The access time attributes cannot be changed so.
    #[doc(alias = "MS_REMOUNT")]
    pub fn remount(self, at: impl Into<PathBuf>, attributes: Attributes) -> Self {
        self.entry(
            at,
            What::Remount {
                attributes,
                optional: false,
            },
        )
    }

    /// Makes a new file of this mode with the contents that the descriptor has when the program starts,
    /// read from the beginning. It is an error if there is a file.
    pub fn file_from(
        self,
        at: impl Into<PathBuf>,
        from: impl Into<Arc<OwnedFd>>,
        mode: u32,
    ) -> Self {
        let fd = from.into();
        self.entry(at, What::FileFrom { fd, mode })
    }

    /// Changes the permission bits of what is at a path inside. It is an error if nothing is there.
    pub fn chmod(self, at: impl Into<PathBuf>, mode: u32) -> Self {
        self.entry(at, What::Chmod { mode })
    }

    /// How mounts made later spread between the namespace of the caller and that of the program; private if
    /// not set. Needs [`mount`](Self::mount).
    ///
    /// What the sandbox itself mounts never shows outside: [`Propagation::Shared`] with a new root makes
    /// that root shared among its own copies only. In the inherited root, what is mounted at a place
    /// is made private first, with all below it, so a place that is no mount point is an error then. Overlays and files
    /// with contents are refused there, and before Linux 5.12 all mounts.
    ///
    /// See [mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html).
    #[doc(alias = "MS_SHARED")]
    #[doc(alias = "MS_SLAVE")]
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = Some(propagation);
        self.inherit_propagation = false;
        self
    }

    /// Keeps root inside from remounting or unmounting what is mounted for it: a read-only bind that it
    /// could make writable again, a mask that it could lift. Needs [`mount`](Self::mount).
    ///
    /// See [mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html).
    pub fn lock_mounts(mut self, lock: MountLock) -> Self {
        self.mount_lock = Some(lock);
        self
    }

    /// Prepares the root once, when a [`Plan`](crate::Plan) starts its program for the first time, and
    /// gives every program a copy of the prepared mounts.
    ///
    /// It is as isolated as without: what a program could write to, or what shows its namespaces, is
    /// still mounted for each program alone. So a [`Rootfs::tmpfs`](super::Rootfs::tmpfs) has to be
    /// [read-only](crate::Rootfs::read_only); its contents are, down to the file system, which no root
    /// inside can change.
    ///
    /// # Privileges
    /// `CAP_SYS_ADMIN` in the caller.
    ///
    /// # Kernel
    /// Linux 6.15, which copies detached trees.
    pub fn template(mut self) -> Self {
        self.template = true;
        self
    }
}
