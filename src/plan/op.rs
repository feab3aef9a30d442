//! What the child does, one operation after the other.

use super::place::Place;
use crate::error::Step;
use crate::sandbox::WindowSize;
use crate::sys::fd::CloseRange;
use crate::sys::lockdown::Ready;
use crate::sys::signal::SigSet;
use core::ffi::CStr;
use rustix::fs::{Gid, Uid};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use std::ffi::CString;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

/// One operation, and how people call it.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) step: Step,
    /// What it is done to; printed in plans and in errors.
    pub(crate) object: String,
    pub(crate) action: Action,
}

/// What is done. Everything that it needs is allocated.
#[derive(Debug)]
pub(crate) enum Action {
    /// Leave the caller's descriptor table for one without what the child does not need.
    OwnDescriptors,
    /// Die if exec does not come in time; dump no core until then, for it would be the caller's memory.
    Guard {
        seconds: u64,
        nanoseconds: u32,
        /// Whether the child is process 1 of a pid namespace.
        process_1: bool,
    },
    /// Move into the cgroup whose `cgroup.procs` this is.
    JoinCgroup {
        procs: OwnedFd,
    },
    /// Write to a file of `/proc/self`.
    WriteProc {
        file: &'static CStr,
        text: Box<[u8]>,
    },
    /// Let the caller write the id maps.
    AwaitMaps,
    Unshare {
        flags: u64,
    },
    /// Go on as a sibling with a copy of the memory, and leave.
    Split,
    SetIds(Ids),
    Hostname(Box<[u8]>),
    Domainname(Box<[u8]>),
    LoopbackUp,
    Propagation(MountPropagationFlags),
    ClearUmask,
    /// Mounts are made on a tmpfs over the old root first, where the calls that need no place are missing.
    Stage {
        classic: bool,
    },
    /// The stage goes, where it does not go with the old root.
    Unstage,
    RootTmpfs(FileSystem),
    RootDir {
        source: CString,
        attributes: u64,
        /// What is mounted below becomes read-only, the directory itself not yet.
        submounts_read_only: bool,
    },
    RootOverlay(Overlay),
    /// A copy of the prepared tree that the caller has made for this spawn.
    RootTree {
        index: usize,
    },
    /// Entries go into the inherited root.
    RootInherited {
        path: CString,
    },
    Bind(Bind),
    Mount {
        file_system: FileSystem,
        at: Place,
    },
    Overlay {
        overlay: Overlay,
        at: Place,
    },
    Dev {
        file_system: FileSystem,
        devpts: FileSystem,
        at: Place,
    },
    Mask {
        empty: FileSystem,
        at: Place,
        /// Nothing is hidden where there is nothing.
        optional: bool,
    },
    Remount {
        attributes: u64,
        at: Place,
        optional: bool,
    },
    Symlink {
        target: CString,
        at: Place,
    },
    Dir {
        at: Place,
        mode: u32,
    },
    File {
        at: Place,
        bytes: Arc<[u8]>,
        mode: u32,
    },
    FileFrom {
        at: Place,
        from: Arc<OwnedFd>,
        mode: u32,
    },
    Chmod {
        at: Place,
        mode: u32,
    },
    /// Write to a file of the kernel's.
    Write {
        at: Place,
        bytes: Arc<[u8]>,
    },
    /// Make what is mounted here, and all below it, private.
    CutOff {
        at: Place,
    },
    RootReadOnly,
    PivotRoot,
    Chroot,
    /// Hold on to `/proc/self` of the caller, which the new root may not show.
    KeepProc,
    /// No process inside gets CAP_SYS_ADMIN again.
    DropSysAdmin,
    SetUmask {
        mask: Option<u32>,
    },
    NewSession,
    CurrentDir {
        path: CString,
        confined: bool,
    },
    DieWithParent {
        signal: i32,
    },
    Stdio,
    /// Open the program's terminal.
    Terminal(Terminal),
    /// Make the terminal that is this stream the controlling one.
    ControllingTerminal {
        stream: RawFd,
    },
    /// Lead a process group, in the foreground of the terminal that the caller gives away, if it does.
    Foreground,
    /// Default actions for signals that the caller ignores, an empty mask, the caller's core limit.
    Signals {
        reset: SigSet,
        /// Those that get it only where the caller handles them.
        handled: SigSet,
    },
    CloseOnExec {
        close: CloseRange,
    },
    /// Hold on to the list of the process's own children, in the caller's `/proc`.
    OpenChildren,
    /// Hand it to the second stage, under this number.
    PlaceChildren {
        number: RawFd,
    },
    /// Bind the program. After [`SecondStage`](Self::SecondStage) it is the program's own process, made by
    /// that, which does it.
    Lockdown {
        list: Ready,
        calls: String,
    },
    /// See that no user namespace can be made.
    AssertNoUserns,
    /// Open the namespaces that the child is in, by these links below `/proc/self`, and pass them to the caller.
    PassNamespaces {
        links: Box<[&'static CStr]>,
    },
    /// Become the second stage, which executes the program.
    SecondStage,
    /// Done by the second stage; what is named here is shown only.
    InStage {
        calls: &'static str,
    },
    Exec,
}

/// A pseudo-terminal for the program.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// The multiplexer in the devpts of the sandbox.
    pub(crate) path: CString,
    pub(crate) size: WindowSize,
    /// The standard streams that it becomes.
    pub(crate) streams: [bool; 3],
    /// The number of the socket that the caller gets the master by.
    pub(crate) socket: RawFd,
}

