//! The process whose namespaces are meant, and the namespaces.

use crate::options::{Options, Process, Source};
use crate::tool::{Result, fail, with_cause};
use ringfence::ns::Net;
use ringfence::{AnyNamespace, JoinProcess, Kind, Namespace};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One process, even if its id is used again.
#[derive(Debug)]
pub(crate) struct Target {
    pid: u32,
    pidfd: OwnedFd,
}

pub(crate) fn required(target: Option<&Target>) -> Result<&Target> {
    match target {
        Some(target) => Ok(target),
        None => fail("no target PID specified"),
    }
}

fn caused<T>(what: impl Display, cause: impl Into<io::Error>) -> Result<T> {
    fail(with_cause(what, &cause.into()))
}

impl Target {
    pub(crate) fn open(process: Process) -> Result<Self> {
        let pid = process.pid;
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let opened = match number {
            Some(number) => pidfd_open(number, PidfdFlags::empty()),
            None => return fail(format!("failed to parse pid: '{pid}'")),
        };
        let pidfd = match opened {
            Ok(pidfd) => pidfd,
            Err(errno) => return caused(format!("cannot open /proc/{pid}"), errno),
        };
        if let Some(inode) = process.inode {
            let found = rustix::fs::fstat(&pidfd).map(|stat| stat.st_ino);
            if found != Ok(inode) {
                return fail(format!("pidfd inode {inode} not found for pid {pid}"));
            }
        }
        Ok(Self { pid, pidfd })
    }

    pub(crate) fn process(&self) -> JoinProcess {
        self.pidfd.as_fd().into()
    }

    fn namespace(&self, kind: Kind) -> Result<AnyNamespace> {
        match AnyNamespace::of_pidfd(kind, &self.pidfd) {
            Ok(namespace) => Ok(namespace),
            Err(error) => not_opened(format!("/proc/{}/ns/{kind}", self.pid), error),
        }
    }

    /// That of a socket of the process.
    fn socket_namespace(&self, number: i32) -> Result<AnyNamespace> {
        let what = format!("pidfd_getfd({}, {number})", self.pid);
        match pidfd_getfd(&self.pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(socket) => Ok(Namespace::<Net>::of_socket(socket)?.into()),
            Err(errno) => caused(what, errno),
        }
    }

    /// A file in /proc, of this process and not of one that has its id now.
    fn read<T>(&self, name: &str, read: fn(&Path) -> io::Result<T>) -> Result<T> {
        let path = format!("/proc/{}/{name}", self.pid);
        let read = read(path.as_ref());
        match read.and_then(|found| self.is_there().map(|()| found)) {
            Ok(found) => Ok(found),
            Err(error) => caused(format!("cannot open {path}"), error),
        }
    }

    fn is_there(&self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut end = [PollFd::new(&self.pidfd, PollFlags::IN)];
        match poll(&mut end, Some(&Timespec::default()))? {
            0 => Ok(()),
            _ => Err(rustix::io::Errno::SRCH.into()),
        }
    }

    pub(crate) fn uid(&self) -> Result<u32> {
        self.read("", |path| Ok(fs::metadata(path)?.uid()))
    }

    pub(crate) fn gid(&self) -> Result<u32> {
        self.read("", |path| Ok(fs::metadata(path)?.gid()))
    }

    pub(crate) fn environment(&self) -> Result<Vec<(OsString, OsString)>> {
        let text = self.read("environ", |path| fs::read(path))?;
        let variable = |line: &[u8]| {
            let mark = line
                .iter()
                .position(|byte| *byte == b'=')
                .filter(|at| *at > 0)?;
            let (name, value) = line.split_at(mark);
            let text = |bytes| OsStr::from_bytes(bytes).to_owned();
            Some((text(name), text(&value[1..])))
        };
        Ok(text.split(|byte| *byte == 0).filter_map(variable).collect())
    }
}

