//! The caller's allotment of subordinate ids: subuid(5), subgid(5).

use super::idmap::{Extent, IdKind, Unresolved};

impl IdKind {
    /// The file of the map in `/proc/PID`.
    pub(crate) fn map_file(self) -> &'static str {
        match self {
            Self::User => "uid_map",
            Self::Group => "gid_map",
        }
    }

    pub(crate) fn subid_file(self) -> &'static str {
        match self {
            Self::User => "/etc/subuid",
            Self::Group => "/etc/subgid",
        }
    }
}

/// 0 is the caller, from 1 on follow its subordinate ids.
pub(crate) fn caller_map(kind: IdKind, own: u32) -> Result<Vec<Extent>, Unresolved> {
    let path = kind.subid_file();
    let ranges = allotment(kind)?;
    if ranges.is_empty() {
        return Err(nothing_allotted());
    }
    let mut extents = vec![Extent {
        inside: 0,
        outside: own,
        count: 1,
    }];
    let mut inside: u32 = 1;
    for (first, count) in ranges {
        extents.push(Extent {
            inside,
            outside: first,
            count,
        });
        inside = inside
            .checked_add(count)
            .ok_or_else(|| format!("{path} allots more ids than there are"))?;
    }
    Ok(extents)
}

/// The first range of the real user, from 0 on or with the numbers that it has.
pub(crate) fn first_range(kind: IdKind, identity: bool) -> Result<Extent, Unresolved> {
    let ranges = allotment(kind)?;
    let Some(&(outside, count)) = ranges.first() else {
        return Err(nothing_allotted());
    };
    Ok(Extent {
        inside: if identity { outside } else { 0 },
        outside,
        count,
    })
}

fn nothing_allotted() -> Unresolved {
    let uid = rustix::process::getuid().as_raw();
    let user = user_name(uid).unwrap_or_else(|| uid.to_string());
    Unresolved::NoSubids { user }
}

/// The ranges of the real user, in the order of the file, each once: it may stand there by name and by
/// number. Both files are keyed by the user.
pub(crate) fn allotment(kind: IdKind) -> Result<Vec<(u32, u32)>, String> {
    let path = kind.subid_file();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{path}: {error}")),
    };
    let uid = rustix::process::getuid().as_raw();
    Ok(ranges_of(&text, uid, user_name(uid).as_deref()))
}

fn ranges_of(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let mut ranges = Vec::new();
    for range in text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let first = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        let ours = Some(owner) == name || owner.parse() == Ok(uid);
        (ours && count > 0).then_some((first, count))
    }) {
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    ranges
}

/// The name of a user, from `/etc/passwd`.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    name_in(&text, uid)
}

fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ranges_by_name_and_by_number() {
        let text = "joe:100000:65536\n1000:300000:10\n# comment\nanna:1:2\njoe:x:1\njoe:7:0\n";
        assert_eq!(
            ranges_of(text, 1000, Some("joe")),
            [(100_000, 65_536), (300_000, 10)]
        );
        assert_eq!(ranges_of(text, 1000, None), [(300_000, 10)]);
        assert_eq!(ranges_of(text, 5, Some("eve")), []);
        let twice = "joe:100000:65536\n1000:100000:65536\n";
        assert_eq!(ranges_of(twice, 1000, Some("joe")), [(100_000, 65_536)]);
    }

    #[test]
    fn finds_names() {
        let text = "root:x:0:0:root:/root:/bin/sh\njoe:x:1000:1000::/home/joe:/bin/sh\nbroken\n";
        assert_eq!(name_in(text, 1000).as_deref(), Some("joe"));
        assert_eq!(name_in(text, 7), None);
    }
}
