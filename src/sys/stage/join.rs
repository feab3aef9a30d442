//! The `join` role: enters namespaces that others may be root in, and goes on from there.
//!
//! This process has nothing of the caller's memory and may not be looked into. Its descriptors go away before the
//! exec of the program, for whoever is root there may look at them before exec has closed them; the mapping
//! of its work goes with the exec.

use super::calls::{self, Errno, LargeStack, Text};
use super::enter;
use super::init;
use super::job::Job;
use super::message::{Instruction, WORK_HEADER, WORK_SIZE, call, low, refused, what};
use core::mem::MaybeUninit;

const EINVAL: Errno = 22;
const EPERM: Errno = 1;

/// Does all of the work, and what comes after it.
pub(super) fn run(job: &Job) -> ! {
    let words = match enter::map_shared(job.work, WORK_SIZE) {
        Ok(words) => words,
        Err(errno) => fail(job, call::MMAP, errno, 0),
    };
    calls::close(job.work);
    let links = enter::own_links();
    let work = Work { words, links };
    // Done before, but here everything rests on it.
    if let Err(errno) = enter::hide() {
        fail(job, call::PRCTL, errno, work.operation(0))
    }
    go_on(job, work, 0)
}

/// Memory that the caller has filled in.
#[derive(Clone, Copy)]
struct Work {
    words: *mut u64,
    /// The links to one's own namespaces. Opened before a mount namespace is entered in which somebody else
    /// may have put something in the place of `/proc`.
    links: i32,
}

impl Work {
    fn word(&self, index: usize) -> u64 {
        // SAFETY: callers ask for the header and for instructions that the header counts,
        let at = unsafe { self.words.add(index) };
        // SAFETY: which the caller has filled in.
        unsafe { at.read() }
    }

    fn count(&self) -> usize {
        low(self.word(1)) as usize
    }

    /// The number of the plan's operation that an instruction is.
    fn operation(&self, index: usize) -> u32 {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        index.saturating_add(low(self.word(2)))
    }

    fn instruction(&self, index: usize) -> Instruction {
        let first = WORK_HEADER + index * Instruction::WORDS;
        let word = |number| self.word(first + number);
        Instruction::from_words([word(0), word(1), word(2), word(3)])
    }

    /// The text of an instruction, with a null byte behind it.
    fn text(&self, instruction: Instruction) -> Text {
        let behind = WORK_HEADER + self.count() * Instruction::WORDS;
        let texts = self.words.wrapping_add(behind).cast::<u8>();
        texts.wrapping_add(instruction.at as usize)
    }

    fn bytes(&self, instruction: Instruction) -> &[u8] {
        let length = instruction.length as usize;
        // SAFETY: the caller has put so many bytes there.
        unsafe { core::slice::from_raw_parts(self.text(instruction), length) }
    }
}

fn go_on(job: &Job, work: Work, first: usize) -> ! {
    for index in first..work.count() {
        let instruction = work.instruction(index);
        if instruction.what == what::FORK {
            fork(job, work, index)
        }
        if let Err((call, errno)) = perform(&work, instruction) {
            fail(job, call, errno, work.operation(index))
        }
    }
    for index in 0..work.count() {
        calls::close(work.instruction(index).fd);
    }
    calls::close(work.links);
    init::begin(job)
}

fn fail(job: &Job, call: u32, errno: Errno, note: u32) -> ! {
    init::give_up(job.control, call, errno, note)
}

/// What a sibling needs to go on.
struct Rest<'a> {
    job: &'a Job,
    work: Work,
    next: usize,
}

unsafe extern "C" fn sibling(rest: *mut Rest<'_>) -> ! {
    // SAFETY: `fork` passes its own, and exits without touching it.
    let rest = unsafe { &*rest };
    go_on(rest.job, rest.work, rest.next)
}

