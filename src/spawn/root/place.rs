//! Places beneath the new root, found and made by descriptor.

use super::way::is_dir;
use crate::plan::place::{Links, Place};
use crate::spawn::record::{Call, Fail, Named};
use core::ffi::CStr;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Mode of directories and files that are made on the way.
pub(super) const DIR_MODE: u32 = 0o755;
pub(super) const FILE_MODE: u32 = 0o644;

pub(super) fn open_in(
    root: BorrowedFd<'_>,
    path: &CStr,
    links: Links,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if links == Links::Refuse {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    loop {
        let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // A rename elsewhere in the tree raced with `..` or a symbolic link; the kernel wants
            // the look-up repeated.
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
}

/// Opens a file beneath the root to write to it.
pub(super) fn to_write(root: BorrowedFd<'_>, place: &Place) -> Result<OwnedFd, Fail> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    loop {
        match rustix::fs::openat2(root, &place.path, flags, Mode::empty(), resolve) {
            // As above.
            Err(Errno::AGAIN) => {}
            done => return done.named(Call::Openat2),
        }
    }
}

/// Where a mount goes.
pub(super) enum Spot<'a> {
    Opened(OwnedFd),
    /// Below a directory, where nobody else can change the name or the way to it.
    Named(BorrowedFd<'a>, &'a CStr),
}

/// A directory to mount on; made, as are those on the way, where it is missing.
pub(super) fn directory_spot<'a>(root: BorrowedFd<'a>, place: &'a Place) -> Result<Spot<'a>, Fail> {
    if place.fresh && make_fresh(root, place, FileType::Directory, DIR_MODE)? {
        return Ok(Spot::Named(root, &place.path));
    }
    directory(root, place, DIR_MODE).map(Spot::Opened)
}

/// Something that is not a directory, to mount on; an empty file where nothing is.
pub(super) fn file_spot<'a>(root: BorrowedFd<'a>, place: &'a Place) -> Result<Spot<'a>, Fail> {
    if place.fresh && make_fresh(root, place, FileType::RegularFile, FILE_MODE)? {
        return Ok(Spot::Named(root, &place.path));
    }
    let at = file(root, place)?;
    if is_dir(&at)? {
        return Err(Fail::new(Call::Openat2, Errno::NOTDIR));
    }
    Ok(Spot::Opened(at))
}

/// Makes a directory beneath the root, and those on the way, where they are missing.
pub(super) fn make_directory(root: BorrowedFd<'_>, place: &Place, mode: u32) -> Result<(), Fail> {
    if place.fresh && make_fresh(root, place, FileType::Directory, mode)? {
        return Ok(());
    }
    directory(root, place, mode).map(drop)
}

/// Opens a directory beneath the root; makes it, and those on the way, where they are missing.
fn directory(root: BorrowedFd<'_>, place: &Place, mode: u32) -> Result<OwnedFd, Fail> {
    match open_in(root, &place.path, place.links, OFlags::DIRECTORY) {
        Err(Errno::NOENT) => {}
        done => return done.named(Call::Openat2),
    }
    let missing = place
        .steps
        .iter()
        .rposition(|step| open_in(root, &step.prefix, place.links, OFlags::DIRECTORY).is_ok())
        .map_or(0, |found| found.saturating_add(1));
    let mut parent = match missing
        .checked_sub(1)
        .and_then(|last| place.steps.get(last))
    {
        Some(step) => {
            Some(open_in(root, &step.prefix, place.links, OFlags::DIRECTORY).named(Call::Openat2)?)
        }
        None => None,
    };
    let last = place.steps.len().saturating_sub(1);
    for (index, step) in place.steps.iter().enumerate().skip(missing) {
        let dir = parent.as_ref().map_or(root, AsFd::as_fd);
        let mode = if index == last { mode } else { DIR_MODE };
        match rustix::fs::mkdirat(dir, &step.name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Fail::new(Call::Mkdirat, errno)),
        }
        let made =
            open_in(root, &step.prefix, place.links, OFlags::DIRECTORY).named(Call::Openat2)?;
        parent = Some(made);
    }
    parent.ok_or(Fail::new(Call::Openat2, Errno::NOENT))
}

/// Makes what the plan knows to be missing. False if it, or the way to it, is not as the plan says.
fn make_fresh(
    root: BorrowedFd<'_>,
    place: &Place,
    kind: FileType,
    mode: u32,
) -> Result<bool, Fail> {
    let mode = Mode::from_raw_mode(mode);
    let (call, made) = if kind == FileType::Directory {
        (Call::Mkdirat, rustix::fs::mkdirat(root, &place.path, mode))
    } else {
        let made = rustix::fs::mknodat(root, &place.path, kind, mode, 0);
        (Call::Mknodat, made)
    };
    match made {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOENT) => Ok(false),
        Err(errno) => Err(Fail::new(call, errno)),
    }
}

/// The directory that a place is in.
pub(super) fn parent<'a>(
    root: BorrowedFd<'_>,
    place: &'a Place,
) -> Result<(Option<OwnedFd>, &'a CStr), Fail> {
    let (last, before) = place
        .steps
        .split_last()
        .ok_or(Fail::new(Call::Openat2, Errno::EXIST))?;
    let Some(step) = before.last() else {
        return Ok((None, &last.name));
    };
    if let Ok(dir) = open_in(root, &step.prefix, place.links, OFlags::DIRECTORY) {
        return Ok((Some(dir), &last.name));
    }
    let mut dir: Option<OwnedFd> = None;
    for step in before {
        let at = dir.as_ref().map_or(root, AsFd::as_fd);
        match rustix::fs::mkdirat(at, &step.name, Mode::from_raw_mode(DIR_MODE)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Fail::new(Call::Mkdirat, errno)),
        }
        let next =
            open_in(root, &step.prefix, place.links, OFlags::DIRECTORY).named(Call::Openat2)?;
        dir = Some(next);
    }
    Ok((dir, &last.name))
}

/// Makes a file that was not there, and never through a symbolic link.
pub(super) fn new_file(root: BorrowedFd<'_>, place: &Place, mode: u32) -> Result<OwnedFd, Fail> {
    let (dir, name) = parent(root, place)?;
    create(dir.as_ref().map_or(root, AsFd::as_fd), name, mode).named(Call::Openat)
}

pub(super) fn create(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode))
}

/// Opens what is to be covered; makes an empty file where nothing is.
fn file(root: BorrowedFd<'_>, place: &Place) -> Result<OwnedFd, Fail> {
    match open_in(root, &place.path, place.links, OFlags::empty()) {
        Err(Errno::NOENT) => {}
        done => return done.named(Call::Openat2),
    }
    new_file(root, place, FILE_MODE)?;
    open_in(root, &place.path, place.links, OFlags::empty()).named(Call::Openat2)
}

/// A link that says the same already is left alone.
pub(super) fn symlink(root: BorrowedFd<'_>, target: &CStr, place: &Place) -> Result<(), Fail> {
    let (dir, name) = parent(root, place)?;
    let dir = dir.as_ref().map_or(root, AsFd::as_fd);
    match rustix::fs::symlinkat(target, dir, name) {
        Err(Errno::EXIST) => {
            let mut text = [core::mem::MaybeUninit::uninit(); 4096];
            let same = rustix::fs::readlinkat_raw(dir, name, &mut text[..])
                .is_ok_and(|(text, _)| *text == *target.to_bytes());
            if same {
                Ok(())
            } else {
                Err(Fail::new(Call::Symlinkat, Errno::EXIST))
            }
        }
        done => done.named(Call::Symlinkat),
    }
}
