//! What binds a process for good, laid out to be done in order by the child or by the second stage.

use super::stage::lockdown::{self as laid_out, LAST, OFFSET, RECORD, operation, sets};
use core::ffi::CStr;
use rustix::io::Errno;
use std::os::fd::RawFd;

/// System calls to be made one after the other, with everything that they read.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    records: Vec<[u64; RECORD]>,
    /// Offsets in it are relative to its own beginning until [`words`](Self::words).
    data: Vec<u64>,
}

/// One instruction of a filter, as the kernel takes it.
pub(crate) type Instruction = [u8; 8];

/// A set of capabilities to come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sets {
    pub(crate) permitted: u64,
    pub(crate) effective: u64,
    pub(crate) inheritable: Inheritable,
    /// It is an error if not all of `permitted` is permitted already.
    pub(crate) exact: bool,
}

/// What becomes of the inheritable set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Inheritable {
    #[default]
    Same,
    /// All that is permitted.
    All,
    Only(u64),
}

impl List {
    fn push(&mut self, what: u64, number: libc::c_long, special: u64, args: &[u64]) {
        let mut record = [0; RECORD];
        for (slot, word) in record
            .iter_mut()
            .zip([what, number.cast_unsigned(), special].iter().chain(args))
        {
            *slot = *word;
        }
        self.records.push(record);
    }

    fn call(mut self, number: libc::c_long, special: u64, args: &[u64]) -> Self {
        self.push(operation::CALL, number, special, args);
        self
    }

