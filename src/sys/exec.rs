//! exec, and the null-terminated pointer arrays that it wants.

use super::raw::syscall;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::stage::syscall::trap;
use core::ffi::{CStr, c_char};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::RawFd;

/// A null-terminated array of strings, as `execve` wants its arguments and environment.
#[derive(Debug)]
pub(crate) struct StringArray {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers lead into `strings`, which is never changed.
unsafe impl Send for StringArray {}
// SAFETY: as above.
unsafe impl Sync for StringArray {}

impl StringArray {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(core::ptr::null());
        Self { strings, pointers }
    }

    pub(crate) fn strings(&self) -> &[CString] {
        &self.strings
    }

    pub(super) fn pointers(&self) -> &[*const c_char] {
        &self.pointers
    }
}

/// `execve(2)`. Returns only when it fails.
pub(crate) fn execve(path: &CStr, argv: &StringArray, envp: &StringArray) -> Errno {
    let args = [
        path.as_ptr() as usize,
        argv.pointers.as_ptr() as usize,
        envp.pointers.as_ptr() as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the path and both arrays are null-terminated and outlive the call.
    match unsafe { syscall(libc::SYS_execve, args) } {
        Ok(_) => Errno::IO,
        Err(errno) => errno,
    }
}

/// `execveat(2)` of an open file. Returns only when it fails.
pub(crate) fn execveat(file: RawFd, argv: &StringArray, envp: &StringArray) -> Errno {
    let args = [
        file.cast_unsigned() as usize,
        c"".as_ptr() as usize,
        argv.pointers.as_ptr() as usize,
        envp.pointers.as_ptr() as usize,
        libc::AT_EMPTY_PATH.unsigned_abs() as usize,
        0,
    ];
    // SAFETY: the path and both arrays are null-terminated and outlive the call.
    match unsafe { syscall(libc::SYS_execveat, args) } {
        Ok(_) => Errno::IO,
        Err(errno) => errno,
    }
}

/// Whether `execveat` gets through to the kernel, which finds no such descriptor.
pub(crate) fn execveat_exists() -> bool {
    let none = StringArray::new(Vec::new());
    execveat(-1, &none, &none) == Errno::BADF
}

/// Ends the process without running anything of libc's.
pub(crate) fn exit_group(status: i32) -> ! {
    let args = [status.unsigned_abs() as usize, 0, 0, 0, 0, 0];
    // A filter that asks somebody may refuse it once.
    for _ in 0..2 {
        // SAFETY: takes no pointer and does not return, unless it is refused.
        let _ = unsafe { syscall(libc::SYS_exit_group, args) };
    }
    trap()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn trap() -> ! {
    // Until its time is over.
    loop {
        core::hint::spin_loop();
    }
}