fn not_opened<T>(object: impl Display, error: ringfence::Error) -> Result<T> {
    match error.raw_os_error() {
        Some(errno) => caused(
            format!("cannot open {object}"),
            io::Error::from_raw_os_error(errno),
        ),
        None => Err(error.into()),
    }
}

/// The namespaces to enter.
pub(crate) fn namespaces(options: &Options, target: Option<&Target>) -> Result<Vec<AnyNamespace>> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        let namespace = match options.namespaces.get(&kind) {
            Some(source) => named(kind, source, target)?,
            None if options.all => match usable(kind, required(target)?)? {
                Some(namespace) => namespace,
                None => continue,
            },
            None => continue,
        };
        found.push(namespace);
    }
    if options.user_parent {
        let parent = parent(&found, required(target)?)?;
        replace(&mut found, parent);
    }
    if let Some(number) = options.net_socket {
        let net = required(target)?.socket_namespace(number)?;
        replace(&mut found, net);
    }
    let user = found
        .iter()
        .find(|namespace| namespace.kind() == Kind::User);
    if let Some(user) = user
        && user.is_current()?
    {
        return reassociation(Kind::User, rustix::io::Errno::INVAL);
    }
    Ok(found)
}

fn replace(found: &mut Vec<AnyNamespace>, new: AnyNamespace) {
    found.retain(|namespace| namespace.kind() != new.kind());
    found.push(new);
}

fn reassociation<T>(kind: Kind, errno: rustix::io::Errno) -> Result<T> {
    caused(
        format!("reassociate to namespace 'ns/{kind}' failed"),
        errno,
    )
}

fn named(kind: Kind, source: &Source, target: Option<&Target>) -> Result<AnyNamespace> {
    let namespace = match source {
        Source::Target => return required(target)?.namespace(kind),
        Source::Number(number) => return by_number(kind, *number),
        Source::File(file) => AnyNamespace::open(file),
    };
    match (namespace, source) {
        (Ok(namespace), _) if namespace.kind() == kind => Ok(namespace),
        (Err(error), Source::File(file)) if error.raw_os_error().is_some() => {
            not_opened(file.display(), error)
        }
        _ => reassociation(kind, rustix::io::Errno::INVAL),
    }
}

/// With `--all`: one's own user namespace cannot be entered again, and a kind that the kernel lacks not at all.
fn usable(kind: Kind, target: &Target) -> Result<Option<AnyNamespace>> {
    let Ok(own) = AnyNamespace::current(kind) else {
        return Ok(None);
    };
    let namespace = target.namespace(kind)?;
    let again = kind == Kind::User && namespace == own;
    Ok((!again).then_some(namespace))
}

/// The user namespace above the one that is entered, or above that of the target.
fn parent(found: &[AnyNamespace], target: &Target) -> Result<AnyNamespace> {
    let user = found
        .iter()
        .find(|namespace| namespace.kind() == Kind::User);
    let parent = match user {
        Some(user) => user.user_namespace(),
        None => target.namespace(Kind::User)?.user_namespace(),
    };
    match parent {
        Ok(parent) => Ok(parent.into()),
        Err(error) => match error.raw_os_error() {
            Some(errno) => caused(
                "failed to open parent namespace",
                io::Error::from_raw_os_error(errno),
            ),
            None => Err(error.into()),
        },
    }
}

fn by_number(kind: Kind, number: u64) -> Result<AnyNamespace> {
    let entries = match fs::read_dir("/proc") {
        Ok(entries) => entries,
        Err(error) => return caused("cannot open /proc", error),
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut namespaces = pids.filter_map(|pid| AnyNamespace::of_pid(kind, pid).ok());
    let is_it = |one: &AnyNamespace| one.id().inode() == number || one.unique_id() == Some(number);
    match namespaces.find(is_it) {
        Some(namespace) => Ok(namespace),
        None => fail(format!(
            "cannot open namespace of id {number}: No such file"
        )),
    }
}
