//! Isolated tests as an unprivileged user, also when root runs the suite.

use std::env;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;

use rustix::mount::mount_bind;
use rustix::process::geteuid;
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tempfile::TempDir;

use super::{isolated, require};

/// The user, and group, that root's suite becomes. Not 65534, which is also how the kernel shows
/// an id that is not mapped; systemd's list of ranges has this one as unused.
pub(crate) const UID: u32 = 61000;
/// Its name, where [`isolated_as_user_with_subids`] gives it one.
pub(crate) const NAME: &str = "ringfence-test";
/// The first of the 65536 subordinate ids that it is given.
pub(crate) const FIRST_SUBID: u32 = 1_000_000;

/// Set in a process that is still root, and has to become the user.
const BECOME: &str = "RINGFENCE_ISOLATED_BECOME";
/// Its value if the user is to have a name and subordinate ids.
const WITH_SUBIDS: &str = "with-subids";

/// [`isolated`](super::isolated), as a user without privileges or supplementary groups: as
/// [`UID`] where root runs the suite, else as who runs it. The user has a temporary directory of
/// its own, `/` as working directory, and the test binary only as `/proc/self/exe`.
pub(crate) fn isolated_as_user<F: FnOnce()>(body: F) {
    run(isolated::test_of(std::any::type_name::<F>()), body, false);
}

/// [`isolated_as_user`], and where root runs the suite, the user has a name and subordinate ids, by
/// files mounted over those of /etc. Where root does not, the user may still lack them:
/// `require!(subuid)`.
pub(crate) fn isolated_as_user_with_subids<F: FnOnce()>(body: F) {
    run(isolated::test_of(std::any::type_name::<F>()), body, true);
}

/// [`isolated`](super::isolated), and then [`isolated_as_user`] if root runs the suite.
pub(crate) fn isolated_as_both<F: FnOnce()>(body: F) {
    let test = isolated::test_of(std::any::type_name::<F>());
    if isolated::is_started_for(test) {
        become_user(test);
        isolated::run_body(body);
    }
    let ended = isolated::start(isolated::command(test), isolated::timeout());
    isolated::report(test, ended);
    if geteuid().is_root() {
        start_as_user(test, false);
    }
}

fn run(test: &str, body: impl FnOnce(), with_subids: bool) {
    if isolated::is_started_for(test) {
        become_user(test);
        isolated::run_body(body);
    }
    if geteuid().is_root() {
        start_as_user(test, with_subids);
    } else {
        let ended = isolated::start(isolated::command(test), isolated::timeout());
        isolated::report(test, ended);
    }
}

fn start_as_user(test: &str, with_subids: bool) {
    if let Err(why) = can_become_user() {
        return require::missing(test, "user", &why);
    }
    let tmp = TempDir::with_prefix("ringfence-test-").unwrap();
    chown(tmp.path(), Some(UID), Some(UID)).unwrap();
    let mut command = isolated::command(test);
    command.env("TMPDIR", tmp.path()).env("HOME", tmp.path());
    command.env(BECOME, if with_subids { WITH_SUBIDS } else { "" });
    let ended = isolated::start(command, isolated::timeout());
    isolated::report(&format!("{test} as uid {UID}"), ended);
}

/// In a process that is to become the user: starts the test once more, as that user, and ends
/// with its status. By `execve`, as a change of ids alone leaves a process that is not dumpable
/// and has root's memory.
fn become_user(test: &str) {
    let Some(how) = env::var_os(BECOME) else {
        return;
    };
    isolated::die_with_parent();
    isolated::own_mounts();
    if how == WITH_SUBIDS {
        grant_subids().unwrap();
    }
    let mut command = isolated::command(test);
    // Without root's supplementary groups, which `uid` drops.
    command
        .env_remove(BECOME)
        .uid(UID)
        .gid(UID)
        .current_dir("/");
    let status = command.status().unwrap();
    std::process::exit(status.code().unwrap_or(101));
}

/// Mounts copies of the account files with one more line over them.
fn grant_subids() -> std::io::Result<()> {
    let copies = TempDir::new()?;
    for (file, line) in [
        ("passwd", format!("{NAME}:x:{UID}:{UID}::/:/bin/sh\n")),
        ("group", format!("{NAME}:x:{UID}:\n")),
        ("subuid", format!("{NAME}:{FIRST_SUBID}:65536\n")),
        ("subgid", format!("{NAME}:{FIRST_SUBID}:65536\n")),
    ] {
        let original = format!("/etc/{file}");
        // A file that is missing is no place to mount on; `require!(subuid)` then tells.
        let Ok(text) = fs::read_to_string(&original) else {
            continue;
        };
        let copy = copies.path().join(file);
        fs::write(&copy, text + &line)?;
        mount_bind(&copy, &original)?;
    }
    Ok(())
}

/// Root of a user namespace may have no such id to become.
fn can_become_user() -> Result<(), String> {
    require::try_in_child(|| {
        let (uid, gid) = (Uid::from_raw(UID), Gid::from_raw(UID));
        set_thread_groups(&[]).map_err(|error| ("setgroups", error))?;
        set_thread_res_gid(gid, gid, gid).map_err(|error| ("setresgid", error))?;
        set_thread_res_uid(uid, uid, uid).map_err(|error| ("setresuid", error))
    })
}
