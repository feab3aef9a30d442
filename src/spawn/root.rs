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

mod dev;
mod overlay;
mod place;
mod remount;
mod way;

pub(super) use way::{Stage, make_private};

use super::child::{Context, State, write_all};
use super::record::{Call, Fail, Named, Note, Record};
use crate::plan::op::{Action, Bind, FileSystem};
use place::{
    change_mode, directory_spot, file_spot, make_directory, new_file, open_in, symlink, to_write,
};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use way::{Mount, Way, is_dir, mount_id};

/// How many mounts may lie over the caller's root.
const MAX_STACKED: usize = 64;

/// What a mount operation needs beside the operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) record: &'a Record,
    /// Copies of trees of the caller's, made for this spawn.
    pub(crate) trees: &'a [OwnedFd],
    /// The tree stays detached.
    pub(crate) detached: bool,
}

impl<'a> From<&'a Context<'_>> for Surroundings<'a> {
    fn from(context: &'a Context<'_>) -> Self {
        Self {
            record: context.record,
            trees: context.trees,
            detached: false,
        }
    }
}

pub(super) fn perform(
    around: Surroundings<'_>,
    state: &mut State,
    action: &Action,
) -> Result<(), Fail> {
    match action {
        Action::Stage { classic } => {
            let stage = Stage::new(state.proc_self()?, *classic)?;
            state.stage = Some(stage);
            return Ok(());
        }
        Action::Unstage => return state.stage.take().map_or(Ok(()), Stage::leave),
        Action::KeepProc => return state.proc_self().map(drop),
        Action::PivotRoot => return pivot(state),
        Action::Chroot => return chroot(state),
        _ => {}
    }
    let way = Way {
        stage: state.stage.as_ref(),
        record: around.record,
        trees: around.trees,
        detached: around.detached,
    };
    if let Some(root) = new_root(way, action)? {
        state.root = Some(root);
        return Ok(());
    }
    match &state.root {
        Some(root) => fill(way, root, action),
        None => Err(Fail::new(Call::Openat2, Errno::BADF)),
    }
}

/// The root that an operation makes, if it is one that does.
fn new_root(way: Way<'_>, action: &Action) -> Result<Option<OwnedFd>, Fail> {
    let root = match action {
        Action::RootTmpfs(file_system) => way.make(file_system)?,
        Action::RootDir {
            source,
            attributes,
            submounts_read_only,
        } => {
            let root = way
                .copy_path(source)?
                .ok_or(Fail::new(Call::OpenTree, Errno::NOENT))?;
            if !is_dir(&root.fd)? {
                return Err(Fail::new(Call::OpenTree, Errno::NOTDIR));
            }
            way.set_attributes(&root, *attributes)?;
            if *submounts_read_only {
                way.set_attributes_below(&root, libc::MOUNT_ATTR_RDONLY)?;
            }
            root
        }
        Action::RootOverlay(overlay) => overlay::make(way, overlay)?,
        Action::RootTree { index } => way.tree(*index)?,
        Action::RootInherited { path } => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            return rustix::fs::openat(CWD, path, flags, Mode::empty())
                .named(Call::Openat)
                .map(Some);
        }
        _ => return Ok(None),
    };
    // Older kernels mount nothing onto a detached tree, so it is attached before it is filled:
    // onto the old root, where paths of the caller do not see it.
    way.attach_over_root(&root)?;
    Ok(Some(root.fd))
}

