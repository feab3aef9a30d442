//! The last system calls before the program, as lists that were laid out when the plan was compiled.
//!
//! A list is an array of words and can lie anywhere: in the caller's memory, or in a file that the
//! second stage maps. It is made by [`sys::lockdown`](crate::sys::lockdown) and nowhere else.

use super::message::call::LOCKDOWN;

/// Words of a record: what to do, the number of the system call, which arguments are
/// not what they seem, six arguments. The first word of a list is the number of its records; what the
/// arguments lead to follows the records.
pub(crate) const RECORD: usize = 9;

/// What a record does.
pub(crate) mod operation {
    /// The system call.
    pub(crate) const CALL: u64 = 0;
    /// `capset` of what the process has, changed: flags, permitted, effective, inheritable.
    pub(crate) const CAPABILITIES: u64 = 1;
    /// `prctl(PR_CAP_AMBIENT_RAISE)` of all that is permitted.
    pub(crate) const AMBIENT: u64 = 2;
    /// `seccomp`: flags, offset, number of instructions.
    pub(crate) const FILTER: u64 = 3;
    /// `sendmsg` of the descriptor that the record before has returned: the socket.
    pub(crate) const SEND: u64 = 4;
}

/// Bits of the third word: for argument `n`.
pub(crate) const OFFSET: u64 = 1;
/// It is the result of the record before.
pub(crate) const LAST: u64 = 1 << 8;

/// Flags of [`operation::CAPABILITIES`].
pub(crate) mod sets {
    /// The permitted set is the given one, not what of it is permitted already.
    pub(crate) const EXACT: u64 = 1;
    /// The inheritable set stays.
    pub(crate) const SAME_INHERITABLE: u64 = 2;
    /// The inheritable set becomes the permitted one.
    pub(crate) const ALL_INHERITABLE: u64 = 4;
}

/// The lists of the stage: two counts, of those that bind the program and of those that bind process 1, and
/// then each with the number of its operation in the plan and its length before it.
#[derive(Clone, Copy)]
pub(super) struct Lists<'a> {
    rest: &'a [u64],
    left: u64,
}

impl<'a> Iterator for Lists<'a> {
    type Item = (u32, &'a [u64]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (&[op, length], rest) = self.rest.split_first_chunk()?;
        let (list, rest) = rest.split_at_checked(word(length))?;
        self.rest = rest;
        Some((u32::try_from(op).ok()?, list))
    }
}

/// What binds the program.
pub(super) fn program(words: &[u64]) -> Lists<'_> {
    match words.split_first_chunk() {
        Some((&[left, _], rest)) => Lists { rest, left },
        None => Lists { rest: &[], left: 0 },
    }
}

/// What binds process 1.
pub(super) fn process_1(words: &[u64]) -> Lists<'_> {
    let mut lists = program(words);
    while lists.next().is_some() {}
    lists.left = words.get(1).copied().unwrap_or(0);
    lists
}

/// Makes a system call; how depends on where this is compiled. A positive errno.
pub(crate) type Syscall = unsafe fn(usize, [usize; 6]) -> Result<usize, i32>;

/// The numbers of the system calls that need more than arguments.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const CAPGET: usize = 125;
    pub(super) const CAPSET: usize = 126;
    pub(super) const PRCTL: usize = 157;
    pub(super) const SECCOMP: usize = 317;
    pub(super) const SENDMSG: usize = 46;
}

/// Those of all newer architectures.
#[cfg(not(target_arch = "x86_64"))]
mod number {
    pub(super) const CAPGET: usize = 90;
    pub(super) const CAPSET: usize = 91;
    pub(super) const PRCTL: usize = 167;
    pub(super) const SECCOMP: usize = 277;
    pub(super) const SENDMSG: usize = 211;
}

/// What could not be done: the number of the system call, and a positive errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) number: usize,
    pub(crate) errno: i32,
}

impl Failed {
    /// How it is told to the caller.
    pub(super) fn code(self) -> u32 {
        LOCKDOWN.saturating_add(u32::try_from(self.number).unwrap_or(0))
    }
}

/// Makes the system calls of a list, until one fails.
///
/// # Safety
/// The list was laid out by the crate, and the function makes system calls.
pub(crate) unsafe fn apply(list: &[u64], syscall: Syscall) -> Result<(), Failed> {
    let Some((&count, records)) = list.split_first() else {
        return Ok(());
    };
    let mut last = 0;
    let count = usize::try_from(count).unwrap_or(0);
    for record in records.chunks_exact(RECORD).take(count) {
        let &[what, number, special, a, b, c, d, e, f] = record else {
            continue;
        };
        let number = word(number);
        let mut args = [a, b, c, d, e, f].map(word);
        for (bit, arg) in args.iter_mut().enumerate() {
            if special & (OFFSET << bit) != 0 {
                *arg = arg.wrapping_add(list.as_ptr().addr());
            } else if special & (LAST << bit) != 0 {
                *arg = last;
            }
        }
        last = match what {
            operation::CALL => {
                // SAFETY: as the caller says: offsets lie in the list, everything else is a number.
                let result = unsafe { syscall(number, args) };
                named(number, result)
            }
            // SAFETY: as the caller says, here and below.
            operation::CAPABILITIES => unsafe { capabilities([a, b, c, d], syscall) },
            // SAFETY: as above.
            operation::AMBIENT => unsafe { ambient(syscall) },
            // SAFETY: as above, and the offset is that of the instructions.
            operation::FILTER => unsafe { filter(args, syscall) },
            // SAFETY: as above.
            operation::SEND => unsafe { send(args[0], last, syscall) },
            _ => Ok(0),
        }?;
    }
    Ok(())
}

