//! Making the child: `clone3`, and `clone` where it is missing.

use core::ffi::c_void;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use rustix::io::Errno;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// What runs in the child, with data of its maker's. It must end in exec or exit.
pub(crate) type Entry<T> = fn(&T) -> !;

type RawEntry = extern "C" fn(*mut c_void) -> !;

/// Lies on the stack of the maker, which is suspended or copied.
struct Start<'a, T> {
    entry: Entry<T>,
    data: &'a T,
}

/// Not able to unwind: a panic in the child ends the child.
extern "C" fn start<T>(data: *mut c_void) -> ! {
    // SAFETY: the functions below pass a `Start<T>` that lives as long as the child runs on this memory.
    let start = unsafe { &*data.cast::<Start<'_, T>>() };
    (start.entry)(start.data)
}

/// The arguments of `clone3`, in the layout of its second version (88 bytes, Linux 5.7).
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A child to make.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// CLONE_* flags of any width, but for `CLONE_PIDFD`, which is added.
    pub(crate) flags: u64,
    /// Lowest address and size of the child's stack.
    pub(crate) stack: (usize, usize),
    /// Where the kernel stores the number of the child's pidfd before the child runs.
    pub(crate) pidfd: &'a AtomicI32,
    /// A cgroup directory to be born in.
    pub(crate) cgroup: Option<RawFd>,
}

/// A child that was made.
#[derive(Debug)]
pub(crate) struct Cloned {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
}

impl Cloned {
    fn new(pid: u32, request: &Request<'_>) -> Self {
        let number = request.pidfd.load(Ordering::Acquire);
        // SAFETY: the kernel has just opened this descriptor for us and stored its number.
        let pidfd = unsafe { OwnedFd::from_raw_fd(number) };
        Self { pid, pidfd }
    }
}

/// Whether [`clone3`] is implemented for this architecture.
pub(crate) const HAVE_CLONE3: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// `clone3(2)`; the child calls `entry(data)` on the given stack. The exit signal of a
/// child that is waited for is 0 until exec makes it SIGCHLD, so that a failure before exec stays
/// between it and the caller.
/// With `CLONE_VM` comes `CLONE_VFORK`: `data` is borrowed until the child has exec'd or exited.
pub(crate) fn clone3<T>(request: &Request<'_>, entry: Entry<T>, data: &T) -> Result<Cloned, Errno> {
    let mut start_data = Start { entry, data };
    let args = CloneArgs {
        flags: suspending(request.flags)
            | u64::from(libc::CLONE_PIDFD.unsigned_abs())
            | request.cgroup.map_or(0, |_| CLONE_INTO_CGROUP),
        pidfd: request.pidfd.as_ptr() as u64,
        exit_signal: exit_signal(request.flags),
        stack: request.stack.0 as u64,
        stack_size: request.stack.1 as u64,
        cgroup: request.cgroup.map_or(0, |fd| u64::from(fd.unsigned_abs())),
        ..CloneArgs::default()
    };
    // SAFETY: the arguments are laid out as the kernel wants them, the stack belongs to the child alone,
    // and the parent is suspended as long as the child uses `start_data`.
    let pid = unsafe { clone3_call(&args, start::<T>, (&raw mut start_data).cast()) }?;
    Ok(Cloned::new(pid, request))
}

/// Whoever shares its memory with a child waits until the child no longer uses it.
fn suspending(flags: u64) -> u64 {
    if flags & u64::from(libc::CLONE_VM.unsigned_abs()) == 0 {
        flags
    } else {
        flags | u64::from(libc::CLONE_VFORK.unsigned_abs())
    }
}

/// A child that nobody waits for may never exec, which would set it.
fn exit_signal(flags: u64) -> u64 {
    if suspending(flags) & u64::from(libc::CLONE_VFORK.unsigned_abs()) == 0 {
        u64::from(libc::SIGCHLD.unsigned_abs())
    } else {
        0
    }
}

