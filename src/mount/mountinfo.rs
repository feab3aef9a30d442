//! What is mounted: `/proc/PID/mountinfo`, parsed, and the same from `listmount(2)`.
//!
//! ```
//! use ringfence::mount::mountinfo::MountTable;
//!
//! let table = MountTable::current()?;
//! for entry in table.walk() {
//!     let mount = entry.mount;
//!     println!("{:width$}{} {:?}", "", mount.target().display(), mount.fs_type(), width = 2 * entry.depth);
//! }
//! # Ok::<(), ringfence::Error>(())
//! ```

mod list;
mod options;
mod parse;
mod read;
mod table;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

pub(super) use list::propagation_of_unique;
pub use options::{MountOption, Options};
pub use parse::{Field, ParseError};
pub use table::{MountTable, TreeEntry};

use super::PropagationState;

/// The number of a device: of the file system of a mount, `st_dev` of its files but on btrfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// The kind of device; 0 for a file system that has none.
    pub major: u32,
    /// Which one of its kind.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One mount: a line of mountinfo.
///
/// Paths and names are bytes as the kernel has them, escapes undone; nothing is taken to be UTF-8.
///
/// See [proc_pid_mountinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    id: u32,
    parent: u32,
    device: Device,
    root: PathBuf,
    target: PathBuf,
    options: Options,
    propagation: PropagationState,
    fs_type: OsString,
    source: OsString,
    super_options: Options,
}

impl Mount {
    /// The mount id: unique among the mounts of the system, used again after an unmount.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The id of the mount on which this one is mounted. It is in no table if it lies outside the
    /// reader's root, and the root of a mount namespace is its own parent.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.parent
    }

    /// The device of the file system.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// What of the file system is mounted: `/` for all of it, a directory or a file for a bind mount.
    ///
    /// Not always a path: a namespace file's is like `net:[4026531840]`, a cgroup's above the reader's
    /// cgroup namespace like `/../..`. The kernel appends `//deleted` to one that was removed.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The mount point, seen from the root of the process or namespace whose table this is.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The options of this mount, such as `ro` and `nosuid`.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The propagation type and the groups.
    #[must_use]
    pub fn propagation(&self) -> PropagationState {
        self.propagation
    }

    /// The type of the file system, with the subtype if it has one, as in `fuse.sshfs`.
    #[must_use]
    pub fn fs_type(&self) -> &OsStr {
        &self.fs_type
    }

    /// What was mounted: a device, or whatever the mounter wrote, possibly nothing.
    #[must_use]
    pub fn source(&self) -> &OsStr {
        &self.source
    }

    /// The options of the file system, the same for all its mounts.
    ///
    /// `mand` (mandatory locks, without effect since Linux 5.15) is listed only where the table was
    /// read from `/proc`: `statmount(2)` does not tell.
    #[must_use]
    pub fn super_options(&self) -> &Options {
        &self.super_options
    }
}
