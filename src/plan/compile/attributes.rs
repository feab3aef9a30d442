//! What the child takes on just before the program: session, ids, umask, working directory, descriptors.

use super::{Compiler, NGROUPS_MAX};
use crate::error::{Error, Result, Step};
use crate::plan::lockdown;
use crate::plan::maps::{Map, Maps, Writer};
use crate::plan::op::{Action, Ids};
use crate::plan::place::{EMPTY, c_path};
use crate::sandbox::{MountLock, Setgroups};
use crate::sys::{fd, signal};
use rustix::fs::{Gid, Uid};
use rustix::io::FdFlags;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

impl Compiler<'_> {
    /// Session, ids, umask and working directory. Returns whether the child takes on an id that is not
    /// the caller's, which changes the dumpable flag of the memory that they share.
    pub(super) fn process_attributes(
        &mut self,
        maps: Option<&Maps>,
        terminal: bool,
    ) -> Result<bool> {
        let command = self.command;
        if let Some(signal) = command.die_with_parent
            && !(1..=signal::SIGNALS.cast_signed()).contains(&signal)
        {
            return Err(Error::invalid(
                "die_with_parent_by",
                format!("there is no signal {signal}"),
            ));
        }
        if let Some(mask) = command.umask
            && mask > 0o777
        {
            return Err(Error::invalid(
                "umask",
                format!("{mask:o} is more than 777"),
            ));
        }
        let builds = self
            .ops
            .iter()
            .any(|op| matches!(op.action, Action::ClearUmask));
        if builds || command.umask.is_some() {
            let object = command
                .umask
                .map_or("umask of the caller".to_owned(), |mask| {
                    format!("umask {mask:03o}")
                });
            self.push(
                Step::Ids,
                object,
                Action::SetUmask {
                    mask: command.umask,
                },
            );
        }
        // The rest is for the second stage, once it is where the ids and paths mean something.
        let joins = self.join.by_stage.is_some();
        if (command.new_session || terminal) && self.sandbox.init.is_none() && !joins {
            self.push(Step::Session, "new session", Action::NewSession);
        }
        if joins {
            return Ok(false);
        }
        self.check_ids(maps)?;
        let drops_groups = command.uid.is_some()
            && command.groups.is_none()
            && !command.keep_groups
            && match maps {
                Some(maps) => {
                    maps.setgroups == Setgroups::Allow && maps.groups.writer != Writer::Nobody
                }
                None => self.caller.has(rustix::thread::CapabilitySet::SETGID),
            };
        let groups = match &command.groups {
            Some(groups) => Some(groups.as_slice()),
            None if drops_groups => Some(&[][..]),
            None => None,
        };
        if groups.is_some() || command.gid.is_some() || command.uid.is_some() {
            let mut parts = Vec::new();
            if let Some(groups) = groups {
                parts.push(format!("groups {groups:?}"));
            }
            parts.extend(command.gid.map(|id| format!("gid {id}")));
            parts.extend(command.uid.map(|id| format!("uid {id}")));
            let object = parts.join(", ");
            if self.late {
                self.late_ids(object, groups);
            } else {
                if !lockdown::is_idle(command) {
                    self.keep_capabilities();
                }
                self.push(
                    Step::Ids,
                    object,
                    Action::SetIds(Ids {
                        groups: groups.map(|ids| ids.iter().map(|&id| Gid::from_raw(id)).collect()),
                        gid: command.gid.map(Gid::from_raw),
                        uid: command.uid.map(Uid::from_raw),
                    }),
                );
            }
        }
        self.current_dir()?;
        Ok(self.changes_ids(maps))
    }

    /// The ids inside that the child has while it mounts.
    pub(super) fn inside_ids(&self, maps: Option<&Maps>) -> (u32, u32) {
        let Some(maps) = maps else {
            return (self.caller.uid, self.caller.gid);
        };
        let (uid, gid) = maps.setup_ids(&self.caller);
        (
            uid.unwrap_or_else(|| maps.users.inside(self.caller.uid)),
            gid.unwrap_or_else(|| maps.groups.inside(self.caller.gid)),
        )
    }

    fn check_ids(&self, maps: Option<&Maps>) -> Result<()> {
        let command = self.command;
        let ids = command.uid.is_some() || command.gid.is_some() || command.groups.is_some();
        let nested = [
            (
                "lock_mounts",
                self.sandbox.mount_lock == Some(MountLock::Nested),
            ),
            ("disable_userns", self.sandbox.lockdown.disable_userns),
        ];
        if let (true, Some((setter, _))) = (ids, nested.iter().find(|(_, set)| *set)) {
            return Err(Error::invalid(
                setter,
                "in the nested user namespace there are no other ids for uid, gid and groups; see MountLock::DropCapability",
            ));
        }
        for (setter, id, map) in [
            ("uid", command.uid, maps.map(|maps| &maps.users)),
            ("gid", command.gid, maps.map(|maps| &maps.groups)),
        ] {
            let Some(id) = id else { continue };
            if id == u32::MAX {
                return Err(Error::invalid(setter, format!("{id} is not a valid id")));
            }
            if map.is_some_and(|map| !map.maps_inside(id)) {
                return Err(Error::invalid(
                    setter,
                    format!(
                        "{id} does not exist in the new user namespace, see user_map and group_map"
                    ),
                ));
            }
        }
        let Some(groups) = &command.groups else {
            return Ok(());
        };
        if groups.len() > NGROUPS_MAX {
            return Err(Error::invalid(
                "groups",
                format!(
                    "{} groups, the kernel takes at most {NGROUPS_MAX}",
                    groups.len()
                ),
            ));
        }
        if groups.contains(&u32::MAX) {
            return Err(Error::invalid(
                "groups",
                format!("{} is not a valid id", u32::MAX),
            ));
        }
        let Some(maps) = maps else { return Ok(()) };
        if maps.setgroups == Setgroups::Deny {
            return Err(Error::invalid(
                "groups",
                "the new user namespace denies setgroups(2); Setgroups::Allow permits it",
            ));
        }
        match groups.iter().find(|&&id| !maps.groups.maps_inside(id)) {
            Some(id) => Err(Error::invalid(
                "groups",
                format!("{id} does not exist in the new user namespace, see group_map"),
            )),
            None => Ok(()),
        }
    }

    fn changes_ids(&self, maps: Option<&Maps>) -> bool {
        let outside = |id: Option<u32>, own: u32, map: Option<&Map>| {
            id.is_some_and(|id| map.map_or(Some(id), |map| map.outside(id)) != Some(own))
        };
        if self.sandbox.owner.is_some() {
            return true;
        }
        let setup = maps.map_or((None, None), |maps| maps.setup_ids(&self.caller));
        setup.0.is_some()
            || setup.1.is_some()
            || outside(
                self.command.uid,
                self.caller.uid,
                maps.map(|maps| &maps.users),
            )
            || outside(
                self.command.gid,
                self.caller.gid,
                maps.map(|maps| &maps.groups),
            )
    }

    fn current_dir(&mut self) -> Result<()> {
        let Some(dir) = &self.command.current_dir else {
            return Ok(());
        };
        if dir.as_os_str().is_empty() {
            return Err(Error::invalid("current_dir", EMPTY));
        }
        let new_root = self.sandbox.rootfs.is_some();
        // What is in a root of somebody else's may lead to descriptors that the set-up still has.
        let confined = new_root || self.sandbox.chroot.is_some();
        if new_root && !dir.is_absolute() {
            return Err(Error::invalid(
                "current_dir",
                format!(
                    "{} is not an absolute path, and there is a new root",
                    dir.display()
                ),
            ));
        }
        let path = c_path(dir.as_os_str()).map_err(|what| Error::invalid("current_dir", what))?;
        let object = dir.display().to_string();
        if self.late {
            self.late_dir(object, &path, confined);
        } else {
            self.push(
                Step::CurrentDir,
                object,
                Action::CurrentDir { path, confined },
            );
        }
        Ok(())
    }

    pub(super) fn descriptors(&self) -> Result<Vec<(Arc<OwnedFd>, RawFd)>> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let mut seen = Vec::new();
        for &(_, target) in &self.command.descriptors {
            let refuse = |what: &str| Err(Error::invalid("descriptor", format!("{target} {what}")));
            let Ok(number) = u64::try_from(target) else {
                return refuse("is negative");
            };
            if number <= 2 {
                return refuse("is a standard stream, see stdin, stdout and stderr");
            }
            if limit.is_some_and(|limit| number >= limit) {
                return refuse("is beyond the limit on descriptors (RLIMIT_NOFILE)");
            }
            if seen.contains(&target) {
                return refuse("is given twice");
            }
            seen.push(target);
        }
        let mut descriptors = self.command.descriptors.clone();
        if self.command.inherit_descriptors {
            inherited(&mut descriptors)?;
        }
        Ok(descriptors)
    }
}

/// Adds a copy of each descriptor of the caller's that is not close-on-exec.
fn inherited(descriptors: &mut Vec<(Arc<OwnedFd>, RawFd)>) -> Result<()> {
    const TABLE: &str = "/proc/thread-self/fd";
    let failed = |error| {
        Error::io(
            Step::Compile,
            format!("inherit_descriptors: {TABLE}"),
            error,
        )
    };
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(TABLE).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    numbers.sort_unstable();
    for number in numbers.into_iter().filter(|&number| number > 2) {
        let fd = fd::borrow(&number);
        let inherited =
            rustix::io::fcntl_getfd(fd).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC));
        if !inherited || descriptors.iter().any(|(_, target)| *target == number) {
            continue;
        }
        let copy = rustix::io::fcntl_dupfd_cloexec(fd, 3)
            .map_err(|errno| Error::system(Step::Compile, "inherit_descriptors", "fcntl", errno))?;
        descriptors.push((Arc::new(copy), number));
    }
    Ok(())
}
