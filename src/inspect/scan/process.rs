//! One process and its threads.

use super::procfs::{Link, READ, is_gone, link, read, read_line};
use super::registry::Position;
use super::{Scanner, Sources};
use crate::inspect::parse::{Stat, Status, cgroups, cmdline, id_map, path_of};
use crate::inspect::{Holder, Leader, Maps, ProcessInfo, Thread};
use crate::ns::{Kind, NamespaceId, NamespaceIds};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

/// The links in `/proc/PID`, in the order of [`Kind::ALL`].
const LINKS: [&CStr; 8] = [
    c"ns/user",
    c"ns/pid",
    c"ns/mnt",
    c"ns/net",
    c"ns/uts",
    c"ns/ipc",
    c"ns/cgroup",
    c"ns/time",
];

/// A process that is being looked at.
pub(super) struct Process {
    pub(super) pid: u32,
    /// Relative to this everything is of the one process, even if its id is used again.
    pub(super) directory: OwnedFd,
    command: Option<Vec<OsString>>,
}

/// Why the namespaces of a process or thread are not known.
enum Failed {
    Gone,
    Refused(Errno),
}

impl Scanner<'_> {
    /// `None` if it ended meanwhile.
    pub(super) fn process(&mut self, pid: u32) -> Option<ProcessInfo> {
        let directory = match self.procfs.process(pid) {
            Ok(directory) => directory,
            Err(errno) => {
                self.unseen.processes.count(errno);
                return None;
            }
        };
        let mut process = Process {
            pid,
            directory,
            command: None,
        };
        let mut info = self.basics(&process)?;
        let found = match self.namespaces(&process.directory) {
            Ok(found) => found,
            Err(Failed::Gone) => return None,
            Err(Failed::Refused(errno)) => {
                self.unseen.processes.count(errno);
                self.further(&mut process, &mut info, false);
                return Some(info);
            }
        };
        self.join(&mut process, &info, &found);
        info.namespaces = self.ids(&found);
        if info.thread_count > 1 && self.scan.has(Sources::THREADS) {
            self.threads(&mut process, &mut info);
        }
        let is_zombie = matches!(info.state, 'Z' | 'X') && info.threads.is_empty();
        self.further(&mut process, &mut info, !is_zombie);
        Some(info)
    }

    /// What `stat` says.
    fn basics(&mut self, process: &Process) -> Option<ProcessInfo> {
        let read = read_line(&process.directory, c"stat", &mut self.text);
        let owner = rustix::fs::fstat(&process.directory);
        let (Ok(()), Ok(owner)) = (read, owner) else {
            self.unseen.processes.count(read.err()?);
            return None;
        };
        let Ok(stat) = Stat::parse(&self.text) else {
            self.unseen.processes.count(Errno::INVAL);
            return None;
        };
        Some(ProcessInfo {
            pid: process.pid,
            ppid: stat.ppid,
            start_time: stat.start_time,
            state: stat.state,
            thread_count: stat.threads,
            uid: owner.st_uid,
            comm: OsStr::from_bytes(stat.comm).to_owned(),
            command: None,
            namespaces: NamespaceIds::new(Vec::new()),
            pid_for_children: None,
            time_for_children: None,
            threads: Vec::new(),
            numbers: None,
            cgroup: None,
        })
    }

    /// The namespaces of the process or thread with this directory.
    fn namespaces(&mut self, directory: &OwnedFd) -> Result<Vec<Position>, Failed> {
        let mut found = Vec::with_capacity(LINKS.len());
        for index in 0..self.kinds.len() {
            let kind = self.kinds[index];
            match self.namespace(directory, LINKS[kind as usize], kind) {
                Ok(position) => found.push(position),
                // A zombie has a user namespace still, but none of most other kinds.
                // A zombie is still in a user and a pid namespace.
                Err(Errno::NOENT) if is_there(directory) => {}
                Err(errno) if is_gone(errno) => return Err(Failed::Gone),
                Err(errno) => return Err(Failed::Refused(errno)),
            }
        }
        Ok(found)
    }

    /// The namespace that a link in the directory leads to; opened if it is new.
    pub(super) fn namespace(
        &mut self,
        directory: &OwnedFd,
        name: &CStr,
        kind: Kind,
    ) -> Result<Position, Errno> {
        let Link::Namespace(_, inode) = link(directory, name)? else {
            return Err(Errno::INVAL);
        };
        if let Some(position) = self.registry.position(kind, inode) {
            return Ok(position);
        }
        // It may be another one by now, which is as good.
        match rustix::fs::openat(directory, name, READ, Mode::empty()) {
            Ok(fd) => self.registry.add(kind, fd),
            Err(errno) if is_gone(errno) => Err(errno),
            Err(errno) => Ok(self.registry.add_unopened(kind, inode, errno)),
        }
    }

    fn ids(&self, found: &[Position]) -> NamespaceIds {
        let ids = found.iter().map(|&at| self.registry.id(at));
        let is_asked = |id: &NamespaceId| self.scan.kinds.contains(id.kind().into());
        NamespaceIds::new(ids.filter(is_asked).collect())
    }

    /// Makes a process a member of its namespaces.
    fn join(&mut self, process: &mut Process, info: &ProcessInfo, found: &[Position]) {
        for &position in found {
            let namespace = &mut self.registry.get(position).info;
            let is_first = namespace.members.is_empty();
            namespace.members.push(process.pid);
            let before = namespace.leader.as_ref();
            // The scan looks at its own process last, whatever its id.
            if is_first || before.is_some_and(|leader| process.pid < leader.pid) {
                let leader = self.leader(process, info);
                self.registry.get(position).info.leader = Some(leader);
            }
            match self.registry.id(position).kind() {
                Kind::User => self.maps(process, position),
                Kind::Mount => self.mounts_of_member(&process.directory, position),
                _ => {}
            }
        }
    }

    fn leader(&mut self, process: &mut Process, info: &ProcessInfo) -> Leader {
        let mut command = self.command(process);
        if command.is_empty() {
            command.push(info.comm.clone());
        }
        Leader {
            pid: process.pid,
            command,
        }
    }

    /// The command line, read once.
    fn command(&mut self, process: &mut Process) -> Vec<OsString> {
        if let Some(command) = &process.command {
            return command.clone();
        }
        let read = read(&process.directory, c"cmdline", &mut self.text);
        let args = read.map_or_else(|_| Vec::new(), |()| cmdline(&self.text));
        let args: Vec<_> = args
            .into_iter()
            .map(|arg| OsString::from_vec(arg.to_vec()))
            .collect();
        process.command.insert(args).clone()
    }

    fn maps(&mut self, process: &Process, position: Position) {
        let has_maps = self.registry.get(position).info.maps.is_some();
        if has_maps || !self.scan.has(Sources::MAPS) {
            return;
        }
        let mut map = |name| {
            read(&process.directory, name, &mut self.text).ok()?;
            id_map(&self.text).ok()
        };
        let (Some(uid), Some(gid)) = (map(c"uid_map"), map(c"gid_map")) else {
            return;
        };
        // If it is in another one by now, the maps may be of that.
        let now = self.namespace(&process.directory, c"ns/user", Kind::User);
        if now == Ok(position) {
            self.registry.get(position).info.maps = Some(Maps { uid, gid });
        }
    }

    /// What there is besides the namespaces of threads; `holds` if it may hold others.
    fn further(&mut self, process: &mut Process, info: &mut ProcessInfo, holds: bool) {
        if holds && self.scan.has(Sources::FOR_CHILDREN) {
            self.for_children(process, info);
        }
        let tables = Sources::DESCRIPTORS | Sources::SOCKETS;
        if holds && self.scan.sources.intersects(tables) {
            self.descriptors(process, info.namespaces.get(Kind::Net));
        }
        if self.scan.has(Sources::COMMANDS) {
            info.command = Some(self.command(process));
        }
        if self.scan.has(Sources::CGROUPS)
            && read(&process.directory, c"cgroup", &mut self.text).is_ok()
        {
            let path = cgroups(&self.text).ok().and_then(|list| path_of(&list));
            info.cgroup = path.map(|path| intern(&mut self.cgroups, path));
        }
        if self.scan.has(Sources::NUMBERS) {
            let own = info.namespaces.get(Kind::Pid);
            info.numbers = if own.is_some() && own == self.procfs.pid_namespace {
                Some(vec![info.pid])
            } else {
                let read = read(&process.directory, c"status", &mut self.text);
                read.ok().map(|()| Status::parse(&self.text).ns_pid)
            };
        }
    }

    fn for_children(&mut self, process: &Process, info: &mut ProcessInfo) {
        let mut other = |kind: Kind, name| -> Option<NamespaceId> {
            let own = info.namespaces.get(kind)?;
            let position = self.namespace(&process.directory, name, kind).ok()?;
            let id = self.registry.id(position);
            if id == own {
                return None;
            }
            let holders = &mut self.registry.get(position).info.holders;
            holders.push(Holder::ForChildren { pid: process.pid });
            Some(id)
        };
        info.pid_for_children = other(Kind::Pid, c"ns/pid_for_children");
        info.time_for_children = other(Kind::Time, c"ns/time_for_children");
    }

    fn threads(&mut self, process: &mut Process, info: &mut ProcessInfo) {
        let flags = READ | OFlags::DIRECTORY;
        let tasks = match rustix::fs::openat(&process.directory, c"task", flags, Mode::empty()) {
            Ok(tasks) => tasks,
            Err(errno) => return self.unseen.threads.count(errno),
        };
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut entries = rustix::fs::RawDir::new(&tasks, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name();
            let tid = name.to_str().ok().and_then(|name| name.parse::<u32>().ok());
            if let Some(tid) = tid.filter(|&tid| tid != process.pid) {
                // Ids of threads are used again as well.
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                if let Ok(thread) = rustix::fs::openat(&tasks, name, flags, Mode::empty()) {
                    self.thread(process, info, &thread, tid);
                }
            }
        }
    }

    fn thread(
        &mut self,
        process: &mut Process,
        info: &mut ProcessInfo,
        directory: &OwnedFd,
        tid: u32,
    ) {
        let found = match self.namespaces(directory) {
            Ok(found) => found,
            Err(Failed::Gone) => return,
            Err(Failed::Refused(errno)) => return self.unseen.threads.count(errno),
        };
        let namespaces = self.ids(&found);
        for &position in &found {
            let id = self.registry.id(position);
            if info.namespaces.get(id.kind()) == Some(id) {
                continue;
            }
            let has_leader = self.registry.get(position).info.leader.is_some();
            let leader = (!has_leader).then(|| self.leader(process, info));
            let found = self.registry.get(position);
            let pid = process.pid;
            found.info.holders.push(Holder::Thread { pid, tid });
            found.info.leader = leader.or(found.info.leader.take());
            if id.kind() == Kind::Mount {
                self.mounts_of_member(directory, position);
            }
        }
        let is_elsewhere = !found.is_empty() && namespaces != info.namespaces;
        if is_elsewhere {
            info.threads.push(Thread { tid, namespaces });
        }
    }
}

/// The same path is kept once.
fn intern(paths: &mut std::collections::HashSet<Arc<Path>>, path: &Path) -> Arc<Path> {
    if let Some(known) = paths.get(path) {
        return Arc::clone(known);
    }
    let path: Arc<Path> = path.into();
    paths.insert(Arc::clone(&path));
    path
}

/// Whether the process of a directory is still there.
pub(super) fn is_there(directory: &OwnedFd) -> bool {
    rustix::fs::statat(directory, c"stat", AtFlags::empty()).is_ok()
}
