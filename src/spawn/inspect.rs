//! What the child looks at to explain itself: why exec failed, who its parent is.
#![cfg_attr(
    not(test),
    deny(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        clippy::disallowed_macros,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic,
        reason = "runs between clone and exec"
    )
)]

use super::record::{Call, Fail, Named, Note, Record};
use core::ffi::CStr;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Looks at the program that the kernel would not execute.
pub(super) fn exec_failure(record: &Record, path: &CStr, errno: Errno) -> Fail {
    let fail = Fail::new(Call::Execve, errno);
    match errno {
        Errno::NOENT => match interpreter(path) {
            Some(name) => {
                record.set_text(name.bytes());
                fail.noted(Note::InterpreterMissing)
            }
            None => fail,
        },
        Errno::ACCESS => match rustix::fs::statvfs(path) {
            Ok(stat) if stat.f_flag.contains(StatVfsMountFlags::NOEXEC) => fail.noted(Note::NoExec),
            Ok(_)
                if rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()).is_err() =>
            {
                fail.noted(Note::NotExecutable)
            }
            _ => fail,
        },
        _ => fail,
    }
}

/// A path read from a program's file.
struct Name {
    buffer: [u8; 256],
    length: usize,
}

impl Name {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or(&[])
    }

    fn new(text: &[u8], ends: impl Fn(u8) -> bool) -> Self {
        let mut buffer = [0; 256];
        let mut length = 0_usize;
        for (slot, &byte) in buffer.iter_mut().zip(text) {
            if ends(byte) {
                break;
            }
            *slot = byte;
            length = length.saturating_add(1);
        }
        Self { buffer, length }
    }
}

/// The interpreter that an existing program names: after `#!`, or in the ELF program headers. `None` if
/// there is no such program.
fn interpreter(path: &CStr) -> Option<Name> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return None,
        Err(_) => return Some(Name::new(&[], |_| true)),
    };
    let mut head = [0_u8; 512];
    let length = rustix::io::pread(&file, &mut head[..], 0).unwrap_or(0);
    let head = head.get(..length).unwrap_or(&[]);
    if let Some(line) = head.strip_prefix(b"#!") {
        let start = line.iter().position(|byte| !byte.is_ascii_whitespace());
        let name = line.get(start.unwrap_or(0)..).unwrap_or(&[]);
        return Some(Name::new(name, |byte| byte.is_ascii_whitespace()));
    }
    let read = |bytes: &mut [u8], at: u64| rustix::io::pread(&file, bytes, at).ok().map(drop);
    Some(elf_interpreter(head, read).unwrap_or(Name::new(&[], |_| true)))
}

/// The interpreter that the beginning of a program's file names; empty if it does not say.
#[expect(clippy::disallowed_types, reason = "runs in the caller")]
pub(super) fn interpreter_in(head: &[u8]) -> String {
    let name = match head.strip_prefix(b"#!") {
        Some(line) => Some(Name::new(line.trim_ascii_start(), |byte| {
            byte.is_ascii_whitespace()
        })),
        None => elf_interpreter(head, |bytes, at| {
            let rest = head.get(usize::try_from(at).ok()?..)?;
            bytes
                .iter_mut()
                .zip(rest)
                .for_each(|(to, &from)| *to = from);
            Some(())
        }),
    };
    name.map_or_else(String::new, |name| {
        String::from_utf8_lossy(name.bytes()).into_owned()
    })
}

/// PT_INTERP of a 64-bit ELF file of this machine's byte order.
fn elf_interpreter(
    head: &[u8],
    mut read: impl FnMut(&mut [u8], u64) -> Option<()>,
) -> Option<Name> {
    const PT_INTERP: u32 = 3;
    if !head.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let number = |bytes: &[u8], at: usize| -> Option<u64> {
        Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
    };
    let short = |bytes: &[u8], at: usize| -> Option<u16> {
        Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
    };
    let table = number(head, 32)?;
    let (size, count) = (short(head, 54)?, short(head, 56)?);
    for index in 0..count.min(64) {
        let mut header = [0_u8; 56];
        let at = table.checked_add(u64::from(size).checked_mul(u64::from(index))?)?;
        read(&mut header[..], at)?;
        let kind = u32::from_ne_bytes(*header.first_chunk()?);
        if kind == PT_INTERP {
            let mut name = [0_u8; 256];
            read(&mut name[..], number(&header, 8)?)?;
            return Some(Name::new(&name, |byte| byte == 0));
        }
    }
    None
}

/// The parent's pid in `/proc/self/stat`: the second field after the name, which ends at the last `)`.
pub(super) fn parent_in_stat(stat: &OwnedFd) -> Result<u32, Fail> {
    let mut text = [0_u8; 512];
    let length = rustix::io::pread(stat, &mut text[..], 0).named(Call::Pread)?;
    let text = text.get(..length).unwrap_or(&[]);
    parse_parent(text).ok_or(Fail::new(Call::Pread, Errno::INVAL))
}

fn parse_parent(stat: &[u8]) -> Option<u32> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = stat.get(end..)?.get(1..)?;
    let field = rest.split(|&byte| byte == b' ').nth(2)?;
    core::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_parent_behind_any_name() {
        assert_eq!(parse_parent(b"12 (sh) S 7 12 12 0 -1"), Some(7));
        assert_eq!(parse_parent(b"12 (a) R 9 (b) S 7 12"), Some(7));
        assert_eq!(parse_parent(b"12 (sh"), None);
        assert_eq!(parse_parent(b""), None);
    }

    #[test]
    fn finds_interpreters() {
        let name = interpreter(c"/proc/self/exe").expect("exists");
        let text = String::from_utf8_lossy(name.bytes()).into_owned();
        assert!(text.is_empty() || text.contains("ld"), "{text}");
        assert!(interpreter(c"/nonexistent").is_none());
        let dir = tempfile::tempdir().expect("temporary directory");
        let script = dir.path().join("script");
        std::fs::write(&script, "#! /no/such/shell -x\n").expect("written");
        let path = std::ffi::CString::new(script.as_os_str().as_encoded_bytes()).expect("no NUL");
        let name = interpreter(&path).expect("exists");
        assert_eq!(name.bytes(), b"/no/such/shell");
    }
}
