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
