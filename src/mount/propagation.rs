//! Propagation types: set them, and read them back from the kernel.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use super::mountinfo::{self, MountTable};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys::mount::{MountAttr, mount_setattr};

/// What a mount passes on to, and takes from, the copies of itself in other places and namespaces.
///
/// A mount made below a *shared* mount appears below all its peers. A *slave* takes what its master
/// group is given, and gives nothing back. A *private* mount does neither, and an *unbindable* one is
/// private and cannot be bind-mounted.
///
/// [`Display`](fmt::Display) writes what `findmnt -o PROPAGATION` does.
///
/// See [mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// Gives to its peers and takes from them.
    #[doc(alias = "MS_SHARED")]
    Shared,
    /// Neither gives nor takes.
    #[doc(alias = "MS_PRIVATE")]
    Private,
    /// Takes from its master group and gives nothing.
    ///
    /// A mount without peers has nobody to become a slave of: a shared mount that is alone in its
    /// group becomes private, a private or an unbindable one stays as it is.
    #[doc(alias = "MS_SLAVE")]
    Slave,
    /// Takes from its master group, and shares with peers of its own.
    ///
    /// It is set in two steps, slave and then shared; a mount that cannot be a slave is only shared
    /// thereafter.
    SlaveShared,
    /// Private, and not to be bind-mounted; a recursive bind leaves it out.
    ///
    /// Its copy in a new mount namespace is unbindable too, but for Linux 6.18, which makes it private.
    #[doc(alias = "MS_UNBINDABLE")]
    Unbindable,
}

impl Propagation {
    pub(crate) fn steps(self) -> &'static [MountPropagationFlags] {
        const SLAVE: MountPropagationFlags = MountPropagationFlags::DOWNSTREAM;
        match self {
            Self::Shared => &[MountPropagationFlags::SHARED],
            Self::Private => &[MountPropagationFlags::PRIVATE],
            Self::Slave => &[SLAVE],
            Self::SlaveShared => &[SLAVE, MountPropagationFlags::SHARED],
            Self::Unbindable => &[MountPropagationFlags::UNBINDABLE],
        }
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Slave => "private,slave",
            Self::SlaveShared => "shared,slave",
            Self::Unbindable => "private,unbindable",
        })
    }
}

/// Which mounts [`set_propagation`] changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recursion {
    /// The one mount, not those below it.
    MountOnly,
    /// The mount and all that are mounted below it.
    #[doc(alias = "MS_REC")]
    #[doc(alias = "AT_RECURSIVE")]
    Tree,
}

/// The propagation of one mount, with the groups that it gives to and takes from.
///
/// Group ids are the kernel's, the same in every namespace, and used again once a group is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PropagationState {
    pub(super) propagation: Propagation,
    pub(super) peer_group: Option<u32>,
    pub(super) master: Option<u32>,
    pub(super) propagate_from: Option<u32>,
}

impl PropagationState {
    /// The propagation type.
    #[must_use]
    pub fn propagation(&self) -> Propagation {
        self.propagation
    }

    /// The peer group of a shared mount: `shared:N` in mountinfo.
    #[must_use]
    pub fn peer_group(&self) -> Option<u32> {
        self.peer_group
    }

    /// The peer group that a slave takes from: `master:N` in mountinfo.
    #[must_use]
    pub fn master(&self) -> Option<u32> {
        self.master
    }

    /// The nearest group up the chain of masters that has a mount below the reader's root, where the
    /// immediate master has none: `propagate_from:N` in mountinfo.
    #[must_use]
    pub fn propagate_from(&self) -> Option<u32> {
        self.propagate_from
    }
}

impl fmt::Display for PropagationState {
    /// The optional fields as mountinfo has them, nothing for a private mount.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = [
            ("shared", self.peer_group),
            ("master", self.master),
            ("propagate_from", self.propagate_from),
        ];
        let mut gap = "";
        for (tag, group) in groups {
            if let Some(group) = group {
                write!(f, "{gap}{tag}:{group}")?;
                gap = " ";
            }
        }
        if self.propagation == Propagation::Unbindable {
            write!(f, "{gap}unbindable")?;
        }
        Ok(())
    }
}

