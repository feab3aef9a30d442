//! The texts of `/proc/PID`, parsed without trust: whatever the bytes are, there is a value or an error.
//!
//! Names and paths are bytes as the kernel has them; nothing is taken to be UTF-8. For mountinfo see
//! [`mountinfo`](crate::mount::mountinfo).

mod cgroup;
mod fdinfo;
mod stat;
mod status;

pub(super) use cgroup::path_of;
pub use cgroup::{CgroupEntry, cgroups};
pub use fdinfo::FdInfo;
pub use stat::Stat;
pub use status::{Capabilities, Ids, Status};

use crate::sandbox::Extent;
use crate::sandbox::idmap::parse_map;
use std::str::FromStr;

/// A text is not that of a file in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {field} is missing or malformed")]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ParseError {
    file: &'static str,
    field: &'static str,
}

impl ParseError {
    fn new(file: &'static str, field: &'static str) -> Self {
        Self { file, field }
    }

    /// The name of the file, such as `stat`.
    #[must_use]
    pub fn file(&self) -> &'static str {
        self.file
    }

    /// The field that could not be read.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }
}

impl From<ParseError> for std::io::Error {
    fn from(error: ParseError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// Parses `/proc/PID/uid_map` or `gid_map`.
///
/// # Errors
/// [`ParseError`] if a line is not made of three numbers.
pub fn id_map(text: &[u8]) -> Result<Vec<Extent>, ParseError> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(parse_map)
        .ok_or(ParseError::new("uid_map", "an extent"))
}

/// The arguments in `/proc/PID/cmdline`. None for a kernel thread or a zombie; a program that writes its
/// title over its arguments shows that.
#[must_use]
pub fn cmdline(text: &[u8]) -> Vec<&[u8]> {
    if text.is_empty() {
        return Vec::new();
    }
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    text.split(|&byte| byte == 0).collect()
}

/// A number as the kernel prints it: digits only.
fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        for (text, args) in [
            (b"" as &[u8], vec![] as Vec<&[u8]>),
            (b"sh\0-c\0", vec![b"sh", b"-c"]),
            (b"sh\0\0x\0", vec![b"sh", b"", b"x"]),
            (b"nginx: master", vec![b"nginx: master"]),
            (b"\0", vec![b""]),
        ] {
            assert_eq!(cmdline(text), args, "{text:?}");
        }
    }

    /// What the fuzz target does for hours, for a moment: texts of the kernel with bytes changed, cut and doubled.
    #[test]
    fn no_bytes_make_a_parser_panic() {
        let files = ["stat", "status", "cgroup", "uid_map", "fdinfo/0", "cmdline"];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below.max(1) as u64).unwrap()
        };
        for file in files {
            let original = std::fs::read(format!("/proc/self/{file}")).unwrap();
            for _ in 0..2000 {
                let mut text = original.clone();
                for _ in 0..=random(4) {
                    let at = random(text.len());
                    match random(3) {
                        0 => text.truncate(at),
                        1 => text.extend_from_within(at..),
                        _ => text
                            .iter_mut()
                            .skip(at)
                            .take(1)
                            .for_each(|byte| *byte = b") (\n:\0-9\xff"[random(9)]),
                    }
                }
                let _ = (Stat::parse(&text), Status::parse(&text));
                let _ = (FdInfo::parse(&text), cgroups(&text), id_map(&text));
                assert_eq!(cmdline(&text).is_empty(), text.is_empty());
            }
        }
    }

    #[test]
    fn id_maps() {
        let map = id_map(b"         0       1000          1\n").unwrap();
        assert_eq!(map.len(), 1);
        assert_eq!((map[0].inside, map[0].outside, map[0].count), (0, 1000, 1));
        assert_eq!(id_map(b""), Ok(vec![]));
        for text in [b"0 0" as &[u8], b"0 0 -1\n", b"\xff", b"0 0 4294967296\n"] {
            assert!(id_map(text).is_err(), "{text:?}");
        }
    }
}
