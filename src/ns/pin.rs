//! Namespaces that are kept alive by a path.

use super::{AnyNamespace, Namespace, NamespaceId, Net};
use crate::error::{Error, ErrorKind, Result, Step};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_bind_recursive,
    mount_change,
};
use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where ip-netns(8) keeps its names.
const NETNS: &str = "/run/netns";

/// A path at which a namespace is pinned. Dropped, it is unpinned, unless it is [kept](Self::keep).
#[derive(Debug)]
#[must_use = "the pin is taken away when this is dropped"]
pub struct Pin {
    path: PathBuf,
    id: NamespaceId,
    kept: bool,
    /// The file below is the caller's, and stays.
    on_file: bool,
}

impl Pin {
    /// The path, which is absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the pin where it is, also when the caller has ended. [`unpin`] takes it away.
    pub fn keep(mut self) -> PathBuf {
        self.kept = true;
        std::mem::take(&mut self.path)
    }

    /// Takes the pin away.
    ///
    /// # Errors
    /// Those of [`unpin`].
    pub fn unpin(mut self) -> Result<()> {
        self.kept = true;
        self.take_away()
    }

    fn take_away(&self) -> Result<()> {
        unmount(&self.path)?;
        if self.on_file {
            return Ok(());
        }
        remove(&self.path)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Somebody else may have taken it away, and put something else there.
        let is_ours = || AnyNamespace::open(&self.path).is_ok_and(|found| found.id() == self.id);
        if !self.kept && is_ours() {
            let _ = self.take_away();
        }
    }
}

impl AnyNamespace {
    /// Keeps the namespace alive without a process or a descriptor, by a bind mount at a path where nothing is
    /// yet. [`open`](Self::open) finds it again.
    ///
    /// An empty file is made, with `O_EXCL`, and the namespace is mounted on that very file. As the mount belongs
    /// to the caller's mount namespace, it ends with that, and shows elsewhere by propagation only. A pid
    /// namespace whose first process has ended is kept, but takes no new processes.
    ///
    /// # Errors
    /// `EEXIST` if there is something at the path. `ELOOP`, or `EINVAL` by mount(2), for the caller's own mount namespace and
    /// older ones, which would keep each other alive; Linux 6.18, which numbers namespaces for each processor
    /// apart, can take a newer one for older, but none that [`create`](Namespace::create) has made. `EPERM` without the privilege. Nothing stays behind.
    ///
    /// # Privileges
    /// `CAP_SYS_ADMIN` in the user namespace that owns the caller's mount namespace.
    ///
    /// # Kernel
    /// open_tree(2) and move_mount(2), which leave nobody the time to put a link in the place of the file;
    /// mount(2) where a filter forbids them.
    ///
    /// # Examples
    /// ```no_run
    /// use ringfence::ns::{Namespace, Uts, unpin};
    ///
    /// # fn main() -> ringfence::Result<()> {
    /// let path = Namespace::<Uts>::create()?.pin("/run/my-uts")?.keep();
    /// let again = Namespace::<Uts>::open(&path)?;
    /// unpin(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "MS_BIND")]
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<Pin> {
        let path = path.as_ref();
        let object = format!("{self} at {}", path.display());
        let failed = |call| {
            let object = &object;
            move |errno| Error::system(Step::Pin, object, call, errno)
        };
        let path =
            std::path::absolute(path).map_err(|error| Error::io(Step::Pin, &object, error))?;
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| failed("open")(errno).with_hint(no_file(errno)))?;
        if let Err((call, errno)) = self.mount_on(&file) {
            let _ = rustix::fs::unlink(&path);
            return Err(failed(call)(errno).with_hint(hint(errno)));
        }
        Ok(Pin {
            path,
            id: self.id(),
            kept: false,
            on_file: false,
        })
    }

    /// [`pin`](Self::pin) on a file that exists, as `unshare --net=FILE` does. The file is still there when the pin is
    /// taken away by its [`Pin`], or by umount(8); [`unpin`] removes it.
    ///
    /// # Errors
    /// Those of [`pin`](Self::pin), but `ENOENT` if there is nothing at the path; `ENOTDIR` for a directory.
    ///
    /// # Privileges
    /// Those of [`pin`](Self::pin).
    pub fn pin_on(&self, path: impl AsRef<Path>) -> Result<Pin> {
        let path = path.as_ref();
        let object = format!("{self} at {}", path.display());
        let failed = |call| {
            let object = &object;
            move |errno| Error::system(Step::Pin, object, call, errno)
        };
        // Unmounting wants a path without a link at its end.
        let path =
            std::fs::canonicalize(path).map_err(|error| Error::io(Step::Pin, &object, error))?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed("open"))?;
        self.mount_on(&file)
            .map_err(|(call, errno)| failed(call)(errno).with_hint(hint(errno)))?;
        Ok(Pin {
            path,
            id: self.id(),
            kept: false,
            on_file: true,
        })
    }

    fn mount_on(&self, file: &OwnedFd) -> Result<(), (&'static str, Errno)> {
        let clone = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        match rustix::mount::open_tree(self.as_fd(), c"", clone) {
            Err(Errno::NOSYS) => {
                let link = |fd: &dyn AsRawFd| format!("/proc/thread-self/fd/{}", fd.as_raw_fd());
                mount_bind_recursive(link(self), link(file)).map_err(|errno| ("mount", errno))
            }
            Err(errno) => Err(("open_tree", errno)),
            Ok(tree) => {
                let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
                    | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                rustix::mount::move_mount(tree.as_fd(), c"", file.as_fd(), c"", both)
                    .map_err(|errno| ("move_mount", errno))
            }
        }
    }
}

