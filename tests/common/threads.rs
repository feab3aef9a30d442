//! The same work from several threads.

use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};

use super::{isolated, sys};

/// Runs `work` in so many threads at once, each with its number, and waits for their ends, which the end of a scope
/// does not.
pub(crate) fn from_threads(count: usize, work: impl Fn(usize) + Sync) {
    let start = Barrier::new(count);
    std::thread::scope(|scope| {
        let (start, work) = (&start, &work);
        let run = |thread| {
            scope.spawn(move || {
                start.wait();
                work(thread);
            })
        };
        let threads: Vec<_> = (0..count).map(run).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// Returns when this process has one thread. Not by `/proc`, which may be somebody else's here.
pub(crate) fn await_end_of_others() {
    let deadline = Instant::now() + isolated::timeout();
    while !sys::has_one_thread() {
        assert!(Instant::now() < deadline, "a thread does not end");
        std::thread::yield_now();
    }
}

/// Whether the C library can still change the ids of this process, which takes an answer of each thread.
pub(crate) fn ids_can_change() -> bool {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(sys::set_gid_everywhere()));
    matches!(receiver.recv_timeout(Duration::from_secs(10)), Ok(Ok(())))
}
