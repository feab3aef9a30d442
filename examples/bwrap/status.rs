//! What others hear of the sandbox, and wait for.

use crate::options::Options;
use crate::tool::{Result, fail, with_cause};
use ringfence::{Child, Kind, Namespaces};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, ResolveFlags, fcntl_lock, openat, openat2};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// The kinds that bubblewrap tells of, in its order.
const KINDS: [Kind; 6] = [
    Kind::Cgroup,
    Kind::Ipc,
    Kind::Mount,
    Kind::Net,
    Kind::Pid,
    Kind::Uts,
];

/// Who is told of the process when there is one.
#[derive(Debug)]
pub(crate) struct Listeners {
    new: Namespaces,
    /// Closed when it has been written to, as somebody reads it to its end.
    info: Option<Arc<OwnedFd>>,
    json_status: Option<Arc<OwnedFd>>,
}

impl Listeners {
    /// Takes what is needed once only.
    pub(crate) fn take(options: &mut Options) -> Self {
        Self {
            new: options.new | Namespaces::MOUNT,
            info: options.info.take(),
            json_status: options.json_status.clone(),
        }
    }

    /// Writes the process id, and the namespaces that are new.
    pub(crate) fn tell(self, pid: u32, inode: impl Fn(Kind) -> Option<u64>) -> Result<()> {
        let mut members = vec![format!("\"child-pid\": {pid}")];
        let new = |kind: &Kind| self.new.contains((*kind).into());
        for kind in KINDS.into_iter().filter(new) {
            if let Some(inode) = inode(kind) {
                members.push(format!("\"{}-namespace\": {inode}", kind.proc_name()));
            }
        }
        if let Some(fd) = &self.info {
            let text = format!("{{\n    {}\n}}\n", members.join(",\n    "));
            write(fd, &text, "Write to info_fd")?;
        }
        if let Some(fd) = &self.json_status {
            let text = format!("{{ {} }}\n", members.join(", "));
            write(fd, &text, "Write to json_status_fd")?;
        }
        Ok(())
    }

    /// The same of a program that has been started, or waits at the gate.
    pub(crate) fn tell_of(self, child: &Child) -> Result<()> {
        if self.info.is_none() && self.json_status.is_none() {
            return Ok(());
        }
        let ids = match child.namespace_ids() {
            Ok(ids) => ids,
            Err(error) => return fail(error.to_string()),
        };
        self.tell(child.id(), |kind| Some(ids.get(kind)?.inode()))
    }
}

pub(crate) fn ended(options: &Options, code: u8) -> Result<()> {
    match &options.json_status {
        Some(fd) => write(
            fd,
            &format!("{{ \"exit-code\": {code} }}\n"),
            "Write to json_status_fd",
        ),
        None => Ok(()),
    }
}

fn write(fd: &OwnedFd, text: &str, what: &str) -> Result<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(fd, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return fail(with_cause(what, &errno.into())),
        }
    }
    Ok(())
}

/// Blocks until there is something to read, or the other side has gone.
pub(crate) fn wait_for(fd: &OwnedFd) {
    while rustix::io::read(fd, &mut [0_u8; 1][..]) == Err(Errno::INTR) {}
}

/// Whether a program that is held has no such directory to start in.
pub(crate) fn lacks(options: &Options, child: &Child, dir: &Path) -> bool {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    options.gated && open(child, dir, directory).is_err_and(|errno| errno == Errno::NOENT)
}

/// Opens what the sandbox has at this path.
fn open(child: &Child, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let root = format!("/proc/{}/root", child.id());
    let top = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, top, Mode::empty())?;
    let flags = flags | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
}

/// Locks files of the sandbox for as long as the result lives.
pub(crate) fn lock(options: &Options, child: &Child) -> Result<Vec<OwnedFd>> {
    let mut locks = Vec::with_capacity(options.lock_files.len());
    for path in &options.lock_files {
        let shown = path.display();
        let failed = |what: &str, errno: Errno| {
            fail(with_cause(
                format!("Unable to {what} file {shown}"),
                &errno.into(),
            ))
        };
        let file = match open(child, path, OFlags::RDONLY) {
            Ok(file) => file,
            Err(errno) => return failed("open lock", errno),
        };
        if let Err(errno) = fcntl_lock(&file, FlockOperation::NonBlockingLockShared) {
            return failed("lock", errno);
        }
        locks.push(file);
    }
    Ok(locks)
}
