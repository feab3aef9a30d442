//! A child held still at a system call, so that something can happen to it just then.

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
    let listener = Filter::new().trap(call).install_with_listener().unwrap();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let notification = sys::notification(&listener).unwrap();
            act(notification.pid.cast_signed());
            // ENOENT if it is no more.
            let _ = sys::answer(&listener, notification.id, Answer::Continue);
            listener
        });
        let result = spawn();
        drop(watcher.join().unwrap());
        result
    })
}