fn fill(way: Way<'_>, root: &OwnedFd, action: &Action) -> Result<(), Fail> {
    let top = root.as_fd();
    match action {
        Action::Bind(wanted) => bind(way, top, wanted),
        Action::Mount { file_system, at } => {
            let mount = way.make(file_system)?;
            way.attach(&mount, &directory_spot(top, at)?)
        }
        Action::Overlay { overlay, at } => {
            let mount = overlay::make(way, overlay)?;
            way.attach(&mount, &directory_spot(top, at)?)
        }
        Action::Dev {
            file_system,
            devpts,
            at,
        } => dev::make(way, file_system, devpts, &directory_spot(top, at)?),
        Action::Mask {
            empty,
            at,
            optional,
        } => match open_in(top, &at.path, at.links, OFlags::empty()) {
            Err(Errno::NOENT) if *optional => Ok(()),
            Err(errno) => Err(Fail::new(Call::Openat2, errno).noted(Note::NothingToMask)),
            Ok(at) => mask(way, empty, &at),
        },
        Action::Remount {
            attributes,
            at,
            optional,
        } => match open_in(top, &at.path, at.links, OFlags::empty()) {
            Err(Errno::NOENT) if *optional => Ok(()),
            Err(errno) => Err(Fail::new(Call::Openat2, errno)),
            Ok(at) => way.remount(&at, *attributes),
        },
        Action::Symlink { target, at } => symlink(top, target, at),
        Action::Dir { at, mode } => make_directory(top, at, *mode),
        Action::File { at, bytes, mode } => write_all(&new_file(top, at, *mode)?, bytes),
        Action::FileFrom { at, from, mode } => copy(from, &new_file(top, at, *mode)?),
        Action::Chmod { at, mode } => change_mode(top, at, *mode),
        Action::Write { at, bytes } => write_all(&to_write(top, at)?, bytes),
        Action::CutOff { at } => {
            let at = open_in(top, &at.path, at.links, OFlags::empty()).named(Call::Openat2)?;
            way.cut_off(&at)
        }
        Action::RootReadOnly => way.make_read_only(root),
        _ => Err(Fail::new(Call::Openat2, Errno::INVAL)),
    }
}

/// Leaves nothing of the old root: it is stacked on the new one, then detached with all its mounts, and
/// so is whatever lay over it: unmounting takes what is on top.
fn pivot(state: &mut State) -> Result<(), Fail> {
    let root = state
        .root
        .take()
        .ok_or(Fail::new(Call::PivotRoot, Errno::BADF))?;
    rustix::process::fchdir(&root).named(Call::Fchdir)?;
    rustix::process::pivot_root(c".", c".").named(Call::PivotRoot)?;
    let wanted = mount_id(root.as_fd(), c"")?;
    for _ in 0..MAX_STACKED {
        rustix::mount::unmount(c".", UnmountFlags::DETACH).named(Call::Umount)?;
        if mount_id(CWD, c"/..")? == wanted {
            state.stage = None;
            return rustix::process::chdir(c"/").named(Call::Chdir);
        }
    }
    Err(Fail::new(Call::Umount, Errno::BUSY))
}

/// The new root lies over the old one already, which stays below it.
fn chroot(state: &mut State) -> Result<(), Fail> {
    let root = state
        .root
        .take()
        .ok_or(Fail::new(Call::Chroot, Errno::BADF))?;
    rustix::process::fchdir(&root).named(Call::Fchdir)?;
    rustix::process::chroot(c".").named(Call::Chroot)?;
    state.stage = None;
    rustix::process::chdir(c"/").named(Call::Chdir)
}

/// The tree gets its attributes, in its whole depth, while nobody can see it.
fn bind(way: Way<'_>, root: BorrowedFd<'_>, bind: &Bind) -> Result<(), Fail> {
    let tree = match way.copy(&bind.source)? {
        Some(tree) => tree,
        None if bind.optional => return Ok(()),
        None => return Err(Fail::new(Call::OpenTree, Errno::NOENT)),
    };
    way.set_attributes(&tree, bind.attributes)?;
    let at = if is_dir(&tree.fd)? {
        directory_spot(root, &bind.at)?
    } else {
        file_spot(root, &bind.at)?
    };
    way.attach(&tree, &at)
}

/// Hides what is there, and only what is there.
fn mask(way: Way<'_>, empty: &FileSystem, at: &OwnedFd) -> Result<(), Fail> {
    let cover: Mount = if is_dir(at)? {
        way.make(empty)?
    } else {
        way.device(dev::NULL.0, dev::NULL.1)?
    };
    way.attach_at(&cover, at)
}

/// Reads from the beginning, wherever the caller's position is.
fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<(), Fail> {
    let mut buffer = [0_u8; 16 * 1024];
    let mut offset: u64 = 0;
    loop {
        match rustix::io::pread(from, &mut buffer[..], offset) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                write_all(to, buffer.get(..length).unwrap_or(&[]))?;
                offset = offset.saturating_add(length as u64);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Fail::new(Call::Pread, errno)),
        }
    }
}
