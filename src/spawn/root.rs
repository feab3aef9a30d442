//! The child's file systems: everything by descriptor, beneath the new root.
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

use super::child::{State, write_all};
use super::record::{Call, Fail, Named, Note};
use crate::plan::op::{Action, Bind, FileSystem};
use crate::plan::place::{Links, Place};
use crate::sys::mount::{MountAttr, mount_setattr};
use core::ffi::CStr;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Mode of directories and files that are made on the way.
const DIR_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

pub(super) fn perform(state: &mut State, action: &Action) -> Result<(), Fail> {
    match action {
        Action::RootTmpfs(file_system) => {
            let root = make(file_system)?;
            // Older kernels mount nothing onto a detached tree, so it is attached before it is filled:
            // onto the old root, where paths of the caller do not see it.
            attach(&root, CWD, c"/")?;
            state.root = Some(root);
            Ok(())
        }
        Action::RootDir { source } => {
            let root = clone_tree(source)?;
            if !is_dir(&root)? {
                return Err(Fail::new(Call::OpenTree, Errno::NOTDIR));
            }
            attach(&root, CWD, c"/")?;
            state.root = Some(root);
            Ok(())
        }
        Action::RootInherited => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::openat(CWD, c"/", flags, Mode::empty()).named(Call::Openat)?;
            state.root = Some(root);
            Ok(())
        }
        Action::PivotRoot => pivot(state),
        _ => match &state.root {
            Some(root) => fill(root.as_fd(), action),
            None => Err(Fail::new(Call::Openat2, Errno::BADF)),
        },
    }
}

fn fill(root: BorrowedFd<'_>, action: &Action) -> Result<(), Fail> {
    match action {
        Action::Bind(wanted) => bind(root, wanted),
        Action::Mount { file_system, at } => {
            let mount = make(file_system)?;
            attach_at(&mount, &directory(root, at, DIR_MODE)?)
        }
        Action::Dev { at } => dev(&directory(root, at, DIR_MODE)?),
        Action::Symlink { target, at } => symlink(root, target, at),
        Action::Dir { at, mode } => directory(root, at, *mode).map(drop),
        Action::File { at, bytes, mode } => {
            let file = new_file(root, at, *mode)?;
            write_all(&file, bytes)
        }
        _ => Err(Fail::new(Call::Openat2, Errno::INVAL)),
    }
}

/// Leaves nothing of the old root: it is stacked on the new one, then detached with all its mounts.
fn pivot(state: &mut State) -> Result<(), Fail> {
    let root = state
        .root
        .take()
        .ok_or(Fail::new(Call::PivotRoot, Errno::BADF))?;
    rustix::process::fchdir(&root).named(Call::Fchdir)?;
    rustix::process::pivot_root(c".", c".").named(Call::PivotRoot)?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH).named(Call::Umount)?;
    rustix::process::chdir(c"/").named(Call::Chdir)
}

fn make(file_system: &FileSystem) -> Result<OwnedFd, Fail> {
    let context =
        rustix::mount::fsopen(file_system.kind, FsOpenFlags::FSOPEN_CLOEXEC).named(Call::Fsopen)?;
    for (key, value) in &file_system.options {
        rustix::mount::fsconfig_set_string(&context, *key, value.as_c_str())
            .named(Call::Fsconfig)?;
    }
    rustix::mount::fsconfig_create(&context).named(Call::Fsconfig)?;
    rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        file_system.attributes,
    )
    .named(Call::Fsmount)
}

/// A detached copy of a tree of the caller's.
fn clone_tree(source: &CStr) -> Result<OwnedFd, Fail> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, source, flags).named(Call::OpenTree)
}

fn attach(mount: &OwnedFd, dir: BorrowedFd<'_>, at: &CStr) -> Result<(), Fail> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", dir, at, flags).named(Call::MoveMount)
}

fn attach_at(mount: &OwnedFd, at: &OwnedFd) -> Result<(), Fail> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", at, c"", flags).named(Call::MoveMount)
}

/// The tree gets its attributes, in its whole depth, while nobody can see it.
fn bind(root: BorrowedFd<'_>, bind: &Bind) -> Result<(), Fail> {
    let tree = clone_tree(&bind.source)?;
    let attr = MountAttr {
        attr_set: bind.attributes,
        ..MountAttr::default()
    };
    let flags = AtFlags::EMPTY_PATH.bits() | OpenTreeFlags::AT_RECURSIVE.bits();
    mount_setattr(tree.as_fd(), c"", flags, &attr).named(Call::MountSetattr)?;
    let at = if is_dir(&tree)? {
        directory(root, &bind.at, DIR_MODE)?
    } else {
        file(root, &bind.at)?
    };
    attach_at(&tree, &at)
}

