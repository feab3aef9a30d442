//! What bubblewrap says when a step fails.

use crate::tool::{Failure, with_cause};
use ringfence::{Error, Step};
use std::ffi::OsString;
use std::path::Path;

/// A failed step in bubblewrap's words, with the library's own where those say no more.
pub(crate) fn of(error: &Error, program: &[OsString]) -> Failure {
    let text = error.to_string();
    let object = text.split_once(": ").map_or("", |(_, object)| object);
    let what = match (error.step(), program) {
        (Some(Step::Exec), [program, ..]) => format!("execvp {}", program.display()),
        _ => words(error, object).unwrap_or_else(|| text.clone()),
    };
    let cause = errno(error, object).map(std::io::Error::from_raw_os_error);
    let mut message = match cause {
        Some(cause) => with_cause(what, &cause),
        None => what,
    };
    if let Some(hint) = error.hint() {
        message.push_str(&format!("\nbwrap: {hint}"));
    }
    Failure::new(message)
}

/// A file on a directory is what the library says of both to be no directory.
fn errno(error: &Error, object: &str) -> Option<i32> {
    let errno = error.raw_os_error()?;
    let source = object.split(" at ").next().unwrap_or(object);
    let on_directory = error.step() == Some(Step::Bind) && errno == libc::ENOTDIR;
    Some(match on_directory && !Path::new(source).is_dir() {
        true => libc::EISDIR,
        false => errno,
    })
}

fn words(error: &Error, object: &str) -> Option<String> {
    let (first, _) = object.split_once(", ").unwrap_or((object, ""));
    let (source, at) = first.split_once(" at ").unwrap_or(("", first));
    match (error.step()?, error.syscall()) {
        (Step::Clone, _) => Some("Creating new namespace failed".into()),
        (Step::Join, _) => Some("Setting userns2 failed".into()),
        (Step::CurrentDir, _) => Some(format!("Can't chdir to {object}")),
        (Step::Hostname, _) => Some(format!("Can't set hostname to {object}")),
        (Step::Seccomp, _) => Some("prctl(PR_SET_SECCOMP)".into()),
        (Step::Symlink, _) => {
            let at = object.split(" -> ").next().unwrap_or(object);
            Some(format!("Can't make symlink at {at}"))
        }
        (Step::File, _) => Some(format!("Can't create file {at}")),
        (Step::Chmod, _) => {
            let (at, mode) = object.rsplit_once(", mode ").unwrap_or((at, ""));
            Some(format!("Can't chmod {mode} {at}"))
        }
        (
            Step::Dir | Step::Tmpfs | Step::Proc | Step::Mqueue | Step::Dev | Step::Bind,
            Some("mkdirat"),
        ) => Some(format!("Can't mkdir {at}")),
        (Step::Dir, _) => Some(format!("Can't mkdir {at}")),
        (Step::Bind, Some("openat2")) if Path::new(source).is_dir() => {
            Some(format!("Can't mkdir {at}"))
        }
        (Step::Bind, Some("mknodat" | "openat" | "openat2")) => {
            Some(format!("Can't create file at {at}"))
        }
        (Step::Bind, _) => Some(format!("Can't bind mount /oldroot{source} on /newroot{at}")),
        (Step::Tmpfs, _) => Some(format!("Can't mount tmpfs on /newroot{at}")),
        (Step::Proc, _) => Some(format!("Can't mount proc on /newroot{at}")),
        (Step::Mqueue, _) => Some(format!("Can't mount mqueue on /newroot{at}")),
        (Step::Remount, _) => Some(format!("Can't remount readonly on /newroot{at}")),
        _ => None,
    }
}
