//! The unsafe calls of the tests that storm, stop and crash.
#![allow(unsafe_code, reason = "system calls that no safe wrapper offers")]
#![allow(dead_code, reason = "every test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails by a panic")]

use std::io;
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// How often [`count`]'s handler ran in the process that installed it.
static COUNTED: AtomicUsize = AtomicUsize::new(0);
/// How often it ran in any other.
static ELSEWHERE: AtomicUsize = AtomicUsize::new(0);
static OWNER: AtomicI32 = AtomicI32::new(0);

extern "C" fn handler(_: libc::c_int) {
    // rustix asks the kernel; a child with shared memory has another pid and the same counters.
    let pid = rustix::process::getpid().as_raw_pid();
    let counter = if pid == OWNER.load(Ordering::Relaxed) {
        &COUNTED
    } else {
        &ELSEWHERE
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Installs a handler that counts; without SA_RESTART, so that it interrupts what it can.
pub(crate) fn count(signal: i32) {
    OWNER.store(rustix::process::getpid().as_raw_pid(), Ordering::Relaxed);
    set_action(signal, handler as *const () as usize);
}

pub(crate) fn counted() -> usize {
    COUNTED.load(Ordering::Relaxed)
}

pub(crate) fn counted_elsewhere() -> usize {
    ELSEWHERE.load(Ordering::Relaxed)
}

pub(crate) fn ignore(signal: i32) {
    set_action(signal, libc::SIG_IGN);
}

fn set_action(signal: i32, handler: usize) {
    // SAFETY: all-zero is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler;
    // SAFETY: the handler is SIG_IGN or a function that does atomics and one system call.
    let result = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Closes a standard stream, which nobody owns.
pub(crate) fn close(stream: i32) {
    assert!((0..=2).contains(&stream));
    // SAFETY: nothing owns the standard streams; std looks for them again at each use.
    assert_eq!(unsafe { libc::close(stream) }, 0);
}

pub(crate) fn set_errno(errno: i32) {
    // SAFETY: takes nothing, and returns an address.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: it is that of the calling thread's own errno.
    unsafe { *location = errno };
}

pub(crate) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

/// Runs `body` in the forked child of a command.
pub(crate) fn before_exec(
    command: &mut std::process::Command,
    body: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> &mut std::process::Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: used in a process with one thread, so no lock is held in the child.
    unsafe { command.pre_exec(body) }
}

/// Lets `uname(2)` say 2.6 from now on, for this process and those that it starts.
pub(crate) fn pretend_old_kernel() {
    const UNAME26: libc::c_ulong = 0x002_0000;
    // SAFETY: takes a number; changes nothing but what uname says.
    let result = unsafe { libc::personality(UNAME26) };
    assert_ne!(result, -1, "{}", io::Error::last_os_error());
}
