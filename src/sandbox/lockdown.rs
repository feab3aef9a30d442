//! What binds the program for good.

use super::Sandbox;
use super::rootfs::{Entry, What};
use crate::error::{Error, Result};
use crate::lockdown::{
    CapabilitySets, Hardening, IoPriority, Resource, Rlimit, SeccompFilter, Securebits,
};
use crate::mount::Attributes;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a [`Hardening`] is about, by the names that it has there.
const PROC: &str = "/proc";
const SYS: &str = "/sys";

/// All about lock-down that a sandbox has been asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lockdown {
    pub(crate) capabilities: CapabilitySets,
    pub(crate) securebits: Option<Securebits>,
    pub(crate) no_new_privs: bool,
    pub(crate) allow_new_privs: bool,
    pub(crate) seccomp: Vec<SeccompFilter>,
    pub(crate) landlock: Vec<Arc<OwnedFd>>,
    pub(crate) rlimits: BTreeMap<Resource, Rlimit>,
    pub(crate) nice: Option<i32>,
    pub(crate) io_priority: Option<IoPriority>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) affinity: Option<BTreeSet<usize>>,
    pub(crate) disable_userns: bool,
    pub(crate) hardening: Option<Hardening>,
}

impl Lockdown {
    /// Whether the program shall gain no privilege: asked for, or anything takes some from it.
    pub(crate) fn no_new_privs(&self) -> bool {
        let confines = !self.capabilities.is_empty()
            || self.securebits.is_some()
            || !self.seccomp.is_empty()
            || !self.landlock.is_empty()
            || self.disable_userns;
        !self.allow_new_privs && (self.no_new_privs || confines)
    }
}

impl Sandbox {
    /// The capabilities of the program: a set of them says that it is to have [these and no
    /// others](CapabilitySets::keep). Not asked for, the kernel's rules hold: user 0 has all, in a new user
    /// namespace over that namespace only, any other user none.
    ///
    /// # Privileges
    /// The bounding set takes `CAP_SETPCAP`, which a child in a new user namespace has.
    ///
    /// See [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html).
    #[doc(alias = "capset")]
    pub fn capabilities(mut self, sets: impl Into<CapabilitySets>) -> Self {
        self.lockdown.capabilities = sets.into();
        self
    }

    /// The securebits of the program.
    ///
    /// # Privileges
    /// `CAP_SETPCAP`, which a child in a new user namespace has.
    ///
    /// See [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html).
    #[doc(alias = "PR_SET_SECUREBITS")]
    pub fn securebits(mut self, bits: Securebits) -> Self {
        self.lockdown.securebits = Some(bits);
        self
    }

    /// Nothing that the program executes gains privilege by it, be it a set-user-id file. So it is, without
    /// being asked for, where there are [capabilities](Self::capabilities), [securebits](Self::securebits),
    /// filters, Landlock rulesets or [`disable_userns`](Self::disable_userns).
    ///
    /// See [PR_SET_NO_NEW_PRIVS(2const)](https://man7.org/linux/man-pages/man2/PR_SET_NO_NEW_PRIVS.2const.html).
    #[doc(alias = "PR_SET_NO_NEW_PRIVS")]
    pub fn no_new_privs(mut self) -> Self {
        self.lockdown.no_new_privs = true;
        self.lockdown.allow_new_privs = false;
        self
    }

    /// Takes [`no_new_privs`](Self::no_new_privs) back. Filters and Landlock then take `CAP_SYS_ADMIN`.
    pub fn allow_new_privs(mut self) -> Self {
        self.lockdown.allow_new_privs = true;
        self
    }

    /// Filters the program's system calls, in addition to the filters before.
    ///
    /// It binds the program from its first instruction on, and all that it starts; it cannot be taken off. What
    /// [`compile`](super::Command::compile) can see to forbid the program's own start is an error there.
    ///
    /// See [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html).
    #[doc(alias = "SECCOMP_SET_MODE_FILTER")]
    pub fn seccomp(mut self, filter: SeccompFilter) -> Self {
        self.lockdown.seccomp.push(filter);
        self
    }

