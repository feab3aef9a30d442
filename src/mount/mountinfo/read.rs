//! Where a table comes from: `listmount(2)` or `/proc`.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fstat, openat, readlinkat};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{MountTable, list};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys::statmount::{mnt_ns_id, namespace_type};
use crate::sys::unshare::unshare_fs;

/// How often a table is read again because mounts came or went during the reading.
pub(super) const ATTEMPTS: usize = 8;

const THREAD_SELF: &str = "/proc/thread-self";

impl MountTable {
    /// The mounts that the calling thread sees.
    ///
    /// `listmount(2)` and `statmount(2)`, otherwise `/proc/thread-self/mountinfo`: of the thread and not of the
    /// process, because a thread can have a mount namespace of its own. If mounts come or go during
    /// the reading it is done again, a few times at most.
    ///
    /// # Errors
    ///
    /// What opening or reading `/proc/thread-self/mountinfo` gives, once the system calls have failed.
    ///
    /// # Kernel
    ///
    /// The system calls are complete since Linux 6.13; before, where they are missing or refused by a
    /// filter, the table is read from `/proc`, with the same result (see
    /// [`Mount::super_options`](super::Mount::super_options) for the one exception).
    ///
    /// See [listmount(2)](https://man7.org/linux/man-pages/man2/listmount.2.html).
    #[doc(alias = "listmount")]
    #[doc(alias = "statmount")]
    pub fn current() -> Result<Self> {
        own().map_err(failed("the mounts of the calling thread"))
    }

    /// The mounts that a process sees, or a thread, from its root directory.
    ///
    /// Always `/proc/PID/mountinfo`: `listmount(2)` knows namespaces, not what a process with a root
    /// directory of its own sees of one.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is no such process in the mounted `/proc`, `EACCES`
    /// without the privilege, `EINVAL` if the process is a zombie.
    ///
    /// # Privileges
    ///
    /// Those of `PTRACE_MODE_READ_FSCREDS` on the process.
    pub fn of_pid(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/mountinfo");
        File::open(&path).and_then(parse).map_err(failed(&path))
    }

    /// The mounts of a mount namespace, such as an open `/proc/PID/ns/mnt`.
    ///
    /// For the caller's own namespace the same as [`current`](Self::current). For another one
    /// `listmount(2)` with its id, or mountinfo as read by a thread that enters it for the time being,
    /// or that of a process in it whose root is the namespace's.
    ///
    /// # Errors
    ///
    /// [`NotThatNamespace`](ErrorKind::NotThatNamespace) if the descriptor is not a mount namespace;
    /// [`Unsupported`](ErrorKind::Unsupported) if none of the ways is open.
    ///
    /// # Privileges
    ///
    /// For `listmount(2)`, `CAP_SYS_ADMIN` in the user namespace that owns it. To enter it, also
    /// `CAP_SYS_ADMIN` and `CAP_SYS_CHROOT` in the caller's own. For a process, those of
    /// [`of_pid`](Self::of_pid).
    ///
    /// # Kernel
    ///
    /// `listmount(2)` of other namespaces since Linux 6.11, complete since 6.13. It does not tell
    /// `propagate_from` of them, nor all mounts where the root is that of an initramfs: there the other
    /// ways come first. Where only it is open, `propagate_from` may be missing.
    #[doc(alias = "NS_GET_MNTNS_ID")]
    pub fn of_mount_namespace(namespace: impl AsFd) -> Result<Self> {
        let namespace = namespace.as_fd();
        if namespace_type(namespace).ok() != Some(libc::CLONE_NEWNS) {
            let what = "the descriptor is not a mount namespace";
            return Err(Error::other(ErrorKind::NotThatNamespace, Step::Mount, what));
        }
        of_namespace(namespace).map_err(failed("the mounts of a namespace"))
    }

    pub(in crate::mount) fn of_thread_self() -> io::Result<Self> {
        parse(File::open(format!("{THREAD_SELF}/mountinfo"))?)
    }
}

fn failed(object: &str) -> impl Fn(io::Error) -> Error {
    move |error| Error::io(Step::Mount, object, error)
}

fn own() -> io::Result<MountTable> {
    list::own()
        .map(MountTable::new)
        .or_else(|_| MountTable::of_thread_self())
}

fn of_namespace(namespace: BorrowedFd<'_>) -> io::Result<MountTable> {
    let identity = Identity::of(namespace)?;
    if own_namespace().is_ok_and(|own| own == identity) {
        return own();
    }
    let inside = || by_entering(namespace).or_else(|_| by_member(identity));
    match mnt_ns_id(namespace).and_then(list::foreign) {
        Ok(foreign) if foreign.masters_known => Ok(MountTable::new(foreign.mounts)),
        Ok(foreign) => inside().or_else(|_| Ok(MountTable::new(foreign.mounts))),
        Err(_) => inside(),
    }
}

/// What tells namespaces apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = fstat(namespace)?;
        Ok(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }
}

fn own_namespace() -> io::Result<Identity> {
    Identity::of(File::open(format!("{THREAD_SELF}/ns/mnt"))?.as_fd())
}

/// Reads the table in a thread that enters the namespace and ends there. Its root is then that of the
/// namespace.
fn by_entering(namespace: BorrowedFd<'_>) -> io::Result<MountTable> {
    let read = || {
        // The namespace may have another /proc, or none.
        let thread = File::open(THREAD_SELF)?;
        unshare_fs()?;
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))?;
        parse(open_in(&thread, "mountinfo")?)
    };
    thread::scope(|scope| {
        let entered = thread::Builder::new().spawn_scoped(scope, read)?;
        entered
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    })
}

/// The table of the first process in this namespace that sees all of it.
fn by_member(namespace: Identity) -> io::Result<MountTable> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        if !entry
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit)
        {
            continue;
        }
        // Processes end, and most are none of our business: the next one may do.
        if let Ok(Some(table)) = table_of_member(&entry.path(), namespace) {
            return Ok(table);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "the mount namespace can neither be listed nor entered, and no process in it shows its mounts",
    ))
}

fn table_of_member(process: &Path, namespace: Identity) -> io::Result<Option<MountTable>> {
    // Relative to this descriptor everything is of the one process, even if its id is used again.
    let process = File::open(process)?;
    let is_member = || -> io::Result<bool> {
        let current = open_in(&process, "ns/mnt")?;
        Ok(Identity::of(current.as_fd())? == namespace)
    };
    if !is_member()? || readlinkat(&process, "root", Vec::new())?.as_bytes() != b"/" {
        return Ok(None);
    }
    let mountinfo = open_in(&process, "mountinfo")?;
    // The file stays with the namespace that the process had when it was opened.
    if is_member()? {
        parse(mountinfo).map(Some)
    } else {
        Ok(None)
    }
}

fn open_in(directory: &File, name: &str) -> io::Result<File> {
    Ok(openat(
        directory,
        name,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?
    .into())
}

fn parse(mut file: File) -> io::Result<MountTable> {
    let mut text = Vec::new();
    for _ in 0..ATTEMPTS {
        text.clear();
        file.rewind()?;
        file.read_to_end(&mut text)?;
        if !changed(&file)? {
            break;
        }
    }
    Ok(MountTable::parse(&text)?)
}

/// Mountinfo has an urgent event when mounts came or went since it was opened or last asked.
fn changed(mountinfo: &File) -> io::Result<bool> {
    let mut events = [PollFd::new(mountinfo, PollFlags::PRI)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    Ok(poll(&mut events, Some(&at_once))? > 0)
}
