//! System calls as instructions: all that is written for one processor.

/// Makes a system call, and returns what the kernel does: a result, or an errno below zero.
///
/// # Safety
/// The arguments must be valid for that system call.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) unsafe fn syscall(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let value: isize;
    // SAFETY: the kernel clobbers rax, rcx and r11 only; the caller vouches for the arguments.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => value,
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
    value
}

/// Makes a system call, and returns what the kernel does: a result, or an errno below zero.
///
/// # Safety
/// The arguments must be valid for that system call.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(crate) unsafe fn syscall(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let value: isize;
    // SAFETY: the kernel clobbers x0 only; the caller vouches for the arguments.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => value,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack),
        );
    }
    value
}

/// What a child on a stack of its own begins with. It must not return.
pub(crate) type Entry<T> = unsafe extern "C" fn(*mut T) -> !;

/// clone(2) or clone3(2) that gives the child another stack, where it calls `entry(data)`.
///
/// # Safety
/// The arguments must be valid for that system call. The stack is the child's alone; entry and data are good
/// for as long as it lives.
pub(crate) unsafe fn clone<T>(
    number: usize,
    [a, b, c]: [usize; 3],
    entry: Entry<T>,
    data: *mut T,
) -> isize {
    let value: isize;
    // SAFETY: in the parent only the registers change that the kernel clobbers. The child starts on a stack of its
    // own, aligned as a call wants it, and never leaves `entry`; the rest is the caller's to say.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "and rsp, -16",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") number => value,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") 0_usize,
            in("r8") 0_usize,
            in("r12") entry,
            in("r13") data,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x10",
            "blr x9",
            "brk #1",
            "2:",
            in("x8") number,
            inlateout("x0") a => value,
            in("x1") b,
            in("x2") c,
            in("x3") 0_usize,
            in("x4") 0_usize,
            in("x9") entry,
            in("x10") data,
        );
    }
    value
}

/// Ends the process by a signal that nobody can block, where a filter does not let it exit.
pub(crate) fn trap() -> ! {
    // SAFETY: nothing comes after it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("ud2", options(noreturn, nomem, nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("brk #1", options(noreturn, nomem, nostack));
    }
}
