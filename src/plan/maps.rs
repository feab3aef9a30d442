//! Who writes the id maps of a new user namespace.

use crate::error::{Error, ErrorKind, Result, Step};
use crate::sandbox::idmap::{Extent, IdKind, Unresolved};
use crate::sandbox::map_writer::MapWriter;
use crate::sandbox::{IdMap, Sandbox, Setgroups};
use rustix::thread::CapabilitySet;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The caller, as far as id maps depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    capabilities: CapabilitySet,
    inheritable: CapabilitySet,
}

impl Caller {
    pub(crate) fn current() -> Self {
        let (effective, inheritable) = rustix::thread::capabilities(None)
            .map(|sets| (sets.effective, sets.inheritable))
            .unwrap_or((CapabilitySet::empty(), CapabilitySet::empty()));
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            capabilities: effective,
            inheritable,
        }
    }

    /// Its inheritable set.
    pub(crate) fn inheritable(&self) -> u64 {
        self.inheritable.bits()
    }

    pub(crate) fn has(&self, capability: CapabilitySet) -> bool {
        self.capabilities.contains(capability)
    }
}

/// The maps of a plan, and who writes each.
#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) users: Map,
    pub(crate) groups: Map,
    pub(crate) setgroups: Setgroups,
    /// setgroups(2) is denied also where there is no group map.
    denies_unmapped: bool,
    /// The caller writes everything, also to give up setgroups(2): the child, which is another user then, may not.
    pub(crate) by_caller: bool,
    /// The child keeps ids that are not mapped.
    keeps_ids: bool,
    /// What writes both.
    pub(crate) function: Option<MapWriter>,
}

/// One map.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) kind: IdKind,
    pub(crate) extents: Vec<Extent>,
    pub(crate) writer: Writer,
}

/// Who can write a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// There is nothing to write.
    Nobody,
    /// The child: one own id.
    Child,
    /// The caller, which has the capability.
    Parent,
    /// newuidmap(1) or newgidmap(1), at this path.
    Helper(PathBuf),
    /// A function of the caller's.
    Function,
}

impl Writer {
    /// Whether it is another process than the child.
    pub(crate) fn is_waited_for(&self) -> bool {
        matches!(self, Self::Parent | Self::Helper(_) | Self::Function)
    }
}

impl Maps {
    /// Resolves the maps of a sandbox and finds out who can write them.
    pub(crate) fn compile(sandbox: &Sandbox, caller: &Caller, keeps_ids: bool) -> Result<Self> {
        let (users, groups) = match (&sandbox.user_map, &sandbox.group_map) {
            (None, None) => (IdMap::identity(), IdMap::identity()),
            (Some(users), None) => (users.clone(), users.counterpart()),
            (None, Some(groups)) => (groups.counterpart(), groups.clone()),
            (Some(users), Some(groups)) => (users.clone(), groups.clone()),
        };
        let setgroups = sandbox.setgroups.unwrap_or_default();
        let by_caller = sandbox.owner.is_some();
        let way = Way {
            setgroups,
            by_caller,
            function: sandbox.map_writer.is_some(),
        };
        let maps = Self {
            users: Map::compile(&users, IdKind::User, caller, way)?,
            groups: Map::compile(&groups, IdKind::Group, caller, way)?,
            setgroups,
            denies_unmapped: sandbox.setgroups == Some(Setgroups::Deny),
            by_caller,
            keeps_ids,
            function: sandbox.map_writer.clone(),
        };
        Ok(maps)
    }

    /// Whether setgroups(2) has to be given up.
    pub(crate) fn denies_setgroups(&self) -> bool {
        let mapped = self.groups.writer != Writer::Nobody;
        self.setgroups == Setgroups::Deny && (mapped || self.denies_unmapped)
    }

    /// Whether the child has to wait for somebody else to write a map.
    pub(crate) fn waits(&self) -> bool {
        (self.by_caller && self.denies_setgroups())
            || [&self.users, &self.groups]
                .into_iter()
                .any(|map| map.writer.is_waited_for())
    }

    /// The ids to take on for the set-up, where the caller's own are not mapped: unmapped ids cannot
    /// own files, and so cannot make any.
    pub(crate) fn setup_ids(&self, caller: &Caller) -> (Option<u32>, Option<u32>) {
        if self.keeps_ids {
            return (None, None);
        }
        (
            self.users.setup_id(caller.uid),
            self.groups.setup_id(caller.gid),
        )
    }
}

