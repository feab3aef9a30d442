//! Network parameters, of which each network namespace has its own.
//!
//! They are named by their path below `/proc/sys/net`, such as `ipv4/ip_forward` or
//! `ipv4/conf/eth0/route_localnet`.

use crate::error::{Error, Result, Step};
use crate::ns::{Namespace, Net};
use std::path::{Component, Path, PathBuf};

const DIRECTORY: &str = "/proc/sys/net";

/// Reads a parameter, without the newline at its end.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none of this name.
///
/// # Privileges
/// Those of [`Namespace::run_in`].
pub fn get(namespace: &Namespace<Net>, parameter: &str) -> Result<String> {
    let path = path("get", parameter)?;
    let text = namespace.run_in(|| std::fs::read_to_string(&path))?;
    let text = text.map_err(|error| failed(namespace, parameter, error))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// Sets a parameter.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none of this name; `EINVAL` for a value that it
/// cannot have; `EACCES` or `EROFS` where `/proc/sys` is read-only, as in many containers.
///
/// # Privileges
/// Those of [`Namespace::run_in`], and to be root of the user namespace that owns it.
///
/// # Examples
/// ```no_run
/// use ringfence::net::sysctl;
/// use ringfence::ns::{Namespace, Net};
///
/// # fn main() -> ringfence::Result<()> {
/// let router = Namespace::<Net>::create()?;
/// sysctl::set(&router, "ipv4/ip_forward", "1")?;
/// # Ok(())
/// # }
/// ```
pub fn set(namespace: &Namespace<Net>, parameter: &str, value: &str) -> Result<()> {
    let path = path("set", parameter)?;
    let written = namespace.run_in(|| std::fs::write(&path, value))?;
    written.map_err(|error| failed(namespace, parameter, error))
}

/// Parameters that are set for a while: unless they are kept, they get their old values back.
#[derive(Debug)]
#[must_use = "they get their old values back when this is dropped"]
pub(super) struct Changed<'n> {
    namespace: &'n Namespace<Net>,
    old: Vec<(String, String)>,
}

impl<'n> Changed<'n> {
    pub(super) fn new(namespace: &'n Namespace<Net>) -> Self {
        Self {
            namespace,
            old: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, parameter: &str, value: &str) -> Result<()> {
        let path = path("set", parameter)?;
        let change = || {
            let old = std::fs::read_to_string(&path)?;
            // It may be so where it cannot be written.
            if old.trim_end_matches('\n') == value {
                return Ok(None);
            }
            std::fs::write(&path, value).map(|()| Some(old))
        };
        let changed = self.namespace.run_in(change)?;
        let old = changed.map_err(|error| failed(self.namespace, parameter, error))?;
        self.old.extend(old.map(|old| (parameter.to_owned(), old)));
        Ok(())
    }

    pub(super) fn keep(mut self) {
        self.old.clear();
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        for (parameter, old) in self.old.drain(..).rev() {
            let _ = set(self.namespace, &parameter, &old);
        }
    }
}

fn path(setter: &'static str, parameter: &str) -> Result<PathBuf> {
    let relative = Path::new(parameter);
    let is_inside = |part| matches!(part, Component::Normal(_));
    if parameter.is_empty() || !relative.components().all(is_inside) {
        let what = format!("{parameter:?} is not a path below {DIRECTORY}");
        return Err(Error::invalid(setter, what));
    }
    Ok(Path::new(DIRECTORY).join(relative))
}

fn failed(namespace: &Namespace<Net>, parameter: &str, error: std::io::Error) -> Error {
    Error::io(Step::Sysctl, format!("{parameter} in {namespace}"), error)
}
