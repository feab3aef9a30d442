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
    SubidRange {
        identity: bool,
    },
    Extents(Vec<Extent>),
    /// All of them.
    Union(Vec<IdMap>),
    /// The caller has this id, and the map makes room for it.
    CallerAs(Box<IdMap>, u32),
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

    /// The first range that `/etc/subuid` (for groups `/etc/subgid`) allots to the caller, from 0 on. The
    /// caller itself has no id: see [`caller_as`](Self::caller_as).
    #[must_use]
    pub fn subid_range() -> Self {
        Self(Choice::SubidRange { identity: false })
    }

    /// The first range that `/etc/subuid` (for groups `/etc/subgid`) allots to the caller: these ids keep their
    /// numbers.
    #[must_use]
    pub fn subid_range_identity() -> Self {
        Self(Choice::SubidRange { identity: true })
    }

    /// The ids of both maps, which must not overlap.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(Choice::Union(vec![self, other]))
    }

    /// The caller is `inside` inside, and the other ids make room: in each extent the ids inside without that
    /// one are, in order, those outside without the caller's. An extent that had one of the two has one id less.
    #[must_use]
    pub fn caller_as(self, inside: u32) -> Self {
        Self(Choice::CallerAs(Box::new(self), inside))
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
        if self.has_numbers() {
            Self::identity()
        } else {
            self.clone()
        }
    }

    fn has_numbers(&self) -> bool {
        match &self.0 {
            Choice::Extents(extents) => !extents.is_empty(),
            Choice::Union(maps) => maps.iter().any(Self::has_numbers),
            Choice::CallerAs(map, _) => map.has_numbers(),
            _ => false,
        }
    }

    /// The extents, for a caller with the id `own`.
    pub(crate) fn resolve(&self, kind: IdKind, own: u32) -> Result<Vec<Extent>, Unresolved> {
        let extents = self.extents(kind, own)?;
        check(&extents)?;
        Ok(extents)
    }

    fn extents(&self, kind: IdKind, own: u32) -> Result<Vec<Extent>, Unresolved> {
        let one = |inside| {
            vec![Extent {
                inside,
                outside: own,
                count: 1,
            }]
        };
        Ok(match &self.0 {
            Choice::Root => one(0),
            Choice::Identity => one(own),
            Choice::Single(inside) => one(*inside),
            Choice::All => current_map(kind)?,
            Choice::Subids => subid::caller_map(kind, own)?,
            Choice::SubidRange { identity } => vec![subid::first_range(kind, *identity)?],
            Choice::Extents(extents) => extents.clone(),
            Choice::Union(maps) => {
                let parts: Result<Vec<_>, _> =
                    maps.iter().map(|map| map.extents(kind, own)).collect();
                parts?.concat()
            }
            Choice::CallerAs(map, inside) => {
                let growing = matches!(map.0, Choice::SubidRange { identity: false });
                let others = map.extents(kind, own)?;
                let room = others
                    .iter()
                    .flat_map(|extent| make_room(*extent, *inside, own, growing));
                one(*inside).into_iter().chain(room).collect()
            }
        })
    }
}

/// An extent without one id on each side: the rest inside is, in order, the rest outside. What is left over on one
/// side goes, unless the extent may grow inside.
fn make_room(extent: Extent, inside: u32, outside: u32, growing: bool) -> Vec<Extent> {
    let end = |first: u32, count: u32| u64::from(first) + u64::from(count);
    let within = |first: u32, id: u32| id >= first && u64::from(id) < end(first, extent.count);
    let without_outside = extent.count - u32::from(within(extent.outside, outside));
    let count = if growing {
        without_outside
    } else {
        without_outside.min(extent.count - u32::from(within(extent.inside, inside)))
    };
    // Where each side skips an id, counted from the beginning of the extent.
    let gap = |first: u32, id: u32| match id.checked_sub(first) {
        Some(before) if before < count => before,
        _ => count,
    };
    let mut cuts = [
        0,
        gap(extent.inside, inside),
        gap(extent.outside, outside),
        count,
    ];
    cuts.sort_unstable();
    let number = |first: u32, id: u32, before: u32| {
        let skipped = id >= first && before >= id - first;
        first
            .saturating_add(before)
            .saturating_add(u32::from(skipped))
    };
    cuts.windows(2)
        .filter_map(|pair| match pair {
            [from, to] if from < to => Some(Extent {
                inside: number(extent.inside, inside, *from),
                outside: number(extent.outside, outside, *from),
                count: to - from,
            }),
            _ => None,
        })
        .collect()
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
    fn makes_room_for_the_caller() {
        let ten = IdMap::from(extent(5, 100_000, 10));
        for (map, others) in [
            // The example of behaviour at the edge: 15 is the first id behind the extent.
            (ten.clone().caller_as(15), vec![extent(5, 100_000, 10)]),
            (ten.clone().caller_as(4), vec![extent(5, 100_000, 10)]),
            (ten.clone().caller_as(14), vec![extent(5, 100_000, 9)]),
            (ten.clone().caller_as(5), vec![extent(6, 100_000, 9)]),
            (
                ten.caller_as(7),
                vec![extent(5, 100_000, 2), extent(8, 100_002, 7)],
            ),
            (
                IdMap::range(0, 995, 10).caller_as(2),
                vec![extent(0, 995, 2), extent(3, 997, 3), extent(6, 1001, 4)],
            ),
            (
                IdMap::range(0, 995, 10).caller_as(20),
                vec![extent(0, 995, 5), extent(5, 1001, 4)],
            ),
            (
                IdMap::range(0, 1, 2)
                    .union(IdMap::range(10, 20, 2))
                    .caller_as(0),
                vec![extent(1, 1, 1), extent(10, 20, 2)],
            ),
        ] {
            let mut expected = vec![match map.0 {
                Choice::CallerAs(_, inside) => extent(inside, 1000, 1),
                _ => unreachable!("all of them are"),
            }];
            expected.extend(others);
            assert_eq!(resolve(&map), Ok(expected), "{map:?}");
        }
        assert_eq!(
            make_room(extent(0, 100, 5), 2, 1000, true),
            [extent(0, 100, 2), extent(3, 102, 3)],
            "a map of no fixed end loses none"
        );
    }

    #[test]
    fn room_is_what_two_lists_without_the_ids_give() {
        for inside in 0..14 {
            for outside in 18..34 {
                let map = extent(2, 20, 10);
                let left = (2..12).filter(|id| *id != inside);
                let right = (20..30).filter(|id| *id != outside);
                let pairs: Vec<(u32, u32)> = left.zip(right).collect();
                let made: Vec<_> = make_room(map, inside, outside, false)
                    .iter()
                    .flat_map(|e| (0..e.count).map(|n| (e.inside + n, e.outside + n)))
                    .collect();
                assert_eq!(made, pairs, "{inside} {outside}");
            }
        }
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
