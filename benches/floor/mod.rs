//! The floor of a spawn: what a C program written for exactly one sandbox would do, by bare system
//! calls.
//!
//! It uses nothing of the crate, so a bench can set the crate's spawns beside it in the same run.

#![allow(
    dead_code,
    unused_imports,
    reason = "every bench that includes this module uses a part of it"
)]
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to report to but its user"
)]

mod caller;
mod child;
mod compare;
mod program;
mod raw;

use std::ffi::{CString, OsStr, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(crate) use caller::{allow_descriptors, ballast, many_descriptors};
pub(crate) use compare::{Times, in_blocks, in_turns, interleave, keep, report};
pub(crate) use program::tiny_program;

/// A row of the performance budget. Each does all that the one before it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// Spawn and wait.
    NoNamespaces,
    /// user, mount, pid, uts, ipc and cgroup; the caller's ids mapped to 0.
    SixNamespaces,
    /// A root of its own: a tmpfs, [`bound_directories`] read-only, /proc.
    MinimalRoot,
    /// net with lo up, time with offsets, and /dev.
    AllEight,
}

impl Row {
    pub(crate) const ALL: [Self; 4] = [
        Self::NoNamespaces,
        Self::SixNamespaces,
        Self::MinimalRoot,
        Self::AllEight,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoNamespaces => "no namespaces",
            Self::SixNamespaces => "six namespaces",
            Self::MinimalRoot => "minimal root",
            Self::AllEight => "all eight",
        }
    }
}

/// The host directories that are bound read-only, each onto its own path.
pub(crate) fn bound_directories() -> [&'static str; 5] {
    let mut real = [
        "/var", "/usr", "/etc", "/opt", "/srv", "/home", "/boot", "/media",
    ]
    .into_iter()
    .filter(|path| Path::new(path).symlink_metadata().is_ok_and(|m| m.is_dir()));
    std::array::from_fn(|_| real.next().expect("fewer than five directories to bind"))
}

/// One sandbox and one program, all memory prepared: only system calls are left to make.
pub(crate) struct Floor {
    stack: raw::Stack,
    memory: raw::Memory,
    flags: u64,
    recipe: child::Recipe,
}

impl Floor {
    /// Prepares to run `program`, which has to lie in one of [`bound_directories`] if the row has a
    /// root of its own. The program gets the caller's environment.
    pub(crate) fn new(row: Row, program: &Path, arguments: &[&str]) -> Self {
        Self::with_namespaces(row, namespaces(row), program, arguments)
    }

    /// The caller's root, and these namespaces: `CLONE_NEW*`.
    pub(crate) fn of_kinds(kinds: c_int, program: &Path) -> Self {
        Self::with_namespaces(Row::NoNamespaces, kinds, program, &[])
    }

    fn with_namespaces(row: Row, kinds: c_int, program: &Path, arguments: &[&str]) -> Self {
        assert!(
            row < Row::MinimalRoot || bound_directories().iter().any(|d| program.starts_with(d)),
            "{} would not be in the new root",
            program.display()
        );
        let argv = std::iter::once(program.as_os_str())
            .chain(arguments.iter().map(OsStr::new))
            .map(|argument| c_string(argument.as_bytes()));
        let envp = std::env::vars_os()
            .map(|(name, value)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
        Self {
            stack: raw::Stack::new(),
            memory: raw::Memory::Shared,
            flags: raw::flag(kinds),
            recipe: child::Recipe {
                row,
                kinds,
                close_first: false,
                uid_map: format!("0 {} 1", rustix::process::geteuid().as_raw()),
                gid_map: format!("0 {} 1", rustix::process::getegid().as_raw()),
                binds: bound_directories()
                    .map(|path| child::Bind {
                        source: c_string(path.as_bytes()),
                        target: c_string(path.trim_start_matches('/').as_bytes()),
                    })
                    .into(),
                program: c_string(program.as_os_str().as_bytes()),
                argv: raw::StringList::new(argv),
                envp: raw::StringList::new(envp),
            },
        }
    }

    /// Binds the same directories again, as `/more0`, `/more1` and so on, until there are this many.
    #[must_use]
    pub(crate) fn binds(mut self, number: usize) -> Self {
        let bound = bound_directories();
        for more in 0..number.saturating_sub(bound.len()) {
            self.recipe.binds.push(child::Bind {
                source: c_string(bound[more % bound.len()].as_bytes()),
                target: c_string(format!("more{more}").as_bytes()),
            });
        }
        self
    }

    /// Shares the descriptor table with the child, which leaves it empty-handed as its first step:
    /// the cost no longer grows with the caller's descriptors.
    #[must_use]
    pub(crate) fn close_first(mut self) -> Self {
        self.flags |= raw::flag(libc::CLONE_FILES);
        self.recipe.close_first = true;
        self
    }

    /// The child gets a copy of the caller's memory, as by fork.
    #[must_use]
    pub(crate) fn copied(mut self) -> Self {
        self.memory = raw::Memory::Copied;
        self
    }

    /// # Panics
    ///
    /// When the program does not end with status 0.
    pub(crate) fn spawn_and_wait(&mut self) {
        let caller_mask = raw::set_signal_mask(u64::MAX);
        let child = (child::run as fn(&child::Recipe) -> !, &self.recipe);
        let pidfd = raw::clone(self.memory, self.flags, &mut self.stack, child);
        raw::set_signal_mask(caller_mask);
        let pidfd = pidfd.unwrap_or_else(|errno| panic!("clone3: {errno}"));
        let exit = raw::wait(&pidfd);
        if exit != raw::Exit::Status(0) {
            panic!(
                "{}: {exit:?}, failed step: {:?}",
                self.recipe.row.name(),
                child::Step::of(exit)
            );
        }
    }
}

fn namespaces(row: Row) -> c_int {
    let mut kinds = 0;
    if row >= Row::SixNamespaces {
        kinds |= libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWCGROUP;
    }
    if row >= Row::AllEight {
        kinds |= libc::CLONE_NEWNET | libc::CLONE_NEWTIME;
    }
    kinds
}

fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).expect("a nul byte in a path or argument")
}

/// A directory for [`tiny_program`] that is inside every row's root.
pub(crate) fn program_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable")
}
