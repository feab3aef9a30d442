//! Overlays, as the caller describes them.

use super::Tmpfs;
use std::path::PathBuf;

/// Directories above each other: a file is seen in the uppermost layer that has it.
///
/// Writes go into the [`upper`](Self::upper) directory, or into memory and are
/// [thrown away](Self::throwaway) with the sandbox; with neither, the overlay is read-only, and needs two
/// lower directories. Layers are opened before they are mounted, so any byte may occur in their paths.
/// In a new user namespace the overlay keeps its marks in `user.` attributes (`userxattr`).
///
/// # Kernel
/// In a user namespace Linux 5.11.
///
/// # Examples
/// ```
/// use ringfence::{Overlay, Rootfs};
///
/// let scratch = Rootfs::overlay(Overlay::new("/srv/debian").throwaway());
/// let kept = Rootfs::overlay(
///     Overlay::new("/srv/tools").lower("/srv/debian").upper("/srv/upper", "/srv/work"),
/// );
/// ```
///
/// See [the kernel's documentation](https://docs.kernel.org/filesystems/overlayfs.html).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Overlay {
    pub(crate) lowers: Vec<PathBuf>,
    pub(crate) upper: Upper,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upper {
    None,
    Dirs { upper: PathBuf, work: PathBuf },
    Throwaway(Tmpfs),
}

impl Overlay {
    /// A read-only overlay with this as its uppermost lower directory.
    pub fn new(lower: impl Into<PathBuf>) -> Self {
        Self {
            lowers: vec![lower.into()],
            upper: Upper::None,
        }
    }

    /// One more lower directory, below those named so far.
    #[doc(alias = "lowerdir")]
    pub fn lower(mut self, lower: impl Into<PathBuf>) -> Self {
        self.lowers.push(lower.into());
        self
    }

    /// What is written is kept in `upper`; `work` is an empty directory of the same file system, for the
    /// kernel's use. One running sandbox at a time may use them.
    #[doc(alias = "upperdir")]
    #[doc(alias = "workdir")]
    pub fn upper(mut self, upper: impl Into<PathBuf>, work: impl Into<PathBuf>) -> Self {
        self.upper = Upper::Dirs {
            upper: upper.into(),
            work: work.into(),
        };
        self
    }

    /// What is written is kept in memory and gone with the sandbox.
    pub fn throwaway(self) -> Self {
        self.throwaway_in(Tmpfs::new())
    }

    /// [`throwaway`](Self::throwaway) with limits; the mode of the tmpfs does not matter.
    pub fn throwaway_in(mut self, tmpfs: Tmpfs) -> Self {
        self.upper = Upper::Throwaway(tmpfs);
        self
    }
}
