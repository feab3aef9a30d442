//! Names that nobody else has.

use crate::error::{Error, Result, Step};
use rustix::rand::{GetRandomFlags, getrandom};
use std::path::PathBuf;

/// A path in the directory for temporary files, for what there is not yet.
pub(super) fn path(what: &str) -> Result<PathBuf> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|errno| {
        let object = format!("a name for {what}");
        Error::system(Step::Network, object, "getrandom", errno)
    })?;
    let name = format!("ringfence-{what}-{:016x}", u64::from_ne_bytes(bytes));
    Ok(std::env::temp_dir().join(name))
}
