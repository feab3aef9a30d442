//! What others hear of the sandbox, and wait for.

use crate::options::Options;
use crate::tool::{Result, fail, with_cause};
use ringfence::{Child, Kind, Namespaces};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, ResolveFlags, fcntl_lock, openat, openat2};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The kinds that bubblewrap tells of, in its order.
const KINDS: [Kind; 6] = [
    Kind::Cgroup,
    Kind::Ipc,
    Kind::Mount,
    Kind::Net,
    Kind::Pid,
    Kind::Uts,
];

/// Writes the process id, and the namespaces that are new.
pub(crate) fn started(options: &Options, child: &Child) -> Result<()> {
    if options.info.is_none() && options.json_status.is_none() {
        return Ok(());
    }
    let ids = match child.namespace_ids() {
        Ok(ids) => ids,
        Err(error) => return fail(error.to_string()),
    };
    let new = options.new | Namespaces::MOUNT;
    let mut members = vec![format!("\"child-pid\": {}", child.id())];
    for kind in KINDS
        .into_iter()
        .filter(|kind| new.contains((*kind).into()))
    {
        if let Some(id) = ids.get(kind) {
            members.push(format!(
                "\"{}-namespace\": {}",
                kind.proc_name(),
                id.inode()
            ));
        }
    }
    if let Some(fd) = &options.info {
        let text = format!("{{\n    {}\n}}\n", members.join(",\n    "));
        write(fd, &text, "Write to info_fd")?;
    }
    if let Some(fd) = &options.json_status {
        let text = format!("{{ {} }}\n", members.join(", "));
        write(fd, &text, "Write to json_status_fd")?;
    }
    Ok(())
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
pub(crate) fn wait_to_start(options: &Options) -> Result<()> {
    let Some(fd) = &options.block else {
        return Ok(());
    };
    while rustix::io::read(fd, &mut [0_u8; 1][..]) == Err(Errno::INTR) {}
    Ok(())
}

/// Whether a program that is held has no such directory to start in.
pub(crate) fn lacks(options: &Options, child: &Child, dir: &Path) -> bool {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    options.is_gated() && open(child, dir, directory).is_err_and(|errno| errno == Errno::NOENT)
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
