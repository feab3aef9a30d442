//! The unsafe calls of the test support, one function each.
#![allow(unsafe_code, reason = "system calls that no safe wrapper offers")]

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::thread::UnshareFlags;

/// `fork(2)`: the child's pid, or `None` in the child.
///
/// In a process with other threads the child may only make system calls: a lock that another
/// thread held, std's of its list of threads among them, stays locked in it, and whoever starts a thread there waits for
/// ever.
pub(crate) fn fork() -> io::Result<Option<i32>> {
    // SAFETY: the child has memory of its own; what it may call is the caller's part, as above,
    // and the worst outcome is a child that waits forever.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid)),
    }
}

/// Ends the process without running destructors or exit handlers.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes a number, touches no memory and does not return.
    unsafe { libc::_exit(status) }
}

/// Ends the calling thread alone, without running anything.
pub(crate) fn exit_thread() -> ! {
    // SAFETY: takes a number. The thread's stack stays, and nothing waits for the thread.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("SYS_exit does not return")
}

/// `unshare(2)`; not for `CLONE_FILES`.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: only CLONE_FILES is unsafe, as descriptors then mean something else in each thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Whether the calling thread is the only one of its process.
pub(crate) fn has_one_thread() -> bool {
    // SAFETY: unshares nothing, as the kernel can do this only where there is nothing to unshare.
    let result = unsafe { libc::unshare(libc::CLONE_THREAD) };
    result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL)
}