/// On 64-bit machines, and there are no others, a word is as wide as a pointer.
#[expect(clippy::cast_possible_truncation, reason = "it is as wide")]
fn word(value: u64) -> usize {
    value as usize
}

fn named(number: usize, result: Result<usize, i32>) -> Result<usize, Failed> {
    result.map_err(|errno| Failed { number, errno })
}

/// `struct __user_cap_header_struct`, version 3, of the calling thread.
const HEADER: [u32; 2] = [0x2008_0522, 0];

/// Effective, permitted and inheritable, the lower half of each first.
type Sets = [u32; 6];

/// # Safety
/// The function makes system calls.
unsafe fn current(syscall: Syscall) -> Result<Sets, Failed> {
    let mut header = HEADER;
    let mut sets: Sets = [0; 6];
    let (header, data) = (header.as_mut_ptr().addr(), sets.as_mut_ptr().addr());
    // SAFETY: both have the kernel's layout.
    let got = unsafe { syscall(number::CAPGET, [header, data, 0, 0, 0, 0]) };
    named(number::CAPGET, got).map(|_| sets)
}

/// # Safety
/// The function makes system calls.
unsafe fn capabilities(
    [flags, permitted, effective, inheritable]: [u64; 4],
    syscall: Syscall,
) -> Result<usize, Failed> {
    // SAFETY: as the caller says.
    let now = unsafe { current(syscall) }?;
    let has = join(now[1], now[4]);
    let permitted = match flags & sets::EXACT {
        0 => has & permitted,
        _ => permitted,
    };
    let inheritable = match flags {
        _ if flags & sets::SAME_INHERITABLE != 0 => join(now[2], now[5]),
        _ if flags & sets::ALL_INHERITABLE != 0 => permitted,
        _ => inheritable,
    };
    let [effective, permitted, inheritable] =
        [effective & permitted, permitted, inheritable].map(halves);
    let wanted: Sets = [
        effective.0,
        permitted.0,
        inheritable.0,
        effective.1,
        permitted.1,
        inheritable.1,
    ];
    let mut header = HEADER;
    let (header, data) = (header.as_mut_ptr().addr(), wanted.as_ptr().addr());
    // SAFETY: both have the kernel's layout.
    let set = unsafe { syscall(number::CAPSET, [header, data, 0, 0, 0, 0]) };
    named(number::CAPSET, set)
}

#[expect(clippy::cast_possible_truncation, reason = "that is the point")]
fn halves(set: u64) -> (u32, u32) {
    (set as u32, (set >> 32) as u32)
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// # Safety
/// The function makes system calls.
unsafe fn ambient(syscall: Syscall) -> Result<usize, Failed> {
    const PR_CAP_AMBIENT: usize = 47;
    const PR_CAP_AMBIENT_RAISE: usize = 2;
    // SAFETY: as the caller says.
    let now = unsafe { current(syscall) }?;
    let mut left = join(now[1], now[4]);
    while left != 0 {
        let capability = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        let args = [PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0, 0];
        // SAFETY: no pointers.
        let raised = unsafe { syscall(number::PRCTL, args) };
        named(number::PRCTL, raised)?;
    }
    Ok(0)
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    at: usize,
}

/// # Safety
/// The second argument leads to as many instructions as the third says.
unsafe fn filter([flags, at, length, ..]: [usize; 6], syscall: Syscall) -> Result<usize, Failed> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    let program = Program {
        length: u16::try_from(length).unwrap_or(0),
        at,
    };
    let args = [
        SECCOMP_SET_MODE_FILTER,
        flags,
        (&raw const program).addr(),
        0,
        0,
        0,
    ];
    // SAFETY: as the caller says.
    let set = unsafe { syscall(number::SECCOMP, args) };
    named(number::SECCOMP, set)
}

/// Room for `struct cmsghdr` with one descriptor.
#[repr(C)]
struct Rights {
    length: usize,
    level: i32,
    kind: i32,
    fd: i32,
    padding: u32,
}

/// `struct msghdr`.
#[repr(C)]
struct Message {
    name: usize,
    name_length: usize,
    parts: usize,
    parts_length: usize,
    control: usize,
    control_length: usize,
    flags: usize,
}

/// # Safety
/// The function makes system calls.
unsafe fn send(socket: usize, fd: usize, syscall: Syscall) -> Result<usize, Failed> {
    const SOL_SOCKET: i32 = 1;
    const SCM_RIGHTS: i32 = 1;
    const MSG_NOSIGNAL: usize = 0x4000;
    let rights = Rights {
        // Up to the end of the descriptor.
        length: 20,
        level: SOL_SOCKET,
        kind: SCM_RIGHTS,
        fd: i32::try_from(fd).unwrap_or(-1),
        padding: 0,
    };
    let byte = [0_u8];
    let part = [byte.as_ptr().addr(), byte.len()];
    let message = Message {
        name: 0,
        name_length: 0,
        parts: part.as_ptr().addr(),
        parts_length: 1,
        control: (&raw const rights).addr(),
        control_length: size_of::<Rights>(),
        flags: 0,
    };
    let args = [socket, (&raw const message).addr(), MSG_NOSIGNAL, 0, 0, 0];
    // SAFETY: a message of the kernel's layout, all parts of which are on this stack.
    let sent = unsafe { syscall(number::SENDMSG, args) };
    named(number::SENDMSG, sent)
}
