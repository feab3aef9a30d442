//! The text of `/proc/PID/mountinfo`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{Device, Mount, Options};
use crate::mount::{Propagation, PropagationState};

/// A line that is not mountinfo's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mountinfo line {line}: {field} is missing or malformed")]
pub struct ParseError {
    line: usize,
    field: Field,
}

impl ParseError {
    /// The number of the line, the first being 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// The field that could not be read.
    #[must_use]
    pub fn field(&self) -> Field {
        self.field
    }
}

impl From<ParseError> for io::Error {
    fn from(error: ParseError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// A field of a line of mountinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// The mount id, the first field.
    Id,
    /// The id of the parent.
    Parent,
    /// `major:minor`.
    Device,
    /// The root of the mount within its file system.
    Root,
    /// The mount point.
    Target,
    /// The options of the mount.
    Options,
    /// A propagation tag among the optional fields.
    Propagation,
    /// The `-` after the optional fields.
    Separator,
    /// The type of the file system.
    FsType,
    /// The options of the file system, the last field.
    SuperOptions,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Id => "the mount id",
            Self::Parent => "the parent id",
            Self::Device => "the device",
            Self::Root => "the root",
            Self::Target => "the mount point",
            Self::Options => "the mount options",
            Self::Propagation => "a propagation tag",
            Self::Separator => "the separator",
            Self::FsType => "the file system type",
            Self::SuperOptions => "the super options",
        })
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Mount>, ParseError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let lines = bytes
        .strip_suffix(b"\n")
        .unwrap_or(bytes)
        .split(|byte| *byte == b'\n');
    lines
        .zip(1..)
        .map(|(text, line)| parse_line(text).map_err(|field| ParseError { line, field }))
        .collect()
}

fn parse_line(line: &[u8]) -> Result<Mount, Field> {
    let mut fields = line.splitn(7, |byte| *byte == b' ');
    let mut next = |field| fields.next().filter(|text| !text.is_empty()).ok_or(field);
    let id = next(Field::Id).and_then(|text| number(text).ok_or(Field::Id))?;
    let parent = next(Field::Parent).and_then(|text| number(text).ok_or(Field::Parent))?;
    let device = next(Field::Device).and_then(|text| device(text).ok_or(Field::Device))?;
    let root = next(Field::Root)?;
    let target = next(Field::Target)?;
    let options = next(Field::Options)?;
    let (propagation, rest) = optional_fields(next(Field::Separator)?)?;
    let FileSystem {
        fs_type,
        source,
        super_options,
    } = file_system(rest)?;
    Ok(Mount {
        id,
        parent,
        device,
        root: PathBuf::from(text(root)),
        target: PathBuf::from(text(target)),
        options: Options::from_bytes(options),
        propagation,
        fs_type: text(fs_type),
        source: text(source),
        super_options: Options::from_bytes(super_options),
    })
}

/// The tags up to the separator, and what follows it.
fn optional_fields(mut rest: &[u8]) -> Result<(PropagationState, &[u8]), Field> {
    let mut tags = Tags::default();
    loop {
        let (tag, tail) = split_at_space(rest).ok_or(Field::Separator)?;
        if tag == b"-" {
            return Ok((tags.state(), tail));
        }
        tags.read(tag).ok_or(Field::Propagation)?;
        rest = tail;
    }
}

struct FileSystem<'a> {
    fs_type: &'a [u8],
    source: &'a [u8],
    super_options: &'a [u8],
}

/// An empty source leaves two spaces; one that is missing altogether, one. Super options come last and
/// run to the end of the line, whatever a file system has printed into them.
fn file_system(rest: &[u8]) -> Result<FileSystem<'_>, Field> {
    let (fs_type, rest) = split_at_space(rest).ok_or(Field::SuperOptions)?;
    if fs_type.is_empty() {
        return Err(Field::FsType);
    }
    let (source, super_options) = split_at_space(rest).unwrap_or((b"", rest));
    if super_options.is_empty() {
        return Err(Field::SuperOptions);
    }
    Ok(FileSystem {
        fs_type,
        source,
        super_options,
    })
}

#[derive(Default)]
pub(super) struct Tags {
    pub(super) shared: Option<u32>,
    pub(super) master: Option<u32>,
    pub(super) propagate_from: Option<u32>,
    pub(super) unbindable: bool,
}

