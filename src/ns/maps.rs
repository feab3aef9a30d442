//! The id maps of a user namespace.

use super::pid::processes;
use super::{Namespace, NamespaceId, User};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::sandbox::Extent;
use crate::sandbox::idmap::parse_map;
use rustix::fs::{Mode, OFlags};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

impl Namespace<User> {
    /// Its user ids, `outside` being those of the caller's user namespace; where the caller is in it, of its
    /// parent. Empty as long as no map has been written.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if `/proc` shows no process in it: the kernel tells the maps of a process only.
    ///
    /// See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
    pub fn uid_map(&self) -> Result<Vec<Extent>> {
        self.map("uid_map")
    }

    /// Its group ids, as [`uid_map`](Self::uid_map).
    ///
    /// # Errors
    /// Those of [`uid_map`](Self::uid_map).
    pub fn gid_map(&self) -> Result<Vec<Extent>> {
        self.map("gid_map")
    }

    fn map(&self, file: &str) -> Result<Vec<Extent>> {
        let text = self.text_of_member(file)?;
        parse_map(&text).ok_or_else(|| {
            let what = format!("{file} of {self} is no id map: {text:?}");
            Error::other(ErrorKind::System, Step::Namespace, what)
        })
    }

    fn text_of_member(&self, file: &str) -> Result<String> {
        let own = ["thread-self".to_owned()].into_iter();
        for process in own.chain(processes()?.iter().map(u32::to_string)) {
            // Processes end, and most are none of the caller's business: the next one may do.
            if let Some(text) = read_if_member(&process, self.id(), file) {
                return Ok(text);
            }
        }
        Err(Error::other(
            ErrorKind::NotFound,
            Step::Namespace,
            format!("{file} of {self}: no process in it can be read"),
        ))
    }
}

fn read_if_member(process: &str, id: NamespaceId, file: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    // Relative to this directory everything is of the one process, even if its id is used again.
    let path = format!("/proc/{process}");
    let directory = rustix::fs::open(path, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let open = |name| rustix::fs::openat(&directory, name, flags, Mode::empty()).ok();
    let is_member = || {
        let fd: OwnedFd = open("ns/user")?;
        let found = NamespaceId::of_fd(fd.as_fd(), id.kind()).ok()?;
        (found == id).then_some(())
    };
    is_member()?;
    // The file stays with the namespace that the process had when it was opened.
    let mut map = std::fs::File::from(open(file)?);
    is_member()?;
    let mut text = String::new();
    map.read_to_string(&mut text).ok()?;
    Some(text)
}