/// Ids to take on. The order is groups, gid, uid.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    pub(crate) groups: Option<Box<[Gid]>>,
    pub(crate) gid: Option<Gid>,
    pub(crate) uid: Option<Uid>,
}

/// A file system to make.
#[derive(Debug)]
pub(crate) struct FileSystem {
    pub(crate) kind: &'static CStr,
    pub(crate) options: Box<[(&'static CStr, Option<CString>)]>,
    /// The same options as mount(2) takes them.
    pub(crate) data: CString,
    pub(crate) attributes: MountAttrFlags,
}

/// How many lower layers an overlay may have: the child opens all of them.
pub(crate) const MAX_LOWERS: usize = 128;

/// Layers to put above each other.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// The uppermost first.
    pub(crate) lowers: Box<[CString]>,
    pub(crate) upper: Upper,
    pub(crate) userxattr: bool,
    pub(crate) attributes: MountAttrFlags,
}

/// Where an overlay keeps what is written.
#[derive(Debug)]
pub(crate) enum Upper {
    /// Nowhere: it is read-only.
    None,
    Dirs {
        upper: CString,
        work: CString,
    },
    /// In memory, gone with the overlay.
    Throwaway(FileSystem),
}

/// A tree of the caller's to show inside.
#[derive(Debug)]
pub(crate) struct Bind {
    pub(crate) source: Source,
    pub(crate) attributes: u64,
    /// Nothing is bound where the source is missing.
    pub(crate) optional: bool,
    pub(crate) at: Place,
}

/// Where a bind takes its tree from.
#[derive(Debug)]
pub(crate) enum Source {
    Path(CString),
    /// The path by which a descriptor of the caller's is known; it must still lead to the same file.
    Checked {
        path: CString,
        device: u64,
        inode: u64,
        _held: Arc<OwnedFd>,
    },
    /// A copy of a tree of the caller's, made for this spawn.
    Tree {
        index: usize,
    },
    /// A file of its own, on the stage.
    Data {
        bytes: Arc<[u8]>,
        mode: u32,
    },
}

impl Bind {
    /// Whether its source is made on the stage.
    pub(crate) fn has_data(&self) -> bool {
        matches!(self.source, Source::Data { .. })
    }
}

impl Action {
    /// [`calls`](Self::calls), or what is made instead where the newer mount calls are missing.
    pub(crate) fn calls_of(&self, classic: bool) -> &str {
        let classic_calls = match self {
            Self::RootTmpfs(_) => "mount, openat",
            Self::RootDir { .. } => "openat, fstat, mount, umount2, read, statx",
            Self::RootReadOnly => "fstatfs, mount",
            Self::CutOff { .. } => "openat2, mount",
            Self::Bind(bind) if bind.has_data() => {
                "unlinkat, openat, write, fstat, mount, umount2, fstatfs, read, openat2, statx, mkdirat"
            }
            Self::Bind(_) => {
                "openat, fstat, mount, umount2, fstatfs, read, openat2, statx, mkdirat"
            }
            Self::Mount { .. } => "mount, openat, openat2, mkdirat",
            Self::Dev { .. } => "mount, openat, openat2, mkdirat, fstat, mknodat, symlinkat",
            Self::Mask { .. } => "openat2, fstat, mount, openat",
            Self::Remount { .. } => "openat2, fstat, mount, umount2, fstatfs, read, statx",
            _ => return self.calls(),
        };
        if classic { classic_calls } else { self.calls() }
    }

