//! The two ways to make a mount that nobody sees yet, and to put it in its place.
//!
//! With the calls that came in Linux 5.2 and 5.12 a mount is a descriptor until it is attached. Without
//! them it is made on the stage, a tmpfs over the old root that no path leads to, and moved from there: the
//! result is the same, and so are the guarantees.

use super::place::Spot;
use super::remount;
use crate::plan::op::{FileSystem, Source};
use crate::spawn::child::write_all;
use crate::spawn::record::{Call, Fail, Named, Note, Record};
use crate::sys::mount::{MountAttr, mount_setattr};
use core::ffi::CStr;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const STAGE_DIR: &CStr = c".ringfence-dir";
const STAGE_FILE: &CStr = c".ringfence-file";
const STAGE_DATA: &CStr = c".ringfence-data";
const STAGE_UPPER: &CStr = c".ringfence-upper";
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// `AT_RECURSIVE` as mount_setattr takes it.
const RECURSIVE: u32 = OpenTreeFlags::AT_RECURSIVE.bits();

/// The path of a descriptor, from `/proc/self`: the stage makes that the working directory.
pub(super) struct FdPath([u8; 40]);

impl FdPath {
    pub(super) fn of(fd: impl AsFd) -> Self {
        Self::new(b"fd/", fd.as_fd())
    }

    /// The path from the root, where the stage is not.
    pub(super) fn absolute(fd: impl AsFd) -> Self {
        Self::new(b"/proc/self/fd/", fd.as_fd())
    }

    /// The path of something in a directory.
    fn below(fd: impl AsFd, name: &CStr) -> Self {
        let mut path = Self::of(fd);
        let length = path.as_c_str().count_bytes();
        let rest = path.0.iter_mut().skip(length);
        for (slot, byte) in rest.zip([b'/'].iter().chain(name.to_bytes())) {
            *slot = *byte;
        }
        path
    }

    fn new(prefix: &[u8], fd: BorrowedFd<'_>) -> Self {
        let mut path = [0; 40];
        for (slot, byte) in path.iter_mut().zip(prefix) {
            *slot = *byte;
        }
        let mut number = fd.as_raw_fd().unsigned_abs();
        let digits = number.checked_ilog10().unwrap_or(0).wrapping_add(1) as usize;
        for slot in path.iter_mut().skip(prefix.len()).take(digits).rev() {
            *slot = b'0'.wrapping_add((number % 10).to_le_bytes()[0]);
            number /= 10;
        }
        Self(path)
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"fd")
    }
}

/// The tmpfs over the old root.
#[derive(Debug)]
pub(in crate::spawn) struct Stage {
    classic: bool,
    top: OwnedFd,
    dir: OwnedFd,
    file: OwnedFd,
    proc_self: OwnedFd,
    /// The working directory from before.
    cwd: OwnedFd,
}