    /// Puts bytes where arguments can lead to.
    fn bytes(&mut self, bytes: impl IntoIterator<Item = u8>) -> u64 {
        let at = self.data.len() * size_of::<u64>();
        let bytes: Vec<u8> = bytes.into_iter().collect();
        self.data.extend(bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            for (slot, byte) in word.iter_mut().zip(chunk) {
                *slot = *byte;
            }
            u64::from_ne_bytes(word)
        }));
        at as u64
    }

    fn text(&mut self, text: &CStr) -> u64 {
        self.bytes(text.to_bytes_with_nul().iter().copied())
    }

    fn prctl(self, option: i32, args: [u64; 4]) -> Self {
        let [a, b, c, d] = args;
        self.call(libc::SYS_prctl, 0, &[signed(option), a, b, c, d])
    }

    pub(crate) fn rlimit(mut self, resource: u32, soft: u64, hard: u64) -> Self {
        let at = self.bytes([soft, hard].into_iter().flat_map(u64::to_ne_bytes));
        let args = [0, resource.into(), at, 0];
        self.call(libc::SYS_prlimit64, OFFSET << 2, &args)
    }

    pub(crate) fn nice(self, value: i32) -> Self {
        // Of <linux/resource.h>; its type differs with the C library.
        const PRIO_PROCESS: u64 = 0;
        let args = [PRIO_PROCESS, 0, signed(value)];
        self.call(libc::SYS_setpriority, 0, &args)
    }

    pub(crate) fn ioprio(self, value: u16) -> Self {
        const IOPRIO_WHO_PROCESS: u64 = 1;
        let args = [IOPRIO_WHO_PROCESS, 0, value.into()];
        self.call(libc::SYS_ioprio_set, 0, &args)
    }

    /// Bit `n` of the array stands for processor `n`.
    pub(crate) fn affinity(mut self, mask: &[u64]) -> Self {
        let at = self.bytes(mask.iter().flat_map(|word| word.to_ne_bytes()));
        let args = [0, size_of_val(mask) as u64, at];
        self.call(libc::SYS_sched_setaffinity, OFFSET << 2, &args)
    }

    /// The capabilities survive the next change of ids.
    pub(crate) fn keep_capabilities(self) -> Self {
        self.prctl(libc::PR_SET_KEEPCAPS, [1, 0, 0, 0])
    }

    pub(crate) fn groups(mut self, groups: &[u32]) -> Self {
        let at = self.bytes(groups.iter().flat_map(|id| id.to_ne_bytes()));
        self.call(libc::SYS_setgroups, OFFSET << 1, &[groups.len() as u64, at])
    }

    pub(crate) fn gid(self, id: u32) -> Self {
        self.call(libc::SYS_setresgid, 0, &[id.into(); 3])
    }

    pub(crate) fn uid(self, id: u32) -> Self {
        self.call(libc::SYS_setresuid, 0, &[id.into(); 3])
    }

    pub(crate) fn change_dir(mut self, path: &CStr) -> Self {
        let at = self.text(path);
        self.call(libc::SYS_chdir, OFFSET, &[at])
    }

    /// The path leads to the directory without the links of procfs.
    pub(crate) fn change_dir_confined(mut self, path: &CStr) -> Self {
        const RESOLVE_NO_MAGICLINKS: u64 = 2;
        let at = self.text(path);
        let flags = signed(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC);
        let how = [flags, 0, RESOLVE_NO_MAGICLINKS];
        let how_at = self.bytes(how.into_iter().flat_map(u64::to_ne_bytes));
        let args = [signed(libc::AT_FDCWD), at, how_at, size_of_val(&how) as u64];
        // What was opened closes itself at exec.
        self.call(libc::SYS_openat2, OFFSET << 1 | OFFSET << 2, &args)
            .call(libc::SYS_fchdir, LAST, &[0])
    }

    pub(crate) fn parent_death_signal(self, signal: i32) -> Self {
        self.prctl(libc::PR_SET_PDEATHSIG, [signed(signal), 0, 0, 0])
    }

    pub(crate) fn drop_from_bounding_set(self, capability: u32) -> Self {
        self.prctl(libc::PR_CAPBSET_DROP, [capability.into(), 0, 0, 0])
    }

    pub(crate) fn securebits(self, bits: u32) -> Self {
        self.prctl(libc::PR_SET_SECUREBITS, [bits.into(), 0, 0, 0])
    }

    pub(crate) fn capabilities(mut self, wanted: Sets) -> Self {
        let (flags, inheritable) = match wanted.inheritable {
            Inheritable::Same => (sets::SAME_INHERITABLE, 0),
            Inheritable::All => (sets::ALL_INHERITABLE, 0),
            Inheritable::Only(set) => (0, set),
        };
        let exact = if wanted.exact { sets::EXACT } else { 0 };
        let args = [
            flags | exact,
            wanted.permitted,
            wanted.effective,
            inheritable,
        ];
        self.push(operation::CAPABILITIES, libc::SYS_capset, 0, &args);
        self
    }

    pub(crate) fn ambient_raise(self, capability: u32) -> Self {
        let raise = signed(libc::PR_CAP_AMBIENT_RAISE);
        self.prctl(libc::PR_CAP_AMBIENT, [raise, capability.into(), 0, 0])
    }

    pub(crate) fn ambient_clear(self) -> Self {
        let clear = signed(libc::PR_CAP_AMBIENT_CLEAR_ALL);
        self.prctl(libc::PR_CAP_AMBIENT, [clear, 0, 0, 0])
    }

    /// Everything permitted becomes ambient; it has to be inheritable.
    pub(crate) fn ambient_raise_all(mut self) -> Self {
        self.push(operation::AMBIENT, libc::SYS_prctl, 0, &[]);
        self
    }

    pub(crate) fn no_new_privs(self) -> Self {
        self.prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0])
    }

    /// Enters a namespace of these kinds, and closes it.
    pub(crate) fn setns(self, namespace: RawFd, kinds: u32) -> Self {
        self.call(libc::SYS_setns, 0, &[signed(namespace), kinds.into()])
            .call(libc::SYS_close, 0, &[signed(namespace)])
    }

    /// Enforces a ruleset, and closes it.
    pub(crate) fn landlock(self, ruleset: RawFd) -> Self {
        self.call(libc::SYS_landlock_restrict_self, 0, &[signed(ruleset), 0])
            .call(libc::SYS_close, 0, &[signed(ruleset)])
    }

    pub(crate) fn close_on_exec(self, fd: RawFd) -> Self {
        let (set, flag) = (signed(libc::F_SETFD), signed(libc::FD_CLOEXEC));
        self.call(libc::SYS_fcntl, 0, &[signed(fd), set, flag])
    }

    pub(crate) fn filter(mut self, flags: u64, program: &[Instruction]) -> Self {
        let at = self.bytes(program.iter().flatten().copied());
        let args = [flags, at, program.len() as u64];
        self.push(operation::FILTER, libc::SYS_seccomp, OFFSET << 1, &args);
        self
    }

    /// Sends the descriptor that was made last.
    pub(crate) fn send(mut self, socket: RawFd) -> Self {
        self.push(operation::SEND, libc::SYS_sendmsg, 0, &[signed(socket)]);
        self
    }

    /// The system calls, in order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = libc::c_long> {
        self.records
            .iter()
            .map(|[_, number, ..]| libc::c_long::try_from(*number).unwrap_or(-1))
    }

    /// The list as it is carried out.
    pub(crate) fn words(&self) -> Box<[u64]> {
        let before = ((1 + self.records.len() * RECORD) * size_of::<u64>()) as u64;
        let mut words = vec![self.records.len() as u64];
        for record in &self.records {
            let mut record = *record;
            let [_, _, special, args @ ..] = &mut record;
            for (bit, arg) in args.iter_mut().enumerate() {
                if *special & (OFFSET << bit) != 0 {
                    *arg += before;
                }
            }
            words.extend(record);
        }
        words.extend(&self.data);
        words.into()
    }
}

/// A C int as the kernel takes it.
fn signed(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}

/// What [`List::words`] has made, and nothing else, so that it can be carried out safely.
#[derive(Debug)]
pub(crate) struct Ready(Box<[u64]>);

impl From<List> for Ready {
    fn from(list: List) -> Self {
        Self(list.words())
    }
}

impl Ready {
    /// Makes the system calls, up to the first that fails: its number, and why.
    pub(crate) fn apply(&self) -> Result<(), (libc::c_long, Errno)> {
        // SAFETY: laid out by this module.
        unsafe { laid_out::apply(&self.0, syscall) }.map_err(|failed| {
            let number = libc::c_long::try_from(failed.number).unwrap_or(-1);
            (number, Errno::from_raw_os_error(failed.errno))
        })
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }
}

/// # Safety
/// The arguments must be valid for that system call.
unsafe fn syscall(number: usize, args: [usize; 6]) -> Result<usize, i32> {
    let number = libc::c_long::try_from(number).unwrap_or(-1);
    // SAFETY: as the caller says.
    unsafe { super::raw::syscall(number, args) }.map_err(Errno::raw_os_error)
}
