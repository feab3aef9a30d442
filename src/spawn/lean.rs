//! Spawning from a thread with a descriptor table of its own.
//!
//! A caller with thousands of descriptors gets high numbers for new pipes, and a child that needs them
//! copies its whole table. A thread that leaves the table, taking only what is needed, costs a
//! twentieth of that. Plans that were compiled early do without, see [`reserve`](super::reserve).

use super::child::Placement;
use super::parent::{make, needs_no_more};
use super::verdict::open_pidfd;
use crate::error::{Error, Result, Step};
use crate::plan::Compiled;
use crate::sys::fd::{CloseRange, close_range};
use crate::sys::process::pidfd_signal;
use crate::sys::signal;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::mpsc;

/// From this number on the copy costs more than a thread.
pub(super) const HIGH: RawFd = 2048;

/// Whether a thread that ends at once may make the child. It may not if the child is bound to the life of
/// the thread that made it, or may be gone before the caller has a pidfd of its own.
pub(super) fn suits(plan: &Compiled) -> bool {
    needs_no_more(plan) && !plan.die_with_parent && !signal::children_vanish()
}

/// Spawns with these descriptors of the caller at these numbers. `None` if the thread could not get them; then
/// the usual way serves.
pub(super) fn spawn(
    plan: &Compiled,
    sources: &[(BorrowedFd<'_>, RawFd)],
) -> Option<Result<(u32, OwnedFd)>> {
    std::thread::scope(|scope| {
        let (tell, told) = mpsc::sync_channel(1);
        let (release, released) = mpsc::sync_channel::<()>(1);
        let thread = std::thread::Builder::new()
            .name("ringfence-lean".into())
            .spawn_scoped(scope, move || {
                let Ok(own) = take_over(sources) else {
                    return true;
                };
                let placements: Vec<_> = own
                    .iter()
                    .zip(sources)
                    .map(|(own, (_, target))| Placement::new(own.as_raw_fd(), *target))
                    .collect();
                match make(plan, &placements, None) {
                    Ok((pid, pidfd)) => {
                        let _ = tell.send(Ok(pid));
                        // Held until the caller has a pidfd of its own. That the child was not reaped
                        // meanwhile shows that the number was still its own.
                        let _ = released.recv();
                        pidfd_signal(pidfd.as_fd(), 0) != Err(Errno::SRCH)
                    }
                    Err(error) => {
                        let _ = tell.send(Err(error));
                        true
                    }
                }
            })
            .ok()?;
        let made = told.recv();
        let opened = made.ok().map(|made: Result<u32>| {
            made.and_then(|pid| open_pidfd(pid).map(|pidfd| (pid, pidfd)))
        });
        drop(release);
        if thread.join().unwrap_or(false) {
            return opened;
        }
        Some(Err(Error::system(
            Step::Clone,
            "the child was reaped by somebody else",
            "pidfd_open",
            Errno::SRCH,
        )))
    })
}

/// Leaves the caller's table, and fetches from it what is needed.
fn take_over(sources: &[(BorrowedFd<'_>, RawFd)]) -> Result<Vec<OwnedFd>, Errno> {
    let identity =
        |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let wanted: Vec<_> = sources
        .iter()
        .map(|(fd, _)| Ok((fd.as_raw_fd(), identity(*fd)?)))
        .collect::<Result<_, Errno>>()?;
    close_range(3, u32::MAX, CloseRange::Unshare)?;
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    wanted
        .into_iter()
        .map(|(number, wanted)| {
            let own = pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?;
            // The table looked into is that of the first thread, which may have left the others'.
            (identity(own.as_fd())? == wanted)
                .then_some(own)
                .ok_or(Errno::BADF)
        })
        .collect()
}