    /// The system calls of the operation, as a reviewer would look for them.
    pub(crate) fn calls(&self) -> &str {
        match self {
            Self::OwnDescriptors => "close_range",
            Self::Guard {
                process_1: true, ..
            } => "rt_sigaction, rt_sigprocmask, timer_create, timer_settime, prlimit64",
            Self::Guard { .. } => "timer_create, timer_settime, prlimit64",
            Self::JoinCgroup { .. } => "write",
            Self::WriteProc { .. } => "openat, fstatfs, write",
            Self::AwaitMaps => "prctl, futex",
            Self::Unshare { .. } => "unshare",
            Self::Split => "clone",
            Self::SetIds(Ids { groups: None, .. }) => "setresgid, setresuid",
            Self::SetIds(_) => "setgroups, setresgid, setresuid",
            Self::Hostname(_) => "sethostname",
            Self::Domainname(_) => "setdomainname",
            Self::LoopbackUp => "socket, ioctl",
            Self::Propagation(_) => "mount",
            Self::ClearUmask | Self::SetUmask { .. } => "umask",
            Self::Stage { .. } => "openat, mount, mknodat",
            Self::Unstage => "umount2",
            Self::RootTmpfs(_) => "fsopen, fsconfig, fsmount, move_mount",
            Self::RootDir { attributes: 0, .. } => "open_tree, fstat, move_mount",
            Self::RootDir { .. } => "open_tree, fstat, mount_setattr, move_mount",
            Self::RootOverlay(_) => "openat, mount, move_mount",
            Self::RootTree { .. } => "move_mount",
            Self::RootInherited { .. } | Self::KeepProc => "openat",
            Self::Bind(bind) if bind.has_data() => {
                "unlinkat, openat, write, open_tree, mount_setattr, fstat, openat2, mkdirat, move_mount"
            }
            Self::Bind(_) => {
                "open_tree, mount_setattr, fstat, openat2, mkdirat, openat, move_mount"
            }
            Self::Mount { .. } => "fsopen, fsconfig, fsmount, openat2, mkdirat, move_mount",
            Self::Dev { .. } => {
                "openat2, mkdirat, fsopen, fsconfig, fsmount, move_mount, open_tree, fstat, openat, symlinkat"
            }
            Self::Symlink { .. } => "openat2, mkdirat, symlinkat",
            Self::Dir { .. } => "openat2, mkdirat",
            Self::File { .. } => "openat2, mkdirat, openat, write",
            Self::Overlay { .. } => "openat, mount, openat2, mkdirat, move_mount",
            Self::Mask { .. } => "openat2, open_tree or fsopen, move_mount",
            Self::Remount { .. } => "openat2, mount_setattr",
            Self::FileFrom { .. } => "openat2, mkdirat, openat, pread64, write",
            Self::Chmod { .. } => "openat2, fchmod",
            Self::Write { .. } => "openat2, write",
            Self::CutOff { .. } => "openat2, mount_setattr",
            Self::RootReadOnly => "mount_setattr",
            Self::Chroot => "fchdir, chroot, chdir",
            Self::DropSysAdmin => "prctl, capset",
            Self::PivotRoot => "fchdir, pivot_root, statx, umount2, openat, chdir",
            Self::NewSession => "setsid",
            Self::CurrentDir { confined: true, .. } => "openat2, fchdir",
            Self::CurrentDir { .. } => "chdir",
            Self::DieWithParent { .. } => "openat, fstatfs, prctl, pread64, getppid",
            Self::Stdio => "fcntl, dup3",
            Self::Terminal(_) => "openat2, fstatfs, ioctl, sendmsg, dup3",
            Self::ControllingTerminal { .. } => "ioctl",
            Self::Foreground => "setpgid, getpid, ioctl",
            Self::Signals { .. } => "rt_sigaction, rt_sigprocmask, prlimit64",
            Self::CloseOnExec { .. } => "close_range",
            Self::OpenChildren => "openat, fstatfs, fcntl",
            Self::PlaceChildren { .. } => "fcntl, dup3",
            Self::Lockdown { calls, .. } => calls,
            Self::AssertNoUserns => "unshare",
            Self::PassNamespaces { .. } => "openat, fstatfs, sendmsg",
            Self::SecondStage => "execveat",
            Self::InStage { calls } => calls,
            Self::Exec => "execve",
        }
    }
}
