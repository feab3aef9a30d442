//! A child held still at a system call, so that something can happen to it just then.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::common::seccomp::Filter;
use crate::common::sys::{self, Answer};

/// Runs `spawn` with a system call trapped. The first time that a child comes to it, `act` gets its pid, on
/// a thread of its own, and the call is made only after that. A child that is killed leaves it.
///
/// To be used once in a process: the trap stays, without anybody to answer it.
pub(crate) fn held_at<T>(
    call: libc::c_long,
    spawn: impl FnOnce() -> T,
    act: impl FnOnce(i32) + Send,
) -> T {
    let (result, came) = held_if_it_comes(call, spawn, act);
    assert!(came, "no child has come to the call");
    result
}

/// [`held_at`] where the child may not come as far; and whether it did.
pub(crate) fn held_if_it_comes<T>(
    call: libc::c_long,
    spawn: impl FnOnce() -> T,
    act: impl FnOnce(i32) + Send,
) -> (T, bool) {
    let listener = Filter::new().trap(call).install_with_listener().unwrap();
    let (over, end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let notification = is_first(&listener, &over)
                .then(|| sys::notification(&listener))
                .transpose()
                // It was killed on its way there.
                .unwrap_or_default();
            let came = notification.is_some();
            if let Some(notification) = notification {
                act(notification.pid.cast_signed());
                // ENOENT if it is no more.
                let _ = sys::answer(&listener, notification.id, Answer::Continue);
            }
            (listener, came)
        });
        let result = spawn();
        drop(end);
        let (listener, came) = watcher.join().unwrap();
        drop(listener);
        (result, came)
    })
}

/// Waits until one of them has something, and says whether it is this one.
fn is_first(this: &OwnedFd, other: &OwnedFd) -> bool {
    let mut both = [this, other].map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
    while poll(&mut both, None) == Err(rustix::io::Errno::INTR) {}
    both[0].revents().contains(PollFlags::IN)
}
