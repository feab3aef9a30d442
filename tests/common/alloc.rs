//! A global allocator that proves that a child does not allocate.
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::getpid;

use super::sys;

/// How a process ends that allocates, or frees, and should not.
pub(crate) const STATUS: i32 = 99;

/// The process that may allocate; 0 for any.
static OWNER: AtomicI32 = AtomicI32::new(0);

/// The system allocator, and once armed, the end with [`STATUS`] of any process but the one that
/// armed it: a forked child, or a `CLONE_VM` child, which has the parent's memory and another pid.
///
/// To be installed by a test binary of its own:
/// `#[global_allocator] static ALLOC: ParentOnly = ParentOnly;`
#[derive(Debug)]
pub(crate) struct ParentOnly;

impl ParentOnly {
    /// From now on only this process may allocate.
    pub(crate) fn arm() {
        let pid = getpid().as_raw_pid();
        // The first process of a new pid namespace would be taken for the owner.
        assert_ne!(
            pid, 1,
            "an owner that is PID 1 cannot be told from a child that is"
        );
        OWNER.store(pid, Ordering::Relaxed);
    }

    pub(crate) fn disarm() {
        OWNER.store(0, Ordering::Relaxed);
    }

    fn check() {
        let owner = OWNER.load(Ordering::Relaxed);
        // rustix asks the kernel each time; a cached pid would be the parent's.
        if owner != 0 && owner != getpid().as_raw_pid() {
            sys::exit_now(STATUS);
        }
    }
}

// SAFETY: everything is left to `System`.
unsafe impl GlobalAlloc for ParentOnly {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check();
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Self::check();
        // SAFETY: as in `alloc`; the block came from `System`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::check();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::check();
        // SAFETY: as in `dealloc`.
        unsafe { System.realloc(block, layout, size) }
    }
}
