//! The second stage as the plan knows it: in which form it runs, and what it is told.

use super::Program;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys::exec::{StringArray, execveat_exists};
use crate::sys::stage::message::setting;
use crate::sys::stage::{IMAGE, SUPPORTED};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{OwnedFd, RawFd};

/// The name of the process, also in the list of its arguments.
const NAME: &str = "ringfence-init";

/// A program that is started by the second stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) form: Form,
    /// Bits of [`setting`](crate::sys::stage::message::setting).
    pub(crate) settings: u32,
    pub(crate) numbers: Numbers,
    /// The stage's own arguments.
    pub(crate) arguments: StringArray,
}

/// The numbers that descriptors have in the stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// The socket to the caller.
    pub(crate) control: RawFd,
    /// The program's terminal, if it has one to take.
    pub(crate) terminal: RawFd,
    /// The memory that says what to join, or -1.
    pub(crate) work: RawFd,
}

/// How the stage runs.
#[derive(Debug)]
pub(crate) enum Form {
    /// As a program of its own, in a memfd, which is open under this number in the child.
    Program { image: OwnedFd, number: RawFd },
    /// As a forked child with a copy of the caller's memory, where that program cannot be executed.
    Forked,
}

impl Form {
    /// The first that works here. The number is free in the child.
    pub(crate) fn choose(number: RawFd) -> Result<Self> {
        if !SUPPORTED {
            return Err(Error::other(
                ErrorKind::Unsupported,
                Step::Compile,
                "the second stage is written for x86_64 and aarch64 only",
            ));
        }
        let program = IMAGE.filter(|_| execveat_exists());
        match program.map(sealed) {
            None => Ok(Self::Forked),
            Some(Ok(image)) => Ok(Self::Program { image, number }),
            // Forbidden by vm.memfd_noexec or a filter.
            Some(Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::INVAL)) => {
                Ok(Self::Forked)
            }
            Some(Err(errno)) => Err(Error::system(
                Step::Compile,
                "a memfd for the second stage",
                "memfd_create",
                errno,
            )),
        }
    }
}

/// A file in memory that nobody can change any more, the sandboxed program through `/proc/1/exe`
/// included.
fn sealed(image: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = match rustix::fs::memfd_create(NAME, flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every memfd can be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create(NAME, flags),
        other => other,
    }?;
    let mut rest = image;
    while !rest.is_empty() {
        let written = rustix::io::write(&memfd, rest)?;
        rest = rest.get(written..).unwrap_or(&[]);
    }
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memfd, seals)?;
    Ok(memfd)
}

impl Stage {
    pub(crate) fn new(form: Form, settings: u32, numbers: Numbers, program: &Program) -> Self {
        let Numbers {
            control,
            terminal,
            work,
        } = numbers;
        let count = program.candidates.len();
        let work = work.cast_unsigned();
        let text = format!("{control},{settings},{count},{terminal},{work}");
        let own = [NAME.to_owned(), text].map(|text| CString::new(text).unwrap_or_default());
        let arguments = own
            .into_iter()
            .chain(program.candidates.iter().cloned())
            .chain(program.argv.strings().iter().cloned())
            .collect();
        Self {
            form,
            settings,
            numbers,
            arguments: StringArray::new(arguments),
        }
    }

    /// Whether there is a process that outlives the program's start.
    pub(crate) fn reaps(&self) -> bool {
        self.is(setting::REAPER)
    }

    /// Whether the program is held until it is released.
    pub(crate) fn waits(&self) -> bool {
        self.is(setting::GATE)
    }

    fn is(&self, setting: u32) -> bool {
        self.settings & setting != 0
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.form {
            Form::Program { .. } => "a program of its own",
            Form::Forked => "a copy of the caller",
        })?;
        for (setting, text) in [
            (setting::JOIN, "joins"),
            (setting::GATE, "waits at the gate"),
            (
                setting::REAPER,
                "clones the program, reaps, forwards signals",
            ),
            (setting::SIGNAL_GROUP, "to its process group"),
            (setting::NEW_SESSION, "new session for the program"),
            (setting::FOREGROUND, "the program in the foreground"),
            (setting::WAIT_FOR_ALL, "waits for all when it ends"),
        ] {
            if self.is(setting) {
                write!(f, ", {text}")?;
            }
        }
        Ok(())
    }
}
