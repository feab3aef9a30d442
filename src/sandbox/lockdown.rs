//! What binds the program for good.

use super::Sandbox;
use crate::lockdown::{CapabilitySets, IoPriority, Resource, Rlimit, SeccompFilter, Securebits};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

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
    #[doc(alias = "capset")]
    pub fn capabilities(mut self, sets: impl Into<CapabilitySets>) -> Self {
        self.lockdown.capabilities = sets.into();
        self
    }

    /// The securebits of the program.
    ///
    /// # Privileges
    /// `CAP_SETPCAP`, which a child in a new user namespace has.
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

    /// Limits a resource of the program and of what it starts. A hard limit above the caller's is refused,
    /// before anything is made, unless the caller has `CAP_SYS_RESOURCE` and stays in its user namespace.
    #[doc(alias = "setrlimit")]
    #[doc(alias = "prlimit")]
    pub fn rlimit(mut self, resource: Resource, limit: Rlimit) -> Self {
        self.lockdown.rlimits.insert(resource, limit);
        self
    }

    /// The nice value of the program, from -20 to 19. Below the caller's it takes `CAP_SYS_NICE` of the
    /// first user namespace, or a [limit](Resource::Nice) that allows it.
    #[doc(alias = "setpriority")]
    pub fn nice(mut self, value: i32) -> Self {
        self.lockdown.nice = Some(value);
        self
    }

    /// The I/O priority of the program.
    #[doc(alias = "ioprio_set")]
    pub fn io_priority(mut self, priority: IoPriority) -> Self {
        self.lockdown.io_priority = Some(priority);
        self
    }

    /// How likely the kernel is to kill the program, and process 1 of the sandbox, when memory runs out: from
    /// -1000 to 1000. Below the caller's it takes `CAP_SYS_RESOURCE` of the first user namespace.
    pub fn oom_score_adj(mut self, value: i32) -> Self {
        self.lockdown.oom_score_adj = Some(value);
        self
    }

    /// The processors that the program runs on, by number; the kernel leaves out those that do not exist, or
    /// that its cpuset forbids.
    #[doc(alias = "sched_setaffinity")]
    pub fn affinity(mut self, processors: impl IntoIterator<Item = usize>) -> Self {
        self.lockdown.affinity = Some(processors.into_iter().collect());
        self
    }
}