impl Stage {
    pub(super) fn new(proc_self: BorrowedFd<'_>, classic: bool) -> Result<Self, Fail> {
        let path = OFlags::PATH | OFlags::CLOEXEC;
        let open = |dir: BorrowedFd<'_>, name: &CStr, flags| {
            rustix::fs::openat(dir, name, path | flags, Mode::empty()).named(Call::Openat)
        };
        let cwd = open(CWD, c".", OFlags::DIRECTORY)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount(c"none", c"/", c"tmpfs", flags, c"mode=0700").named(Call::Mount)?;
        // Of all paths only the parent of the root leads to what is mounted over the root.
        let top = open(CWD, c"/..", OFlags::DIRECTORY)?;
        let stat = rustix::fs::fstatfs(&top).named(Call::Fstatfs)?;
        if u64::try_from(stat.f_type) != Ok(TMPFS_MAGIC) {
            return Err(Fail::new(Call::Fstatfs, Errno::INVAL));
        }
        for name in [STAGE_DIR, STAGE_UPPER] {
            rustix::fs::mkdirat(&top, name, Mode::RWXU).named(Call::Mkdirat)?;
        }
        rustix::fs::mknodat(&top, STAGE_FILE, FileType::RegularFile, Mode::RUSR, 0)
            .named(Call::Mknodat)?;
        let dir = open(top.as_fd(), STAGE_DIR, OFlags::DIRECTORY)?;
        let file = open(top.as_fd(), STAGE_FILE, OFlags::empty())?;
        rustix::process::fchdir(proc_self).named(Call::Fchdir)?;
        Ok(Self {
            classic,
            dir,
            file,
            top,
            proc_self: rustix::io::fcntl_dupfd_cloexec(proc_self, 0).named(Call::Fcntl)?,
            cwd,
        })
    }

    /// A new file, which a mount of it keeps when the stage is gone.
    fn data(&self, bytes: &[u8], mode: u32) -> Result<OwnedFd, Fail> {
        // The last one is mounted, and only until then needs its name.
        let _ = rustix::fs::unlinkat(&self.top, STAGE_DATA, AtFlags::empty());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let file = rustix::fs::openat(&self.top, STAGE_DATA, flags, mode).named(Call::Openat)?;
        write_all(&file, bytes)?;
        Ok(file)
    }

    /// Mounts are moved away from the stage, so nothing is lost with it.
    pub(super) fn leave(self) -> Result<(), Fail> {
        rustix::mount::unmount(FdPath::of(&self.top).as_c_str(), UnmountFlags::DETACH)
            .named(Call::Umount)?;
        rustix::process::fchdir(&self.cwd).named(Call::Fchdir)
    }

    /// What was mounted on the stage.
    fn staged(&self, name: &'static CStr) -> Result<Mount, Fail> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.top, name, flags, Mode::empty()).named(Call::Openat)?;
        Ok(Mount {
            fd,
            staged: Some(name),
            alone: false,
        })
    }

    /// Mounts a file system for the upper layer of an overlay, which keeps it when the stage is gone.
    pub(super) fn mount_upper(&self, kind: &CStr, data: &CStr) -> Result<OwnedFd, Fail> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.top, STAGE_UPPER, flags, Mode::empty());
        let at = open().named(Call::Openat)?;
        let nothing = MountFlags::empty();
        rustix::mount::mount(c"none", FdPath::of(&at).as_c_str(), kind, nothing, data)
            .named(Call::Mount)?;
        open().named(Call::Openat)
    }

    /// Mounts a new file system of directories.
    pub(super) fn mount(&self, kind: &CStr, flags: MountFlags, data: &CStr) -> Result<Mount, Fail> {
        let at = FdPath::of(&self.dir);
        // Here "read-only" would be said of the file system, not of the mount.
        let first = flags.difference(MountFlags::RDONLY);
        rustix::mount::mount(c"none", at.as_c_str(), kind, first, data).named(Call::Mount)?;
        let mount = self.staged(STAGE_DIR)?;
        if flags != first {
            let root = FdPath::of(&mount.fd);
            rustix::mount::mount_remount(root.as_c_str(), MountFlags::BIND | flags, c"")
                .named(Call::Mount)?;
        }
        Ok(mount)
    }

    fn bind(&self, source: &OwnedFd) -> Result<Mount, Fail> {
        let (at, name) = if is_dir(source)? {
            (&self.dir, STAGE_DIR)
        } else {
            (&self.file, STAGE_FILE)
        };
        let (from, at) = (FdPath::of(source), FdPath::of(at));
        rustix::mount::mount_bind_recursive(from.as_c_str(), at.as_c_str()).named(Call::Mount)?;
        let alone = self.is_alone(name)?;
        Ok(Mount {
            alone,
            ..self.staged(name)?
        })
    }

    /// Whether nothing is mounted below what was just mounted on the stage. A first attempt to expire a
    /// mount only marks it, and tells one that is in use from one that is not.
    fn is_alone(&self, name: &CStr) -> Result<bool, Fail> {
        let path = FdPath::below(&self.top, name);
        let flags = UnmountFlags::EXPIRE | UnmountFlags::NOFOLLOW;
        match rustix::mount::unmount(path.as_c_str(), flags) {
            Err(Errno::AGAIN) => Ok(true),
            Err(Errno::BUSY) => Ok(false),
            Err(errno) => Err(Fail::new(Call::Umount, errno)),
            Ok(()) => Err(Fail::new(Call::Umount, Errno::NOENT)),
        }
    }
}

/// A mount that is not in its place yet, as a descriptor of its root.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) fd: OwnedFd,
    /// The name on the stage, if it is there.
    staged: Option<&'static CStr>,
    /// Nothing is mounted below it, as far as known.
    alone: bool,
}

