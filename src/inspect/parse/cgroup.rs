use super::{ParseError, number};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A line of `/proc/PID/cgroup`.
///
/// See [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CgroupEntry<'a> {
    /// The number of the hierarchy; 0 for that of cgroup 2.
    pub hierarchy: u32,
    /// The controllers, or `name=` with a name; empty for cgroup 2.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::inspect::json::bytes")
    )]
    pub controllers: &'a [u8],
    /// The path from the root of the reader's cgroup namespace, with `..` where the cgroup is not below that.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::inspect::json::path")
    )]
    pub path: &'a Path,
}

/// Parses `/proc/PID/cgroup`.
///
/// # Errors
/// [`ParseError`] if a line does not have the three fields.
pub fn cgroups(text: &[u8]) -> Result<Vec<CgroupEntry<'_>>, ParseError> {
    let lines = text.split(|&byte| byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| entry(line).ok_or(ParseError::new("cgroup", "a line")))
        .collect()
}

fn entry(line: &[u8]) -> Option<CgroupEntry<'_>> {
    let mut fields = line.splitn(3, |&byte| byte == b':');
    Some(CgroupEntry {
        hierarchy: number(fields.next()?)?,
        controllers: fields.next()?,
        path: Path::new(OsStr::from_bytes(fields.next()?)),
    })
}

/// The path that tells containers apart: that of cgroup 2; where the process is at its root or there is
/// none, that of the first other hierarchy in which it is not at the root.
pub(in crate::inspect) fn path_of<'a>(entries: &[CgroupEntry<'a>]) -> Option<&'a Path> {
    let unified = entries.iter().filter(|entry| entry.hierarchy == 0);
    let others = entries.iter().filter(|entry| entry.hierarchy != 0);
    let mut ordered = unified.chain(others).map(|entry| entry.path);
    let first = ordered.clone().next();
    ordered.find(|path| path.as_os_str() != "/").or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<&str> {
        path_of(&cgroups(text.as_bytes()).unwrap()).and_then(Path::to_str)
    }

    #[test]
    fn lines_of_both_versions() {
        let entries = cgroups(b"4:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/x y\n").unwrap();
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0].controllers, b"cpu,cpuacct");
        assert_eq!(entries[0].path, Path::new("/a:b"));
        assert_eq!(entries[2].hierarchy, 0);
        assert_eq!(cgroups(b""), Ok(vec![]));
        for text in [b"0:" as &[u8], b"x::/\n", b":\n", b"-1::/"] {
            assert!(cgroups(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_path_that_tells_containers_apart() {
        for (text, expected) in [
            ("", None),
            ("0::/\n", Some("/")),
            ("0::/a\n", Some("/a")),
            ("2:memory:/b\n0::/\n", Some("/b")),
            ("2:memory:/b\n0::/a\n", Some("/a")),
            ("2:memory:/\n1:cpu:/c\n", Some("/c")),
        ] {
            assert_eq!(path(text), expected, "{text:?}");
        }
    }
}
