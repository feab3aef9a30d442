//! The system calls of the second stage, with nothing but `core`.

use super::syscall::{self, Entry};

/// A positive errno.
pub(super) type Errno = i32;

/// A null-terminated string, and an array of them that ends with a null pointer.
pub(super) type Text = *const u8;
pub(super) type Texts = *const Text;

pub(super) const EINTR: Errno = 4;
pub(super) const ENOENT: Errno = 2;
pub(super) const EACCES: Errno = 13;
pub(super) const ENODEV: Errno = 19;
pub(super) const ENOTDIR: Errno = 20;
pub(super) const ENOTTY: Errno = 25;
pub(super) const ETIMEDOUT: Errno = 110;
pub(super) const ESTALE: Errno = 116;

pub(super) const SIGKILL: u32 = 9;
pub(super) const SIGCHLD: u32 = 17;
pub(super) const SIGCONT: u32 = 18;

const CLONE_VM: usize = 0x100;
const CLONE_VFORK: usize = 0x4000;
const CLONE_PARENT: usize = 0x8000;
const CLONE_PARENT_SETTID: usize = 0x10_0000;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const CLOSE_RANGE: usize = 436;
    pub(super) const CLONE: usize = 56;
    pub(super) const CLOSE: usize = 3;
    pub(super) const EXECVE: usize = 59;
    pub(super) const EXIT_GROUP: usize = 231;
    pub(super) const FACCESSAT: usize = 269;
    pub(super) const FCNTL: usize = 72;
    pub(super) const GETPID: usize = 39;
    pub(super) const IOCTL: usize = 16;
    pub(super) const KILL: usize = 62;
    pub(super) const OPENAT: usize = 257;
    pub(super) const PPOLL: usize = 271;
    pub(super) const PRCTL: usize = 157;
    pub(super) const PREAD64: usize = 17;
    pub(super) const READ: usize = 0;
    pub(super) const RECVFROM: usize = 45;
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const RT_SIGQUEUEINFO: usize = 129;
    pub(super) const SENDTO: usize = 44;
    pub(super) const SETPGID: usize = 109;
    pub(super) const SETSID: usize = 112;
    pub(super) const SIGNALFD4: usize = 289;
    pub(super) const STATFS: usize = 137;
    pub(super) const WAITID: usize = 247;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const CLOSE_RANGE: usize = 436;
    pub(super) const CLONE: usize = 220;
    pub(super) const CLOSE: usize = 57;
    pub(super) const EXECVE: usize = 221;
    pub(super) const EXIT_GROUP: usize = 94;
    pub(super) const FACCESSAT: usize = 48;
    pub(super) const FCNTL: usize = 25;
    pub(super) const GETPID: usize = 172;
    pub(super) const IOCTL: usize = 29;
    pub(super) const KILL: usize = 129;
    pub(super) const OPENAT: usize = 56;
    pub(super) const PPOLL: usize = 73;
    pub(super) const PRCTL: usize = 167;
    pub(super) const PREAD64: usize = 67;
    pub(super) const READ: usize = 63;
    pub(super) const RECVFROM: usize = 207;
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const RT_SIGQUEUEINFO: usize = 138;
    pub(super) const SENDTO: usize = 206;
    pub(super) const SETPGID: usize = 154;
    pub(super) const SETSID: usize = 157;
    pub(super) const SIGNALFD4: usize = 74;
    pub(super) const STATFS: usize = 43;
    pub(super) const WAITID: usize = 95;
}

/// # Safety
/// The arguments must be valid for that system call.
#[inline(always)]
pub(super) unsafe fn syscall<const N: usize>(
    number: usize,
    args: [usize; N],
) -> Result<usize, Errno> {
    let arg = |index: usize| args.get(index).copied().unwrap_or(0);
    let args = [arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)];
    // SAFETY: as the caller says.
    result(unsafe { syscall::syscall(number, args) })
}

/// The system call, for [`lockdown::apply`](super::lockdown::apply).
///
/// # Safety
/// The arguments must be valid for that system call.
pub(super) unsafe fn any(number: usize, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: as the caller says.
    unsafe { syscall(number, args) }
}

fn result(value: isize) -> Result<usize, Errno> {
    match value {
        -4095..=-1 => Err(Errno::try_from(-value).unwrap_or(0)),
        _ => Ok(value.cast_unsigned()),
    }
}

pub(super) fn number(value: i32) -> usize {
    value.cast_unsigned() as usize
}

/// Room for the child of [`vfork`].
#[repr(C, align(16))]
pub(super) struct Stack(pub(super) core::mem::MaybeUninit<[u8; 8192]>);