    /// Takes all [filters](Self::seccomp) back that have been asked for so far.
    pub fn without_seccomp(mut self) -> Self {
        self.lockdown.seccomp.clear();
        self
    }

    /// Enforces a Landlock ruleset, in addition to those before. Its rules hold for files, not for paths:
    /// what was bound from the caller's tree is the same file inside, what the sandbox mounts anew is no
    /// file that a rule of the caller's could be about.
    ///
    /// See [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html).
    ///
    /// # Kernel
    /// Linux 5.13, with Landlock switched on.
    #[doc(alias = "landlock_restrict_self")]
    pub fn landlock(mut self, ruleset: impl Into<Arc<OwnedFd>>) -> Self {
        self.lockdown.landlock.push(ruleset.into());
        self
    }

    /// Hides parts of `/proc` and `/sys`, where the sandbox mounts them.
    ///
    /// The masks are mounts: see [`Hardening`] for who can lift them.
    pub fn harden(mut self, hardening: Hardening) -> Self {
        self.lockdown.hardening = Some(hardening);
        self
    }

    /// The program, and all that it starts, can make no user namespaces, in which it would have all
    /// capabilities again over a part of the kernel. Needs [`user`](Self::user).
    ///
    /// As bubblewrap does it: in the new user namespace the limit on further ones becomes 1, one more is made,
    /// and the program is in that one; then it is tried out. As with
    /// [`MountLock::Nested`](super::MountLock::Nested) it has one user and one group, those that it has in the
    /// sandbox, and no power over the sandbox's other namespaces.
    ///
    /// See [namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html), `max_user_namespaces`.
    pub fn disable_userns(mut self) -> Self {
        self.lockdown.disable_userns = true;
        self
    }

    /// A path elsewhere would be passed over, and the program see what it is not to see.
    pub(crate) fn check_hardening(&self) -> Result<()> {
        let all = self.lockdown.hardening.iter();
        let mut paths = all.flat_map(|it| it.masked.iter().chain(&it.read_only));
        let elsewhere = |path: &&PathBuf| ![PROC, SYS].iter().any(|top| path.starts_with(top));
        match paths.find(elsewhere) {
            None => Ok(()),
            Some(path) => Err(Error::invalid(
                "harden",
                format!("{path:?} is not below /proc or /sys; see mask and read_only of Sandbox"),
            )),
        }
    }

    /// What comes after all other entries.
    pub(crate) fn hardening_entries(&self) -> Vec<Entry> {
        let Some(hardening) = &self.lockdown.hardening else {
            return Vec::new();
        };
        let shown = |path: &Path| {
            let mut places = Vec::new();
            for entry in &self.entries {
                let top = match entry.what {
                    What::Proc(_) => PROC,
                    What::Sysfs { .. } => SYS,
                    _ => continue,
                };
                places.extend(path.strip_prefix(top).map(|below| entry.at.join(below)));
            }
            places
        };
        let mask = What::Mask { optional: true };
        let read_only = What::Remount {
            attributes: Attributes::READ_ONLY,
            optional: true,
        };
        let mut entries = Vec::new();
        for (paths, what) in [(&hardening.masked, mask), (&hardening.read_only, read_only)] {
            for at in paths.iter().flat_map(|path| shown(path)) {
                let what = what.clone();
                entries.push(Entry { at, what });
            }
        }
        entries
    }

    /// Limits a resource of the program and of what it starts. A hard limit above the caller's is refused,
    /// before anything is made, unless the caller has `CAP_SYS_RESOURCE` and stays in its user namespace.
    ///
    /// The numbers are in the units of the resource: bytes, seconds, or pieces. Process 1 is not bound.
    ///
    /// See [setrlimit(2)](https://man7.org/linux/man-pages/man2/setrlimit.2.html).
    #[doc(alias = "setrlimit")]
    #[doc(alias = "prlimit")]
    pub fn rlimit(mut self, resource: Resource, limit: Rlimit) -> Self {
        self.lockdown.rlimits.insert(resource, limit);
        self
    }

