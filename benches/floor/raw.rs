//! The system calls, without libc's wrappers: those write errno, and the child shares the caller's.
//!
//! A call that can fail in the child returns what the kernel returned, negative for an error.

#![allow(unsafe_code, reason = "the one place where the floor leaves safe Rust")]

use std::arch::asm;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_short, c_uint, c_ulong, c_void};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the floor's clone3 is written for x86_64 and aarch64");

/// libc declares it as a `c_int`, in which it is 0.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// IFF_UP, in the type of the field.
const UP: c_short = 1;

/// The child's stack.
pub(super) struct Stack(Box<[u128]>);

impl Stack {
    pub(super) fn new() -> Self {
        Self(vec![0; 64 * 1024 / size_of::<u128>()].into_boxed_slice())
    }
}

/// An argv or envp.
pub(super) struct StringList {
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl StringList {
    pub(super) fn new(strings: impl Iterator<Item = CString>) -> Self {
        let strings: Vec<CString> = strings.collect();
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect();
        Self {
            _strings: strings,
            pointers,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Status(c_int),
    Signal(c_int),
}

pub(super) fn flag(flags: c_int) -> u64 {
    u64::from(flags.cast_unsigned())
}

/// On whose memory the child runs until it execs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// The caller's, who sleeps meanwhile.
    Shared,
    Copied,
}

/// Runs `child` on `stack` in a new process and returns its pidfd. `flags` are namespaces and CLONE_FILES.
pub(super) fn clone<T>(
    memory: Memory,
    flags: u64,
    stack: &mut Stack,
    (child, data): (fn(&T) -> !, &T),
) -> io::Result<OwnedFd> {
    struct Start<'a, T> {
        child: fn(&T) -> !,
        data: &'a T,
    }

    extern "C" fn enter<T>(start: *const c_void) -> ! {
        // SAFETY: clone3 below hands over the address of a `Start<T>` that outlives the child's use.
        let start = unsafe { &*start.cast::<Start<'_, T>>() };
        (start.child)(start.data)
    }

    let mut pidfd: c_int = -1;
    let shared = match memory {
        Memory::Shared => libc::CLONE_VM | libc::CLONE_VFORK,
        Memory::Copied => 0,
    };
    let arguments = libc::clone_args {
        flags: flag(shared | libc::CLONE_PIDFD) | CLONE_CLEAR_SIGHAND | flags,
        pidfd: address(&raw mut pidfd),
        child_tid: 0,
        parent_tid: 0,
        exit_signal: flag(libc::SIGCHLD),
        stack: address(stack.0.as_mut_ptr()),
        stack_size: size_of_val(&*stack.0) as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    let start = Start { child, data };
    // SAFETY: the child has memory of its own, or CLONE_VFORK keeps this thread here until it has left the
    // shared memory: so all that is borrowed outlives the child. The stack is borrowed for the child alone.
    let result = unsafe { clone3(&arguments, enter::<T>, (&raw const start).cast()) };
    if result < 0 {
        return Err(error(result));
    }
    // SAFETY: the kernel has just stored a descriptor of ours there.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// # Safety
///
/// `arguments` has to name a stack, and the child must not outlive what `data` and the stack borrow.
unsafe fn clone3(
    arguments: &libc::clone_args,
    child: extern "C" fn(*const c_void) -> !,
    data: *const c_void,
) -> isize {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the parent changes nothing but the clobbers; the child starts at the top of its own
    // stack and never leaves `child`.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") arguments,
            in("rsi") size::<libc::clone_args>(),
            in("r12") data,
            in("r13") child,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") arguments => result,
            in("x1") size::<libc::clone_args>(),
            in("x20") data,
            in("x21") child,
            options(nostack),
        );
    }
    result
}

/// Waits for the child and reaps it.
pub(super) fn wait(pidfd: &OwnedFd) -> Exit {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the kernel writes one siginfo_t, which `info` has room for.
    let result = unsafe {
        call(
            libc::SYS_waitid,
            [
                uint(libc::P_PIDFD),
                int(pidfd.as_raw_fd()),
                address(info.as_mut_ptr()),
                int(libc::WEXITED),
                0,
                0,
            ],
        )
    };
    assert!(result == 0, "waitid: {}", error(result));
    // SAFETY: all zero is a valid siginfo_t, and the kernel has filled it in.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid fills in the fields of SIGCHLD.
    let status = unsafe { info.si_status() };
    match info.si_code {
        libc::CLD_EXITED => Exit::Status(status),
        _ => Exit::Signal(status),
    }
}

/// Returns the mask so far.
pub(super) fn set_signal_mask(mask: u64) -> u64 {
    let mut old = 0_u64;
    let arguments = [
        int(libc::SIG_SETMASK),
        address(&raw const mask),
        address(&raw mut old),
        size::<u64>(),
        0,
        0,
    ];
    // SAFETY: both masks have the size that the fourth argument states.
    let result = unsafe { call(libc::SYS_rt_sigprocmask, arguments) };
    debug_assert!(result == 0, "a valid mask is not refused");
    old
}

pub(super) fn execve(program: &CStr, argv: &StringList, envp: &StringList) -> isize {
    let arguments = [
        text(program),
        address(argv.pointers.as_ptr()),
        address(envp.pointers.as_ptr()),
        0,
        0,
        0,
    ];
    // SAFETY: the lists end with a null pointer, and their strings live beside them.
    unsafe { call(libc::SYS_execve, arguments) }
}

pub(super) fn exit(status: c_int) -> ! {
    loop {
        // SAFETY: takes no address.
        unsafe { call(libc::SYS_exit_group, [int(status), 0, 0, 0, 0, 0]) };
    }
}

pub(super) fn close_range(first: c_uint, flags: c_uint) -> isize {
    let arguments = [uint(first), uint(c_uint::MAX), uint(flags), 0, 0, 0];
    // SAFETY: only the child calls it, on a descriptor table that is its own or becomes so.
    unsafe { call(libc::SYS_close_range, arguments) }
}

pub(super) fn open(path: &CStr, flags: c_int) -> isize {
    let arguments = [int(libc::AT_FDCWD), text(path), int(flags), 0, 0, 0];
    // SAFETY: the path is a C string that outlives the call.
    unsafe { call(libc::SYS_openat, arguments) }
}

pub(super) fn write(file: c_int, bytes: &[u8]) -> isize {
    let arguments = [
        int(file),
        address(bytes.as_ptr()),
        bytes.len() as u64,
        0,
        0,
        0,
    ];
    // SAFETY: the kernel reads `bytes` and no more.
    unsafe { call(libc::SYS_write, arguments) }
}

pub(super) fn mkdir(path: &CStr, mode: c_uint) -> isize {
    let arguments = [int(libc::AT_FDCWD), text(path), uint(mode), 0, 0, 0];
    // SAFETY: the path is a C string that outlives the call.
    unsafe { call(libc::SYS_mkdirat, arguments) }
}

/// An empty regular file.
pub(super) fn create_file(path: &CStr) -> isize {
    let mode = libc::S_IFREG | 0o644;
    let arguments = [int(libc::AT_FDCWD), text(path), uint(mode), 0, 0, 0];
    // SAFETY: the path is a C string that outlives the call.
    unsafe { call(libc::SYS_mknodat, arguments) }
}

pub(super) fn symlink(target: &CStr, path: &CStr) -> isize {
    let arguments = [text(target), int(libc::AT_FDCWD), text(path), 0, 0, 0];
    // SAFETY: both are C strings that outlive the call.
    unsafe { call(libc::SYS_symlinkat, arguments) }
}

pub(super) fn fchdir(directory: c_int) -> isize {
    // SAFETY: takes no address.
    unsafe { call(libc::SYS_fchdir, [int(directory), 0, 0, 0, 0, 0]) }
}

pub(super) fn fsopen(kind: &CStr) -> isize {
    let flags = uint(libc::FSOPEN_CLOEXEC);
    // SAFETY: the name is a C string that outlives the call.
    unsafe { call(libc::SYS_fsopen, [text(kind), flags, 0, 0, 0, 0]) }
}

pub(super) fn fsconfig_string(context: c_int, key: &CStr, value: &CStr) -> isize {
    let command = uint(libc::FSCONFIG_SET_STRING);
    let arguments = [int(context), command, text(key), text(value), 0, 0];
    // SAFETY: both are C strings that outlive the call.
    unsafe { call(libc::SYS_fsconfig, arguments) }
}

pub(super) fn fsconfig_create(context: c_int) -> isize {
    let command = uint(libc::FSCONFIG_CMD_CREATE);
    // SAFETY: takes no address with this command.
    unsafe { call(libc::SYS_fsconfig, [int(context), command, 0, 0, 0, 0]) }
}

pub(super) fn fsmount(context: c_int, attributes: u64) -> isize {
    let flags = uint(libc::FSMOUNT_CLOEXEC);
    let arguments = [int(context), flags, attributes, 0, 0, 0];
    // SAFETY: takes no address.
    unsafe { call(libc::SYS_fsmount, arguments) }
}

/// A detached copy.
pub(super) fn open_tree(path: &CStr, flags: c_int) -> isize {
    let flags = uint(libc::OPEN_TREE_CLONE) | uint(libc::OPEN_TREE_CLOEXEC) | int(flags);
    let arguments = [int(libc::AT_FDCWD), text(path), flags, 0, 0, 0];
    // SAFETY: the path is a C string that outlives the call.
    unsafe { call(libc::SYS_open_tree, arguments) }
}

pub(super) const fn attributes(set: u64) -> libc::mount_attr {
    libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    }
}

pub(super) const fn propagation(kind: c_ulong) -> libc::mount_attr {
    libc::mount_attr {
        propagation: kind,
        ..attributes(0)
    }
}

pub(super) fn mount_setattr(
    directory: c_int,
    path: &CStr,
    flags: c_int,
    attributes: &libc::mount_attr,
) -> isize {
    let arguments = [
        int(directory),
        text(path),
        int(flags),
        address(attributes),
        size::<libc::mount_attr>(),
        0,
    ];
    // SAFETY: the path is a C string, and the structure has the size stated.
    unsafe { call(libc::SYS_mount_setattr, arguments) }
}

/// Attaches the tree that is open as `tree`.
pub(super) fn move_mount(tree: c_int, directory: c_int, path: &CStr) -> isize {
    let flags = uint(libc::MOVE_MOUNT_F_EMPTY_PATH);
    let arguments = [int(tree), text(c""), int(directory), text(path), flags, 0];
    // SAFETY: both paths are C strings that outlive the call.
    unsafe { call(libc::SYS_move_mount, arguments) }
}

pub(super) fn pivot_root(new: &CStr, old: &CStr) -> isize {
    // SAFETY: both are C strings that outlive the call.
    unsafe { call(libc::SYS_pivot_root, [text(new), text(old), 0, 0, 0, 0]) }
}

pub(super) fn umount2(path: &CStr, flags: c_int) -> isize {
    // SAFETY: the path is a C string that outlives the call.
    unsafe { call(libc::SYS_umount2, [text(path), int(flags), 0, 0, 0, 0]) }
}

pub(super) fn socket(family: c_int, kind: c_int) -> isize {
    // SAFETY: takes no address.
    unsafe { call(libc::SYS_socket, [int(family), int(kind), 0, 0, 0, 0]) }
}

pub(super) fn set_interface_up(socket: c_int, name: &CStr) -> isize {
    // SAFETY: an ifreq is plain old data, for which all zero is a value.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.to_bytes()) {
        *slot = *byte as c_char;
    }
    request.ifr_ifru.ifru_flags = UP;
    let command = libc::SIOCSIFFLAGS;
    let arguments = [int(socket), command, address(&raw const request), 0, 0, 0];
    // SAFETY: the command reads an ifreq.
    unsafe { call(libc::SYS_ioctl, arguments) }
}