/// What else decides who writes a map.
#[derive(Clone, Copy, Debug)]
struct Way {
    setgroups: Setgroups,
    by_caller: bool,
    function: bool,
}

impl Map {
    fn compile(map: &IdMap, kind: IdKind, caller: &Caller, way: Way) -> Result<Self> {
        let Way {
            setgroups,
            by_caller,
            function,
        } = way;
        let (setter, own, capability) = match kind {
            IdKind::User => ("user_map", caller.uid, CapabilitySet::SETUID),
            IdKind::Group => ("group_map", caller.gid, CapabilitySet::SETGID),
        };
        let extents = map.resolve(kind, own).map_err(|why| match why {
            Unresolved::Invalid(what) => Error::invalid(setter, what),
            Unresolved::NoSubids { user } => no_subids(kind, setter, &user),
        })?;
        // The kernel takes a map in one write, which must be shorter than a page.
        let (length, page) = (text_of(&extents).len(), rustix::param::page_size());
        if length >= page {
            return Err(Error::invalid(
                setter,
                format!("{length} bytes as text, the kernel takes fewer than {page}"),
            ));
        }
        let own_id_only =
            matches!(extents.as_slice(), [one] if one.count == 1 && one.outside == own);
        let child_may =
            !by_caller && own_id_only && (kind == IdKind::User || setgroups == Setgroups::Deny);
        let writer = if function {
            Writer::Function
        } else if extents.is_empty() {
            Writer::Nobody
        } else if child_may {
            Writer::Child
        } else if caller.has(capability) {
            Writer::Parent
        } else if by_caller {
            return Err(Error::invalid(
                "owner",
                "the maps of another user's namespace need CAP_SETUID and CAP_SETGID",
            ));
        } else if own_id_only {
            return Err(Error::invalid(
                "setgroups",
                "Setgroups::Allow with a map of one's own group needs CAP_SETGID",
            ));
        } else {
            Writer::Helper(find_helper(kind, setter)?)
        };
        Ok(Self {
            kind,
            extents,
            writer,
        })
    }

    /// The map as the kernel takes it.
    pub(crate) fn text(&self) -> String {
        text_of(&self.extents)
    }

    fn setup_id(&self, own: u32) -> Option<u32> {
        let mapped = self
            .extents
            .iter()
            .any(|e| own.checked_sub(e.outside).is_some_and(|n| n < e.count));
        if mapped {
            return None;
        }
        self.extents.iter().map(|extent| extent.inside).min()
    }

    /// Whether an id exists inside.
    pub(crate) fn maps_inside(&self, id: u32) -> bool {
        self.extents
            .iter()
            .any(|e| id.checked_sub(e.inside).is_some_and(|n| n < e.count))
    }

    /// The id outside of an id inside.
    pub(crate) fn outside(&self, id: u32) -> Option<u32> {
        self.extents.iter().find_map(|e| {
            let offset = id.checked_sub(e.inside)?;
            (offset < e.count).then(|| e.outside + offset)
        })
    }

    /// The id inside of an id outside; the overflow id if there is none.
    pub(crate) fn inside(&self, id: u32) -> u32 {
        let found = self.extents.iter().find_map(|e| {
            let offset = id.checked_sub(e.outside)?;
            (offset < e.count).then(|| e.inside + offset)
        });
        found.unwrap_or(65534)
    }
}

/// How many extents a [`Summary`] shows.
const SHOWN: usize = 2;

/// A map as steps and errors name it: there may be hundreds of extents.
pub(crate) struct Summary<'a>(&'a Map);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(f, SHOWN)
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, usize::MAX)
    }
}

impl Map {
    pub(crate) fn summary(&self) -> Summary<'_> {
        Summary(self)
    }

    fn print(&self, f: &mut fmt::Formatter<'_>, limit: usize) -> fmt::Result {
        f.write_str(match self.kind {
            IdKind::User => "uid",
            IdKind::Group => "gid",
        })?;
        for (index, extent) in self.extents.iter().take(limit).enumerate() {
            f.write_str(if index == 0 { " " } else { ", " })?;
            match extent {
                Extent {
                    inside,
                    outside,
                    count: 1,
                } => write!(f, "{inside} = {outside}")?,
                Extent {
                    inside,
                    outside,
                    count,
                } => write!(
                    f,
                    "{inside}..{} = {outside}..{}",
                    inside + (count - 1),
                    outside + (count - 1)
                )?,
            }
        }
        if let Some(more @ 1..) = self.extents.len().checked_sub(limit) {
            write!(f, " and {more} more extents")?;
        }
        match &self.writer {
            Writer::Nobody => f.write_str(" unmapped"),
            Writer::Child => f.write_str(", written by the child"),
            Writer::Parent => f.write_str(", written by the caller"),
            Writer::Helper(path) => write!(f, ", written by {}", path.display()),
            Writer::Function => f.write_str(", written by a function of the caller's"),
        }
    }
}

