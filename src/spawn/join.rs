//! Making the child on a thread that has entered namespaces.
//!
//! The child is born into them, with everything else as ever. The thread is not used for anything else:
//! what the caller's own threads see does not change, whatever fails.

use super::parent;
use crate::error::Result;
use crate::error::Step;
use crate::ns::{enter, on_thread};
use crate::plan::{Compiled, Plan};
use crate::process::Child;
use crate::sys::signal;

pub(super) fn spawn(plan: &Plan) -> Result<Child> {
    on_thread(Step::Join, &"the program's namespaces", || {
        signal::leave_to_others();
        enter_all(&plan.compiled)?;
        parent::spawn(plan)
    })
}

/// Moves the calling thread.
pub(super) fn enter_all(plan: &Compiled) -> Result<()> {
    for namespace in &plan.join.by_thread {
        match namespace.as_ref() {
            Ok(namespace) => enter(Step::Join, namespace)?,
            Err(error) => return Err(error.again()),
        }
    }
    Ok(())
}