fn is_dir(fd: &OwnedFd) -> Result<bool, Fail> {
    let stat = rustix::fs::fstat(fd).named(Call::Fstat)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn open_in(
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

/// Opens a directory beneath the root; makes it, and those on the way, where they are missing.
fn directory(root: BorrowedFd<'_>, place: &Place, mode: u32) -> Result<OwnedFd, Fail> {
    if place.fresh
        && let Some(made) = fresh_directory(root, place, mode)?
    {
        return Ok(made);
    }
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

/// The way to a place that the plan knows to be missing: made first, opened then.
fn fresh_directory(
    root: BorrowedFd<'_>,
    place: &Place,
    mode: u32,
) -> Result<Option<OwnedFd>, Fail> {
    match rustix::fs::mkdirat(root, &place.path, Mode::from_raw_mode(mode)) {
        Ok(()) => open_in(root, &place.path, place.links, OFlags::DIRECTORY)
            .named(Call::Openat2)
            .map(Some),
        Err(Errno::EXIST | Errno::NOENT) => Ok(None),
        Err(errno) => Err(Fail::new(Call::Mkdirat, errno)),
    }
}

/// The directory that a place is in.
fn parent<'a>(root: BorrowedFd<'_>, place: &'a Place) -> Result<(Option<OwnedFd>, &'a CStr), Fail> {
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
fn new_file(root: BorrowedFd<'_>, place: &Place, mode: u32) -> Result<OwnedFd, Fail> {
    let (dir, name) = parent(root, place)?;
    create(dir.as_ref().map_or(root, AsFd::as_fd), name, mode).named(Call::Openat)
}

fn create(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode))
}

/// Opens something that is not a directory, to be covered; makes an empty file where nothing is.
fn file(root: BorrowedFd<'_>, place: &Place) -> Result<OwnedFd, Fail> {
    match open_in(root, &place.path, place.links, OFlags::empty()) {
        Err(Errno::NOENT) => {}
        done => return done.named(Call::Openat2),
    }
    new_file(root, place, FILE_MODE)?;
    open_in(root, &place.path, place.links, OFlags::empty()).named(Call::Openat2)
}

/// A link that says the same already is left alone.
fn symlink(root: BorrowedFd<'_>, target: &CStr, place: &Place) -> Result<(), Fail> {
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

/// Device nodes of the caller's /dev, with their numbers.
const NODES: [(&CStr, &CStr, (u32, u32)); 6] = [
    (c"/dev/null", c"null", (1, 3)),
    (c"/dev/zero", c"zero", (1, 5)),
    (c"/dev/full", c"full", (1, 7)),
    (c"/dev/random", c"random", (1, 8)),
    (c"/dev/urandom", c"urandom", (1, 9)),
    (c"/dev/tty", c"tty", (5, 0)),
];

const DEV_LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

/// A tmpfs that nobody else can reach while it is filled, so names in it are as good as descriptors.
fn dev(at: &OwnedFd) -> Result<(), Fail> {
    let context =
        rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).named(Call::Fsopen)?;
    rustix::mount::fsconfig_set_string(&context, c"mode", c"755").named(Call::Fsconfig)?;
    rustix::mount::fsconfig_create(&context).named(Call::Fsconfig)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let dev = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .named(Call::Fsmount)?;
    attach_at(&dev, at)?;
    for (source, name, number) in NODES {
        let node = device(source, number)?;
        create(dev.as_fd(), name, FILE_MODE).named(Call::Openat)?;
        attach(&node, dev.as_fd(), name)?;
    }
    for (name, mode) in [(c"pts", DIR_MODE), (c"shm", 0o1777)] {
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(mode)).named(Call::Mkdirat)?;
    }
    attach(&devpts()?, dev.as_fd(), c"pts")?;
    for (target, name) in DEV_LINKS {
        rustix::fs::symlinkat(target, &dev, name).named(Call::Symlinkat)?;
    }
    Ok(())
}

/// A detached mount of one device node; checked after it is taken, so that it cannot be swapped.
fn device(source: &CStr, number: (u32, u32)) -> Result<OwnedFd, Fail> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let node = rustix::mount::open_tree(CWD, source, flags).named(Call::OpenTree)?;
    let stat = rustix::fs::fstat(&node).named(Call::Fstat)?;
    let found = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if is_device && found == number {
        Ok(node)
    } else {
        Err(Fail::new(Call::Fstat, Errno::NODEV).noted(Note::WrongDevice))
    }
}

fn devpts() -> Result<OwnedFd, Fail> {
    let context =
        rustix::mount::fsopen(c"devpts", FsOpenFlags::FSOPEN_CLOEXEC).named(Call::Fsopen)?;
    rustix::mount::fsconfig_set_flag(&context, c"newinstance").named(Call::Fsconfig)?;
    for (key, value) in [(c"ptmxmode", c"0666"), (c"mode", c"0620")] {
        rustix::mount::fsconfig_set_string(&context, key, value).named(Call::Fsconfig)?;
    }
    rustix::mount::fsconfig_create(&context).named(Call::Fsconfig)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).named(Call::Fsmount)
}
