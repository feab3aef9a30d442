//! `std::process::Command` with a `pre_exec`, which makes it fork, and as little in that as there can be.
#![allow(unsafe_code, reason = "pre_exec and unshare are unsafe")]

use crate::sandbox::KINDS;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::ffi::CStr;
use std::io::Result;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The isolation of [`crate::sandbox`].
pub(crate) fn isolated(program: &Path) -> Command {
    let uid_map = format!("0 {} 1", geteuid().as_raw());
    let gid_map = format!("0 {} 1", getegid().as_raw());
    let mut command = Command::new(program);
    let isolate = move || {
        unshare(UnshareFlags::from_bits_retain(KINDS.cast_unsigned()))?;
        write(c"/proc/self/setgroups", "deny")?;
        write(c"/proc/self/uid_map", &uid_map)?;
        write(c"/proc/self/gid_map", &gid_map)?;
        make_private()
    };
    // SAFETY: system calls only.
    unsafe { command.pre_exec(isolate) };
    command
}

pub(crate) fn make_private() -> Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(mount_change("/", private)?)
}

/// Of the calling thread.
pub(crate) fn unshare(kinds: UnshareFlags) -> Result<()> {
    // SAFETY: nobody passes CLONE_FILES, which alone is unsafe.
    Ok(unsafe { unshare_unsafe(kinds) }?)
}

fn write(path: &CStr, text: &str) -> Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, text.as_bytes())?;
    Ok(())
}