impl Tags {
    /// `None` if a known tag has no number; unknown tags are for newer readers.
    fn read(&mut self, tag: &[u8]) -> Option<()> {
        if let Some(group) = tag.strip_prefix(b"shared:") {
            self.shared = Some(number(group)?);
        } else if let Some(group) = tag.strip_prefix(b"master:") {
            self.master = Some(number(group)?);
        } else if let Some(group) = tag.strip_prefix(b"propagate_from:") {
            self.propagate_from = Some(number(group)?);
        } else if tag == b"unbindable" {
            self.unbindable = true;
        }
        Some(())
    }

    pub(super) fn state(&self) -> PropagationState {
        let propagation = match (self.shared, self.master) {
            (Some(_), Some(_)) => Propagation::SlaveShared,
            (Some(_), None) => Propagation::Shared,
            (None, Some(_)) => Propagation::Slave,
            (None, None) if self.unbindable => Propagation::Unbindable,
            (None, None) => Propagation::Private,
        };
        PropagationState {
            propagation,
            peer_group: self.shared,
            master: self.master,
            propagate_from: self.propagate_from,
        }
    }
}

fn split_at_space(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = text.iter().position(|byte| *byte == b' ')?;
    Some((&text[..space], &text[space + 1..]))
}

fn device(text: &[u8]) -> Option<Device> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some(Device {
        major: number(&text[..colon])?,
        minor: number(&text[colon + 1..])?,
    })
}

/// Digits only: `str::parse` would take a sign as well.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn text(escaped: &[u8]) -> OsString {
    OsString::from_vec(unescape(escaped).into_owned())
}

