//! What the child tells its parent, in memory that both see.

use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};
use rustix::io::Errno;
use rustix::thread::futex;

macro_rules! calls {
    ($($name:ident => $text:literal,)*) => {
        /// The system calls that the child makes, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub(crate) enum Call { $($name,)* }

        impl Call {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name of the system call with this number, if the child makes it.
            pub(crate) fn numbered(number: libc::c_long) -> Option<Self> {
                Some(match number {
                    libc::SYS_capget => Self::Capget,
                    libc::SYS_capset => Self::Capset,
                    libc::SYS_chdir => Self::Chdir,
                    libc::SYS_close => Self::Close,
                    libc::SYS_fchdir => Self::Fchdir,
                    libc::SYS_fcntl => Self::Fcntl,
                    libc::SYS_ioprio_set => Self::IoprioSet,
                    libc::SYS_landlock_restrict_self => Self::LandlockRestrictSelf,
                    libc::SYS_openat2 => Self::Openat2,
                    libc::SYS_prctl => Self::Prctl,
                    libc::SYS_prlimit64 => Self::Prlimit,
                    libc::SYS_sched_setaffinity => Self::SchedSetaffinity,
                    libc::SYS_seccomp => Self::Seccomp,
                    libc::SYS_sendmsg => Self::Sendmsg,
                    libc::SYS_setgroups => Self::Setgroups,
                    libc::SYS_setns => Self::Setns,
                    libc::SYS_setpriority => Self::Setpriority,
                    libc::SYS_setresgid => Self::Setresgid,
                    libc::SYS_setresuid => Self::Setresuid,
                    _ => return None,
                })
            }

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

calls! {
    Chdir => "chdir",
    Chroot => "chroot",
    Capget => "capget",
    Capset => "capset",
    Clone => "clone",
    Close => "close",
    CloseRange => "close_range",
    Dup => "dup3",
    Execve => "execve",
    Execveat => "execveat",
    Fchdir => "fchdir",
    Fchmod => "fchmod",
    Fcntl => "fcntl",
    Fsconfig => "fsconfig",
    Fsmount => "fsmount",
    Fsopen => "fsopen",
    Fstat => "fstat",
    Fstatfs => "fstatfs",
    Futex => "futex",
    Ioctl => "ioctl",
    IoprioSet => "ioprio_set",
    LandlockRestrictSelf => "landlock_restrict_self",
    Mkdirat => "mkdirat",
    Mmap => "mmap",
    Mknodat => "mknodat",
    Mount => "mount",
    MountSetattr => "mount_setattr",
    MoveMount => "move_mount",
    OpenTree => "open_tree",
    Openat => "openat",
    Openat2 => "openat2",
    PivotRoot => "pivot_root",
    Prctl => "prctl",
    Pread => "pread64",
    Prlimit => "prlimit64",
    Read => "read",
    SchedSetaffinity => "sched_setaffinity",
    Seccomp => "seccomp",
    Sendmsg => "sendmsg",
    Setdomainname => "setdomainname",
    Setgroups => "setgroups",
    Setns => "setns",
    Setpgid => "setpgid",
    Setpriority => "setpriority",
    Sethostname => "sethostname",
    Setresgid => "setresgid",
    Setresuid => "setresuid",
    Setsid => "setsid",
    Signalfd => "signalfd4",
    Sigaction => "rt_sigaction",
    Sigprocmask => "rt_sigprocmask",
    Socket => "socket",
    Statx => "statx",
    Symlinkat => "symlinkat",
    TimerCreate => "timer_create",
    TimerSettime => "timer_settime",
    Umount => "umount2",
    Unshare => "unshare",
    Write => "write",
}

/// What the child found out about a failure, beyond its errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Note {
    Nothing,
    /// The program exists, so ENOENT speaks of its interpreter, whose path is in the text.
    InterpreterMissing,
    /// The program is on a file system mounted noexec.
    NoExec,
    /// The program exists but has no execute permission.
    NotExecutable,
    /// What should be a device node is not the device of that name.
    WrongDevice,
    /// What should be procfs is something else.
    NotProcfs,
    /// The maps could not be written; the parent knows why.
    MapsFailed,
    /// The parent ended before the program was bound to its life.
    Orphaned,
    /// A mount that another one covers could not be changed.
    HiddenMount,
    /// The kernel's own words are in the text.
    KernelSays,
    /// The path of a descriptor leads elsewhere by now.
    Swapped,
    /// A user namespace could be made, which should be impossible.
    UsernsMade,
    /// The path of the layer is in the text.
    Layer,
    /// What should be hidden is not there.
    NothingToMask,
}

/// A failure in the child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fail {
    pub(crate) call: Call,
    pub(crate) errno: Errno,
    pub(crate) note: Note,
}

impl Fail {
    pub(crate) const fn new(call: Call, errno: Errno) -> Self {
        Self {
            call,
            errno,
            note: Note::Nothing,
        }
    }

    pub(crate) const fn noted(self, note: Note) -> Self {
        Self { note, ..self }
    }
}

/// Names the system call of a failed result.
pub(crate) trait Named<T> {
    fn named(self, call: Call) -> Result<T, Fail>;
}

impl<T> Named<T> for Result<T, Errno> {
    fn named(self, call: Call) -> Result<T, Fail> {
        self.map_err(|errno| Fail::new(call, errno))
    }
}

/// How far the child came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It was still at the operation with this index.
    At(usize),
    /// The operation with this index failed.
    Failed(usize),
    /// It was about to exec.
    Exec,
    /// It had no program, and has done everything.
    Done,
}

