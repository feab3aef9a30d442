//! Id maps of user namespaces, as the caller describes them.

use super::subid;
use std::fmt;

/// The kernel's limit on the extents of one map (Linux 4.15).
pub(crate) const MAX_EXTENTS: usize = 340;

/// One line of `/proc/PID/uid_map`: `count` ids from `inside` on are, seen from the caller's user
/// namespace, the ids from `outside` on.
///
/// See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First id inside the new user namespace.
    pub inside: u32,
    /// First id in the caller's user namespace.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// Which ids exist in a new user namespace.
///
/// The map of one own id needs no privilege and is written by the child itself. Every other map is
/// written by the caller where it has `CAP_SETUID` (for groups `CAP_SETGID`), otherwise by
/// newuidmap(1) and newgidmap(1) within the caller's allotment in `/etc/subuid` and `/etc/subgid`.
///
/// # Examples
/// ```
/// use ringfence::{Extent, IdMap};
///
/// let rootless = IdMap::root();                     // 0 inside = the caller
/// let container = IdMap::subids();                  // 0 = the caller, 1.. = its subordinate ids
/// let by_hand = IdMap::from(Extent { inside: 0, outside: 1000, count: 1 })
///     .and(Extent { inside: 1, outside: 100_000, count: 65_535 });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap(Choice);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Root,
    Identity,
    Single(u32),
    All,
    Subids,
    Extents(Vec<Extent>),
}

impl IdMap {
    /// The caller is 0 inside.
    #[must_use]
    pub fn root() -> Self {
        Self(Choice::Root)
    }

    /// The caller keeps its number. This is the default.
    #[must_use]
    pub fn identity() -> Self {
        Self(Choice::Identity)
    }

    /// The caller is `inside` inside.
    #[must_use]
    pub fn single(inside: u32) -> Self {
        Self(Choice::Single(inside))
    }

    /// Every id of the caller's user namespace keeps its number. Needs `CAP_SETUID` / `CAP_SETGID`.
    #[must_use]
    pub fn all() -> Self {
        Self(Choice::All)
    }

    /// The caller is 0 inside; from 1 on follow, without gaps, all ids that `/etc/subuid` (for groups
    /// `/etc/subgid`) allots to the caller by name or by number.
    #[must_use]
    #[doc(alias = "subuid")]
    #[doc(alias = "subgid")]
    pub fn subids() -> Self {
        Self(Choice::Subids)
    }

    /// `count` ids from `inside` on are those from `outside` on.
    #[must_use]
    pub fn range(inside: u32, outside: u32, count: u32) -> Self {
        Self::from(Extent {
            inside,
            outside,
            count,
        })
    }

    /// No id at all: every process is the overflow id, 65534, until somebody writes a map.
    #[must_use]
    pub fn none() -> Self {
        Self(Choice::Extents(Vec::new()))
    }

    /// One more extent. A symbolic map, such as [`IdMap::root`], is replaced.
    #[must_use]
    pub fn and(self, extent: Extent) -> Self {
        let mut extents = match self.0 {
            Choice::Extents(extents) => extents,
            _ => Vec::new(),
        };
        extents.push(extent);
        Self(Choice::Extents(extents))
    }

    /// What the other kind of id gets when only one of the two maps was given: symbolic maps mean the
    /// same for users and groups, numbers do not.
    pub(crate) fn counterpart(&self) -> Self {
        match &self.0 {
            Choice::Extents(extents) if !extents.is_empty() => Self::identity(),
            same => Self(same.clone()),
        }
    }

    /// The extents, for a caller with the id `own`.
    pub(crate) fn resolve(&self, kind: IdKind, own: u32) -> Result<Vec<Extent>, Unresolved> {
        let one = |inside| {
            vec![Extent {
                inside,
                outside: own,
                count: 1,
            }]
        };
        let extents = match &self.0 {
            Choice::Root => one(0),
            Choice::Identity => one(own),
            Choice::Single(inside) => one(*inside),
            Choice::All => current_map(kind)?,
            Choice::Subids => subid::caller_map(kind, own)?,
            Choice::Extents(extents) => extents.clone(),
        };
        check(&extents)?;
        Ok(extents)
    }
}

/// Why a map has no extents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unresolved {
    /// It cannot be expressed to the kernel.
    Invalid(String),
    /// The system allots no subordinate ids to this user.
    NoSubids { user: String },
}

impl From<String> for Unresolved {
    fn from(what: String) -> Self {
        Self::Invalid(what)
    }
}

impl From<Extent> for IdMap {
    fn from(extent: Extent) -> Self {
        Self(Choice::Extents(vec![extent]))
    }
}

impl<const N: usize> From<[Extent; N]> for IdMap {
    fn from(extents: [Extent; N]) -> Self {
        Self(Choice::Extents(extents.into()))
    }
}

