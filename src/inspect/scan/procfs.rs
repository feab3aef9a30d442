//! The mounted `/proc`, and what is in the directory of a process.

use crate::diagnose::NOT_PROCFS;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::inspect::Denied;
use crate::inspect::model::is_initial;
use crate::mount::mountinfo::MountTable;
use crate::ns::{AnyNamespace, Kind, NamespaceId, parse_id};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::path::DecInt;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Enough for any `kind:[number]`; of other links no more than the beginning is of interest.
const LINK: usize = 64;

pub(super) const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub(super) struct Procfs {
    pub(super) directory: OwnedFd,
    /// That of the namespaces' files.
    pub(super) device: u64,
    /// The caller's id here; none if this is the `/proc` of a pid namespace that the caller is not in.
    pub(super) own_pid: Option<u32>,
    pub(super) pid_namespace: Option<NamespaceId>,
    kinds: Vec<Kind>,
}

impl Procfs {
    pub(super) fn open() -> Result<Self> {
        let failed = |call| move |errno| Error::system(Step::Scan, "/proc", call, errno);
        let directory = rustix::fs::open("/proc", DIRECTORY, Mode::empty())
            .map_err(|errno| failed("open")(errno).with_hint(Some(NOT_PROCFS.into())))?;
        let magic = rustix::fs::fstatfs(&directory).map_err(failed("fstatfs"))?;
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_lossless,
            reason = "the type differs by architecture"
        )]
        if magic.f_type as i64 != rustix::fs::PROC_SUPER_MAGIC as i64 {
            let error = Error::other(ErrorKind::Unsupported, Step::Scan, "/proc");
            return Err(error.with_hint(Some(NOT_PROCFS.into())));
        }
        // By the caller's own, in whosever pid namespace this /proc is.
        let mut own = ids(|kind| AnyNamespace::current(kind).ok());
        if own.is_empty() {
            own = of_anybody();
        }
        let device = own.first().map_or(0, NamespaceId::device);
        let pid_namespace = own.iter().copied().find(|id| id.kind() == Kind::Pid);
        let kinds = own.iter().map(NamespaceId::kind).collect();
        let own_pid = own_pid(&directory);
        let is_own = own_pid == Some(std::process::id());
        Ok(Self {
            directory,
            device,
            own_pid,
            pid_namespace: pid_namespace.filter(|_| is_own),
            kinds,
        })
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// A descriptor by which the directory can be listed.
    pub(super) fn list(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(
            &self.directory,
            c".",
            READ | OFlags::DIRECTORY,
            Mode::empty(),
        )
    }

    pub(super) fn process(&self, pid: u32) -> Result<OwnedFd, Errno> {
        let name = DecInt::new(pid);
        rustix::fs::openat(&self.directory, name, DIRECTORY, Mode::empty())
    }

    /// Whether there are processes outside the pid namespace whose `/proc` this is.
    pub(super) fn is_nested(&self) -> bool {
        self.pid_namespace
            .is_none_or(|id| is_initial(id) == Some(false))
    }

    /// Whether others' processes are left out of the listing.
    pub(super) fn hides_processes(&self) -> bool {
        let mut text = Vec::new();
        if read(&self.directory, c"thread-self/mountinfo", &mut text).is_err() {
            return false;
        }
        // Parsing all of it would take longer than the rest of an empty scan.
        let is_proc = |line: &&[u8]| contains(line, b" - proc ");
        let lines = text.split_inclusive(|&byte| byte == b'\n').filter(is_proc);
        let Ok(table) = MountTable::parse(&lines.collect::<Vec<_>>().concat()) else {
            return false;
        };
        let mut mounts = table.iter();
        let mount = mounts.rfind(|mount| mount.target() == "/proc");
        let hidepid = mount.and_then(|mount| mount.super_options().get("hidepid"));
        hidepid
            .and_then(|option| option.value)
            .is_some_and(|value| !matches!(value.to_str(), Some("0" | "off" | "1" | "noaccess")))
    }
}

fn ids(open: impl Fn(Kind) -> Option<AnyNamespace>) -> Vec<NamespaceId> {
    let opened = Kind::ALL.into_iter().filter_map(open);
    opened.map(|namespace| namespace.id()).collect()
}

/// Those of the first process that can be looked at. Before Linux 6.11 a `/proc` that does not show the caller does not lead
/// to its own; kinds and device are the same.
fn of_anybody() -> Vec<NamespaceId> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of = |directory: &Path| {
        ids(|kind| AnyNamespace::open(directory.join("ns").join(kind.proc_name())).ok())
    };
    entries
        .filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit))
        .map(|entry| of(&entry.path()))
        .find(|ids| !ids.is_empty())
        .unwrap_or_default()
}

fn own_pid(directory: &OwnedFd) -> Option<u32> {
    let mut buffer = [MaybeUninit::uninit(); LINK];
    let (text, _) = rustix::fs::readlinkat_raw(directory, c"self", &mut buffer).ok()?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What a link leads to: a namespace, a socket, or anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Namespace(Kind, u64),
    Socket(u64),
    Other,
}

pub(super) fn link(directory: impl AsFd, name: &CStr) -> Result<Link, Errno> {
    let mut buffer = [MaybeUninit::uninit(); LINK];
    let (text, _) = rustix::fs::readlinkat_raw(directory, name, &mut buffer)?;
    // Nearly all descriptors are of files with a path.
    if text.first() == Some(&b'/') {
        return Ok(Link::Other);
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return Ok(Link::Other);
    };
    if let Some((kind, inode)) = parse_id(text) {
        return Ok(Link::Namespace(kind, inode));
    }
    let socket = text.strip_prefix("socket:[");
    let number = socket.and_then(|rest| rest.strip_suffix(']')?.parse().ok());
    Ok(number.map_or(Link::Other, Link::Socket))
}

/// The whole text of a file.
pub(super) fn read(directory: impl AsFd, name: &CStr, text: &mut Vec<u8>) -> Result<(), Errno> {
    let file = rustix::fs::openat(directory, name, READ, Mode::empty())?;
    text.clear();
    loop {
        if text.capacity() - text.len() < 4 << 10 {
            text.reserve(4 << 10);
        }
        let spare = rustix::buffer::spare_capacity(text);
        match rustix::io::read(&file, spare) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The text of a file of one line, by a single read: the kernel makes such a text as a whole.
pub(super) fn read_line(
    directory: impl AsFd,
    name: &CStr,
    text: &mut Vec<u8>,
) -> Result<(), Errno> {
    let file = rustix::fs::openat(directory, name, READ, Mode::empty())?;
    text.clear();
    text.reserve(4 << 10);
    rustix::io::retry_on_intr(|| rustix::io::read(&file, rustix::buffer::spare_capacity(text)))
        .map(drop)
}

/// Whether what was looked at is not there any more, which is no failure.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::SRCH)
}

impl Denied {
    pub(super) fn count(&mut self, errno: Errno) {
        let counter = match errno {
            errno if is_gone(errno) => return,
            Errno::ACCESS => &mut self.eacces,
            Errno::PERM => &mut self.eperm,
            _ => &mut self.other,
        };
        *counter = counter.saturating_add(1);
    }

    pub(super) fn add(&mut self, more: Self) {
        self.eacces = self.eacces.saturating_add(more.eacces);
        self.eperm = self.eperm.saturating_add(more.eperm);
        self.other = self.other.saturating_add(more.other);
    }
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
