//! Signal masks, dispositions and the set-up timer.

use super::raw::syscall;
use rustix::io::Errno;
use std::os::fd::{FromRawFd, OwnedFd};

/// The kernel's signal set: bit n-1 is signal n.
pub(crate) type SigSet = u64;

/// The highest signal number.
pub(crate) const SIGNALS: u32 = 64;

const SET_SIZE: usize = size_of::<SigSet>();

/// `rt_sigprocmask(SIG_SETMASK)`; returns the mask that was in force.
pub(crate) fn set_mask(mask: SigSet) -> Result<SigSet, Errno> {
    let mut old: SigSet = 0;
    let args = [
        libc::SIG_SETMASK.unsigned_abs() as usize,
        core::ptr::from_ref(&mask) as usize,
        core::ptr::from_mut(&mut old) as usize,
        SET_SIZE,
        0,
        0,
    ];
    // SAFETY: both sets live on this stack and have the kernel's size.
    unsafe { syscall(libc::SYS_rt_sigprocmask, args) }.map(|_| old)
}

/// Leaves the signals of the program to its own threads. The calling one takes none but those by which the C library
/// asks every thread for something, as for new ids, and waits for the answer.
pub(crate) fn leave_to_others() {
    let libc_own = (libc::SIGSYS + 1..libc::SIGRTMIN())
        .filter_map(only)
        .fold(0, |set, signal| set | signal);
    // A mask that is valid cannot be refused.
    let _ = set_mask(!libc_own);
}

/// `rt_sigprocmask(SIG_BLOCK)`; returns the mask that was in force.
pub(crate) fn block(more: SigSet) -> Result<SigSet, Errno> {
    let before = set_mask(SigSet::MAX)?;
    set_mask(before | more).map(|_| before)
}

/// `rt_sigprocmask(SIG_UNBLOCK)`.
pub(crate) fn unblock(signals: SigSet) -> Result<(), Errno> {
    let before = set_mask(SigSet::MAX)?;
    set_mask(before & !signals).map(drop)
}

/// `signalfd4(2)`, not blocking.
pub(crate) fn descriptor(signals: SigSet) -> Result<OwnedFd, Errno> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    let args = [
        usize::MAX,
        core::ptr::from_ref(&signals) as usize,
        SET_SIZE,
        flags.unsigned_abs() as usize,
        0,
        0,
    ];
    // SAFETY: the set lives on this stack and has the kernel's size.
    let fd = unsafe { syscall(libc::SYS_signalfd4, args) }?;
    let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kernel's `struct sigaction`, whose tail differs between architectures but is zero here.
#[repr(C)]
#[derive(Default)]
struct KernelSigaction {
    handler: usize,
    flags: usize,
    tail: [usize; 4],
}

fn sigaction(
    signal: u32,
    new: Option<&KernelSigaction>,
    old: Option<&mut KernelSigaction>,
) -> Result<(), Errno> {
    let args = [
        signal as usize,
        new.map_or(0, |new| core::ptr::from_ref(new) as usize),
        old.map_or(0, |old| core::ptr::from_mut(old) as usize),
        SET_SIZE,
        0,
        0,
    ];
    // SAFETY: the structures are at least as large as the kernel's on every architecture.
    unsafe { syscall(libc::SYS_rt_sigaction, args) }.map(drop)
}

/// Gives a signal its default action.
pub(crate) fn reset(signal: u32) -> Result<(), Errno> {
    sigaction(signal, Some(&KernelSigaction::default()), None)
}

/// Gives a signal its default action, unless it is ignored.
pub(crate) fn reset_handled(signal: u32) -> Result<(), Errno> {
    let mut action = KernelSigaction::default();
    sigaction(signal, None, Some(&mut action))?;
    match action.handler {
        libc::SIG_DFL | libc::SIG_IGN => Ok(()),
        _ => reset(signal),
    }
}

/// The signals that programs ignore, or that shells and supervisors start them ignoring.
pub(crate) const USUALLY_IGNORED: SigSet = set(&[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGUSR1,
    libc::SIGPIPE,
    libc::SIGTERM,
    libc::SIGCHLD,
]);

