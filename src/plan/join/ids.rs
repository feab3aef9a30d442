//! The ids that a program has in the namespaces that it joins.

use super::{JoinCredentials, JoinProcess, Work, credentials, number, still_there};
use crate::error::{Error, Result, Step};
use crate::ns::Namespaces;
use crate::plan::compile::NGROUPS_MAX;
use crate::plan::lockdown;
use crate::sandbox::Command;
use crate::sandbox::idmap::parse_map;
use crate::sys::stage::message::{Instruction, refused, what};

/// An id to take on.
#[derive(Clone, Copy, Debug)]
struct Id {
    id: u32,
    /// Where it does not exist, one's own will do.
    or_own: bool,
}

impl Id {
    fn exactly(id: u32) -> Self {
        Self { id, or_own: false }
    }

    fn root() -> Self {
        Self {
            id: 0,
            or_own: true,
        }
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.id)?;
        if self.or_own {
            f.write_str(" if it exists, otherwise the caller's")?;
        }
        Ok(())
    }
}

impl Work {
    pub(super) fn take_on_ids(&mut self, command: &Command, joined: Namespaces) -> Result<()> {
        let into_user = joined.contains(Namespaces::USER);
        let wanted = credentials(&command.sandbox);
        let (mut uid, mut gid) = match &wanted {
            JoinCredentials::Of(process) => ids_of(process)?,
            JoinCredentials::Root if into_user => (Some(Id::root()), Some(Id::root())),
            _ => (None, None),
        };
        for (setter, given, id) in [
            ("uid", command.uid, &mut uid),
            ("gid", command.gid, &mut gid),
        ] {
            if given == Some(u32::MAX) {
                return Err(Error::invalid(setter, "4294967295 is not a valid id"));
            }
            if let Some(given) = given {
                *id = Some(Id::exactly(given));
            }
        }
        // To bind the program takes capabilities, which it then loses.
        if !lockdown::is_idle(command) {
            let shown = (
                Step::Ids,
                "capabilities stay when ids change".into(),
                "prctl",
            );
            self.plain_step(shown, what::KEEP_CAPS);
        }
        self.groups(command, into_user)?;
        if let Some(id) = gid {
            self.id(what::GID, "gid", "setresgid", id);
        }
        if let Some(id) = uid {
            self.id(what::UID, "uid", "setresuid", id);
        }
        Ok(())
    }

    /// The user namespace may deny setgroups(2), and its root may not have the privilege that the caller has.
    pub(super) fn drop_groups_before(&mut self, command: &Command) {
        if let Some(([], _)) = groups(command, true) {
            self.set_groups(&[], refused::OK);
        }
    }

    fn groups(&mut self, command: &Command, into_user: bool) -> Result<()> {
        let Some((groups, may_fail)) = groups(command, into_user) else {
            return Ok(());
        };
        if groups.len() > NGROUPS_MAX {
            let what = format!(
                "{} groups, the kernel takes at most {NGROUPS_MAX}",
                groups.len()
            );
            return Err(Error::invalid("groups", what));
        }
        if groups.contains(&u32::MAX) {
            return Err(Error::invalid("groups", "4294967295 is not a valid id"));
        }
        let refused = match (may_fail, groups) {
            (true, _) => refused::OK,
            (false, []) => refused::OK_IF_NONE,
            (false, _) => refused::FAILS,
        };
        self.set_groups(groups, refused);
        Ok(())
    }

    fn set_groups(&mut self, groups: &[u32], refused: u64) {
        let bytes: Vec<u8> = groups.iter().flat_map(|id| id.to_ne_bytes()).collect();
        let object = match refused {
            refused::OK => "no supplementary groups, if they may be dropped".to_owned(),
            _ => format!("groups {groups:?}"),
        };
        let calls = match refused {
            refused::OK_IF_NONE => "setgroups, getgroups",
            _ => "setgroups",
        };
        let instruction = Instruction {
            what: what::GROUPS,
            other: refused,
            ..self.text(&bytes)
        };
        self.step((Step::Ids, object, calls), instruction);
    }

    fn id(&mut self, what: u32, name: &str, calls: &'static str, id: Id) {
        let instruction = Instruction {
            what,
            value: id.id,
            other: id.or_own.into(),
            ..Instruction::default()
        };
        self.step((Step::Ids, format!("{name} {id}"), calls), instruction);
    }
}

/// The groups to set, and whether that may be refused.
fn groups(command: &Command, into_user: bool) -> Option<(&[u32], bool)> {
    let others = match credentials(&command.sandbox) {
        JoinCredentials::Of(_) => true,
        JoinCredentials::Root => into_user,
        JoinCredentials::Preserve => false,
    };
    match &command.groups {
        Some(groups) => Some((groups, false)),
        None if command.keep_groups => None,
        None => (others || command.uid.is_some()).then_some((&[], true)),
    }
}

/// The effective ids of a process, as its own user namespace counts them.
fn ids_of(process: &JoinProcess) -> Result<(Option<Id>, Option<Id>)> {
    let (pid, pidfd) = number(process)?;
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        std::fs::read_to_string(&path).map_err(|error| Error::io(Step::Compile, path, error))
    };
    let status = read("status")?;
    let maps = (read("uid_map")?, read("gid_map")?);
    still_there(pidfd)?;
    let id = |field: &str, map: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let outside: u32 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let extents = parse_map(map)?;
        extents.iter().find_map(|extent| {
            let offset = outside.checked_sub(extent.outside)?;
            (offset < extent.count).then(|| Id::exactly(extent.inside + offset))
        })
    };
    let found = (id("Uid:", &maps.0), id("Gid:", &maps.1));
    if found.0.is_none() || found.1.is_none() {
        return Err(Error::invalid(
            "join_credentials",
            format!("the ids of process {pid} do not exist in its user namespace"),
        ));
    }
    Ok(found)
}
