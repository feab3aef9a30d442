//! What a caller can do to its signals before it starts a program.
#![allow(unsafe_code, reason = "sigaction and sigprocmask take pointers")]

use std::ptr;

/// Ignores a signal from now on.
pub(crate) fn ignore(signal: libc::c_int) {
    // SAFETY: SIG_IGN is no function of ours that could run at a bad time.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Has a function of the caller's handle a signal from now on.
pub(crate) fn handle(signal: libc::c_int) {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler = nothing as extern "C" fn(libc::c_int);
    // SAFETY: the handler does nothing.
    let before = unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Blocks all signals for this thread.
pub(crate) fn block_all() {
    // SAFETY: all-zero is a valid set, which sigfillset then fills.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `all` is ours to be written to.
    let filled = unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: `all` is a filled set, and a null pointer asks for no old one.
    let blocked = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut()) };
    assert_eq!((filled, blocked), (0, 0));
}