impl Mount {
    const fn detached(fd: OwnedFd) -> Self {
        Self {
            fd,
            staged: None,
            alone: false,
        }
    }
}

/// How mounts are made in this spawn.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) stage: Option<&'a Stage>,
    pub(super) record: &'a Record,
    /// Copies of trees of the caller's, made for this spawn.
    pub(super) trees: &'a [OwnedFd],
    /// The tree stays detached, in the caller's mount namespace (Linux 6.15).
    pub(super) detached: bool,
}

impl Way<'_> {
    fn classic(&self) -> Option<&Stage> {
        self.stage.filter(|stage| stage.classic)
    }

    /// A new file system.
    pub(super) fn make(&self, wanted: &FileSystem) -> Result<Mount, Fail> {
        if let Some(stage) = self.classic() {
            let flags = remount::flags(u64::from(wanted.attributes.bits()));
            return stage.mount(wanted.kind, flags, &wanted.data);
        }
        let context = self.open(wanted.kind)?;
        for (key, value) in &wanted.options {
            match value {
                Some(value) => {
                    let set = rustix::mount::fsconfig_set_string(&context, *key, value.as_c_str());
                    self.configured(&context, set)?;
                }
                None => self.set_flag(&context, key)?,
            }
        }
        self.finish(&context, wanted.attributes)
    }

    pub(super) fn open(&self, kind: &CStr) -> Result<OwnedFd, Fail> {
        rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).named(Call::Fsopen)
    }

    pub(super) fn set_flag(&self, context: &OwnedFd, key: &CStr) -> Result<(), Fail> {
        self.configured(context, rustix::mount::fsconfig_set_flag(context, key))
    }

    pub(super) fn set_layer(
        &self,
        context: &OwnedFd,
        key: &CStr,
        layer: &OwnedFd,
    ) -> Result<(), Fail> {
        let value = FdPath::absolute(layer);
        let set = rustix::mount::fsconfig_set_string(context, key, value.as_c_str());
        self.configured(context, set)
    }

    pub(super) fn finish(
        &self,
        context: &OwnedFd,
        attributes: MountAttrFlags,
    ) -> Result<Mount, Fail> {
        self.configured(context, rustix::mount::fsconfig_create(context))?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let fd = rustix::mount::fsmount(context, flags, attributes).named(Call::Fsmount)?;
        Ok(Mount::detached(fd))
    }

    /// Keeps what the kernel says of a failure.
    fn configured(&self, context: &OwnedFd, done: Result<(), Errno>) -> Result<(), Fail> {
        done.map_err(|errno| {
            let mut text = [0; 200];
            if let Ok(length) = rustix::io::read(context, &mut text[..]) {
                self.record.set_text(text.get(..length).unwrap_or(&[]));
            }
            Fail::new(Call::Fsconfig, errno).noted(Note::KernelSays)
        })
    }

    /// A copy of what is mounted at the source and below it. `None` if the source is missing.
    pub(super) fn copy(&self, source: &Source) -> Result<Option<Mount>, Fail> {
        match source {
            Source::Path(path) => self.copy_path(path),
            Source::Tree { index } => self.tree(*index).map(Some),
            Source::Data { bytes, mode } => {
                let stage = self.stage.ok_or(Fail::new(Call::Openat, Errno::INVAL))?;
                self.copy_fd(&stage.data(bytes, *mode)?).map(Some)
            }
            Source::Checked {
                path,
                device,
                inode,
                ..
            } => {
                let swapped = |errno| Fail::new(Call::Fstat, errno).noted(Note::Swapped);
                let mount = self.copy_path(path)?.ok_or(swapped(Errno::NOENT))?;
                let stat = rustix::fs::fstat(&mount.fd).named(Call::Fstat)?;
                if (stat.st_dev, stat.st_ino) != (*device, *inode) {
                    return Err(swapped(Errno::STALE));
                }
                Ok(Some(mount))
            }
        }
    }

    pub(super) fn copy_path(&self, path: &CStr) -> Result<Option<Mount>, Fail> {
        let Some(stage) = self.classic() else {
            return match clone_tree(CWD, path, OpenTreeFlags::empty()) {
                Err(Errno::NOENT) => Ok(None),
                copied => {
                    let mount = copied.named(Call::OpenTree)?;
                    self.separate(&mount)?;
                    Ok(Some(mount))
                }
            };
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            opened => stage.bind(&opened.named(Call::Openat)?).map(Some),
        }
    }

    /// A copy of what is mounted at a descriptor of this mount namespace, and below it.
    pub(super) fn copy_fd(&self, source: &OwnedFd) -> Result<Mount, Fail> {
        match self.classic() {
            Some(stage) => stage.bind(source),
            None => {
                let flags = OpenTreeFlags::AT_EMPTY_PATH;
                let mount = clone_tree(source.as_fd(), c"", flags).named(Call::OpenTree)?;
                self.separate(&mount)?;
                Ok(mount)
            }
        }
    }

    /// In the caller's namespace a copy is a peer of what it was made of: what is mounted below it would
    /// show there.
    fn separate(&self, mount: &Mount) -> Result<(), Fail> {
        if self.detached {
            make_private(mount.fd.as_fd()).named(Call::MountSetattr)
        } else {
            Ok(())
        }
    }

    pub(super) fn tree(&self, index: usize) -> Result<Mount, Fail> {
        let tree = self
            .trees
            .get(index)
            .ok_or(Fail::new(Call::MoveMount, Errno::BADF))?;
        let fd = rustix::io::fcntl_dupfd_cloexec(tree, 0).named(Call::Fcntl)?;
        Ok(Mount::detached(fd))
    }

    /// Gives attributes to a mount that is not in its place yet, and to all mounts below it.
    pub(super) fn set_attributes(&self, mount: &Mount, attributes: u64) -> Result<(), Fail> {
        if attributes == 0 {
            return Ok(());
        }
        self.change(mount, attributes, false)
    }

    /// The same for those below it only.
    pub(super) fn set_attributes_below(&self, mount: &Mount, attributes: u64) -> Result<(), Fail> {
        self.change(mount, attributes, true)
    }

    fn change(&self, mount: &Mount, attributes: u64, below_only: bool) -> Result<(), Fail> {
        if let (Some(stage), Some(name)) = (self.stage, mount.staged)
            && stage.classic
        {
            if mount.alone {
                return if below_only {
                    Ok(())
                } else {
                    remount::top(&mount.fd, attributes)
                };
            }
            let (proc_self, top) = (stage.proc_self.as_fd(), stage.top.as_fd());
            return remount::tree(proc_self, top, name, attributes, below_only);
        }
        let had = if below_only {
            read_only(&mount.fd)?
        } else {
            true
        };
        set(mount.fd.as_fd(), RECURSIVE, attributes, 0)?;
        if had {
            return Ok(());
        }
        set(mount.fd.as_fd(), 0, 0, attributes)
    }

    /// Changes what is mounted at a place in the new root, and all mounts below it. What is no mount
    /// becomes one.
    pub(super) fn remount(&self, at: &OwnedFd, attributes: u64) -> Result<(), Fail> {
        if self.classic().is_none() {
            match set(at.as_fd(), RECURSIVE, attributes, 0) {
                Err(Fail {
                    errno: Errno::INVAL,
                    ..
                }) => {}
                done => return done,
            }
        }
        let mount = self.copy_fd(at)?;
        self.set_attributes(&mount, attributes)?;
        self.attach_at(&mount, at)
    }

    /// Makes what is mounted at a place private, in its whole depth.
    pub(super) fn cut_off(&self, at: &OwnedFd) -> Result<(), Fail> {
        if self.classic().is_none() {
            return make_private(at.as_fd()).named(Call::MountSetattr);
        }
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change(FdPath::of(at).as_c_str(), private).named(Call::Mount)
    }

    /// Makes the one mount that this is the root of read-only.
    pub(super) fn make_read_only(&self, root: &OwnedFd) -> Result<(), Fail> {
        if self.classic().is_none() {
            return set(root.as_fd(), 0, libc::MOUNT_ATTR_RDONLY, 0);
        }
        remount::top(root, libc::MOUNT_ATTR_RDONLY)
    }

    /// Attaches a mount over the root that paths begin at, where they do not lead to it.
    pub(super) fn attach_over_root(&self, mount: &Mount) -> Result<(), Fail> {
        if self.detached {
            return Ok(());
        }
        if self.classic().is_some() && mount.staged.is_some() {
            return rustix::mount::mount_move(FdPath::of(&mount.fd).as_c_str(), c"/")
                .named(Call::Mount);
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&mount.fd, c"", CWD, c"/", flags).named(Call::MoveMount)
    }

    pub(super) fn attach_at(&self, mount: &Mount, at: &OwnedFd) -> Result<(), Fail> {
        if self.classic().is_some() && mount.staged.is_some() {
            let (from, at) = (FdPath::of(&mount.fd), FdPath::of(at));
            return rustix::mount::mount_move(from.as_c_str(), at.as_c_str()).named(Call::Mount);
        }
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&mount.fd, c"", at, c"", flags).named(Call::MoveMount)
    }

    pub(super) fn attach(&self, mount: &Mount, at: &Spot<'_>) -> Result<(), Fail> {
        match at {
            Spot::Opened(at) => self.attach_at(mount, at),
            Spot::Named(dir, name) => self.attach_named(mount, *dir, name),
        }
    }

    /// The same for a name that nobody else can change.
    pub(super) fn attach_named(
        &self,
        mount: &Mount,
        dir: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), Fail> {
        if self.classic().is_some() {
            let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let at = rustix::fs::openat(dir, name, flags, Mode::empty()).named(Call::Openat)?;
            return self.attach_at(mount, &at);
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&mount.fd, c"", dir, name, flags).named(Call::MoveMount)
    }

    /// A device node of the caller's; checked after it is taken, so that it cannot be swapped.
    pub(super) fn device(&self, source: &CStr, number: (u32, u32)) -> Result<Mount, Fail> {
        if let Some(stage) = self.classic() {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let node = rustix::fs::openat(CWD, source, flags, Mode::empty()).named(Call::Openat)?;
            check_device(&node, number)?;
            return stage.bind(&node);
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let fd = rustix::mount::open_tree(CWD, source, flags).named(Call::OpenTree)?;
        check_device(&fd, number)?;
        Ok(Mount::detached(fd))
    }
}

