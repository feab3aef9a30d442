//! New file systems, configured step by step.

use super::{Attributes, Tree};
use crate::error::{Error, Result, Step};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;

/// A file system that is to be made: its type, its options, the attributes of its mount.
///
/// Options go to the kernel one by one, so that an error names the one that was refused, with the kernel's
/// own words, and no byte in a value needs escaping.
///
/// # Privileges
/// `CAP_SYS_ADMIN` in the user namespace that owns the caller's mount namespace; most file systems can only
/// be made by the host's root.
///
/// # Kernel
/// Linux 5.2.
///
/// # Examples
/// ```no_run
/// use ringfence::mount::{Attributes, Filesystem};
///
/// # fn main() -> ringfence::Result<()> {
/// Filesystem::new("tmpfs")
///     .option("size", "16m")
///     .attributes(Attributes::NOSUID | Attributes::NODEV)
///     .create()?
///     .attach("/mnt")?;
/// # Ok(())
/// # }
/// ```
///
/// See [fsopen(2)](https://man7.org/linux/man-pages/man2/fsopen.2.html).
#[derive(Clone, Debug)]
#[must_use]
#[doc(alias = "fsopen")]
#[doc(alias = "fsconfig")]
#[doc(alias = "fsmount")]
pub struct Filesystem {
    kind: OsString,
    options: Vec<(OsString, Option<OsString>)>,
    attributes: Attributes,
}

impl Filesystem {
    /// A file system of this type, as `/proc/filesystems` names it.
    pub fn new(kind: impl AsRef<OsStr>) -> Self {
        Self {
            kind: kind.as_ref().to_owned(),
            options: Vec::new(),
            attributes: Attributes::empty(),
        }
    }

    /// What is mounted: a device, or a name that mountinfo shows.
    pub fn source(self, source: impl AsRef<OsStr>) -> Self {
        self.option("source", source)
    }

    /// An option with a value of at most 255 bytes.
    pub fn option(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.options.push((key.as_ref().to_owned(), Some(value)));
        self
    }

    /// An option without a value. `ro` makes the file system itself read-only, not just this mount.
    pub fn flag(mut self, key: impl AsRef<OsStr>) -> Self {
        self.options.push((key.as_ref().to_owned(), None));
        self
    }

    /// The attributes of the mount.
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Makes the file system and a detached mount of it.
    ///
    /// # Errors
    /// `ENODEV` for a type that the kernel does not know; `EINVAL` for an option that it refuses, which the
    /// error names, with what the kernel says of it as its [hint](Error::hint).
    pub fn create(&self) -> Result<Tree> {
        let kind = &self.kind.display().to_string();
        let fail = |call| {
            move |errno| {
                let hint = (errno == Errno::NODEV)
                    .then(|| "this kernel has no file system of that type".to_owned());
                Error::system(Step::Mount, kind, call, errno).with_hint(hint)
            }
        };
        let flags = FsOpenFlags::FSOPEN_CLOEXEC;
        let context = rustix::mount::fsopen(&self.kind, flags).map_err(fail("fsopen"))?;
        for (key, value) in &self.options {
            let (set, shown) = match value {
                Some(value) => (
                    rustix::mount::fsconfig_set_string(&context, key, value),
                    format!("{kind}, {}={}", key.display(), value.display()),
                ),
                None => (
                    rustix::mount::fsconfig_set_flag(&context, key),
                    format!("{kind}, {}", key.display()),
                ),
            };
            set.map_err(|errno| refused(&context, &shown, errno))?;
        }
        rustix::mount::fsconfig_create(&context).map_err(|errno| refused(&context, kind, errno))?;
        let attributes = u32::try_from(self.attributes.kernel()).unwrap_or(u32::MAX);
        let attributes = MountAttrFlags::from_bits_retain(attributes);
        let fd = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(fail("fsmount"))?;
        Ok(Tree::new(fd, kind.clone()))
    }
}

fn refused(context: &OwnedFd, object: &str, errno: Errno) -> Error {
    Error::system(Step::Mount, object, "fsconfig", errno).with_hint(log(context))
}

/// What the kernel has written to the log of the context, a message for each read.
fn log(context: &OwnedFd) -> Option<String> {
    let mut messages = Vec::new();
    let mut buffer = [0_u8; 1024];
    while let Ok(length) = rustix::io::read(context, &mut buffer[..]) {
        let text = String::from_utf8_lossy(buffer.get(..length)?).into_owned();
        // Each begins with e, w or i for its weight.
        messages.push(text.trim().to_owned());
    }
    (!messages.is_empty()).then(|| format!("the kernel says: {}", messages.join("; ")))
}