const RUNNING: u32 = 0;
const FAILED: u32 = 1;
const EXEC: u32 = 2;
const DONE: u32 = 3;

/// Where the writing of the maps stands.
const MAPS_IDLE: u32 = 0;
const MAPS_WANTED: u32 = 1;
const MAPS_WRITTEN: u32 = 2;
const MAPS_FAILED: u32 = 3;
const MAPS_CANCELLED: u32 = 4;

const TEXT: usize = 256;

/// Shared between parent and child; also when the child has a copy of the rest of the memory.
#[derive(Debug)]
pub(crate) struct Record {
    state: AtomicU32,
    op: AtomicU32,
    call: AtomicU32,
    note: AtomicU32,
    errno: AtomicI32,
    /// The number of the child's pidfd in the parent.
    pub(crate) pidfd: AtomicI32,
    /// The pid of the process that goes on in the child's place.
    pub(crate) sibling: AtomicU32,
    maps: AtomicU32,
    text: [AtomicU8; TEXT],
}

impl Default for Record {
    fn default() -> Self {
        Self {
            state: AtomicU32::new(RUNNING),
            op: AtomicU32::new(0),
            call: AtomicU32::new(0),
            note: AtomicU32::new(0),
            errno: AtomicI32::new(0),
            pidfd: AtomicI32::new(-1),
            sibling: AtomicU32::new(0),
            maps: AtomicU32::new(MAPS_IDLE),
            text: [const { AtomicU8::new(0) }; TEXT],
        }
    }
}