/// Cuts a tree off from its peers and masters, in its whole depth.
pub(in crate::spawn) fn make_private(tree: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = MountAttr {
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    mount_setattr(tree, c"", AtFlags::EMPTY_PATH.bits() | RECURSIVE, &attr)
}

fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, more: OpenTreeFlags) -> Result<Mount, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | more;
    rustix::mount::open_tree(dir, path, flags).map(Mount::detached)
}

fn set(mount: BorrowedFd<'_>, flags: u32, attributes: u64, clear: u64) -> Result<(), Fail> {
    let attr = MountAttr {
        attr_set: attributes,
        attr_clr: clear,
        ..MountAttr::default()
    };
    mount_setattr(mount, c"", AtFlags::EMPTY_PATH.bits() | flags, &attr).named(Call::MountSetattr)
}

fn read_only(mount: &OwnedFd) -> Result<bool, Fail> {
    let stat = rustix::fs::fstatvfs(mount).named(Call::Fstatfs)?;
    Ok(stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

fn check_device(node: &OwnedFd, number: (u32, u32)) -> Result<(), Fail> {
    let stat = rustix::fs::fstat(node).named(Call::Fstat)?;
    let found = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if is_device && found == number {
        Ok(())
    } else {
        Err(Fail::new(Call::Fstat, Errno::NODEV).noted(Note::WrongDevice))
    }
}

pub(super) fn is_dir(fd: &OwnedFd) -> Result<bool, Fail> {
    let stat = rustix::fs::fstat(fd).named(Call::Fstat)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// The id of the mount that a file is on. The kernel adds it to whatever is asked for, and asked
/// for nothing, no file system refuses.
pub(super) fn mount_id(dir: BorrowedFd<'_>, path: &CStr) -> Result<u64, Fail> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(dir, path, flags, StatxFlags::empty()).named(Call::Statx)?;
    if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Fail::new(Call::Statx, Errno::OPNOTSUPP));
    }
    Ok(stat.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_descriptors() {
        let file = std::fs::File::open("/").expect("the root");
        let path = FdPath::of(&file);
        let text = path.as_c_str().to_str().expect("ASCII");
        assert_eq!(text, format!("fd/{}", file.as_raw_fd()));
        let path = FdPath::below(&file, STAGE_UPPER);
        let text = path.as_c_str().to_str().expect("ASCII");
        assert_eq!(text, format!("fd/{}/.ringfence-upper", file.as_raw_fd()));
    }
}
