//! Names that nobody else has.

use crate::error::{Error, Result, Step};
use rustix::rand::{GetRandomFlags, getrandom};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A path in the directory for temporary files, for what there is not yet.
pub(super) fn path(what: &str) -> Result<PathBuf> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|errno| {
        let object = format!("a name for {what}");
        Error::system(Step::Network, object, "getrandom", errno)
    })?;
    let name = format!("{}{:016x}", prefix(what), u64::from_ne_bytes(bytes));
    Ok(std::env::temp_dir().join(name))
}

/// Whether the last component is one that [`path`] gives.
pub(super) fn is_named_for(path: &Path, what: &str) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| name.starts_with(&prefix(what)))
}

fn prefix(what: &str) -> String {
    format!("ringfence-{what}-")
}
