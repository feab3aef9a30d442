//! What the child does, one operation after the other.

use super::place::Place;
use crate::error::Step;
use crate::sys::fd::CloseRange;
use crate::sys::signal::SigSet;
use crate::terminal::WindowSize;
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
    RootTmpfs(FileSystem),
    RootDir {
        source: CString,
    },
    /// Entries go into the inherited root.
    RootInherited,
    Bind(Bind),
    Mount {
        file_system: FileSystem,
        at: Place,
    },
    Dev {
        at: Place,
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
    PivotRoot,
    SetUmask {
        mask: Option<u32>,
    },
    NewSession,
    CurrentDir {
        path: CString,
        confined: bool,
    },
    DieWithParent,
    Stdio,
    /// Open the program's terminal.
    Terminal(Terminal),
    /// Make the terminal that is this stream the controlling one.
    ControllingTerminal {
        stream: RawFd,
    },
    /// Default actions for signals that the caller ignores, an empty mask, the caller's core limit.
    Signals {
        reset: SigSet,
    },
    CloseOnExec {
        close: CloseRange,
    },
    /// Become the second stage, which executes the program.
    Stage,
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
    pub(crate) options: Box<[(&'static CStr, CString)]>,
    pub(crate) attributes: MountAttrFlags,
}

/// A tree of the caller's to show inside.
#[derive(Debug)]
pub(crate) struct Bind {
    pub(crate) source: CString,
    pub(crate) attributes: u64,
    pub(crate) at: Place,
}

impl Action {
    /// The system calls of the operation, as a reviewer would look for them.
    pub(crate) fn calls(&self) -> &'static str {
        match self {
            Self::OwnDescriptors => "close_range",
            Self::Guard { .. } => "timer_create, timer_settime, prlimit64",
            Self::JoinCgroup { .. } => "write",
            Self::WriteProc { .. } => "openat, write",
            Self::AwaitMaps => "futex",
            Self::Unshare { .. } => "unshare",
            Self::Split => "clone",
            Self::SetIds(_) => "setgroups, setresgid, setresuid",
            Self::Hostname(_) => "sethostname",
            Self::Domainname(_) => "setdomainname",
            Self::LoopbackUp => "socket, ioctl",
            Self::Propagation(_) => "mount",
            Self::ClearUmask | Self::SetUmask { .. } => "umask",
            Self::RootTmpfs(_) => "fsopen, fsconfig, fsmount, move_mount",
            Self::RootDir { .. } => "open_tree, move_mount",
            Self::RootInherited => "openat",
            Self::Bind(_) => "open_tree, mount_setattr, openat2, mkdirat, move_mount",
            Self::Mount { .. } => "fsopen, fsconfig, fsmount, openat2, mkdirat, move_mount",
            Self::Dev { .. } => {
                "fsopen, fsconfig, fsmount, move_mount, openat, open_tree, mkdirat, symlinkat"
            }
            Self::Symlink { .. } => "symlinkat",
            Self::Dir { .. } => "openat2, mkdirat",
            Self::File { .. } => "openat, write",
            Self::PivotRoot => "fchdir, pivot_root, umount2, chdir",
            Self::NewSession => "setsid",
            Self::CurrentDir { confined: true, .. } => "openat2, fchdir",
            Self::CurrentDir { .. } => "chdir",
            Self::DieWithParent => "prctl",
            Self::Stdio => "dup3",
            Self::Terminal(_) => "openat2, ioctl, sendmsg, dup3",
            Self::ControllingTerminal { .. } => "ioctl",
            Self::Signals { .. } => "rt_sigaction, rt_sigprocmask, prlimit64",
            Self::CloseOnExec { .. } => "close_range",
            Self::Stage => "execveat",
            Self::Exec => "execve",
        }
    }
}
