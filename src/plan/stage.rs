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
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

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
    /// What it binds the program and itself by.
    pub(crate) lists: Lists,
}

/// Lists of system calls for the stage, as [`sys::stage`](crate::sys::stage) reads them.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    words: Box<[u64]>,
    /// A file that says the same, and its number in the child, for a stage with a memory of its own.
    file: Option<(OwnedFd, RawFd)>,
}

impl Lists {
    /// Those that bind the program, and those that bind process 1, each with the number of its operation.
    pub(crate) fn new(program: &[(usize, &[u64])], process_1: &[(usize, &[u64])]) -> Self {
        let mut words = vec![program.len() as u64, process_1.len() as u64];
        for &(op, list) in program.iter().chain(process_1) {
            words.extend([op as u64, list.len() as u64]);
            words.extend(list);
        }
        let words = words.into();
        Self { words, file: None }
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The file to put in place, and where.
    pub(crate) fn file(&self) -> Option<(BorrowedFd<'_>, RawFd)> {
        self.file
            .as_ref()
            .map(|(file, number)| (file.as_fd(), *number))
    }
}

/// The numbers that descriptors have in the stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// The socket to the caller.
    pub(crate) control: RawFd,
    /// The program's terminal, if it has one to take.
    pub(crate) terminal: RawFd,
    /// The list of the stage's children, if it is a subreaper.
    pub(crate) children: RawFd,
    /// The memory that says what to join, or -1.
    pub(crate) work: RawFd,
}

impl Numbers {
    /// As the forked form takes them, which joins nothing.
    pub(crate) fn inherited(self) -> [RawFd; 3] {
        [self.control, self.terminal, self.children]
    }
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
        match program.map(|image| sealed(image, MemfdFlags::EXEC)) {
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

fn arguments(numbers: Numbers, settings: u32, program: &Program, lists: &Lists) -> StringArray {
    let Numbers {
        control,
        terminal,
        children,
        work,
    } = numbers;
    let work = work.cast_unsigned();
    let (file, words) = match &lists.file {
        Some((_, number)) => (*number, lists.words.len()),
        None => (0, 0),
    };
    let count = program.candidates.len();
    let text = format!("{control},{settings},{count},{terminal},{children},{work},{file},{words}");
    let own = [NAME.to_owned(), text].map(|text| CString::new(text).unwrap_or_default());
    let arguments = own
        .into_iter()
        .chain(program.candidates.iter().cloned())
        .chain(program.argv.strings().iter().cloned());
    StringArray::new(arguments.collect())
}

/// A file in memory that nobody can change any more, the sandboxed program through `/proc/1/exe`
/// included.
fn sealed(bytes: &[u8], executable: MemfdFlags) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = match rustix::fs::memfd_create(NAME, flags | executable) {
        // Before Linux 6.3 every memfd can be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create(NAME, flags),
        other => other,
    }?;
    let mut rest = bytes;
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
        let lists = Lists::default();
        Self {
            form,
            settings,
            numbers,
            arguments: arguments(numbers, settings, program, &lists),
            lists,
        }
    }

    /// Gives it lists, by a file that has this number in the child.
    pub(crate) fn bind(
        &mut self,
        mut lists: Lists,
        number: RawFd,
        program: &Program,
    ) -> Result<()> {
        if let Form::Program { .. } = self.form {
            let bytes: Vec<u8> = lists
                .words
                .iter()
                .flat_map(|word| word.to_ne_bytes())
                .collect();
            let file = sealed(&bytes, MemfdFlags::NOEXEC_SEAL).map_err(|errno| {
                let what = "a memfd for the lock-down";
                Error::system(Step::Compile, what, "memfd_create", errno)
            })?;
            lists.file = Some((file, number));
        }
        self.arguments = arguments(self.numbers, self.settings, program, &lists);
        self.lists = lists;
        Ok(())
    }

    /// Whether it is a copy of the caller.
    pub(crate) fn forks(&self) -> bool {
        matches!(self.form, Form::Forked)
    }

    /// Whether there is a process that outlives the program's start.
    pub(crate) fn reaps(&self) -> bool {
        self.is(setting::REAPER)
    }

    /// Whether it ends what descends from the program itself, as there is no pid namespace.
    pub(crate) fn is_subreaper(&self) -> bool {
        self.is(setting::SUBREAPER)
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
            (setting::SUBREAPER, "as a subreaper"),
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
