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
    pub(crate) const MMAP: u32 = 7;
    /// From here on the note is the number of the operation of the plan that failed.
    pub(crate) const SETNS: u32 = 16;
    pub(crate) const UNSHARE: u32 = 17;
    pub(crate) const FCHDIR: u32 = 18;
    pub(crate) const CHROOT: u32 = 19;
    pub(crate) const CHDIR: u32 = 20;
    pub(crate) const SETHOSTNAME: u32 = 21;
    pub(crate) const SETDOMAINNAME: u32 = 22;
    pub(crate) const MOUNT: u32 = 23;
    pub(crate) const SOCKET: u32 = 24;
    pub(crate) const LOOPBACK: u32 = 25;
    pub(crate) const SETGROUPS: u32 = 26;
    pub(crate) const SETRESGID: u32 = 27;
    pub(crate) const SETRESUID: u32 = 28;
    pub(crate) const PRCTL: u32 = 29;
    pub(crate) const FORK: u32 = 31;
    /// And the number of the system call: one of the lock-down. The note is the number of the
    /// operation of the plan.
    pub(crate) const LOCKDOWN: u32 = 0x1_0000;
}

/// One operation of the `join` role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// One of the constants of [`what`].
    pub(crate) what: u32,
    /// The number of a descriptor in the stage, or -1.
    pub(crate) fd: i32,
    pub(crate) value: u32,
    pub(crate) other: u64,
    /// Where its text begins, behind the instructions, and how long it is.
    pub(crate) at: u32,
    pub(crate) length: u32,
}

impl Instruction {
    /// How many words one takes.
    pub(crate) const WORDS: usize = 4;

    pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        [
            pair(self.what, self.fd.cast_unsigned()),
            self.value.into(),
            self.other,
            pair(self.at, self.length),
        ]
    }

    pub(crate) fn from_words([first, value, other, text]: [u64; Self::WORDS]) -> Self {
        Self {
            what: low(first),
            fd: low(first >> 32).cast_signed(),
            value: low(value),
            other,
            at: low(text),
            length: low(text >> 32),
        }
    }
}

/// The lower half of a word.
#[expect(clippy::cast_possible_truncation, reason = "that is what is wanted")]
pub(crate) const fn low(word: u64) -> u32 {
    word as u32
}

/// What precedes the instructions in the work of the `join` role, in words: the pid of a sibling, which the
/// kernel stores; how many instructions there are; the number of the plan's operation that is the first.
pub(crate) const WORK_HEADER: usize = 3;

/// The most bytes that the work of the `join` role may take.
pub(crate) const WORK_SIZE: usize = 512 * 1024;

pub(crate) mod what {
    /// Enter the namespace `fd` of the kind `value`, unless the link in `/proc/self/ns` that the text names leads to it.
    pub(crate) const JOIN: u32 = 1;
    /// [`JOIN`], and look first: where one is already must not be entered again.
    pub(crate) const JOIN_OTHER: u32 = 2;
    /// Make new namespaces of the kinds `value`.
    pub(crate) const UNSHARE: u32 = 3;
    /// Make the mounts private.
    pub(crate) const PRIVATE: u32 = 4;
    pub(crate) const HOSTNAME: u32 = 5;
    pub(crate) const DOMAINNAME: u32 = 6;
    pub(crate) const LOOPBACK_UP: u32 = 7;
    /// Make the directory `fd` the root and the working directory.
    pub(crate) const ROOT: u32 = 8;
    /// Make the directory `fd` the working directory.
    pub(crate) const DIR: u32 = 9;
    /// Make the text the working directory.
    pub(crate) const CHDIR: u32 = 10;
    /// Go on as a sibling, which is born into the pid namespace.
    pub(crate) const FORK: u32 = 11;
    /// Keep capabilities when the user id changes.
    pub(crate) const KEEP_CAPS: u32 = 12;
    /// Set the groups to those in the text, 4 bytes each; `other` is one of [`refused`](super::refused).
    pub(crate) const GROUPS: u32 = 13;
    /// Take on the group id `value`; with `other`, where it does not exist, keep one's own if that does.
    pub(crate) const GID: u32 = 14;
    /// Take on the user id `value`, in the same way.
    pub(crate) const UID: u32 = 15;
}

/// What it means if the groups may not be set.
pub(crate) mod refused {
    pub(crate) const FAILS: u64 = 0;
    pub(crate) const OK: u64 = 1;
    /// There are none anyway.
    pub(crate) const OK_IF_NONE: u64 = 2;
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
    /// Die with the caller, by the signal whose number begins at bit [`DEATH_SIGNAL_SHIFT`].
    pub(crate) const DIE_WITH_PARENT: u32 = 64;
    pub(crate) const DEATH_SIGNAL_SHIFT: u32 = 24;
    /// The terminal becomes the controlling one of the program's session.
    pub(crate) const CONTROLLING_TERMINAL: u32 = 256;
    /// The program leads a process group, in the foreground of the terminal if that is one.
    pub(crate) const FOREGROUND: u32 = 512;
    /// First do the work of the `join` role.
    pub(crate) const JOIN: u32 = 1 << 16;
}