impl Record {
    /// The child begins an operation.
    pub(crate) fn begin(&self, op: usize) {
        self.op
            .store(u32::try_from(op).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, fail: Fail) {
        self.call.store(fail.call as u32, Ordering::Relaxed);
        self.note.store(fail.note as u32, Ordering::Relaxed);
        self.errno
            .store(fail.errno.raw_os_error(), Ordering::Relaxed);
        self.state.store(FAILED, Ordering::Release);
    }

    /// The child is about to exec.
    pub(crate) fn exec(&self) {
        self.state.store(EXEC, Ordering::Release);
    }

    /// The child, which has no program, is about to end.
    pub(crate) fn done(&self) {
        self.state.store(DONE, Ordering::Release);
    }

    pub(crate) fn progress(&self) -> Progress {
        let state = self.state.load(Ordering::Acquire);
        let op = self.op.load(Ordering::Relaxed) as usize;
        match state {
            FAILED => Progress::Failed(op),
            EXEC => Progress::Exec,
            DONE => Progress::Done,
            _ => Progress::At(op),
        }
    }

    /// The failure that [`Progress::Failed`] speaks of.
    pub(crate) fn failure(&self) -> Fail {
        let call = self.call.load(Ordering::Relaxed) as usize;
        let note = self.note.load(Ordering::Relaxed);
        let notes = [
            Note::InterpreterMissing,
            Note::NoExec,
            Note::NotExecutable,
            Note::WrongDevice,
            Note::NotProcfs,
            Note::MapsFailed,
            Note::Orphaned,
            Note::HiddenMount,
            Note::KernelSays,
            Note::Swapped,
            Note::UsernsMade,
            Note::Layer,
            Note::NothingToMask,
        ];
        Fail {
            call: Call::ALL.get(call).copied().unwrap_or(Call::Execve),
            errno: Errno::from_raw_os_error(self.errno.load(Ordering::Relaxed)),
            note: notes
                .into_iter()
                .find(|&known| known as u32 == note)
                .unwrap_or(Note::Nothing),
        }
    }

    pub(crate) fn set_text(&self, text: &[u8]) {
        let ended = text.iter().take(TEXT - 1).chain([&0]);
        for (slot, &byte) in self.text.iter().zip(ended) {
            slot.store(byte, Ordering::Relaxed);
        }
    }

    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self
            .text
            .iter()
            .map(|slot| slot.load(Ordering::Relaxed))
            .take_while(|&byte| byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn set_maps(&self, value: u32) {
        self.maps.store(value, Ordering::Release);
        // Waking somebody cannot fail in a way that matters: the waiter looks at the value.
        let _ = futex::wake(&self.maps, futex::Flags::empty(), u32::MAX >> 1);
    }

    fn wait_while(&self, values: &[u32]) -> Result<u32, Errno> {
        loop {
            let value = self.maps.load(Ordering::Acquire);
            if !values.contains(&value) {
                return Ok(value);
            }
            match futex::wait(&self.maps, futex::Flags::empty(), value, None) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// In the child: asks for the maps and waits until they are written.
    pub(crate) fn await_maps(&self) -> Result<(), Fail> {
        self.set_maps(MAPS_WANTED);
        match self.wait_while(&[MAPS_WANTED]).named(Call::Futex)? {
            MAPS_WRITTEN => Ok(()),
            _ => Err(Fail::new(Call::Futex, Errno::CANCELED).noted(Note::MapsFailed)),
        }
    }

    /// In the writer of the maps: waits until a child wants them, and returns the number of its
    /// pidfd. `None` if there will be none.
    pub(crate) fn maps_wanted(&self) -> Option<i32> {
        match self.wait_while(&[MAPS_IDLE]) {
            Ok(MAPS_WANTED) => Some(self.pidfd.load(Ordering::Acquire)),
            _ => None,
        }
    }

    pub(crate) fn maps_done(&self, written: bool) {
        self.set_maps(if written { MAPS_WRITTEN } else { MAPS_FAILED });
    }

    /// In the parent, once the child no longer runs: nobody will want maps.
    pub(crate) fn cancel_maps(&self) {
        if self
            .maps
            .compare_exchange(
                MAPS_IDLE,
                MAPS_CANCELLED,
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok()
        {
            self.set_maps(MAPS_CANCELLED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_through() {
        let record = Record::default();
        assert_eq!(record.progress(), Progress::At(0));
        record.begin(3);
        record.fail(Fail::new(Call::Umount, Errno::BUSY).noted(Note::NoExec));
        record.set_text(b"/lib/ld.so");
        assert_eq!(record.progress(), Progress::Failed(3));
        let fail = record.failure();
        assert_eq!(
            (fail.call, fail.errno, fail.note),
            (Call::Umount, Errno::BUSY, Note::NoExec)
        );
        assert_eq!(fail.call.name(), "umount2");
        assert_eq!(record.text(), "/lib/ld.so");
        record.set_text(b"/sh");
        assert_eq!(record.text(), "/sh");
        for (index, call) in Call::ALL.iter().enumerate() {
            assert_eq!(*call as usize, index);
        }
    }

    #[test]
    fn writer_of_maps_is_never_left_waiting() {
        let record = Record::default();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| record.maps_wanted());
            record.cancel_maps();
            assert_eq!(writer.join().expect("does not panic"), None);
        });
        let record = Record::default();
        record.pidfd.store(7, Ordering::Release);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let wanted = record.maps_wanted();
                record.maps_done(wanted == Some(7));
            });
            assert!(record.await_maps().is_ok());
        });
    }
}
