//! Attributes of a whole tree by mount(2), for kernels without mount_setattr.
//!
//! mount(2) changes one mount at a time and forgets the flags that it is not given again, so each mount of
//! the tree is looked up in mountinfo, with its flags. Which mount a path led to is decided by its id, and
//! the file is read again until every mount of the tree has what was asked for.

use super::way::{FdPath, mount_id};
use crate::spawn::record::{Call, Fail, Named, Note};
use core::ffi::CStr;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often a tree is gone through; more than once only if somebody moves its directories meanwhile.
const ROUNDS: usize = 8;
/// The longest path, and a null byte.
const PATH: usize = 4096;

/// mount(2)'s flag, the attribute of mount_setattr(2), and the word of mountinfo.
const FLAGS: [(MountFlags, u64, &[u8]); 7] = [
    (MountFlags::RDONLY, libc::MOUNT_ATTR_RDONLY, b"ro"),
    (MountFlags::NOSUID, libc::MOUNT_ATTR_NOSUID, b"nosuid"),
    (MountFlags::NODEV, libc::MOUNT_ATTR_NODEV, b"nodev"),
    (MountFlags::NOEXEC, libc::MOUNT_ATTR_NOEXEC, b"noexec"),
    (MountFlags::NOATIME, libc::MOUNT_ATTR_NOATIME, b"noatime"),
    (
        MountFlags::NODIRATIME,
        libc::MOUNT_ATTR_NODIRATIME,
        b"nodiratime",
    ),
    (
        MountFlags::NOSYMFOLLOW,
        libc::MOUNT_ATTR_NOSYMFOLLOW,
        b"nosymfollow",
    ),
];

/// The flags of mount(2) for attributes of mount_setattr(2).
pub(super) fn flags(attributes: u64) -> MountFlags {
    FLAGS
        .into_iter()
        .filter(|(_, attribute, _)| attributes & attribute != 0)
        .fold(MountFlags::empty(), |flags, (flag, _, _)| flags | flag)
}

/// Gives attributes to the one mount that this is the root of.
pub(super) fn top(root: &OwnedFd, attributes: u64) -> Result<(), Fail> {
    // The lower bits of statfs are those of mount(2), save the one for nosymfollow.
    const SAME: u64 = 0xc0f;
    const NOSYMFOLLOW: u64 = 0x2000;
    let stat = rustix::fs::fstatvfs(root).named(Call::Fstatfs)?;
    let has = stat.f_flag.bits();
    let mut flags = MountFlags::BIND | flags(attributes);
    flags |= MountFlags::from_bits_retain(u32::try_from(has & SAME).unwrap_or(0));
    if has & NOSYMFOLLOW != 0 {
        flags |= MountFlags::NOSYMFOLLOW;
    }
    rustix::mount::mount_remount(FdPath::of(root).as_c_str(), flags, c"").named(Call::Mount)
}

/// Gives attributes to all mounts at and below `name` in the directory `top`, which mountinfo shows as
/// the root; without the one at `name` itself if `below_only`.
pub(super) fn tree(
    proc_self: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    name: &CStr,
    attributes: u64,
    below_only: bool,
) -> Result<(), Fail> {
    for _ in 0..ROUNDS {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(proc_self, c"mountinfo", flags, Mode::empty())
            .named(Call::Openat)?;
        let mut reader = Reader::new(file, name.to_bytes());
        let mut done = true;
        while let Some(mount) = reader.next()? {
            let wanted = attributes & !mount.attributes != 0;
            if wanted && !(below_only && mount.is_top) {
                done &= remount(top, &mount, attributes)?;
            }
        }
        if done {
            return Ok(());
        }
    }
    // A mount that no path leads to, because another one covers it, keeps what it has.
    Err(Fail::new(Call::Mount, Errno::BUSY).noted(Note::HiddenMount))
}

/// Changes the mount if its path leads to it, and says whether it does.
fn remount(top: BorrowedFd<'_>, mount: &Mount<'_>, attributes: u64) -> Result<bool, Fail> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open_flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(top, mount.path, open_flags, Mode::empty(), resolve);
    let root = match opened {
        Ok(root) => root,
        // Renamed meanwhile: the next round knows the new name.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::AGAIN) => {
            return Ok(false);
        }
        Err(errno) => return Err(Fail::new(Call::Openat2, errno)),
    };
    if mount_id(root.as_fd(), c"")? != mount.id {
        return Ok(false);
    }
    let flags = MountFlags::BIND | flags(mount.attributes | attributes);
    rustix::mount::mount_remount(FdPath::of(&root).as_c_str(), flags, c"").named(Call::Mount)?;
    Ok(true)
}

/// One mount of the tree.
struct Mount<'a> {
    id: u64,
    /// Its path from the top.
    path: &'a CStr,
    is_top: bool,
    attributes: u64,
}

/// Goes through mountinfo with fixed buffers, and gives out the mounts of one tree.
struct Reader<'a> {
    file: OwnedFd,
    /// The first component of the paths of the tree.
    name: &'a [u8],
    buffer: [u8; 4096],
    start: usize,
    end: usize,
    line: Line,
}

impl<'a> Reader<'a> {
    fn new(file: OwnedFd, name: &'a [u8]) -> Self {
        Self {
            file,
            name,
            buffer: [0; 4096],
            start: 0,
            end: 0,
            line: Line::new(),
        }
    }