/// Born in the cgroup named by the descriptor (Linux 5.7).
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Signal handlers of the parent are reset to the default in the child (Linux 5.5).
pub(crate) const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// A time namespace for the child (Linux 5.6); shares its bit with the exit signal of `clone`.
pub(crate) const CLONE_NEWTIME: u64 = 0x80;

/// # Safety
/// As for [`syscall::clone`](super::stage::syscall::clone).
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
unsafe fn clone3_call(args: &CloneArgs, entry: RawEntry, data: *mut c_void) -> Result<u32, Errno> {
    let size = size_of::<CloneArgs>();
    let args = [core::ptr::from_ref(args).addr(), size, 0];
    let number = super::raw::number(libc::SYS_clone3);
    // SAFETY: as the caller says.
    let value = unsafe { super::stage::syscall::clone(number, args, entry, data) };
    to_pid(super::raw::result(value)?)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3_call(_: &CloneArgs, _: RawEntry, _: *mut c_void) -> Result<u32, Errno> {
    Err(Errno::NOSYS)
}

fn to_pid(value: usize) -> Result<u32, Errno> {
    u32::try_from(value).map_err(|_| Errno::OVERFLOW)
}

/// What libc's `clone` calls: of another type, as it may return.
extern "C" fn legacy_start<T>(data: *mut c_void) -> libc::c_int {
    start::<T>(data)
}

/// `clone(2)` by libc, for kernels, filters and architectures without `clone3`. Flags wider than
/// 32 bits, `CLONE_NEWTIME` and a cgroup do not exist here.
pub(crate) fn legacy_clone<T>(
    request: &Request<'_>,
    entry: Entry<T>,
    data: &T,
) -> Result<Cloned, Errno> {
    // The kernel takes the place of the pid for that of the pidfd.
    let flags = request.flags | u64::from(libc::CLONE_PIDFD.unsigned_abs());
    let pid = libc_clone(flags, request.stack, entry, data, request.pidfd.as_ptr())?;
    Ok(Cloned::new(pid, request))
}

/// `store` is where the kernel stores the pid or the number of the pidfd, as the flags say.
fn libc_clone<T>(
    flags: u64,
    stack: (usize, usize),
    entry: Entry<T>,
    data: &T,
    store: *mut libc::c_int,
) -> Result<u32, Errno> {
    let flags = suspending(flags) | exit_signal(flags);
    let flags = u32::try_from(flags).map_err(|_| Errno::INVAL)?;
    let top = (stack.0 + stack.1) & !15;
    let mut start_data = Start { entry, data };
    // SAFETY: the stack belongs to the child alone, and the parent is suspended as long as the child uses
    // `start_data`, or the child has a copy of it; the callers pass a place for the number.
    let ret = unsafe {
        libc::clone(
            legacy_start::<T>,
            top as *mut c_void,
            flags.cast_signed(),
            (&raw mut start_data).cast(),
            store,
        )
    };
    if ret == -1 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(ret.unsigned_abs())
}

/// Clones again from a child: a process with a copy of the memory, a sibling of its maker, which waits,
/// if it is told to, until it has exec'd or exited. The pid is stored before the sibling runs.
pub(crate) fn fork_sibling<T>(
    stack: (usize, usize),
    entry: Entry<T>,
    data: &T,
    pid: &AtomicU32,
    wait: bool,
) -> Result<u32, Errno> {
    let wait = if wait { libc::CLONE_VFORK } else { 0 };
    let flags = libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | wait;
    let store = pid.as_ptr().cast();
    libc_clone(u64::from(flags.unsigned_abs()), stack, entry, data, store)
}

/// Whether `clone3` gets through to the kernel: it refuses arguments of size 0.
pub(crate) fn clone3_exists() -> bool {
    // SAFETY: with size 0 the kernel reads nothing and makes nothing.
    let refused = unsafe { super::raw::syscall(libc::SYS_clone3, [0; 6]) };
    refused == Err(Errno::INVAL)
}
