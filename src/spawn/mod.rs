//! Doing what the plan says: the parent's half, and the child's.

mod child;
mod control;
mod dumpable;
mod inspect;
mod join;
mod keeper;
mod lean;
mod maps;
mod namespaces;
mod parent;
mod pass;
mod record;
mod reserve;
mod root;
mod streams;
mod terminal;
mod trees;
mod verdict;

use crate::error::Result;
use crate::plan::Plan;
use crate::process::Child;
use std::os::fd::OwnedFd;

pub(crate) use control::{Control, Start};
pub(crate) use pass::receive as receive_descriptor;
pub(crate) use record::{Call, Fail, Note};
pub(crate) use reserve::Reserve;
pub(crate) use verdict::start_error;

/// Makes the namespaces of a plan that [passes](crate::plan::Compiled::passes) them, in the order of their kinds.
pub(crate) fn namespaces(plan: &Plan) -> Result<Vec<OwnedFd>> {
    parent::namespaces(&plan.compiled)
}

/// Starts the program of a plan.
pub(crate) fn spawn(plan: &Plan) -> Result<Child> {
    if plan.compiled.die_with_parent {
        keeper::spawn(plan)
    } else if !plan.compiled.join.by_thread.is_empty() {
        join::spawn(plan)
    } else {
        parent::spawn(plan)
    }
}
