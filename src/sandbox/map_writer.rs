//! Id maps that the caller writes in a way of its own.

use super::Sandbox;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// A process in a new user namespace that has no id maps yet, and waits for them.
#[derive(Clone, Copy, Debug)]
pub struct Unmapped<'a> {
    pub(crate) pid: u32,
    pub(crate) pidfd: BorrowedFd<'a>,
}

impl Unmapped<'_> {
    /// Its id in the caller's `/proc`.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }
}

impl AsFd for Unmapped<'_> {
    /// Its pidfd, which is readable when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd
    }
}

/// What the caller has to say of that.
#[derive(Clone)]
pub(crate) struct MapWriter(Arc<Write>);

type Write = dyn Fn(Unmapped<'_>) -> io::Result<()> + Send + Sync;

impl MapWriter {
    pub(crate) fn write(&self, process: Unmapped<'_>) -> io::Result<()> {
        self.0(process)
    }
}

impl fmt::Debug for MapWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MapWriter")
    }
}

impl Sandbox {
    /// The id maps of the new user namespace are written by this function, which has a way of its own: asks a
    /// daemon, or somebody who has been told of the process. Needs [`user`](Self::user).
    ///
    /// It is called once for each start, by a thread of its own, when the process has been made and before anything
    /// else is done that depends on ids. The process goes on when it returns, and is ended if it returns an
    /// error, which is that of the start. The calling thread waits all the time, also when the process
    /// has ended meanwhile: [`Unmapped::as_fd`] tells of that, and
    /// [`setup_timeout`](crate::Command::setup_timeout) limits the life of the process, not the function's time.
    ///
    /// The function may start programs itself. Only where the caller has no privilege, and one of the two programs takes
    /// on other ids, it cannot start one in a new user namespace: `EDEADLK`, or [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut)
    /// after its set-up time if another thread does it and the function waits for that.
    ///
    /// [`user_map`](Self::user_map) and [`group_map`](Self::group_map) say what will be there, by which the set-up is
    /// planned; what is there is not looked at. setgroups(2) is denied before, unless there is
    /// [`Setgroups::Allow`](super::Setgroups::Allow).
    ///
    /// # Privileges
    /// Those of who writes the maps.
    ///
    /// # Examples
    /// ```no_run
    /// use ringfence::{IdMap, Sandbox};
    ///
    /// # fn main() -> ringfence::Result<()> {
    /// let sandbox = Sandbox::new().user().user_map(IdMap::root()).map_writer(|process| {
    ///     let (uid, gid) = (1000, 1000);
    ///     std::fs::write(format!("/proc/{}/uid_map", process.id()), format!("0 {uid} 1"))?;
    ///     std::fs::write(format!("/proc/{}/gid_map", process.id()), format!("0 {gid} 1"))
    /// });
    /// sandbox.command("id").status()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
    pub fn map_writer(
        mut self,
        write: impl Fn(Unmapped<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.map_writer = Some(MapWriter(Arc::new(write)));
        self
    }
}