/// Room for a [`sibling`], which lives on: as process 1 it starts the program from here.
#[repr(C, align(16))]
pub(super) struct LargeStack(pub(super) core::mem::MaybeUninit<[u8; 65_536]>);

/// A child on this memory, which runs `entry(data)` on a stack of its own. Returns when it has exec'd or
/// exited.
pub(super) fn vfork<T>(stack: &mut Stack, entry: Entry<T>, data: &mut T) -> Result<i32, Errno> {
    let top = (&raw mut *stack).addr() + size_of::<Stack>();
    let flags = CLONE_VM | CLONE_VFORK | SIGCHLD as usize;
    // SAFETY: the stack is the child's alone, and the parent is suspended meanwhile.
    unsafe { clone(flags, top, entry, data, core::ptr::null_mut()) }
}

/// A sibling on this memory, a child of the caller's parent. Its pid is stored before it runs.
///
/// # Safety
/// Whoever calls this exits without using the stack or the data again.
pub(super) unsafe fn sibling<T>(
    stack: &mut LargeStack,
    entry: Entry<T>,
    data: &mut T,
    pid: *mut u32,
) -> Result<i32, Errno> {
    let top = (&raw mut *stack).addr() + size_of::<LargeStack>();
    let flags = CLONE_VM | CLONE_PARENT | CLONE_PARENT_SETTID;
    // SAFETY: as the caller says.
    unsafe { clone(flags, top, entry, data, pid) }
}

/// # Safety
/// As long as the child uses the stack below `top` and the data, nobody else does; `pid` is null or can be
/// written to.
unsafe fn clone<T>(
    flags: usize,
    top: usize,
    entry: Entry<T>,
    data: &mut T,
    pid: *mut u32,
) -> Result<i32, Errno> {
    let args = [flags, top, pid.addr()];
    // SAFETY: as the caller says.
    let value = unsafe { syscall::clone(number::CLONE, args, entry, core::ptr::from_mut(data)) };
    result(value).map(|pid| i32::try_from(pid).unwrap_or(0))
}

pub(super) fn exit(status: i32) -> ! {
    // A filter that asks somebody may refuse it once.
    for _ in 0..2 {
        // SAFETY: takes no pointer and does not return, unless it is refused.
        let _ = unsafe { syscall(number::EXIT_GROUP, [number(status)]) };
    }
    syscall::trap()
}

/// # Safety
/// A string and two arrays, all null-terminated.
pub(super) unsafe fn execve(path: Text, argv: Texts, envp: Texts) -> Errno {
    let args = [path.addr(), argv.addr(), envp.addr()];
    // SAFETY: as the caller says.
    match unsafe { syscall(number::EXECVE, args) } {
        Ok(_) => 0,
        Err(errno) => errno,
    }
}

/// Opens a file for reading without waiting for anything.
///
/// # Safety
/// A null-terminated string.
pub(super) unsafe fn open(path: Text) -> Result<i32, Errno> {
    const AT_FDCWD: i32 = -100;
    const O_NONBLOCK: usize = 0o4000;
    const O_CLOEXEC: usize = 0o2_000_000;
    let args = [number(AT_FDCWD), path.addr(), O_NONBLOCK | O_CLOEXEC];
    // SAFETY: as the caller says.
    let fd = unsafe { syscall(number::OPENAT, args) }?;
    Ok(i32::try_from(fd).unwrap_or(-1))
}

/// Whether the file may not be executed by its mode.
///
/// # Safety
/// A null-terminated string.
pub(super) unsafe fn lacks_execute(path: Text) -> bool {
    const AT_FDCWD: i32 = -100;
    const X_OK: usize = 1;
    // SAFETY: as the caller says.
    unsafe { syscall(number::FACCESSAT, [number(AT_FDCWD), path.addr(), X_OK]) }.is_err()
}

/// Whether the file system that a path is on is mounted noexec.
///
/// # Safety
/// A null-terminated string.
pub(super) unsafe fn is_noexec(path: Text) -> bool {
    const ST_NOEXEC: u64 = 8;
    const FLAGS: usize = 10;
    // The 64-bit struct statfs has fifteen words.
    let mut statfs = [0_u64; 15];
    let args = [path.addr(), statfs.as_mut_ptr().addr()];
    // SAFETY: as the caller says, and a structure of the kernel's size.
    let found = unsafe { syscall(number::STATFS, args) }.is_ok();
    found
        && statfs
            .get(FLAGS)
            .is_some_and(|flags| flags & ST_NOEXEC != 0)
}

