//! The user namespace that is entered when all else has been set up.

use crate::error::{Error, Result};
use crate::ns::{AnyNamespace, Namespaces};
use crate::sandbox::join::Opened;
use crate::sys::lockdown::List;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

/// How plans and errors name it.
pub(super) fn object(namespace: &AnyNamespace) -> String {
    format!("{namespace}, last of all")
}

/// What enters it by a descriptor of this number, which is a copy of the result's last part.
pub(in crate::plan) fn enter_last(
    namespace: &Opened<AnyNamespace>,
    number: RawFd,
    death_signal: Option<i32>,
) -> Result<(String, List, Arc<OwnedFd>)> {
    let namespace = namespace.as_ref().as_ref().map_err(Error::again)?;
    let copy = namespace.try_clone()?;
    let list = List::default().setns(number, Namespaces::USER.bits());
    // New credentials have made the kernel forget it.
    let list = match death_signal {
        Some(signal) => list.parent_death_signal(signal),
        None => list,
    };
    Ok((object(namespace), list, Arc::new(OwnedFd::from(copy))))
}