    fn byte(&mut self) -> Result<Option<u8>, Fail> {
        if self.start == self.end {
            self.start = 0;
            self.end = loop {
                match rustix::io::read(&self.file, &mut self.buffer[..]) {
                    Err(Errno::INTR) => {}
                    done => break done.named(Call::Read)?,
                }
            };
            if self.end == 0 {
                return Ok(None);
            }
        }
        let byte = self.buffer.get(self.start).copied();
        self.start = self.start.saturating_add(1);
        Ok(byte)
    }

    fn next(&mut self) -> Result<Option<Mount<'_>>, Fail> {
        loop {
            self.line = Line::new();
            loop {
                match self.byte()? {
                    None => return Ok(None),
                    Some(b'\n') => break,
                    Some(byte) => self.line.push(byte),
                }
            }
            if self.line.is_below(self.name) {
                break;
            }
        }
        let line = &self.line;
        let path = line
            .path()
            .ok_or(Fail::new(Call::Read, Errno::NAMETOOLONG))?;
        Ok(Some(Mount {
            id: line.id,
            path,
            is_top: path.to_bytes() == self.name,
            attributes: line.attributes,
        }))
    }
}

/// The parts of a line that matter here.
struct Line {
    field: usize,
    id: u64,
    /// The mount point, without octal escapes.
    path: [u8; PATH + 1],
    length: usize,
    /// Digits of an escape that are still to come, and its value so far.
    escape: (u8, u8),
    attributes: u64,
    word: [u8; 16],
    word_length: usize,
}

impl Line {
    const fn new() -> Self {
        Self {
            field: 0,
            id: 0,
            path: [0; PATH + 1],
            length: 0,
            escape: (0, 0),
            attributes: 0,
            word: [0; 16],
            word_length: 0,
        }
    }

    fn push(&mut self, byte: u8) {
        const ID: usize = 0;
        const MOUNT_POINT: usize = 4;
        const OPTIONS: usize = 5;
        match (self.field, byte) {
            (OPTIONS, b' ' | b',') => {
                self.end_word();
                if byte == b' ' {
                    self.field = OPTIONS.saturating_add(1);
                }
            }
            (_, b' ') => self.field = self.field.saturating_add(1),
            (ID, b'0'..=b'9') => {
                let digit = u64::from(byte.wrapping_sub(b'0'));
                self.id = self.id.saturating_mul(10).saturating_add(digit);
            }
            (MOUNT_POINT, _) => self.push_path(byte),
            (OPTIONS, _) => {
                if let Some(slot) = self.word.get_mut(self.word_length) {
                    *slot = byte;
                }
                self.word_length = self.word_length.saturating_add(1);
            }
            _ => {}
        }
    }

    fn push_path(&mut self, byte: u8) {
        match (self.escape.0, byte) {
            (0, b'\\') => self.escape = (3, 0),
            (0, _) => self.push_path_byte(byte),
            (left, _) => {
                let digit = byte.wrapping_sub(b'0') & 7;
                let value = self.escape.1.wrapping_shl(3) | digit;
                let left = left.wrapping_sub(1);
                self.escape = (left, value);
                if left == 0 {
                    self.push_path_byte(value);
                }
            }
        }
    }

    fn push_path_byte(&mut self, byte: u8) {
        // The last byte stays zero.
        if self.length < PATH
            && let Some(slot) = self.path.get_mut(self.length)
        {
            *slot = byte;
        }
        self.length = self.length.saturating_add(1);
    }

    fn end_word(&mut self) {
        let word = self.word.get(..self.word_length).unwrap_or(&[]);
        for (_, attribute, name) in FLAGS {
            if word == name {
                self.attributes |= attribute;
            }
        }
        self.word_length = 0;
    }

    /// Whether the mount point is `name` in the root, or below it.
    fn is_below(&self, name: &[u8]) -> bool {
        let path = self.path.get(..self.length.min(PATH)).unwrap_or(&[]);
        path.strip_prefix(b"/")
            .and_then(|path| path.strip_prefix(name))
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    }

    /// The mount point as a path from the root, if all of it found room.
    fn path(&self) -> Option<&CStr> {
        if self.length >= PATH {
            return None;
        }
        CStr::from_bytes_until_nul(self.path.get(1..)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        let mut line = Line::new();
        text.bytes().for_each(|byte| line.push(byte));
        line
    }

    #[test]
    fn reads_what_matters_of_a_line() {
        let line = line(
            "36 35 98:0 /a /x/b\\040c\\134 ro,noatime,nosymfollow master:1 - ext3 /dev/root rw,noexec",
        );
        assert_eq!(line.id, 36);
        assert_eq!(line.path(), Some(c"x/b c\\"));
        assert!(line.is_below(b"x"));
        assert!(!line.is_below(b"x/b"));
        assert_eq!(
            line.attributes,
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOATIME | libc::MOUNT_ATTR_NOSYMFOLLOW
        );
    }

    #[test]
    fn ends_at_a_component() {
        assert!(line("1 1 0:1 / /x rw - a b c").is_below(b"x"));
        assert!(!line("1 1 0:1 / /xy rw - a b c").is_below(b"x"));
        assert!(!line("1 1 0:1 / / rw - a b c").is_below(b"x"));
        assert!(!line("").is_below(b"x"));
    }

    #[test]
    fn a_path_that_is_too_long_is_known_as_such() {
        let text = format!("1 1 0:1 / /x/{} rw - a b c", "y".repeat(5000));
        let line = line(&text);
        assert!(line.is_below(b"x"));
        assert_eq!(line.path(), None);
    }
}