impl FromIterator<Extent> for IdMap {
    fn from_iter<T: IntoIterator<Item = Extent>>(extents: T) -> Self {
        Self(Choice::Extents(extents.into_iter().collect()))
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdKind {
    User,
    Group,
}

/// Whether a process of a user namespace may change its supplementary groups.
///
/// Groups can be used to deny access, so an unprivileged caller must give up setgroups(2) before it
/// may map its group, and ringfence gives it up for every new user namespace unless told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Setgroups {
    /// setgroups(2) fails with `EPERM` inside.
    #[default]
    Deny,
    /// setgroups(2) works. Needs `CAP_SETGID`, or a group map by newgidmap(1).
    Allow,
}

fn check(extents: &[Extent]) -> Result<(), String> {
    if extents.len() > MAX_EXTENTS {
        return Err(format!(
            "{} extents, the kernel takes at most {MAX_EXTENTS}",
            extents.len()
        ));
    }
    for extent in extents {
        if extent.count == 0 {
            return Err(format!("extent \"{extent}\" is empty"));
        }
        for first in [extent.inside, extent.outside] {
            if first.checked_add(extent.count).is_none() {
                return Err(format!("extent \"{extent}\" goes beyond the largest id"));
            }
        }
    }
    overlap(extents, |e| e.inside, "inside")?;
    overlap(extents, |e| e.outside, "outside")
}

fn overlap(extents: &[Extent], first: fn(&Extent) -> u32, side: &str) -> Result<(), String> {
    let mut sorted: Vec<&Extent> = extents.iter().collect();
    sorted.sort_by_key(|extent| first(extent));
    for pair in sorted.windows(2) {
        if let [low, high] = pair
            && first(high) - first(low) < low.count
        {
            return Err(format!("extents \"{low}\" and \"{high}\" overlap {side}"));
        }
    }
    Ok(())
}

/// The ids that exist in the caller's own user namespace, each mapped to itself.
fn current_map(kind: IdKind) -> Result<Vec<Extent>, String> {
    let path = match kind {
        IdKind::User => "/proc/self/uid_map",
        IdKind::Group => "/proc/self/gid_map",
    };
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    parse_map(&text)
        .map(|extents| {
            extents
                .into_iter()
                .map(|extent| Extent {
                    outside: extent.inside,
                    ..extent
                })
                .collect()
        })
        .ok_or_else(|| format!("{path}: not an id map: {text:?}"))
}

/// Parses what the kernel prints in `/proc/PID/uid_map`.
pub(crate) fn parse_map(text: &str) -> Option<Vec<Extent>> {
    text.lines()
        .map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
            let extent = Extent {
                inside: numbers.next()?.ok()?,
                outside: numbers.next()?.ok()?,
                count: numbers.next()?.ok()?,
            };
            numbers.next().is_none().then_some(extent)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn extent(inside: u32, outside: u32, count: u32) -> Extent {
        Extent {
            inside,
            outside,
            count,
        }
    }

    fn resolve(map: &IdMap) -> Result<Vec<Extent>, Unresolved> {
        map.resolve(IdKind::User, 1000)
    }

    #[test]
    fn symbolic_maps() {
        assert_eq!(resolve(&IdMap::root()), Ok(vec![extent(0, 1000, 1)]));
        assert_eq!(resolve(&IdMap::identity()), Ok(vec![extent(1000, 1000, 1)]));
        assert_eq!(resolve(&IdMap::single(7)), Ok(vec![extent(7, 1000, 1)]));
        assert_eq!(resolve(&IdMap::none()), Ok(vec![]));
    }

    #[test]
    fn refuses_what_the_kernel_refuses() {
        for (map, word) in [
            (IdMap::range(0, 0, 0), "empty"),
            (IdMap::range(u32::MAX, 0, 1), "beyond"),
            (IdMap::range(0, u32::MAX - 1, 2), "beyond"),
            (
                IdMap::from([extent(0, 10, 5), extent(4, 20, 1)]),
                "overlap inside",
            ),
            (
                IdMap::from([extent(0, 10, 5), extent(5, 14, 1)]),
                "overlap outside",
            ),
            ((0..341).map(|i| extent(i, i, 1)).collect(), "341 extents"),
        ] {
            let error = resolve(&map).expect_err("must be refused");
            let found = matches!(&error, Unresolved::Invalid(what) if what.contains(word));
            assert!(found, "{error:?}");
        }
        let most: IdMap = (0..340).map(|i| extent(i * 2, i * 2, 2)).collect();
        assert!(resolve(&most).is_ok(), "adjacent extents do not overlap");
    }

    #[test]
    fn parses_the_kernels_maps() {
        assert_eq!(
            parse_map("         0          0 4294967295\n"),
            Some(vec![extent(0, 0, u32::MAX)])
        );
        assert_eq!(parse_map("0 1 2 3\n"), None);
        assert_eq!(parse_map("0 1\n"), None);
    }
}
