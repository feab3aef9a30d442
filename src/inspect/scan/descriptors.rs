//! Namespaces that are held by descriptors, of their own files and of sockets.

use super::process::{Process, is_there};
use super::procfs::{Link, READ, is_gone, link};
use super::registry::Position;
use super::{Scanner, Sources};
use crate::inspect::Holder;
use crate::ns::{AnyNamespace, Kind, NamespaceId, is_namespace};
use crate::sys::nsfs;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

impl Scanner<'_> {
    /// All descriptors of a process whose own network namespace is `net`.
    pub(super) fn descriptors(&mut self, process: &Process, net: Option<NamespaceId>) {
        let flags = READ | OFlags::DIRECTORY;
        let table = match rustix::fs::openat(&process.directory, c"fd", flags, Mode::empty()) {
            Ok(table) => table,
            Err(errno) => return self.unseen.descriptors.count(errno),
        };
        let is_own = self.procfs.own_pid == Some(process.pid);
        let mut pidfd = None;
        let mut buffer = [const { MaybeUninit::uninit() }; 8192];
        let mut entries = rustix::fs::RawDir::new(&table, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => return self.unseen.descriptors.count(errno),
            };
            let name = entry.file_name();
            let Some(fd) = name.to_str().ok().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            match link(&table, name) {
                Ok(Link::Namespace(kind, inode)) if self.scan.has(Sources::DESCRIPTORS) => {
                    if !is_own || !self.registry.holds(fd) {
                        self.descriptor(process, (&table, name), (kind, inode), fd);
                    }
                }
                Ok(Link::Socket(inode)) if self.scan.has(Sources::SOCKETS) => {
                    // Two processes that have the same socket hold the same namespace.
                    if self.sockets.insert(inode) {
                        let socket = self.socket(process, &mut pidfd, (fd, inode), net);
                        if let Err(errno) = socket {
                            self.unseen.sockets.count(errno);
                        }
                    }
                }
                Ok(_) => {}
                // The process may have become another user's program.
                Err(errno) if !is_gone(errno) => return self.unseen.descriptors.count(errno),
                Err(_) => {}
            }
        }
    }

    fn descriptor(
        &mut self,
        process: &Process,
        (table, name): (&OwnedFd, &CStr),
        (kind, inode): (Kind, u64),
        fd: u32,
    ) {
        if !self.scan.kinds.contains(kind.into()) {
            return;
        }
        let position = match self.registry.position(kind, inode) {
            Some(position) => position,
            None => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let opened = rustix::fs::openat(table, name, flags, Mode::empty());
                match opened.and_then(|path| self.add_by_path(path, kind)) {
                    Ok(position) => position,
                    Err(errno) if is_gone(errno) => return,
                    Err(errno) => self.registry.add_unopened(kind, inode, errno),
                }
            }
        };
        let pid = process.pid;
        let holders = &mut self.registry.get(position).info.holders;
        holders.push(Holder::Descriptor { pid, fd });
    }

    /// A namespace by a descriptor of `O_PATH`. What else it may be is not opened: to open a device, or a
    /// file of somebody's file system, can have effects, or never end.
    pub(super) fn add_by_path(&mut self, path: OwnedFd, kind: Kind) -> Result<Position, Errno> {
        if !is_namespace(&path)? {
            return Err(Errno::NOENT);
        }
        let link = format!("/proc/thread-self/fd/{}", path.as_raw_fd());
        let fd = rustix::fs::open(link, READ, Mode::empty())?;
        let namespace = AnyNamespace::try_from(fd).map_err(|_| Errno::NOENT)?;
        if namespace.kind() != kind {
            return Err(Errno::NOENT);
        }
        self.registry.add(kind, namespace.into())
    }

    fn socket(
        &mut self,
        process: &Process,
        pidfd: &mut Option<OwnedFd>,
        (number, inode): (u32, u64),
        net: Option<NamespaceId>,
    ) -> Result<(), Errno> {
        if pidfd.is_none() {
            *pidfd = Some(open_pidfd(process)?);
        }
        let Some(pidfd) = pidfd else { return Ok(()) };
        let fd = i32::try_from(number).map_err(|_| Errno::BADF)?;
        let socket = match pidfd_getfd(&*pidfd, fd, PidfdGetfdFlags::empty()) {
            Err(Errno::BADF) => return Ok(()),
            other => other?,
        };
        // The number may be another file's by now, on which the ioctl means something else.
        let stat = rustix::fs::fstat(&socket)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || stat.st_ino != inode {
            return Ok(());
        }
        let namespace = nsfs::of_socket(socket.as_fd())?;
        let position = self.registry.add(Kind::Net, namespace)?;
        if net != Some(self.registry.id(position)) {
            let holder = Holder::Socket {
                pid: process.pid,
                fd: number,
            };
            self.registry.get(position).info.holders.push(holder);
        }
        Ok(())
    }
}

/// A pidfd of the very process: as long as that is there, its id was not another's before.
fn open_pidfd(process: &Process) -> Result<OwnedFd, Errno> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    let pidfd = pidfd_open(pid.ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
    if is_there(&process.directory) {
        Ok(pidfd)
    } else {
        Err(Errno::SRCH)
    }
}
