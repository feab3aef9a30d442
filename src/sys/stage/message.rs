//! What the second stage and the caller tell each other over a socket that keeps message boundaries.
//!
//! The caller does not trust it: a program that is root in its sandbox can get at the socket.

/// A value without padding, of which any bytes are valid.
///
/// # Safety
/// As said.
pub(super) unsafe trait Plain {}

/// The beginning of every report of the stage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// One of the constants below.
    pub(crate) kind: u32,
    /// `ENDED`: the status in the encoding of `wait(2)`. `FAILED`: the errno. `STOPPED`: the signal.
    pub(crate) value: i32,
    /// `FAILED`: the system call, as a constant of [`call`].
    pub(crate) call: u32,
    /// `FAILED`: what the stage saw, as a constant of [`note`].
    pub(crate) note: u32,
}

/// The program is held at the gate.
pub(crate) const AT_GATE: u32 = 1;
/// The program has been executed; without a reaper: is about to be.
pub(crate) const STARTED: u32 = 2;
/// The program could not be executed. The head of its file follows, if the note says so.
pub(crate) const FAILED: u32 = 3;
/// The program has ended. Its `struct rusage` follows.
pub(crate) const ENDED: u32 = 4;
/// The program has been stopped.
pub(crate) const STOPPED: u32 = 5;
/// The program goes on.
pub(crate) const CONTINUED: u32 = 6;

pub(crate) mod call {
    pub(crate) const EXECVE: u32 = 1;
    pub(crate) const CLONE: u32 = 2;
    pub(crate) const SETSID: u32 = 3;
    pub(crate) const IOCTL: u32 = 4;
    pub(crate) const SETPGID: u32 = 5;
    pub(crate) const SIGNALFD: u32 = 6;
}

pub(crate) mod note {
    pub(crate) const NOTHING: u32 = 0;
    /// The program exists, although the errno says otherwise; the head of its file follows.
    pub(crate) const EXISTS: u32 = 1;
    pub(crate) const NOEXEC: u32 = 2;
    pub(crate) const NOT_EXECUTABLE: u32 = 3;
}

/// Enough for the program headers and the interpreter's path of the usual ELF file.
pub(crate) const HEAD: usize = 1024;

/// The kernel's `struct rusage`, in words.
pub(super) type Usage = [u64; 18];

/// [`ENDED`].
#[repr(C)]
pub(super) struct Ended {
    pub(super) report: Report,
    pub(super) usage: Usage,
}

/// [`FAILED`] with the head of the program's file.
#[repr(C)]
pub(super) struct Failed {
    pub(super) report: Report,
    pub(super) head: [u8; HEAD],
}

/// What the caller asks for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// One of the constants below.
    pub(crate) kind: u32,
    /// [`SIGNAL`]: its number.
    pub(crate) value: u32,
}

/// Open the gate.
pub(crate) const RELEASE: u32 = 1;
/// Send the program a signal.
pub(crate) const SIGNAL: u32 = 2;
/// The caller has read the last [`STOPPED`] or [`CONTINUED`].
pub(crate) const SEEN: u32 = 3;

// SAFETY: integers without gaps, here and below.
unsafe impl Plain for Report {}
// SAFETY: as above.
unsafe impl Plain for Ended {}
// SAFETY: as above.
unsafe impl Plain for Failed {}

/// What the stage is to do: bits of the settings.
pub(crate) mod setting {
    /// Clone the program, reap, forward signals, as PID 1. Without it, exec in place.
    pub(crate) const REAPER: u32 = 1;
    /// Wait for [`RELEASE`](super::RELEASE) before the program is executed.
    pub(crate) const GATE: u32 = 2;
    /// When the program has ended, wait for all others instead of ending them.
    pub(crate) const WAIT_FOR_ALL: u32 = 4;
    /// A process group for the program, which signals are forwarded to as a whole.
    pub(crate) const SIGNAL_GROUP: u32 = 8;
    /// A session for the program.
    pub(crate) const NEW_SESSION: u32 = 16;
    /// Without a pid namespace: reap what descends from the program, and end it in the kernel's stead.
    pub(crate) const SUBREAPER: u32 = 32;
    /// Die with the caller.
    pub(crate) const DIE_WITH_PARENT: u32 = 64;
    /// The terminal becomes the controlling one of the program's session.
    pub(crate) const CONTROLLING_TERMINAL: u32 = 256;
    /// The program leads a process group, in the foreground of the terminal if that is one.
    pub(crate) const FOREGROUND: u32 = 512;
}
