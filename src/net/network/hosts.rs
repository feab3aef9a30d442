//! The file by which members find each other's addresses.

use crate::error::{Error, Result, Step};
use crate::net::temporary;
use std::fs::{File, OpenOptions, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file in the form of hosts(5). It stays the same file, so that a bind mount of it shows what changes.
#[derive(Debug)]
pub(super) struct Hosts {
    path: PathBuf,
    file: File,
}

impl Hosts {
    pub(super) fn create() -> Result<Self> {
        let path = temporary::path("hosts")?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        let file = options
            .open(&path)
            .map_err(|error| Error::io(Step::Network, path.display(), error))?;
        let hosts = Self { path, file };
        // Members may be of any user, whatever the caller's umask is.
        let readable = hosts.file.set_permissions(Permissions::from_mode(0o644));
        readable.map_err(|error| Error::io(Step::Network, hosts.path.display(), error))?;
        hosts.write(std::iter::empty())?;
        Ok(hosts)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it anew, with these members.
    pub(super) fn write<'m>(&self, members: impl Iterator<Item = (IpAddr, &'m str)>) -> Result<()> {
        let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost\n");
        for (address, name) in members {
            text += &format!("{address}\t{name}\n");
        }
        let write = || {
            self.file.write_all_at(text.as_bytes(), 0)?;
            self.file.set_len(text.len() as u64)
        };
        write().map_err(|error| Error::io(Step::Network, self.path.display(), error))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
