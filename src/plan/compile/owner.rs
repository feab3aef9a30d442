//! A user namespace that another user owns: the kernel takes the user who makes it.

use super::Compiler;
use crate::error::{Error, Result, Step};
use crate::ns::Namespaces;
use crate::plan::op::{Action, Ids};
use crate::sandbox::owner::Owner;
use rustix::fs::{Gid, Uid};

impl Compiler<'_> {
    /// The offsets are written to a file that belongs to root once the child has other ids.
    pub(super) fn check_owner(&self) -> Result<()> {
        let offset = self.sandbox.monotonic.is_some() || self.sandbox.boottime.is_some();
        if self.sandbox.owner.is_some() && offset {
            return Err(Error::invalid(
                "owner",
                "who has become another user may not set clock offsets",
            ));
        }
        Ok(())
    }

    /// Takes on the owner's ids, and makes these namespaces, the user namespace among them.
    pub(super) fn become_owner(&mut self, owner: Owner, namespaces: Namespaces) {
        let Owner { uid, gid } = owner;
        self.push(
            Step::Ids,
            format!("uid {uid}, gid {gid}, no groups: the owner of the user namespace"),
            Action::SetIds(Ids {
                groups: Some(Box::default()),
                gid: Some(Gid::from_raw(gid)),
                uid: Some(Uid::from_raw(uid)),
            }),
        );
        self.unshare(namespaces);
        self.caller.uid = uid;
        self.caller.gid = gid;
    }

    /// Unless that was done for the time namespace, goes on as process 1 of a new pid namespace.
    pub(super) fn split_into_pid(&mut self, namespaces: Namespaces, forks: bool) -> Result<()> {
        if namespaces.contains(Namespaces::TIME) && !self.features.time_in_vfork {
            return Ok(());
        }
        self.unshare(Namespaces::PID);
        self.push(
            Step::Clone,
            "go on as a process that is born into the pid namespace",
            Action::Split,
        );
        self.guard(forks)
    }
}
