//! The processes, shared out to a few threads.

use super::procfs::Procfs;
use super::registry::budget;
use super::{Scan, Scanner};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys::signal;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// More would only wait for each other in the kernel.
const MOST: usize = 4;
/// Processes that are worth a thread: some milliseconds.
const WORTH: usize = 128;
/// How many a worker takes at once.
const BATCH: usize = 16;

/// Looks at all processes, the calling one last: by then the descriptors that the workers hold can be told from its
/// own.
pub(super) fn scan(scan: Scan, procfs: &Procfs) -> Result<Scanner<'_>> {
    let mut pids = pids(procfs)?;
    let own = pids.iter().position(|&pid| procfs.own_pid == Some(pid));
    let own = own.map(|own| pids.swap_remove(own));
    let workers = (pids.len() / WORTH)
        .min(thread::available_parallelism().map_or(1, usize::from))
        .clamp(1, MOST);
    let share = budget() / workers;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut scanner = Scanner::new(scan, procfs, share);
        while let Some(rest) = pids.get(next.fetch_add(BATCH, Ordering::Relaxed)..)
            && !rest.is_empty()
        {
            for &pid in rest.iter().take(BATCH) {
                scanner.look_at(pid);
            }
        }
        scanner
    };
    let mut scanner = thread::scope(|scope| {
        let work_aside = || {
            // A handler must not run in there by accident.
            signal::leave_to_others();
            work()
        };
        // Where no thread can be made, this one does it all.
        let others: Vec<_> = (1..workers)
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, work_aside).ok())
            .collect();
        let mut scanner = work();
        for other in others {
            match other.join() {
                Ok(other) => scanner.merge(other),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        scanner
    });
    if let Some(own) = own {
        scanner.look_at(own);
    }
    if scanner.processes.is_empty() {
        let what = "/proc shows no process";
        return Err(Error::other(ErrorKind::Unsupported, Step::Scan, what));
    }
    Ok(scanner)
}

fn pids(procfs: &Procfs) -> Result<Vec<u32>> {
    let failed = |errno| Error::system(Step::Scan, "/proc", "getdents64", errno);
    let listing = procfs.list().map_err(failed)?;
    let mut buffer = [const { MaybeUninit::uninit() }; 8 << 10];
    let mut entries = rustix::fs::RawDir::new(listing, &mut buffer);
    let mut pids = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_str();
        pids.extend(name.ok().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}

impl Scanner<'_> {
    fn look_at(&mut self, pid: u32) {
        let process = self.process(pid);
        self.processes.extend(process);
    }
}
