//! The directory of a cgroup, and the files in it.

use crate::error::{Error, Result, Step};
use core::ffi::CStr;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The magic number of the cgroup v2 file system.
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// A directory of a cgroup2 file system.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) fd: OwnedFd,
}

impl Directory {
    /// Opens it, and sees that it is one; the setter is blamed if it is not.
    pub(crate) fn open(path: &Path, setter: &'static str) -> Result<Self> {
        let directory = Self::open_any(path)?;
        let stat = rustix::fs::fstatfs(&directory.fd)
            .map_err(|errno| Error::system(Step::Cgroup, path.display(), "fstatfs", errno))?;
        if u64::try_from(stat.f_type) != Ok(CGROUP2_SUPER_MAGIC) {
            let what = format!(
                "{} is not a directory of a cgroup v2 file system",
                path.display()
            );
            return Err(Error::invalid(setter, what));
        }
        Ok(directory)
    }

    /// Also of another file system, as a test has it.
    pub(super) fn open_any(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::system(Step::Cgroup, path.display(), "openat", errno))?;
        let path = path.to_owned();
        Ok(Self { path, fd })
    }

    pub(crate) fn error(&self, file: &str, call: &'static str, errno: Errno) -> Error {
        let object = self.path.join(file);
        Error::system(Step::Cgroup, object.display(), call, errno)
    }

    /// The text of a file; `None` if there is no such file.
    pub(crate) fn read(&self, file: &str) -> Result<Option<String>> {
        let opened = match open(self.fd.as_fd(), file, OFlags::RDONLY) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(|errno| self.error(file, "openat", errno))?,
        };
        let text = read_all(&opened).map_err(|errno| self.error(file, "read", errno))?;
        Ok(Some(text))
    }

    /// Writes in one call, as the kernel wants it.
    pub(crate) fn write(&self, file: &str, text: &str) -> Result<()> {
        let opened = open(self.fd.as_fd(), file, OFlags::WRONLY)
            .map_err(|errno| self.error(file, "openat", errno))?;
        rustix::io::write(opened, text.as_bytes())
            .map(drop)
            .map_err(|errno| self.error(file, "write", errno))
    }

    /// Whether nothing in it runs; the root cgroup cannot be frozen.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        let events = self.read("cgroup.events")?.unwrap_or_default();
        Ok(super::stats::flag(&events, "frozen"))
    }
}

/// All of a file; the kernel's are ASCII.
pub(super) fn read_all(file: &OwnedFd) -> Result<String, Errno> {
    let mut bytes = Vec::new();
    let mut some = [0_u8; 4096];
    loop {
        match rustix::io::read(file, &mut some[..]) {
            Ok(0) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(length) => bytes.extend(some.iter().take(length)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

pub(super) fn open(
    directory: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty())
}

/// The cgroups directly below.
pub(super) fn below(directory: BorrowedFd<'_>) -> Result<Vec<std::ffi::CString>, Errno> {
    let listed = open(directory, c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&listed)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        let is_own = matches!(name.to_bytes(), b"." | b"..");
        if entry.file_type() == rustix::fs::FileType::Directory && !is_own {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
