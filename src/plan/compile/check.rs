//! Contradictions that need nothing compiled to be seen.

use super::MAX_NAME;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Kind, Namespaces};
use crate::plan::place::c_string;
use crate::sandbox::Sandbox;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Values that mean nothing without a namespace that was not asked for.
pub(super) fn check_namespaces(sandbox: &Sandbox) -> Result<()> {
    let needs = [
        ("owner", sandbox.owner.is_some(), Kind::User),
        ("user_map", sandbox.user_map.is_some(), Kind::User),
        ("group_map", sandbox.group_map.is_some(), Kind::User),
        ("setgroups", sandbox.setgroups.is_some(), Kind::User),
        ("map_writer", sandbox.map_writer.is_some(), Kind::User),
        ("hostname", sandbox.hostname.is_some(), Kind::Uts),
        ("domainname", sandbox.domainname.is_some(), Kind::Uts),
        ("monotonic_offset", sandbox.monotonic.is_some(), Kind::Time),
        ("boottime_offset", sandbox.boottime.is_some(), Kind::Time),
        ("loopback_down", sandbox.loopback_down, Kind::Net),
        (
            sandbox.attached_by().unwrap_or_default(),
            sandbox.is_attached(),
            Kind::Net,
        ),
        ("rootfs", sandbox.rootfs.is_some(), Kind::Mount),
        ("propagation", sandbox.propagation.is_some(), Kind::Mount),
        (
            "inherit_propagation",
            sandbox.inherit_propagation,
            Kind::Mount,
        ),
        ("lock_mounts", sandbox.mount_lock.is_some(), Kind::Mount),
        ("template", sandbox.template, Kind::Mount),
        (
            "disable_userns",
            sandbox.lockdown.disable_userns,
            Kind::User,
        ),
    ];
    if sandbox.pid_for_children && sandbox.namespaces.contains(Namespaces::PID) {
        return Err(Error::invalid(
            "pid_for_children",
            "the program is in the new pid namespace already, by pid()",
        ));
    }
    let entries = sandbox
        .entries
        .iter()
        .map(|entry| (entry.what.setter(), true, Kind::Mount));
    for (setter, used, kind) in needs.into_iter().chain(entries) {
        if used && !sandbox.namespaces.contains(kind.into()) {
            let method = match kind {
                Kind::Mount => "mount",
                other => other.proc_name(),
            };
            return Err(Error::invalid(
                setter,
                format!("needs a new {kind} namespace, asked for by {method}()"),
            ));
        }
    }
    Ok(())
}

pub(in crate::plan) fn check_name(setter: &'static str, name: &OsStr) -> Result<Box<[u8]>> {
    let bytes = name.as_bytes();
    if bytes.len() > MAX_NAME {
        return Err(Error::invalid(
            setter,
            format!("{} bytes, the kernel takes at most {MAX_NAME}", bytes.len()),
        ));
    }
    c_string(bytes).map_err(|what| Error::invalid(setter, what))?;
    Ok(bytes.into())
}

/// A subreaper finds its children in the caller's `/proc`, by the numbers that they have there.
pub(super) fn check_procfs() -> Result<()> {
    let shown = rustix::fs::readlink(c"/proc/self", Vec::new()).ok();
    let shown = shown.and_then(|shown| shown.to_str().ok()?.parse().ok());
    if shown == Some(std::process::id()) {
        return Ok(());
    }
    Err(Error::other(
        ErrorKind::Unsupported,
        Step::Init,
        "init: without a pid namespace it needs the caller's pids in /proc",
    )
    .with_hint(Some(
        "mount a proc file system of the caller's pid namespace on /proc, or ask for Sandbox::pid"
            .into(),
    )))
}
