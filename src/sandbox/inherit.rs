//! What a tool needs that stands for its program: what the program keeps of its caller, and does not by default.

use super::{Command, Sandbox};
use std::path::PathBuf;

impl Command {
    /// The program gets every descriptor of the caller that is not close-on-exec when the command is compiled, as
    /// it does with std: for a tool that stands for its program. Those of
    /// [`descriptor`](Self::descriptor) take precedence.
    ///
    /// What a descriptor refers to, such as a directory of the caller's, is within the program's reach, in
    /// whatever sandbox it is.
    pub fn inherit_descriptors(mut self) -> Self {
        self.inherit_descriptors = true;
        self
    }

    /// Signals that the caller ignores when the program is started stay ignored in the program, as nohup(1)
    /// wants it, but for `SIGPIPE`, which every Rust program ignores.
    pub fn inherit_ignored_signals(mut self) -> Self {
        self.inherit_ignored = true;
        self
    }

    /// The program keeps the caller's supplementary groups, also where [`uid`](Self::uid), or joining a user
    /// namespace, would drop them.
    pub fn keep_groups(mut self) -> Self {
        self.groups = None;
        self.keep_groups = true;
        self
    }

    /// The program has all capabilities that the child has, as ambient ones: it keeps them also as a user other than
    /// 0, and so do programs that it executes. In a user namespace that is new, or
    /// [joined](Sandbox::join), these are all capabilities over what belongs to that.
    ///
    /// # Errors
    /// [`compile`](Self::compile) refuses it together with [`capabilities`](Sandbox::capabilities), which is more exact.
    ///
    /// See [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html).
    #[doc(alias = "PR_CAP_AMBIENT")]
    pub fn keep_capabilities(mut self) -> Self {
        self.keep_capabilities = true;
        self
    }

    /// The program keeps the caller's user and group id also where they do not exist in the new user
    /// namespace: there they show as the overflow id, 65534. Otherwise such a program has the lowest id
    /// that exists, from the set-up on: an id that does not exist can make no files.
    pub fn keep_ids(mut self) -> Self {
        self.keep_ids = true;
        self
    }
}

impl Sandbox {
    /// Makes a directory the root directory of the program, by chroot(2) alone, in whatever mount namespace the
    /// program is; the working directory is its top then. Entries are put into it first; what they bind is found by
    /// paths of the caller's, as everywhere.
    ///
    /// This **confines nothing**: a program with `CAP_SYS_CHROOT`, and any that gets a descriptor of a directory outside,
    /// leaves it. [`rootfs`](Self::rootfs) does confine. In a changed root no user namespaces can be made.
    ///
    /// # Privileges
    /// `CAP_SYS_CHROOT`, which the set-up of a new user namespace has.
    ///
    /// See [chroot(2)](https://man7.org/linux/man-pages/man2/chroot.2.html).
    pub fn chroot(mut self, dir: impl Into<PathBuf>) -> Self {
        self.chroot = Some(dir.into());
        self
    }

    /// Leaves the propagation of the inherited mounts as it is: what others mount in the caller's namespace later
    /// may show inside, and what the program mounts may show outside. Needs [`mount`](Self::mount).
    ///
    /// What the sandbox itself mounts shows outside in no case: see [`propagation`](Self::propagation). There is no
    /// new root then.
    pub fn inherit_propagation(mut self) -> Self {
        self.propagation = None;
        self.inherit_propagation = true;
        self
    }
}
