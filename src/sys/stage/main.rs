//! The second stage as a program:
//! `ringfence-init CONTROL,SETTINGS,COUNT,TERMINAL,CHILDREN,WORK,LOCKDOWN,WORDS CANDIDATE... ARGUMENT...`,
//! with the environment of the program that it starts.
//!
//! It is built by the build script, without libc and std; it has no data that is written to.
#![no_std]
#![no_main]

mod calls;
mod children;
mod enter;
mod exec;
mod init;
mod job;
mod join;
mod lockdown;
mod message;
mod syscall;

use calls::{Text, Texts};
use core::arch::global_asm;
use job::Job;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {begin}",
    "ud2",
    begin = sym begin,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {begin}",
    "brk #1",
    begin = sym begin,
);

/// What lies before the candidates: the name and the settings.
const BEFORE: usize = 2;

unsafe extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: the kernel puts the number of arguments first,
    let argc = unsafe { *stack };
    // SAFETY: then the arguments and a null pointer,
    let arguments: Texts = unsafe { stack.add(1) }.cast();
    // SAFETY: then the environment.
    let envp = unsafe { arguments.add(argc + 1) };
    // SAFETY: `argc` of them are there.
    let settings = unsafe { core::slice::from_raw_parts(arguments, argc) }.get(1);
    // SAFETY: an argument is null-terminated.
    let numbers = settings.and_then(|text| unsafe { numbers(*text) });
    let Some([control, settings, count, terminal, children, work, lockdown, words]) = numbers
    else {
        calls::exit(127)
    };
    let count = count as usize;
    if count > argc.saturating_sub(BEFORE) {
        calls::exit(127)
    }
    let control = control.cast_signed();
    init::run(&Job {
        control,
        terminal: terminal.cast_signed(),
        children: children.cast_signed(),
        settings,
        // SAFETY: these are `argc` pointers and a null pointer.
        first: unsafe { arguments.add(BEFORE) },
        count,
        // SAFETY: as above.
        argv: unsafe { arguments.add(BEFORE + count) },
        envp,
        work: work.cast_signed(),
        lockdown: lists(control, lockdown.cast_signed(), words as usize),
    })
}

/// What the file under this number says, which is closed.
fn lists(control: i32, fd: i32, words: usize) -> &'static [u64] {
    if words == 0 {
        return &[];
    }
    let mapped = map(fd, words);
    calls::close(fd);
    mapped.unwrap_or_else(|errno| init::give_up(control, message::call::MMAP, errno, 0))
}

/// The words of a file that nobody changes any more.
fn map(fd: i32, words: usize) -> Result<&'static [u64], calls::Errno> {
    #[cfg(target_arch = "x86_64")]
    const MMAP: usize = 9;
    #[cfg(target_arch = "aarch64")]
    const MMAP: usize = 222;
    const PROT_READ: usize = 1;
    const MAP_PRIVATE: usize = 2;
    let length = words * size_of::<u64>();
    let fd = fd.cast_unsigned() as usize;
    // SAFETY: a new mapping at a place that the kernel chooses.
    let at = unsafe { calls::any(MMAP, [0, length, PROT_READ, MAP_PRIVATE, fd, 0]) }?;
    // SAFETY: it has that length, is aligned to a page and stays; nobody writes to it.
    Ok(unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(at), words) })
}

/// Decimal numbers with a comma between them.
///
/// # Safety
/// The text is null-terminated.
unsafe fn numbers(mut text: Text) -> Option<[u32; 8]> {
    let mut numbers = [0_u32; 8];
    let mut rest = numbers.iter_mut();
    let mut number = rest.next()?;
    loop {
        // SAFETY: not yet behind the null byte.
        let byte = unsafe { *text };
        match byte {
            b'0'..=b'9' => {
                *number = number.checked_mul(10)?.checked_add(u32::from(byte - b'0'))?;
            }
            b',' => number = rest.next()?,
            0 => return rest.next().is_none().then_some(numbers),
            _ => return None,
        }
        // SAFETY: that byte was not the last.
        text = unsafe { text.add(1) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    calls::exit(126)
}

/// What the compiler calls where other programs have libc.
mod memory {
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        for index in 0..length {
            // SAFETY: the compiler asks for valid memory. Volatile, or it would call this again.
            unsafe { to.add(index).write_volatile(from.add(index).read()) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
        for index in 0..length {
            // SAFETY: as above.
            unsafe { to.add(index).write_volatile(byte as u8) };
        }
        to
    }
}
