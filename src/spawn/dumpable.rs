//! The dumpable flag belongs to the memory, and a child that shares it changes the caller's.
//!
//! Taking on other ids clears the flag, and only a process with the flag set owns its files in
//! `/proc/self`, which a child without privilege writes its id maps to. So among unprivileged spawns those
//! that clear the flag exclude those that need it; a privileged caller does not need it, and there
//! the last one to leave restores it: earlier it would protect the others no more.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static NEED: RwLock<()> = RwLock::new(());
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
    _shared: Option<RwLockReadGuard<'static, ()>>,
    _exclusive: Option<RwLockWriteGuard<'static, ()>>,
}

impl Hold {
    pub(super) fn new(needs: bool, changes: bool) -> Result<Self, Errno> {
        let exclusive =
            (needs && changes).then(|| NEED.write().unwrap_or_else(PoisonError::into_inner));
        let shared =
            (needs && !changes).then(|| NEED.read().unwrap_or_else(PoisonError::into_inner));
        if changes {
            let mut changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
            if changing.count == 0 {
                // What cannot be read could not be restored.
                changing.before = Some(dumpable_behavior()?);
            }
            changing.count += 1;
        }
        Ok(Self {
            changes,
            _shared: shared,
            _exclusive: exclusive,
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