/// Sets the propagation type of the mount at this path.
///
/// `mount_setattr(2)` on a descriptor of the path, or `mount(2)` with `MS_SHARED` and its like. Symbolic
/// links are followed. The path must be a mount point.
///
/// # Errors
///
/// `EINVAL` if the path is no mount point, `EPERM` without the privilege, or what opening the path gives.
///
/// # Privileges
///
/// `CAP_SYS_ADMIN` in the user namespace that owns the mount namespace.
///
/// # Kernel
///
/// `mount_setattr(2)` since Linux 5.12; where it is missing, `mount(2)` on the descriptor's name in
/// `/proc/self/fd`, with the same result.
///
/// # Examples
///
/// ```no_run
/// use ringfence::mount::{Propagation, Recursion, set_propagation};
///
/// // What is mounted from now on stays in this namespace.
/// set_propagation("/", Propagation::Private, Recursion::Tree)?;
/// # Ok::<(), ringfence::Error>(())
/// ```
///
/// See [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html).
#[doc(alias = "mount_setattr")]
pub fn set_propagation(
    path: impl AsRef<Path>,
    propagation: Propagation,
    recursion: Recursion,
) -> Result<()> {
    let path = path.as_ref();
    // Both steps of SlaveShared act on what was opened, whatever the path means by then.
    let set = |mount: OwnedFd| {
        let mut steps = propagation.steps().iter();
        steps.try_for_each(|step| change(&mount, *step, recursion))
    };
    open(path).and_then(set).map_err(|error| {
        let is_no_mount_point = error.raw_os_error() == Some(libc::EINVAL);
        let hint = is_no_mount_point.then(|| "the path has to be a mount point".to_owned());
        let object = format!("{} {propagation}", path.display());
        Error::io(Step::Propagation, object, error).with_hint(hint)
    })
}

fn change(mount: &OwnedFd, step: MountPropagationFlags, recursion: Recursion) -> io::Result<()> {
    let mut at = AtFlags::EMPTY_PATH;
    if recursion == Recursion::Tree {
        at |= AtFlags::from_bits_retain(AT_RECURSIVE);
    }
    let attr = MountAttr {
        propagation: u64::from(step.bits()),
        ..MountAttr::default()
    };
    match mount_setattr(mount.as_fd(), c"", at.bits(), &attr) {
        Err(Errno::NOSYS) => change_by_mount(mount, step, recursion),
        result => Ok(result?),
    }
}

const AT_RECURSIVE: u32 = 0x8000;

fn change_by_mount(
    mount: &OwnedFd,
    mut step: MountPropagationFlags,
    recursion: Recursion,
) -> io::Result<()> {
    if recursion == Recursion::Tree {
        step |= MountPropagationFlags::REC;
    }
    let name = format!("/proc/self/fd/{}", mount.as_raw_fd());
    rustix::mount::mount_change(name, step).map_err(io::Error::from)
}

/// Reads the propagation of the mount that this path lies in, which need not be its mount point.
///
/// `statx(2)` for the mount's id, then `statmount(2)` or `/proc/thread-self/mountinfo`. Symbolic links
/// are followed.
///
/// # Errors
///
/// What opening the path gives; [`NotFound`](ErrorKind::NotFound) if its mount is not below the
/// caller's root, as a detached one is not.
///
/// # Kernel
///
/// `statmount(2)` since Linux 6.8, otherwise the mount id of `statx(2)` since Linux 5.8.
///
/// # Examples
///
/// ```
/// let state = ringfence::mount::propagation_of("/")?;
/// println!("/ is {}, in peer group {:?}", state.propagation(), state.peer_group());
/// # Ok::<(), ringfence::Error>(())
/// ```
///
/// See [statmount(2)](https://man7.org/linux/man-pages/man2/statmount.2.html).
pub fn propagation_of(path: impl AsRef<Path>) -> Result<PropagationState> {
    let path = path.as_ref();
    let read = |file: OwnedFd| {
        by_statmount(&file)
            .map(Some)
            .or_else(|_| by_mountinfo(&file))
    };
    let state = open(path).and_then(read);
    let state = state.map_err(|error| Error::io(Step::Propagation, path.display(), error))?;
    state.ok_or_else(|| {
        let what = format!(
            "the mount of {} is not below the caller's root",
            path.display()
        );
        Error::other(ErrorKind::NotFound, Step::Propagation, what)
    })
}

fn by_statmount(file: &OwnedFd) -> io::Result<PropagationState> {
    const STATX_MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    mountinfo::propagation_of_unique(mount_id(file, STATX_MNT_ID_UNIQUE)?)
}

/// `None` if the table does not have it.
fn by_mountinfo(file: &OwnedFd) -> io::Result<Option<PropagationState>> {
    let id = mount_id(file, StatxFlags::MNT_ID)?;
    let table = MountTable::of_thread_self()?;
    let mount = u32::try_from(id).ok().and_then(|id| table.get(id));
    Ok(mount.map(mountinfo::Mount::propagation))
}

fn mount_id(file: &OwnedFd, kind: StatxFlags) -> io::Result<u64> {
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, kind)?;
    if stat.stx_mask & kind.bits() == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(stat.stx_mnt_id)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}
