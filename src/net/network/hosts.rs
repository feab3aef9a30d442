//! The file by which members find each other's addresses.

use crate::error::{Error, Result, Step};
use crate::net::ip::Mac;
use crate::net::temporary;
use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const WHAT: &str = "hosts";

/// How its first line begins, which says whose it is: the name of the bridge, and its hardware address if it is in
/// the maker's namespace.
const OF_BRIDGE: &str = "# ringfence: bridge ";

/// A file in the form of hosts(5). It stays the same file, so that a bind mount of it shows what changes. It is locked,
/// as a sign that the network's owner lives.
#[derive(Debug)]
pub(super) struct Hosts {
    path: PathBuf,
    file: File,
    first_line: String,
}

impl Hosts {
    pub(super) fn create(bridge: &str, mac: Option<Mac>) -> Result<Self> {
        let path = temporary::path(WHAT)?;
        let mut options = OpenOptions::new();
        // Nobody else may lock it before it is.
        options.write(true).create_new(true).mode(0o600);
        let file = options
            .open(&path)
            .map_err(|error| Error::io(Step::Network, path.display(), error))?;
        let mac = mac.map(|mac| format!(" {mac}")).unwrap_or_default();
        let hosts = Self {
            path,
            file,
            first_line: format!("{OF_BRIDGE}{bridge}{mac}\n"),
        };
        flock(&hosts.file, FlockOperation::LockExclusive)
            .map_err(|errno| Error::system(Step::Network, hosts.path.display(), "flock", errno))?;
        hosts.write(std::iter::empty())?;
        // Members may be of any user, whatever the caller's umask is.
        let readable = hosts.file.set_permissions(Permissions::from_mode(0o644));
        readable.map_err(|error| Error::io(Step::Network, hosts.path.display(), error))?;
        Ok(hosts)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it anew, with these members.
    pub(super) fn write<'m>(&self, members: impl Iterator<Item = (IpAddr, &'m str)>) -> Result<()> {
        let mut text = self.first_line.clone() + "127.0.0.1\tlocalhost\n::1\tlocalhost\n";
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

/// The file of a network whose owner has ended without removing it. Nobody else takes it for that meanwhile.
#[derive(Debug)]
pub(super) struct Abandoned {
    path: PathBuf,
    _locked: File,
    pub(super) bridge: String,
    pub(super) mac: Option<Mac>,
}

impl Abandoned {
    /// All of the caller's.
    pub(super) fn all() -> Result<Vec<Self>> {
        let directory = std::env::temp_dir();
        let entries = std::fs::read_dir(&directory);
        let entries =
            entries.map_err(|error| Error::io(Step::Network, directory.display(), error))?;
        // What cannot be opened is another's, or has gone.
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(paths.filter_map(Self::open).collect())
    }

    /// `None` if it is none, or not the caller's, or not abandoned.
    fn open(path: PathBuf) -> Option<Self> {
        if !temporary::is_named_for(&path, WHAT) {
            return None;
        }
        let mut options = OpenOptions::new();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = options.read(true).custom_flags(flags).open(&path).ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
            return None;
        }
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        let mut first_line = String::new();
        BufReader::new(&file).read_line(&mut first_line).ok()?;
        let mut words = first_line.strip_prefix(OF_BRIDGE)?.split_whitespace();
        let bridge = words.next()?.to_owned();
        let mac = words.next().map(str::parse).transpose().ok()?;
        // Somebody else has removed it before it was locked.
        if file.metadata().ok()?.nlink() == 0 {
            return None;
        }
        Some(Self {
            path,
            _locked: file,
            bridge,
            mac,
        })
    }

    pub(super) fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