/// Makes `to` (a descriptor number, open or not) a duplicate of `from`.
pub(crate) fn dup_over(from: impl AsFd, to: i32) -> io::Result<()> {
    // SAFETY: takes numbers only. The callers replace the standard streams, which nobody owns.
    match unsafe { libc::dup2(from.as_fd().as_raw_fd(), to) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// `ptrace(PTRACE_SEIZE)`: this thread traces the process, until one of them ends.
pub(crate) fn trace(pid: i32) -> io::Result<()> {
    let none = ptr::null_mut::<c_void>();
    // SAFETY: this request uses neither address nor data, and the other process is only watched.
    match unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// `prctl(option, value, 0, 0, 0)` for options that take numbers.
pub(crate) fn prctl(option: c_int, value: u64) -> io::Result<c_int> {
    // SAFETY: the options used by the tests read no memory of ours; an unknown one is EINVAL.
    match unsafe { libc::prctl(option, value, 0_u64, 0_u64, 0_u64) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// `setresgid(2)` to the ids that it has, in every thread of this process: each is asked by a signal, and
/// waited for.
pub(crate) fn set_gid_everywhere() -> io::Result<()> {
    let keep = libc::gid_t::MAX;
    // SAFETY: takes no pointers.
    match unsafe { libc::setresgid(keep, keep, keep) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The disposition of a signal as (handler, flags); `None` for the two that glibc keeps to itself.
pub(crate) fn signal_disposition(signal: c_int) -> Option<(usize, c_int)> {
    // SAFETY: all-zero is a valid `sigaction`.
    let mut old: libc::sigaction = unsafe { zeroed() };
    // SAFETY: a null `act` changes nothing, and `old` is ours to be written to.
    let result = unsafe { libc::sigaction(signal, ptr::null(), &raw mut old) };
    (result == 0).then_some((old.sa_sigaction, old.sa_flags))
}

/// A child of any kind that has ended and is still to be reaped, which is left to be.
pub(crate) fn unreaped_child() -> Option<i32> {
    // SAFETY: all-zero is a valid `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: `info` is ours to be written to.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
    if result != 0 {
        return None;
    }
    // SAFETY: waitid filled the fields of a child, with pid 0 when there is none.
    let pid = unsafe { info.si_pid() };
    (pid != 0).then_some(pid)
}

/// `seccomp(SECCOMP_SET_MODE_FILTER)` for the calling thread: 0, or the listener's number.
pub(crate) fn seccomp_set_filter(
    program: &[libc::sock_filter],
    flags: libc::c_ulong,
) -> io::Result<c_int> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points at `len` instructions, which the kernel copies and verifies.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        fd => c_int::try_from(fd).map_err(io::Error::other),
    }
}

/// The error of a system call that is expected to be refused, with arguments that would do no harm; 0 if it
/// is not.
pub(crate) fn refused(number: libc::c_long, args: [libc::c_ulong; 3]) -> i32 {
    let [a, b, c] = args;
    // SAFETY: the callers pass null, or numbers that the system call does not take for addresses.
    match unsafe { libc::syscall(number, a, b, c, 0_u64, 0_u64, 0_u64) } {
        -1 => io::Error::last_os_error().raw_os_error().unwrap_or(0),
        _ => 0,
    }
}

/// Takes a descriptor number that a system call has just returned.
pub(crate) fn own(fd: c_int) -> OwnedFd {
    // SAFETY: the caller got the number from the kernel, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The next trapped call of a seccomp listener.
pub(crate) fn notification(listener: impl AsFd) -> io::Result<libc::seccomp_notif> {
    // SAFETY: all-zero is valid, and is what the kernel insists on.
    let mut notification: libc::seccomp_notif = unsafe { zeroed() };
    let fd = listener.as_fd().as_raw_fd();
    loop {
        // SAFETY: the ioctl writes one `seccomp_notif`, into memory that is ours.
        match unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification) } {
            -1 => {
                let error = io::Error::last_os_error();
                // Older kernels are interrupted by signals that nobody handles.
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            _ => return Ok(notification),
        }
    }
}

/// `execveat(2)` of an open file, without arguments. Returns only when it fails.
pub(crate) fn exec_file(file: impl AsFd) -> io::Error {
    let none = [ptr::null::<libc::c_char>()];
    let (fd, path) = (file.as_fd().as_raw_fd(), c"".as_ptr());
    // SAFETY: the path is null-terminated, and the arrays end with a null pointer.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd,
            path,
            none.as_ptr(),
            none.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// What becomes of a trapped call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Continue,
    Return(i64),
    Fail(i32),
}

/// Answers a trapped call.
pub(crate) fn answer(listener: impl AsFd, id: u64, answer: Answer) -> io::Result<()> {
    let (val, error, flags) = match answer {
        Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE),
        Answer::Return(value) => (value, 0, 0),
        Answer::Fail(errno) => (0, -errno, 0),
    };
    let flags = u32::try_from(flags).map_err(io::Error::other)?;
    let response = libc::seccomp_notif_resp {
        id,
        val,
        error,
        flags,
    };
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the ioctl reads one `seccomp_notif_resp`.
    match unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether the thread behind a notification still waits, so that what was read of it was its own.
pub(crate) fn still_waits(listener: impl AsFd, id: u64) -> bool {
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the ioctl reads one u64.
    unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// `execve(2)` with the path as only argument and no environment; returns only if that fails.
pub(crate) fn exec(path: &CStr) -> io::Error {
    let argv = [path.as_ptr(), ptr::null()];
    let envp = [ptr::null()];
    // SAFETY: all three end in a NUL or a null, and live until the call is over.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Runs `body` in a child made by `clone3(CLONE_VM | CLONE_VFORK | flags)` on a stack of its own,
/// and returns the child's pid once it has ended or become another program. The child ends with
/// what `body` returns, and is the caller's to reap.
///
/// The child shares the memory: `body` must make system calls only, and must not unwind.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn clone3_vfork(flags: c_int, mut body: impl FnMut() -> i32) -> io::Result<i32> {
    const STACK: usize = 256 << 10;

    extern "C" fn enter<F: FnMut() -> i32>(body: *mut c_void) -> c_int {
        // SAFETY: the pointer is that of `body` in the caller's frame, which CLONE_VFORK holds
        // still and which nothing else uses meanwhile.
        let body = unsafe { &mut *body.cast::<F>() };
        body()
    }
    fn entry_of<F: FnMut() -> i32>(_: &F) -> extern "C" fn(*mut c_void) -> c_int {
        enter::<F>
    }

    // u128 for the alignment that the calling conventions ask of a stack.
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    // SAFETY: all-zero is a valid `clone_args`.
    let mut args: libc::clone_args = unsafe { zeroed() };
    args.flags = (libc::CLONE_VM | libc::CLONE_VFORK | flags)
        .cast_unsigned()
        .into();
    args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    args.stack = stack.as_mut_ptr() as u64;
    args.stack_size = STACK as u64;
    let entry = entry_of(&body);
    let data = (&raw mut body).cast::<c_void>();

    let result: libc::c_long;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the parent leaves the block as after any system call. The child never leaves it: it
    // runs `entry` on its own stack, aligned to 16 as the call wants it, and exits.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov edi, eax",
            "mov eax, {exit_group}",
            "syscall",
            "ud2",
            "2:",
            exit_group = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw const args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") entry,
            in("r13") data,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as on x86_64.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "mov x8, {exit_group}",
            "svc #0",
            "brk #1",
            "2:",
            exit_group = const libc::SYS_exit_group,
            inlateout("x0") (&raw const args).addr().cast_signed() as libc::c_long => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x8") libc::SYS_clone3,
            in("x20") entry,
            in("x21") data,
        );
    }
    drop(stack);
    match i32::try_from(result).map_err(io::Error::other)? {
        error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        pid => Ok(pid),
    }
}