    /// The nice value of the program, from -20 to 19. Below the caller's it takes `CAP_SYS_NICE` of the
    /// first user namespace, or a [limit](Resource::Nice) that allows it.
    ///
    /// See [setpriority(2)](https://man7.org/linux/man-pages/man2/setpriority.2.html).
    #[doc(alias = "setpriority")]
    pub fn nice(mut self, value: i32) -> Self {
        self.lockdown.nice = Some(value);
        self
    }

    /// The I/O priority of the program.
    ///
    /// See [ioprio_set(2)](https://man7.org/linux/man-pages/man2/ioprio_set.2.html).
    #[doc(alias = "ioprio_set")]
    pub fn io_priority(mut self, priority: IoPriority) -> Self {
        self.lockdown.io_priority = Some(priority);
        self
    }

    /// How likely the kernel is to kill the program, and process 1 of the sandbox, when memory runs out: from
    /// -1000 to 1000. Below the caller's it takes `CAP_SYS_RESOURCE` of the first user namespace.
    ///
    /// See [proc_pid_oom_score_adj(5)](https://man7.org/linux/man-pages/man5/proc_pid_oom_score_adj.5.html).
    pub fn oom_score_adj(mut self, value: i32) -> Self {
        self.lockdown.oom_score_adj = Some(value);
        self
    }

    /// The processors that the program runs on, by number; the kernel leaves out those that do not exist, or
    /// that its cpuset forbids.
    ///
    /// See [sched_setaffinity(2)](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html).
    #[doc(alias = "sched_setaffinity")]
    pub fn affinity(mut self, processors: impl IntoIterator<Item = usize>) -> Self {
        self.lockdown.affinity = Some(processors.into_iter().collect());
        self
    }
}

/// The safe preset.
impl Sandbox {
    /// A container as it should be, in this root: all eight [namespaces](Self::all), user 0 of which is the
    /// caller; a [process 1](Self::init); `/proc`, `/sys` and `/dev` of its own,
    /// [hardened](Hardening::container); the [few capabilities](crate::lockdown::Capabilities::CONTAINER) of
    /// a service; the [filter of a container](SeccompFilter::container); and no way to new privilege.
    ///
    /// Each part can be replaced or taken back by the method that sets it, and the printed
    /// [`Plan`](crate::Plan) shows what is left: [`user_map`](Self::user_map),
    /// [`capabilities`](Self::capabilities), [`harden`](Self::harden) with [`Hardening::new`],
    /// [`without_seccomp`](Self::without_seccomp), [`allow_new_privs`](Self::allow_new_privs). The namespaces and the
    /// mounts stay: a container that shares some, as in a pod, is put together of the same setters without
    /// [`all`](Self::all).
    ///
    /// The program has the caller's environment, as every [`Command`](crate::Command) has, with all tokens and passwords
    /// that are in it: [`env_clear`](crate::Command::env_clear) keeps it away. Without limits it may use all of the memory and
    /// processes that its user may, see [`into_cgroup`](Self::into_cgroup) and [`rlimit`](Self::rlimit).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where there is no filter for the architecture.
    ///
    /// # Privileges
    /// None, where the system allows user namespaces.
    ///
    /// # Examples
    /// ```
    /// use ringfence::{Rootfs, Sandbox};
    ///
    /// # fn main() -> ringfence::Result<()> {
    /// let plan = Sandbox::container(Rootfs::tmpfs())?
    ///     .bind_ro("/usr", "/usr")
    ///     .symlink("usr/bin", "/bin")
    ///     .symlink("usr/lib", "/lib")
    ///     .symlink("usr/lib64", "/lib64")
    ///     .command("/bin/true")
    ///     .compile()?;
    /// assert!(plan.to_string().contains("seccomp"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn container(rootfs: impl Into<super::Rootfs>) -> Result<Self> {
        Ok(Self::new()
            .all()
            .user_map(super::IdMap::root())
            .init()
            .rootfs(rootfs)
            .proc("/proc")
            .sysfs("/sys")
            .dev("/dev")
            .harden(Hardening::container())
            .capabilities(crate::lockdown::Capabilities::CONTAINER)
            .no_new_privs()
            .seccomp(SeccompFilter::container()?))
    }
}