pub(super) fn refuse_huge_pages(memory: &mut [MaybeUninit<u8>]) {
    /// The largest page size among the supported kernels.
    const PAGE: usize = 0x1_0000;
    let start = memory.as_mut_ptr();
    let skipped = start.align_offset(PAGE);
    let length = memory.len().saturating_sub(skipped);
    // SAFETY: the range is ours, and the advice leaves its contents alone.
    let result = unsafe {
        libc::madvise(
            start.wrapping_add(skipped).cast(),
            length,
            libc::MADV_NOHUGEPAGE,
        )
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        let no_huge_pages_at_all = error.raw_os_error() == Some(libc::EINVAL);
        assert!(no_huge_pages_at_all, "madvise: {error}");
    }
}

/// # Safety
///
/// What the call reads or writes has to be valid for that.
#[inline(always)]
unsafe fn call(number: c_long, arguments: [u64; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the clobbers are those of the system call; the rest is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack),
        );
    }
    result
}

fn error(result: isize) -> io::Error {
    io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(0))
}

fn int(value: c_int) -> u64 {
    i64::from(value).cast_unsigned()
}

fn uint(value: c_uint) -> u64 {
    u64::from(value)
}

fn text(string: &CStr) -> u64 {
    address(string.as_ptr())
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

fn size<T>() -> u64 {
    size_of::<T>() as u64
}