/// Undoes the kernel's `\040`; a backslash before anything else stands for itself.
pub(super) fn unescape(escaped: &[u8]) -> Cow<'_, [u8]> {
    if !escaped.contains(&b'\\') {
        return Cow::Borrowed(escaped);
    }
    let mut plain = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let [first, tail @ ..] = rest {
        if let [
            b'\\',
            a @ b'0'..=b'3',
            b @ b'0'..=b'7',
            c @ b'0'..=b'7',
            tail @ ..,
        ] = rest
        {
            plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            plain.push(*first);
            rest = tail;
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn one(line: &str) -> Mount {
        let mut mounts = parse(line.as_bytes()).unwrap();
        assert_eq!(mounts.len(), 1);
        mounts.remove(0)
    }

    fn error(text: &str) -> (usize, Field) {
        let error = parse(text.as_bytes()).unwrap_err();
        (error.line(), error.field())
    }

    /// Documentation/filesystems/proc.rst, and proc_pid_mountinfo(5) after it.
    #[test]
    fn the_example_of_the_kernels_documentation() {
        let mount =
            one("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n");
        assert_eq!((mount.id(), mount.parent()), (36, 35));
        assert_eq!(
            mount.device(),
            Device {
                major: 98,
                minor: 0
            }
        );
        assert_eq!(mount.root(), Path::new("/mnt1"));
        assert_eq!(mount.target(), Path::new("/mnt2"));
        assert_eq!(mount.options().as_os_str(), "rw,noatime");
        assert_eq!(mount.propagation().propagation(), Propagation::Slave);
        assert_eq!(mount.propagation().master(), Some(1));
        assert_eq!(mount.fs_type(), "ext3");
        assert_eq!(mount.source(), "/dev/root");
        assert_eq!(mount.super_options().as_os_str(), "rw,errors=continue");
    }

    /// mount_namespaces(7) cuts its lines at the separator, and some at `...`.
    #[test]
    fn the_examples_of_mount_namespaces() {
        use Propagation::{Private, Shared, Slave, SlaveShared};
        for (line, propagation) in [
            ("77 61 8:17 / /mntS rw,relatime shared:1", Shared),
            ("83 61 8:15 / /mntP rw,relatime", Private),
            ("61 0 8:2 / / rw,relatime", Private),
            ("178 222 8:22 / /mntS/a rw,relatime shared:2", Shared),
            ("169 167 8:22 / /mntY rw,relatime master:2", Slave),
            ("179 169 8:1 / /mntY/c rw,relatime master:4", Slave),
            (
                "267 40 8:2 /etc /tmp/etc ... shared:105 master:102",
                SlaveShared,
            ),
            (
                "273 239 8:2 /etc /tmp/etc ... master:105 propagate_from:102",
                Slave,
            ),
        ] {
            let mount = one(&format!("{line} - ext4 /dev/sda1 rw"));
            assert_eq!(mount.propagation().propagation(), propagation, "{line}");
            let tags = mount.propagation().to_string();
            assert_eq!(
                line.split_once(&tags).unwrap().1,
                if tags.is_empty() { line } else { "" }
            );
        }
    }

    /// cgroup_namespaces(7): a root above that of the reader's cgroup namespace.
    #[test]
    fn a_root_above_the_root() {
        let mount = one(
            "155 145 0:32 /.. /sys/fs/cgroup/freezer rw,nosuid,nodev,noexec,relatime \
             - cgroup cgroup rw,freezer",
        );
        assert_eq!(mount.root(), Path::new("/.."));
    }

    #[test]
    fn unknown_optional_fields_are_passed_over() {
        let mount = one("36 35 98:0 / /m rw new:1 shared:7 -- later unbindable2 - ext3 none rw");
        assert_eq!(mount.propagation().to_string(), "shared:7");
        let mount = one("36 35 98:0 / /m rw unbindable - ext3 none rw");
        assert_eq!(mount.propagation().propagation(), Propagation::Unbindable);
    }

    #[test]
    fn a_source_that_is_empty_or_missing() {
        for line in ["36 35 0:40 / /m rw -  rw", "36 35 0:40 / /m rw -"] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        for line in [
            "36 35 0:40 / /m rw - tmpfs  rw,size=4k",
            "36 35 0:40 / /m rw - tmpfs rw,size=4k",
        ] {
            let mount = one(line);
            assert_eq!(mount.source(), "");
            assert_eq!(mount.super_options().as_os_str(), "rw,size=4k");
        }
        assert_eq!(one("36 35 0:40 / /m rw - tmpfs none rw").source(), "none");
    }

    /// As the 9p server of WSL 2 prints it: a backslash that is no escape.
    #[test]
    fn super_options_run_to_the_end_of_the_line() {
        let mount = one(
            r"36 35 0:40 / /mnt/c rw,noatime - 9p C:\134 rw,aname=drvfs;path=C:\;uid=1000;a b,trans=fd",
        );
        assert_eq!(mount.source(), r"C:\");
        let value = mount
            .super_options()
            .get("aname")
            .unwrap()
            .value
            .unwrap()
            .into_owned();
        assert_eq!(value, r"drvfs;path=C:\;uid=1000;a b");
    }

    #[test]
    fn escapes_are_undone_once() {
        for (escaped, plain) in [
            (r"/a\040b", "/a b"),
            (r"/a\134040", r"/a\040"),
            (r"\011\012\043", "\t\n#"),
            (r"\04", r"\04"),
            (r"\400", r"\400"),
            (r"\048", r"\048"),
            ("\\", "\\"),
            (r"\\040", r"\ "),
        ] {
            assert_eq!(unescape(escaped.as_bytes()), plain.as_bytes(), "{escaped}");
        }
        assert_eq!(unescape(br"\377\000"), b"\xff\0".as_slice());
    }

    #[test]
    fn an_error_names_line_and_field() {
        const GOOD: &str = "36 35 98:0 / /m rw - ext3 none rw\n";
        for (line, field) in [
            ("", Field::Id),
            ("x 35 98:0 / /m rw - ext3 none rw", Field::Id),
            ("+36 35 98:0 / /m rw - ext3 none rw", Field::Id),
            ("4294967296 35 98:0 / /m rw - ext3 none rw", Field::Id),
            ("36 -1 98:0 / /m rw - ext3 none rw", Field::Parent),
            ("36 35 98 / /m rw - ext3 none rw", Field::Device),
            ("36 35 :0 / /m rw - ext3 none rw", Field::Device),
            ("36 35 98:0  /m rw - ext3 none rw", Field::Root),
            ("36 35 98:0 /", Field::Target),
            ("36 35 98:0 / /m", Field::Options),
            ("36 35 98:0 / /m rw", Field::Separator),
            ("36 35 98:0 / /m rw shared:1", Field::Separator),
            (
                "36 35 98:0 / /m rw shared: - ext3 none rw",
                Field::Propagation,
            ),
            (
                "36 35 98:0 / /m rw master:x - ext3 none rw",
                Field::Propagation,
            ),
            ("36 35 98:0 / /m rw -  none rw", Field::FsType),
            ("36 35 98:0 / /m rw - ext3", Field::SuperOptions),
            ("36 35 98:0 / /m rw - ext3 none ", Field::SuperOptions),
        ] {
            assert_eq!(
                error(&format!("{GOOD}{line}\n{GOOD}")),
                (2, field),
                "{line}"
            );
        }
        let error = io::Error::from(parse(b"36 x").unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            error.to_string(),
            "mountinfo line 1: the parent id is missing or malformed"
        );
    }

    #[test]
    fn an_empty_table_has_no_mounts() {
        assert_eq!(parse(b"").unwrap(), []);
    }
}
