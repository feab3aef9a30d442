//! Processes to be looked at, and an allocator that counts.
#![allow(
    unsafe_code,
    reason = "fork and unshare are called raw, and an allocator is unsafe by nature"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, setpgid, waitpgid,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

#[global_allocator]
static COUNTING: Counting = Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's allocator does the work; what is added counts only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(used, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most bytes that were in use during a call, and those of what it returns.
pub(crate) fn memory<T>(run: impl FnOnce() -> T) -> (usize, usize) {
    let before = USED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = run();
    let kept = USED.load(Ordering::Relaxed) - before;
    drop(result);
    (PEAK.load(Ordering::Relaxed) - before, kept)
}

/// Processes that share four new namespaces and wait; ended when dropped.
pub(crate) struct Group(Pid);

impl Group {
    pub(crate) fn new(size: usize) -> Self {
        let (mut ready, tell) = std::io::pipe().expect("a pipe");
        set_child_subreaper(Some(getpid())).expect("Linux 3.4");
        let child = fork();
        let Some(pid) = Pid::from_raw(child) else {
            let _ = setpgid(None, None);
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            let flags = UnshareFlags::NEWNS
                | UnshareFlags::NEWUTS
                | UnshareFlags::NEWIPC
                | UnshareFlags::NEWCGROUP;
            // SAFETY: without CLONE_FILES no descriptor is taken away from another thread.
            unsafe { unshare_unsafe(flags) }.expect("root");
            for _ in 1..size {
                if fork() == 0 {
                    break;
                }
            }
            drop(tell);
            loop {
                // SAFETY: takes nothing; returns after a signal handler, of which there is none.
                unsafe { libc::pause() };
            }
        };
        drop(tell);
        // All of them have closed it once they wait.
        let end = ready.read(&mut [0]);
        assert!(matches!(end, Ok(0)), "the group does not start");
        Self(pid)
    }
}

fn fork() -> i32 {
    // SAFETY: the child has memory of its own and makes system calls only.
    unsafe { libc::fork() }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
        // The others come to this process once their parent has ended.
        while waitpgid(self.0, WaitOptions::empty()).is_ok() {}
    }
}
