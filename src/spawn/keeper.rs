//! Binding a child to the life of the process.
//!
//! The kernel sends the parent death signal when the *thread* ends that made the child. So the child is
//! made by a thread of its own, which inherits everything from the calling thread and lives as long as
//! the child: it ends early only when the whole process does.

use super::{join, parent};
use crate::error::{Error, Result, Step};
use crate::plan::Plan;
use crate::process::Child;
use crate::sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;

const STACK_SIZE: usize = 256 * 1024;

pub(super) fn spawn(plan: &Plan) -> Result<Child> {
    let plan = plan.clone();
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("ringfence-keeper".into())
        .stack_size(STACK_SIZE)
        .spawn(move || {
            signal::leave_to_others();
            let entered = join::enter_all(&plan.compiled);
            let spawned = entered
                .and_then(|()| parent::spawn(&plan))
                .and_then(|child| {
                    let pidfd = child
                        .as_fd()
                        .try_clone_to_owned()
                        .map_err(|error| Error::io(Step::Prepare, "a copy of the pidfd", error));
                    match pidfd {
                        Ok(pidfd) => Ok((child, pidfd)),
                        Err(error) => {
                            parent::discard(child);
                            Err(error)
                        }
                    }
                });
            // It holds what the program was given, and the caller may wait for that to be closed.
            drop(plan);
            match spawned {
                Ok((child, pidfd)) => {
                    if let Err(mpsc::SendError(Ok(child))) = sender.send(Ok(child)) {
                        parent::discard(child);
                    }
                    outlive(&pidfd);
                }
                Err(error) => {
                    let _ = sender.send(Err(error));
                }
            }
        })
        .map_err(|error| {
            Error::io(
                Step::Prepare,
                "a thread that lives as long as the child",
                error,
            )
        })?;
    match receiver.recv() {
        Ok(result) => result,
        Err(_) => {
            let _ = thread.join();
            Err(Error::other(
                crate::ErrorKind::System,
                Step::Prepare,
                "the thread that makes the child has ended",
            ))
        }
    }
}

/// Returns when the process has ended.
fn outlive(pidfd: &OwnedFd) {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    while let Err(Errno::INTR | Errno::AGAIN | Errno::NOMEM) = poll(&mut fds, None) {}
}
