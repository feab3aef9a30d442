//! Ending a program together with everything that it has started.

use crate::cgroup::{self, Directory};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::Namespaces;
use crate::process::Child;
use std::process::ExitStatus;
use std::time::Duration;

impl Child {
    /// Ends the program politely: sends it `signal`, such as `SIGTERM`, waits for as long as `grace`, and
    /// then [kills everything](Self::kill_all). Returns the program's status; nothing of the
    /// sandbox is left then.
    ///
    /// Without a new pid namespace, without a cgroup of its own and without [`init`](crate::Sandbox::init) only the
    /// program itself is killed, and what it has started may go on.
    ///
    /// # Errors
    /// As [`signal`](Self::signal) and [`wait`](Self::wait). `EDEADLK`, and nothing is done, when the cgroup is one that
    /// the caller is in.
    pub fn shutdown(&mut self, signal: i32, grace: Duration) -> Result<ExitStatus> {
        if let Some(cgroup) = self.own_cgroup() {
            cgroup::spare_caller(cgroup)?;
        }
        self.signal(signal)?;
        let ended = self.wait_timeout(grace)?;
        if self.plan().ends_together() || self.own_cgroup().is_some() {
            self.kill_all()?;
        } else if ended.is_none() {
            self.kill()?;
        }
        self.wait()
    }

    /// Kills the program and everything that it has started (`SIGKILL`).
    ///
    /// With a [new pid namespace](crate::Sandbox::pid) the kernel does that, and nothing escapes. Without
    /// one it is weaker. Everything in the [cgroup](crate::Sandbox::into_cgroup) and below it is frozen and
    /// killed, also what others have put there, but not what has left it. A cgroup that the program
    /// [joined](crate::Sandbox::join_cgroup) is not its own, and does not count. Without a cgroup either,
    /// [`init`](crate::Sandbox::init) as a subreaper kills what descends from the program.
    ///
    /// It does not wait. A program that this caller has [joined](crate::Sandbox::join) to the pid namespace is killed as
    /// well, and has to be waited for first: until then the kernel holds back the end of process 1.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with none of them; `EDEADLK`, and nothing is done, when the caller is in that cgroup
    /// itself, or below it; or when the cgroup cannot be read, or something in it may
    /// not be killed; [`ErrorKind::TimedOut`] when something in it has not ended ten seconds later.
    ///
    /// # Kernel
    /// Not `cgroup.kill`: children born in the cgroup afterwards would be killed as well.
    #[doc(alias = "cgroup.kill")]
    pub fn kill_all(&mut self) -> Result<()> {
        if self.plan().namespaces.contains(Namespaces::PID) {
            return self.kill();
        }
        match self.own_cgroup() {
            Some(cgroup) => cgroup::kill(cgroup),
            None if self.plan().is_subreaped() => self.kill(),
            None => Err(Error::other(
                ErrorKind::Unsupported,
                Step::Wait,
                "without a pid namespace or a cgroup, what the program has started is not known",
            )
            .with_hint(Some(
                "ask for Sandbox::pid, for a cgroup by Sandbox::into_cgroup, or for Sandbox::init"
                    .into(),
            ))),
        }
    }

    /// The cgroup that ends with the program: not where a pid namespace does more.
    fn own_cgroup(&self) -> Option<&Directory> {
        let plan = self.plan();
        let is_own = !plan.joins_cgroup && !plan.namespaces.contains(Namespaces::PID);
        plan.cgroup.as_ref().filter(|_| is_own)
    }
}
