//! The dumpable flag belongs to the memory, and a child that shares it changes the caller's.
//!
//! Taking on other ids clears the flag, and only a process with the flag set owns its files in
//! `/proc/self`, which a child without privilege writes its id maps to. So among unprivileged spawns those
//! that clear the flag exclude those that need it; a privileged caller does not need it, and there
//! the last one to leave restores it: earlier it would protect the others no more.
//!
//! A spawn may be waited for by another one, whose maps are written by a function that makes it. What cannot go on
//! beside that one must not wait for it.

use crate::error::{Error, ErrorKind, Result, Step};
use crate::plan::Compiled;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a spawn does to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    /// It needs the flag.
    Needs,
    /// It needs the flag until it clears it.
    Clears,
}

impl Share {
    fn of(plan: &Compiled) -> Option<Self> {
        let share = match plan.changes_ids {
            true => Self::Clears,
            false => Self::Needs,
        };
        plan.needs_dumpable.then_some(share)
    }
}

/// Those that are going on, and those that wait to clear the flag.
#[derive(Debug)]
struct Shares {
    needing: usize,
    clearing: bool,
    waiting: usize,
}

static SHARES: Mutex<Shares> = Mutex::new(Shares {
    needing: 0,
    clearing: false,
    waiting: 0,
});
static LEFT: Condvar = Condvar::new();

thread_local! {
    /// The share of the spawn that waits for this thread.
    static WAITED_FOR: Cell<Option<Share>> = const { Cell::new(None) };
}

/// Runs something that a spawn of this plan waits for.
pub(super) fn waited_for<T>(plan: &Compiled, run: impl FnOnce() -> T) -> T {
    WAITED_FOR.set(Share::of(plan));
    let done = run();
    WAITED_FOR.set(None);
    done
}

fn shares() -> MutexGuard<'static, Shares> {
    SHARES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A share that has been got, until this is dropped.
struct Held(Share);

impl Held {
    /// Waits for the others, but not longer than this.
    fn new(share: Share, limit: Duration) -> Result<Self> {
        let outer = WAITED_FOR.get();
        if outer.is_some_and(|outer| outer == Share::Clears || share == Share::Clears) {
            let error = Error::io(Step::Prepare, OBJECT, Errno::DEADLK.into());
            return Err(error.with_hint(Some(NESTED.to_owned())));
        }
        let mut now = shares();
        now.waiting += usize::from(share == Share::Clears);
        // Whoever waits to clear it goes first, or would never come to it. But that one waits for the outer one.
        let in_the_way = |now: &mut Shares| match share {
            Share::Needs => now.clearing || (now.waiting > 0 && outer.is_none()),
            Share::Clears => now.clearing || now.needing > 0,
        };
        let deadline = Instant::now().checked_add(limit);
        while in_the_way(&mut now) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            now = match left {
                None => LEFT.wait(now).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => {
                    let waited = LEFT.wait_timeout(now, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        now.waiting -= usize::from(share == Share::Clears);
        if in_the_way(&mut now) {
            // What waited for this one may go on.
            LEFT.notify_all();
            return Err(late(limit));
        }
        match share {
            Share::Needs => now.needing += 1,
            Share::Clears => now.clearing = true,
        }
        Ok(Self(share))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut now = shares();
        match self.0 {
            Share::Needs => now.needing -= 1,
            Share::Clears => now.clearing = false,
        }
        LEFT.notify_all();
    }
}

const OBJECT: &str = "the dumpable flag";
const NESTED: &str = "a caller without privilege cannot start this from a function that writes id maps: one of the two programs takes on other ids, so that they cannot be set up at the same time";

fn late(limit: Duration) -> Error {
    let what = format!("{OBJECT}: others have used it for {limit:?}");
    Error::other(ErrorKind::TimedOut, Step::Prepare, what).with_hint(Some(
        "a caller without privilege cannot set up a new user namespace while another program takes on other ids; that one takes long, or waits for this one"
            .into(),
    ))
}

static CHANGING: Mutex<Changing> = Mutex::new(Changing {
    count: 0,
    before: None,
});

struct Changing {
    count: usize,
    before: Option<DumpableBehavior>,
}

/// Held while a child exists that has not yet exec'd.
pub(super) struct Hold {
    changes: bool,
    _held: Option<Held>,
}

impl Hold {
    pub(super) fn new(plan: &Compiled) -> Result<Self> {
        let held = Share::of(plan).map(|share| Held::new(share, plan.setup_timeout));
        let held = held.transpose()?;
        if plan.changes_ids {
            let mut changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
            if changing.count == 0 {
                // What cannot be read could not be restored.
                let before = dumpable_behavior();
                let failed = |errno| Error::system(Step::Prepare, OBJECT, "prctl", errno);
                changing.before = Some(before.map_err(failed)?);
            }
            changing.count += 1;
        }
        Ok(Self {
            changes: plan.changes_ids,
            _held: held,
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.changes {
            return;
        }
        let mut changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        changing.count -= 1;
        if changing.count > 0 {
            return;
        }
        if let Some(before) = changing.before.take()
            && dumpable_behavior() != Ok(before)
        {
            // Refused only for the value 2, which a process can be given but cannot ask for.
            let _ = set_dumpable_behavior(before);
        }
    }
}