const fn set(signals: &[i32]) -> SigSet {
    match signals {
        [] => 0,
        [first, rest @ ..] => 1 << (*first - 1) | set(rest),
    }
}

/// The set of one signal, if there is one of that number.
pub(crate) fn only(signal: i32) -> Option<SigSet> {
    let bit = u32::try_from(signal).ok()?.checked_sub(1)?;
    1_u64.checked_shl(bit)
}

/// The signals that this process ignores, as a set.
pub(crate) fn ignored() -> SigSet {
    (1..=SIGNALS)
        .filter(|&signal| {
            let mut action = KernelSigaction::default();
            sigaction(signal, None, Some(&mut action)).is_ok() && action.handler == libc::SIG_IGN
        })
        .fold(0, |set, signal| set | 1 << (signal - 1))
}

/// Whether the kernel reaps this process's children itself, since nobody is to be told of their end.
pub(crate) fn children_vanish() -> bool {
    let mut action = KernelSigaction::default();
    let asked = sigaction(libc::SIGCHLD.unsigned_abs(), None, Some(&mut action));
    let no_wait = libc::SA_NOCLDWAIT.unsigned_abs() as usize;
    asked.is_ok() && (action.handler == libc::SIG_IGN || action.flags & no_wait != 0)
}

/// The signal of a timer that [`exit_when_expired`] listens to: the last real-time signal, which nobody
/// sends.
pub(crate) const EXPIRED: i32 = 64;

/// How a child ends whose time is over, where it cannot be killed from inside.
pub(crate) const EXPIRED_STATUS: i32 = 124;

extern "C" fn expired(_: libc::c_int) {
    super::exec::exit_group(EXPIRED_STATUS)
}

/// Has [`EXPIRED`] end this process until it execs. As process 1 of a pid namespace it ignores every
/// signal from inside that it has no handler for, `SIGKILL` as well, so a timer can end it only by
/// a handler.
pub(crate) fn exit_when_expired() -> Result<(), Errno> {
    let handler = expired as extern "C" fn(libc::c_int) as usize;
    // x86_64 delivers no signal without a function to return by, which is never called here.
    let (flags, restorer) = if cfg!(target_arch = "x86_64") {
        (0x0400_0000, handler)
    } else {
        (0, 0)
    };
    let action = KernelSigaction {
        handler,
        flags,
        tail: [restorer, 0, 0, 0],
    };
    sigaction(EXPIRED.unsigned_abs(), Some(&action), None)
}

/// `timer_create(2)`: a timer that sends this process a signal, unless it execs before: timers end at
/// exec.
pub(crate) fn create_timer(signal: i32) -> Result<i32, Errno> {
    #[repr(C)]
    struct Sigevent {
        value: usize,
        signo: i32,
        notify: i32,
        pad: [usize; 6],
    }
    let event = Sigevent {
        value: 0,
        signo: signal,
        notify: libc::SIGEV_SIGNAL,
        pad: [0; 6],
    };
    let mut timer: i32 = 0;
    let args = [
        libc::CLOCK_MONOTONIC.unsigned_abs() as usize,
        core::ptr::from_ref(&event) as usize,
        core::ptr::from_mut(&mut timer) as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the event has the kernel's size of 64 bytes; the timer id is an int.
    unsafe { syscall(libc::SYS_timer_create, args) }.map(|_| timer)
}

/// `timer_settime(2)`: lets a timer expire once, after this time.
pub(crate) fn start_timer(timer: i32, seconds: u64, nanoseconds: u32) -> Result<(), Errno> {
    let when: [u64; 4] = [0, 0, seconds, u64::from(nanoseconds)];
    let args = [
        timer.unsigned_abs() as usize,
        0,
        when.as_ptr() as usize,
        0,
        0,
        0,
    ];
    // SAFETY: two 64-bit timespecs, as this system call takes on 64-bit architectures.
    unsafe { syscall(libc::SYS_timer_settime, args) }.map(drop)
}
