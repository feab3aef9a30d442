//! The memory that parent and child share: a stack with a guard page, and one shared page.

use core::ptr::NonNull;
use rustix::io::Errno;
use std::sync::{Mutex, PoisonError};

const PAGE: usize = 4096;
/// The guard must also hold on kernels with 64 KiB pages.
const GUARD: usize = 64 * 1024;
/// As large as the largest page: it is advised alone.
const MARK: usize = 64 * 1024;
/// Room for the child: its deepest frames hold a path and a few buffers.
const STACK: usize = 128 * 1024;
/// How many arenas are kept for later spawns.
const KEPT: usize = 16;

static POOL: Mutex<Vec<Arena>> = Mutex::new(Vec::new());

/// A stack for a child with a guard page below it, and a page that stays shared with a child that
/// has a copy of the memory.
///
/// When the caller itself forks, the new process inherits the pool, and the shared pages would stay
/// shared with its maker. A mark that the kernel wipes in such a process tells.
#[derive(Debug)]
pub(crate) struct Arena {
    base: NonNull<u8>,
    shared: NonNull<u8>,
    mark: NonNull<u8>,
}

// SAFETY: the arena owns its mappings; whoever holds it is the only user.
unsafe impl Send for Arena {}

impl Arena {
    /// Takes an arena from the pool or maps a new one. The error says which system call failed.
    pub(crate) fn take() -> Result<Self, (&'static str, Errno)> {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(kept) = pool.pop() {
            if kept.is_own() {
                return Ok(kept);
            }
        }
        drop(pool);
        Self::map()
    }

    /// Gives the arena back to the pool.
    pub(crate) fn put(self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT && self.is_own() {
            pool.push(self);
        }
    }

    /// Whether this process has mapped the arena, rather than inherited it. False also where the kernel
    /// wipes nothing.
    fn is_own(&self) -> bool {
        // SAFETY: the mark is mapped as long as the arena exists; volatile, since the kernel wipes it
        // unseen by the compiler.
        unsafe { self.mark.as_ptr().read_volatile() != 0 }
    }

    fn map() -> Result<Self, (&'static str, Errno)> {
        let failed = |errno| ("mmap", errno);
        let base = map(GUARD + STACK, libc::MAP_PRIVATE | libc::MAP_STACK).map_err(failed)?;
        let shared = map(PAGE, libc::MAP_SHARED)
            .inspect_err(|_| unmap(base, GUARD + STACK))
            .map_err(failed)?;
        let mark = map(MARK, libc::MAP_PRIVATE)
            .inspect_err(|_| {
                unmap(base, GUARD + STACK);
                unmap(shared, PAGE);
            })
            .map_err(failed)?;
        // From here on dropping it unmaps all three.
        let arena = Self { base, shared, mark };
        // SAFETY: the first pages of the mapping just made.
        if unsafe { libc::mprotect(base.as_ptr().cast(), GUARD, libc::PROT_NONE) } != 0 {
            return Err(("mprotect", last_errno()));
        }
        // SAFETY: a private mapping just made, in which nothing is stored yet.
        let wiped = unsafe { libc::madvise(mark.as_ptr().cast(), MARK, libc::MADV_WIPEONFORK) };
        if wiped == 0 {
            // SAFETY: mapped, and nobody else knows of it.
            unsafe { mark.as_ptr().write_volatile(1) };
        }
        Ok(arena)
    }

    /// Lowest usable address and size of the stack.
    pub(crate) fn stack(&self) -> (usize, usize) {
        (self.base.as_ptr() as usize + GUARD, STACK)
    }

    /// The shared page as a `T`, reset to its default.
    pub(crate) fn shared<T: Default>(&mut self) -> &T {
        const { assert!(size_of::<T>() <= PAGE) };
        let at = self.shared.cast::<T>();
        // SAFETY: the page is mapped, large enough, aligned to 4096, and nobody else uses it now.
        unsafe { at.write(T::default()) };
        // SAFETY: just initialised.
        unsafe { at.as_ref() }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        unmap(self.base, GUARD + STACK);
        unmap(self.shared, PAGE);
        unmap(self.mark, MARK);
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOMEM)
}

fn map(size: usize, flags: libc::c_int) -> Result<NonNull<u8>, Errno> {
    // SAFETY: a new anonymous mapping touches nothing that exists.
    let at = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            flags | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(last_errno());
    }
    NonNull::new(at.cast()).ok_or(Errno::NOMEM)
}

fn unmap(at: NonNull<u8>, size: usize) {
    // SAFETY: the mapping is ours and nothing refers to it any more.
    unsafe { libc::munmap(at.as_ptr().cast(), size) };
}