fn no_subids(kind: IdKind, setter: &str, user: &str) -> Error {
    let (path, option) = match kind {
        IdKind::User => (kind.subid_file(), "--add-subuids"),
        IdKind::Group => (kind.subid_file(), "--add-subgids"),
    };
    Error::other(
        ErrorKind::PermissionDenied,
        Step::Compile,
        format!("{setter}: {path} allots no ids to {user}"),
    )
    .with_hint(Some(format!(
        "allot a free range, as root does by usermod {option} 100000-165535 {user}, or by the line \"{user}:100000:65536\" in {path}; or map only the caller's own id: IdMap::root()"
    )))
}

fn text_of(extents: &[Extent]) -> String {
    extents.iter().fold(String::new(), |mut text, extent| {
        use fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{extent}");
        text
    })
}

pub(crate) fn find_helper(kind: IdKind, setter: &'static str) -> Result<PathBuf> {
    let name = match kind {
        IdKind::User => "newuidmap",
        IdKind::Group => "newgidmap",
    };
    let found = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"]
        .into_iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    let Some(path) = found else {
        return Err(Error::other(
            ErrorKind::NotFound,
            Step::Compile,
            format!("{setter}: the map needs {name}, which is not installed"),
        )
        .with_hint(Some(format!(
            "install {name} (package uidmap or shadow-utils), or map only the caller's own id: IdMap::root()"
        ))));
    };
    if !is_privileged(&path) {
        return Err(Error::other(
            ErrorKind::PermissionDenied,
            Step::Compile,
            format!(
                "{setter}: {} is neither set-user-id root nor has file capabilities",
                path.display()
            ),
        )
        .with_hint(Some(format!(
            "reinstall its package, or as root: chmod u+s {}",
            path.display()
        ))));
    }
    Ok(path)
}

fn is_privileged(path: &Path) -> bool {
    let set_uid_root =
        std::fs::metadata(path).is_ok_and(|m| m.uid() == 0 && m.mode() & libc::S_ISUID != 0);
    let mut value = [0_u8; 64];
    set_uid_root
        || rustix::fs::getxattr(path, "security.capability", &mut value[..]).is_ok_and(|n| n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(extents: &[(u32, u32, u32)]) -> Map {
        Map {
            kind: IdKind::User,
            extents: extents
                .iter()
                .map(|&(inside, outside, count)| Extent {
                    inside,
                    outside,
                    count,
                })
                .collect(),
            writer: Writer::Parent,
        }
    }

    #[test]
    fn setup_needs_another_id_only_when_unmapped() {
        let range = map(&[(5, 100_000, 10), (0, 200_000, 1)]);
        assert_eq!(range.setup_id(1000), Some(0));
        assert_eq!(range.setup_id(100_009), None);
        assert_eq!(range.outside(6), Some(100_001));
        assert!(range.maps_inside(14) && !range.maps_inside(15));
    }

    #[test]
    fn prints_itself_for_the_kernel_and_for_people() {
        let map = map(&[(0, 1000, 1), (1, 100_000, 65_536)]);
        assert_eq!(map.text(), "0 1000 1\n1 100000 65536\n");
        assert_eq!(
            map.to_string(),
            "uid 0 = 1000, 1..65536 = 100000..165535, written by the caller"
        );
        assert_eq!(map.summary().to_string(), map.to_string());
    }

    #[test]
    fn names_a_long_map_by_its_beginning() {
        let extents: Vec<_> = (0..300).map(|i| (2 * i, 1000 + 2 * i, 1)).collect();
        let map = map(&extents);
        assert_eq!(
            map.summary().to_string(),
            "uid 0 = 1000, 2 = 1002 and 298 more extents, written by the caller"
        );
        assert_eq!(map.to_string().matches('=').count(), 300);
    }
}