/// Why there can be no new file.
fn no_file(errno: Errno) -> Option<String> {
    let hint = match errno {
        Errno::EXIST => {
            "there is something at this path: take a pin away by unpin, pin on a file of your own by pin_on"
        }
        Errno::NOENT => "the directory of the pin does not exist",
        _ => return None,
    };
    Some(hint.into())
}

fn hint(errno: Errno) -> Option<String> {
    match errno {
        Errno::PERM => Some(
            "mounting needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace".into(),
        ),
        Errno::LOOP | Errno::INVAL => Some(
            "a mount namespace can only be pinned in one that is older: not in itself, and not in a newer one"
                .into(),
        ),
        _ => None,
    }
}

/// Takes a pin away: the mount, and the file below it. The namespace lives on as long as something else
/// holds it.
///
/// # Errors
/// [`ErrorKind::NotThatNamespace`] if no namespace is pinned there; nothing is changed then. `EPERM` without the
/// privilege, and what removing the file gives.
///
/// # Privileges
/// Those of [`pin`](AnyNamespace::pin).
#[doc(alias = "umount2")]
pub fn unpin(path: impl AsRef<Path>) -> Result<()> {
    unmount(path.as_ref())?;
    remove(path.as_ref())
}

fn remove(path: &Path) -> Result<()> {
    rustix::fs::unlink(path)
        .map_err(|errno| Error::system(Step::Pin, path.display(), "unlink", errno))
}

fn unmount(path: &Path) -> Result<()> {
    let failed = |call| move |errno| Error::system(Step::Pin, path.display(), call, errno);
    // A link in /proc/PID/ns is no pin, nor is another link to one.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(failed("open"))?;
    if !is_namespace(&opened).map_err(failed("fstatfs"))? {
        return Err(Error::other(
            ErrorKind::NotThatNamespace,
            Step::Pin,
            format!("no namespace is pinned at {}", path.display()),
        ));
    }
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    rustix::mount::unmount(path, flags)
        .map_err(|errno| failed("umount2")(errno).with_hint(hint(errno)))
}

/// Whether a descriptor, which may be one of `O_PATH`, is of a namespace's file.
pub(crate) fn is_namespace(fd: &OwnedFd) -> Result<bool, Errno> {
    /// `NSFS_MAGIC` of <linux/magic.h>.
    const NSFS: i64 = 0x6e73_6673;
    let magic = rustix::fs::fstatfs(fd)?.f_type;
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_lossless,
        reason = "the type differs by architecture"
    )]
    Ok(magic as i64 == NSFS)
}

impl Namespace<Net> {
    /// Pins it in `/run/netns`, where `ip netns` sees it under this name, as `ip netns add` does: the
    /// directory is made if it is missing, and becomes a shared mount, so that the pin also shows in the mount
    /// namespaces of processes that were started before.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a name that is empty, `.`, `..`, has a slash or a null byte, or more than 255
    /// bytes. `EEXIST` if there is one of that name. Otherwise those of [`pin`](AnyNamespace::pin).
    ///
    /// See [ip-netns(8)](https://man7.org/linux/man-pages/man8/ip-netns.8.html).
    pub fn pin_netns(&self, name: &str) -> Result<Pin> {
        let path = netns_path("pin_netns", name)?;
        prepare_netns()?;
        self.pin(path)
    }

    /// Opens the one that has this name in `/run/netns`.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`ErrorKind::InvalidInput`] for a name as in [`pin_netns`](Self::pin_netns).
    pub fn open_netns(name: &str) -> Result<Self> {
        Self::open(netns_path("open_netns", name)?)
    }
}

/// Takes the network namespace of this name away from `/run/netns`, as `ip netns delete` does, but for
/// the processes in it, which are left alone.
///
/// # Errors
/// Those of [`unpin`], and [`ErrorKind::InvalidInput`] for a name as in [`Namespace::pin_netns`].
pub fn unpin_netns(name: &str) -> Result<()> {
    unpin(netns_path("unpin_netns", name)?)
}

/// The names in `/run/netns` that are those of network namespaces, as `ip netns list` prints them.
///
/// # Errors
/// What reading the directory gives; it is no error if it is missing.
pub fn netns_names() -> Result<Vec<OsString>> {
    let failed = |error| Error::io(Step::Pin, NETNS, error);
    let entries = match std::fs::read_dir(NETNS) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if Namespace::<Net>::open(entry.path()).is_ok() {
            names.push(entry.file_name());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn netns_path(setter: &'static str, name: &str) -> Result<PathBuf> {
    const NAME_MAX: usize = 255;
    let is_name =
        !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX && !name.contains(['/', '\0']);
    if !is_name {
        let what = format!("{name:?} is not a name for a file in {NETNS}");
        return Err(Error::invalid(setter, what));
    }
    Ok(Path::new(NETNS).join(name))
}

/// Makes the directory a shared mount point. Like ip-netns(8), which may do the same at the same time, under
/// a lock of the directory.
fn prepare_netns() -> Result<()> {
    let failed = |call| move |errno| Error::system(Step::Pin, NETNS, call, errno);
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    match rustix::fs::mkdirat(CWD, NETNS, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed("mkdir")(errno)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lock = rustix::fs::open(NETNS, flags, Mode::empty()).map_err(failed("open"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(failed("flock"))?;
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match mount_change(NETNS, shared) {
        // It is no mount point yet.
        Err(Errno::INVAL) => {
            mount_bind_recursive(NETNS, NETNS)
                .map_err(|errno| failed("mount")(errno).with_hint(hint(errno)))?;
            mount_change(NETNS, shared).map_err(failed("mount(MS_SHARED)"))
        }
        other => other.map_err(|errno| failed("mount(MS_SHARED)")(errno).with_hint(hint(errno))),
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.id, self.path.display())
    }
}