pub(super) fn read(fd: i32, bytes: &mut [u8]) -> Result<usize, Errno> {
    let args = [number(fd), bytes.as_mut_ptr().addr(), bytes.len()];
    // SAFETY: a buffer of that length.
    unsafe { syscall(number::READ, args) }
}

/// Reads from the beginning of a file.
pub(super) fn read_first(fd: i32, bytes: &mut [u8]) -> Result<usize, Errno> {
    let args = [number(fd), bytes.as_mut_ptr().addr(), bytes.len(), 0];
    // SAFETY: a buffer of that length.
    unsafe { syscall(number::PREAD64, args) }
}

/// Sends a message, or drops it: a peer that does not read must not stop anything here.
pub(super) fn send<T: super::message::Plain>(fd: i32, message: &T) -> Result<(), Errno> {
    const MSG_DONTWAIT: usize = 0x40;
    const MSG_NOSIGNAL: usize = 0x4000;
    let args = [
        number(fd),
        core::ptr::from_ref(message).addr(),
        size_of::<T>(),
        MSG_DONTWAIT | MSG_NOSIGNAL,
    ];
    // SAFETY: a plain value of that size, without padding.
    unsafe { syscall(number::SENDTO, args) }.map(drop)
}

/// Receives a message; `Ok(None)` at the end.
pub(super) fn receive(fd: i32) -> Result<Option<super::message::Request>, Errno> {
    let mut request = super::message::Request::default();
    let size = size_of::<super::message::Request>();
    let args = [number(fd), (&raw mut request).addr(), size, 0];
    loop {
        // SAFETY: a plain value of that size, any bytes of which are valid.
        match unsafe { syscall(number::RECVFROM, args) } {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(request)),
            Err(EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

pub(super) fn close(fd: i32) {
    // SAFETY: no pointers; the descriptor is not used again.
    let _ = unsafe { syscall(number::CLOSE, [number(fd)]) };
}

pub(super) fn close_range(first: u32, last: u32) {
    // SAFETY: no pointers; none of the descriptors is used again.
    let _ = unsafe { syscall(number::CLOSE_RANGE, [first as usize, last as usize]) };
}

pub(super) fn set_cloexec(fd: i32) {
    const F_SETFD: usize = 2;
    const FD_CLOEXEC: usize = 1;
    // SAFETY: no pointers.
    let _ = unsafe { syscall(number::FCNTL, [number(fd), F_SETFD, FD_CLOEXEC]) };
}

/// A descriptor to wait for.
#[repr(C)]
pub(super) struct PollFd {
    pub(super) fd: i32,
    pub(super) events: i16,
    pub(super) revents: i16,
}

impl PollFd {
    pub(super) const IN: i16 = 1;

    pub(super) fn new(fd: i32) -> Self {
        Self {
            fd,
            events: Self::IN,
            revents: 0,
        }
    }
}

/// Waits until one of them has something, without a limit; or only looks.
pub(super) fn poll(fds: &mut [PollFd], wait: bool) -> Result<usize, Errno> {
    let now = [0_u64; 2];
    let limit = if wait { 0 } else { now.as_ptr().addr() };
    let args = [fds.as_mut_ptr().addr(), fds.len(), limit];
    // SAFETY: an array of that length, and a timespec or null.
    unsafe { syscall(number::PPOLL, args) }
}

/// Replaces the signal mask: bit n-1 is signal n.
pub(super) fn set_signal_mask(mask: u64) -> Result<(), Errno> {
    const SIG_SETMASK: usize = 2;
    let args = [
        SIG_SETMASK,
        core::ptr::from_ref(&mask).addr(),
        0,
        size_of::<u64>(),
    ];
    // SAFETY: a set of the kernel's size.
    unsafe { syscall(number::RT_SIGPROCMASK, args) }.map(drop)
}

/// A descriptor that all signals are read from.
pub(super) fn signalfd() -> Result<i32, Errno> {
    const SFD_NONBLOCK: usize = 0o4000;
    const SFD_CLOEXEC: usize = 0o2_000_000;
    let mask = u64::MAX;
    let args = [
        number(-1),
        core::ptr::from_ref(&mask).addr(),
        size_of::<u64>(),
        SFD_NONBLOCK | SFD_CLOEXEC,
    ];
    // SAFETY: a set of the kernel's size.
    let fd = unsafe { syscall(number::SIGNALFD4, args) }?;
    Ok(i32::try_from(fd).unwrap_or(-1))
}

pub(super) fn kill(pid: i32, signal: u32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(number::KILL, [number(pid), signal as usize]) }.map(drop)
}

/// Sends a signal with a value, as sigqueue(3) does.
pub(super) fn queue(pid: i32, signal: u32, value: u64) -> Result<(), Errno> {
    const SI_QUEUE: i32 = -1;
    let mut info = [0_u64; 16];
    let [first, second, _, data, ..] = &mut info;
    *first = u64::from(signal);
    *second = u64::from(SI_QUEUE.cast_unsigned());
    *data = value;
    let args = [number(pid), signal as usize, info.as_ptr().addr()];
    // SAFETY: a siginfo of the kernel's size.
    unsafe { syscall(number::RT_SIGQUEUEINFO, args) }.map(drop)
}

/// A child that has changed its state.
#[derive(Clone, Copy)]
pub(super) struct Waited {
    pub(super) pid: i32,
    /// `CLD_*`
    pub(super) code: i32,
    /// The exit code or the signal.
    pub(super) value: i32,
}

pub(super) const CLD_EXITED: i32 = 1;
pub(super) const CLD_DUMPED: i32 = 3;
pub(super) const CLD_STOPPED: i32 = 5;
pub(super) const CLD_CONTINUED: i32 = 6;

pub(super) const WSTOPPED: usize = 2;
pub(super) const WEXITED: usize = 4;
pub(super) const WCONTINUED: usize = 8;
pub(super) const WNOHANG: usize = 1;
pub(super) const WNOWAIT: usize = 0x100_0000;

/// One child that has ended, or stopped: any, or this one. With [`WNOHANG`] `Ok(None)` if there is none at
/// present.
pub(super) fn wait(
    pid: Option<i32>,
    what: usize,
    usage: &mut super::message::Usage,
) -> Result<Option<Waited>, Errno> {
    const P_ALL: usize = 0;
    const P_PID: usize = 1;
    const WALL: usize = 0x4000_0000;
    let mut info = [0_i32; 32];
    let args = [
        if pid.is_some() { P_PID } else { P_ALL },
        number(pid.unwrap_or(0)),
        info.as_mut_ptr().addr(),
        what | WALL,
        core::ptr::from_mut(usage).addr(),
    ];
    // SAFETY: a siginfo and a rusage of the kernel's size.
    unsafe { syscall(number::WAITID, args) }?;
    let [_, _, code, _, pid, _, value, ..] = info;
    Ok((pid != 0).then_some(Waited { pid, code, value }))
}

/// `prctl` with one number.
pub(super) fn prctl(option: usize, value: usize) {
    // SAFETY: the options used take no pointer.
    let _ = unsafe { syscall(number::PRCTL, [option, value]) };
}

/// Has the kernel leave orphaned descendants to this process.
pub(super) fn become_subreaper() {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

/// Has the kernel send a signal when the parent ends.
pub(super) fn die_with_parent(signal: u32) {
    const PR_SET_PDEATHSIG: usize = 1;
    prctl(PR_SET_PDEATHSIG, signal as usize);
}

/// The name that ps shows.
pub(super) fn set_name(name: &core::ffi::CStr) {
    const PR_SET_NAME: usize = 15;
    // SAFETY: a null-terminated string.
    let _ = unsafe { syscall(number::PRCTL, [PR_SET_NAME, name.as_ptr().addr()]) };
}

pub(super) fn new_session() -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { syscall::<0>(number::SETSID, []) }.map(drop)
}

/// Makes the caller the leader of a process group of its own.
pub(super) fn new_group() -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(number::SETPGID, [0, 0]) }.map(drop)
}

/// Makes a terminal the controlling one of the caller's session.
pub(super) fn take_terminal(fd: i32) -> Result<(), Errno> {
    const TIOCSCTTY: usize = 0x540e;
    // SAFETY: takes a number, not a pointer.
    unsafe { syscall(number::IOCTL, [number(fd), TIOCSCTTY, 0]) }.map(drop)
}

/// Makes the caller's own process group the foreground one of its session's terminal. `SIGTTOU` is blocked.
pub(super) fn to_foreground(fd: i32) -> Result<(), Errno> {
    const TIOCSPGRP: usize = 0x5410;
    // SAFETY: no pointers.
    let pid = unsafe { syscall::<0>(number::GETPID, []) }?;
    let group = i32::try_from(pid).unwrap_or(0);
    let args = [number(fd), TIOCSPGRP, core::ptr::from_ref(&group).addr()];
    // SAFETY: a pid_t for the kernel to read.
    unsafe { syscall(number::IOCTL, args) }.map(drop)
}
