//! Processes: waiting, and the few attributes that rustix does not set per thread.

use super::raw::{fd_arg, syscall};
use rustix::io::Errno;
use rustix::process::Pid;
use std::os::fd::BorrowedFd;

/// How a child ended, and what it used.
#[derive(Clone, Copy)]
pub(crate) struct Waited {
    /// The status in the encoding of `wait(2)`.
    pub(crate) status: i32,
    pub(crate) usage: libc::rusage,
}

/// `waitid(2)` for one child that has ended, of any exit signal. `None` if it has not ended yet and
/// `block` is false.
pub(crate) fn wait(pidfd: BorrowedFd<'_>, block: bool) -> Result<Option<Waited>, Errno> {
    // SAFETY: zero is a valid value for this plain C structure.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    // SAFETY: as above.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    let options = libc::WEXITED | libc::__WALL | if block { 0 } else { libc::WNOHANG };
    let args = [
        libc::P_PIDFD as usize,
        fd_arg(pidfd),
        (&raw mut info) as usize,
        options.unsigned_abs() as usize,
        (&raw mut usage) as usize,
        0,
    ];
    loop {
        // SAFETY: both structures live on this stack and have the kernel's layout.
        match unsafe { syscall(libc::SYS_waitid, args) } {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    // SAFETY: waitid fills in the variant of the union with pid and status, or leaves zeroes.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let value = unsafe { info.si_status() };
    if pid == 0 {
        return Ok(None);
    }
    let status = match info.si_code {
        libc::CLD_EXITED => (value & 0xff) << 8,
        libc::CLD_DUMPED => value | 0x80,
        _ => value,
    };
    Ok(Some(Waited { status, usage }))
}

/// Whether a child is stopped, which is told once.
pub(crate) fn has_stopped(pidfd: BorrowedFd<'_>) -> bool {
    // SAFETY: zero is a valid value for this plain C structure.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    let options = libc::WSTOPPED | libc::WNOHANG | libc::__WALL;
    let args = [
        libc::P_PIDFD as usize,
        fd_arg(pidfd),
        (&raw mut info) as usize,
        options.unsigned_abs() as usize,
        0,
        0,
    ];
    // SAFETY: the structure lives on this stack and has the kernel's layout.
    let waited = unsafe { syscall(libc::SYS_waitid, args) };
    // SAFETY: waitid fills in the variant of the union with the pid, or leaves zeroes.
    let pid = unsafe { info.si_pid() };
    waited.is_ok() && pid != 0
}

/// Whether a child has not become a program: its exit signal is still the one it was made with, which
/// is not `SIGCHLD`, and which `__WCLONE` asks for. The child may have ended; it is left to be reaped.
pub(crate) fn is_before_exec(pidfd: BorrowedFd<'_>) -> bool {
    has_child(pidfd, libc::__WCLONE)
}

/// Whether this is a child that nobody has reaped.
pub(crate) fn is_child(pidfd: BorrowedFd<'_>) -> bool {
    has_child(pidfd, libc::__WALL)
}

fn has_child(pidfd: BorrowedFd<'_>, of: libc::c_int) -> bool {
    let options = (libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | of).cast_unsigned();
    let (kind, id) = (libc::P_PIDFD as usize, fd_arg(pidfd));
    let args = [kind, id, 0, options as usize, 0, 0];
    // SAFETY: the pointers, to siginfo and usage, are null.
    unsafe { syscall(libc::SYS_waitid, args) }.is_ok()
}

/// A `struct rusage` that the kernel has filled in, from its bytes.
pub(crate) fn usage_from_bytes(bytes: &[u8]) -> Option<libc::rusage> {
    const SIZE: usize = size_of::<libc::rusage>();
    let bytes: [u8; SIZE] = bytes.try_into().ok()?;
    // SAFETY: a plain C structure of integers, of that size; any bytes are valid.
    Some(unsafe { core::mem::transmute::<[u8; SIZE], libc::rusage>(bytes) })
}

/// Whether the program runs with more privilege than its caller (`AT_SECURE`).
pub(crate) fn is_secure() -> bool {
    // SAFETY: reads the auxiliary vector, which libc keeps.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Ends a vfork child's own hold on anything: `prctl(PR_SET_PDEATHSIG)`.
pub(crate) fn set_parent_death_signal(signal: i32) -> Result<(), Errno> {
    let args = [
        libc::PR_SET_PDEATHSIG.unsigned_abs() as usize,
        signal.unsigned_abs() as usize,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_prctl, args) }.map(drop)
}

/// Sets the soft limit of the size of core files and leaves the hard one.
pub(crate) fn set_core_limit(soft: u64, hard: u64) -> Result<(), Errno> {
    let limit: [u64; 2] = [soft, hard];
    let args = [
        0,
        libc::RLIMIT_CORE as usize,
        limit.as_ptr() as usize,
        0,
        0,
        0,
    ];
    // SAFETY: prlimit64 takes two 64-bit values.
    unsafe { syscall(libc::SYS_prlimit64, args) }.map(drop)
}

/// Soft and hard limit of the size of core files.
pub(crate) fn core_limit() -> Result<(u64, u64), Errno> {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the C libraries differ in the type"
    )]
    limits(libc::RLIMIT_CORE as u32)
}

/// Soft and hard limit of a resource.
pub(crate) fn limits(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit: [u64; 2] = [0; 2];
    let args = [0, resource as usize, 0, limit.as_mut_ptr() as usize, 0, 0];
    // SAFETY: prlimit64 fills in two 64-bit values.
    unsafe { syscall(libc::SYS_prlimit64, args) }.map(|_| (limit[0], limit[1]))
}

/// `unshare(2)` in a child that shares nothing of what is unshared.
pub(crate) fn unshare(flags: u64) -> Result<(), Errno> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "CLONE_NEW* flags have 32 bits"
    )]
    let args = [flags as usize, 0, 0, 0, 0, 0];
    // SAFETY: the child does not unshare its descriptor table by this, only namespaces.
    unsafe { syscall(libc::SYS_unshare, args) }.map(drop)
}

/// `pidfd_send_signal(2)` with any number, also 0 to look whether the process is there.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let Ok(signal) = usize::try_from(signal) else {
        return Err(Errno::INVAL);
    };
    let args = [fd_arg(pidfd), signal, 0, 0, 0, 0];
    // SAFETY: the only pointer, siginfo, is null.
    unsafe { syscall(libc::SYS_pidfd_send_signal, args) }.map(drop)
}

/// The version of Landlock that the kernel has (Linux 5.13).
pub(crate) fn landlock_version() -> Result<usize, Errno> {
    const CREATE_RULESET_VERSION: usize = 1;
    // SAFETY: with this flag nothing is read, and the version is returned.
    unsafe {
        syscall(
            libc::SYS_landlock_create_ruleset,
            [0, 0, CREATE_RULESET_VERSION, 0, 0, 0],
        )
    }
}

/// `getpgrp(2)`. `None` where the group is not in the caller's pid namespace: its number is 0 then, which
/// rustix cannot express.
pub(crate) fn own_group() -> Option<Pid> {
    // SAFETY: it takes no pointer and cannot fail.
    Pid::from_raw(unsafe { libc::getpgrp() })
}

/// `getsid(2)` of the caller; as [`own_group`].
pub(crate) fn own_session() -> Option<Pid> {
    // SAFETY: it takes no pointer and cannot fail for the caller.
    Pid::from_raw(unsafe { libc::getsid(0) })
}