/// Leaves the rest to a sibling: a process does not move into a pid namespace itself.
fn fork(job: &Job, work: Work, index: usize) -> ! {
    let mut rest = Rest {
        job,
        work,
        next: index + 1,
    };
    let mut stack = LargeStack(MaybeUninit::uninit());
    let pid = work.words.cast::<u32>();
    // SAFETY: this process exits at once; the frames that the sibling uses stay as they are.
    match unsafe { calls::sibling(&mut stack, sibling, &mut rest, pid) } {
        Ok(_) => calls::exit(0),
        Err(errno) => fail(job, call::FORK, errno, work.operation(index)),
    }
}

fn perform(work: &Work, instruction: Instruction) -> Result<(), (u32, Errno)> {
    let Instruction {
        fd, value, other, ..
    } = instruction;
    let (call, done) = match instruction.what {
        what::JOIN => (call::SETNS, join(work, instruction)),
        what::JOIN_OTHER if is_there(work, instruction) => (call::SETNS, Ok(())),
        what::JOIN_OTHER => (call::SETNS, enter::setns(fd, value)),
        what::UNSHARE => (call::UNSHARE, enter::unshare(value)),
        what::PRIVATE => (call::MOUNT, enter::make_private()),
        what::HOSTNAME => (
            call::SETHOSTNAME,
            enter::sethostname(work.bytes(instruction)),
        ),
        what::DOMAINNAME => (
            call::SETDOMAINNAME,
            enter::setdomainname(work.bytes(instruction)),
        ),
        what::LOOPBACK_UP => return loopback_up(),
        what::ROOT => {
            enter::fchdir(fd).map_err(|errno| (call::FCHDIR, errno))?;
            (call::CHROOT, enter::chroot_here())
        }
        what::DIR => (call::FCHDIR, enter::fchdir(fd)),
        // SAFETY: texts end with a null byte.
        what::CHDIR => (call::CHDIR, unsafe { enter::chdir(work.text(instruction)) }),
        what::KEEP_CAPS => (call::PRCTL, enter::keep_caps()),
        what::GROUPS => (call::SETGROUPS, set_groups(work, instruction)),
        what::GID => (
            call::SETRESGID,
            take_on(value, other != 0, enter::setresgid, enter::own_gid),
        ),
        what::UID => (
            call::SETRESUID,
            take_on(value, other != 0, enter::setresuid, enter::own_uid),
        ),
        _ => (call::SETNS, Err(EINVAL)),
    };
    done.map_err(|errno| (call, errno))
}

/// Where one is already one needs no privilege.
fn join(work: &Work, instruction: Instruction) -> Result<(), Errno> {
    match enter::setns(instruction.fd, instruction.value) {
        Err(EPERM | EINVAL) if is_there(work, instruction) => Ok(()),
        other => other,
    }
}

fn is_there(work: &Work, instruction: Instruction) -> bool {
    // SAFETY: texts end with a null byte.
    unsafe { enter::is_own(work.links, work.text(instruction), instruction.fd) }
}

fn loopback_up() -> Result<(), (u32, Errno)> {
    let socket = enter::socket().map_err(|errno| (call::SOCKET, errno))?;
    let done = enter::loopback_up(socket);
    calls::close(socket);
    done.map_err(|errno| (call::LOOPBACK, errno))
}

fn set_groups(work: &Work, instruction: Instruction) -> Result<(), Errno> {
    let count = instruction.length as usize / size_of::<u32>();
    // SAFETY: the text has that length.
    match unsafe { enter::setgroups(count, work.text(instruction)) } {
        Err(EPERM) if instruction.other == refused::OK => Ok(()),
        Err(EPERM) if instruction.other == refused::OK_IF_NONE => match enter::has_groups() {
            Ok(false) => Ok(()),
            _ => Err(EPERM),
        },
        other => other,
    }
}

fn take_on(
    id: u32,
    or_keep: bool,
    set: fn(u32) -> Result<(), Errno>,
    own: fn() -> u32,
) -> Result<(), Errno> {
    match set(id) {
        // Set, so that an id which does not exist here is refused.
        Err(EINVAL) if or_keep => set(own()),
        other => other,
    }
}
