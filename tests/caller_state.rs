//! A spawn leaves the caller as it was, whatever comes of it, and works for callers in odd states.
#![allow(
    clippy::unwrap_used,
    reason = "what goes wrong in a test fails the test"
)]

mod common;
mod raw;
mod seen;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::leaks::{Census, assert_same};
use common::{isolated, isolated_as_both, isolated_as_user, probe, require, seccomp};
use ringfence::{
    Command, Engine, Error, ErrorKind, IdMap, Rootfs, Sandbox, Stdio, Step, TimeOffset,
};
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, WaitOptions, set_dumpable_behavior, waitpid};
use seen::{SetOnDrop, await_single_thread, everything, looker, minimal, seen};

const ENGINES: [Engine; 3] = [Engine::Clone3, Engine::Clone, Engine::Fork];

/// Every attribute that a caller may have set to something unusual.
fn unusual_state(dir: &Path) {
    raw::count(libc::SIGUSR1);
    raw::ignore(libc::SIGPIPE);
    raw::ignore(libc::SIGHUP);
    rustix::process::umask(Mode::from_raw_mode(0o31));
    rustix::process::chdir(dir).unwrap();
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Core);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Core, limit).unwrap();
}

fn unchanged<T>(work: impl Fn() -> T) -> T {
    // What lasts, such as the pool of stacks, comes with the first spawns.
    work();
    await_single_thread();
    let before = Census::take();
    let result = work();
    await_single_thread();
    assert_same(&before, &Census::take());
    result
}

#[test]
fn is_the_same_after_success() {
    isolated_as_both(|| {
        require!(userns, netns, timens, new_proc);
        let dir = tempfile::tempdir().unwrap();
        unusual_state(dir.path());
        for engine in ENGINES {
            for command in [
                looker(Sandbox::new().engine(engine)),
                looker(everything().engine(engine)),
                looker(everything().engine(engine))
                    .umask(0o77)
                    .current_dir("/tmp"),
                looker(minimal(Sandbox::new().user().pid().user_map(IdMap::root())))
                    .new_session()
                    .die_with_parent(),
            ] {
                unchanged(|| seen(command.spawn().unwrap()));
            }
        }
        rustix::process::chdir("/").unwrap();
    });
}

#[test]
fn is_the_same_after_other_ids() {
    isolated(|| {
        require!(root);
        for engine in ENGINES {
            let command = looker(Sandbox::new().engine(engine)).uid(1234).gid(2345);
            unchanged(|| seen(command.spawn().unwrap()));
            let command = looker(seen::many_ids().engine(engine)).uid(5).gid(6);
            unchanged(|| seen(command.spawn().unwrap()));
        }
    });
}

fn fails(command: &Command, step: Step, errno: i32) {
    let error = unchanged(|| command.spawn().unwrap_err());
    assert_eq!(
        (error.step(), error.raw_os_error()),
        (Some(step), Some(errno)),
        "{error:?}"
    );
}

#[test]
fn is_the_same_after_each_kind_of_failure() {
    isolated_as_both(|| {
        require!(userns, netns, new_proc);
        let dir = tempfile::tempdir().unwrap();
        unusual_state(dir.path());
        let plain = dir.path().join("plain");
        fs::write(&plain, "x").unwrap();
        let garbage = dir.path().join("garbage");
        fs::write(&garbage, "x").unwrap();
        fs::set_permissions(&garbage, fs::Permissions::from_mode(0o755)).unwrap();
        for engine in ENGINES {
            let user = || {
                Sandbox::new()
                    .user()
                    .pid()
                    .user_map(IdMap::root())
                    .engine(engine)
            };
            let root = || minimal(user());
            let run = |sandbox: Sandbox| sandbox.command("/bin/true");
            for (command, step, errno) in [
                (
                    run(user().mount().rootfs(Rootfs::dir("/no/such/root"))),
                    Step::Root,
                    libc::ENOENT,
                ),
                (
                    run(user().mount().rootfs(Rootfs::dir("/bin/true"))),
                    Step::Root,
                    libc::ENOTDIR,
                ),
                (
                    run(root().bind("/no/such", "/mnt")),
                    Step::Bind,
                    libc::ENOENT,
                ),
                (
                    run(root().bind("/", "/usr/no/such")),
                    Step::Bind,
                    libc::EROFS,
                ),
                (run(root().tmpfs("/usr/no/such")), Step::Tmpfs, libc::EROFS),
                (run(root().dir("/usr/no/such")), Step::Dir, libc::EROFS),
                (run(root().file("/usr/no", "")), Step::File, libc::EROFS),
                (
                    run(root().file("/f", "").file("/f", "")),
                    Step::File,
                    libc::EEXIST,
                ),
                (
                    run(root().symlink("x", "/bin")),
                    Step::Symlink,
                    libc::EEXIST,
                ),
                (
                    run(root().symlink("x", "/dev").dev("/dev")),
                    Step::Dev,
                    libc::ELOOP,
                ),
                (
                    run(root()).current_dir("/no/such"),
                    Step::CurrentDir,
                    libc::ENOENT,
                ),
                (
                    run(Sandbox::new()).current_dir("/no/such"),
                    Step::CurrentDir,
                    libc::ENOENT,
                ),
                (root().command("/no/such"), Step::Exec, libc::ENOENT),
                (
                    Sandbox::new()
                        .command("no-such-program")
                        .env("PATH", "/bin"),
                    Step::Exec,
                    libc::ENOENT,
                ),
                (Sandbox::new().command(&plain), Step::Exec, libc::EACCES),
                (Sandbox::new().command(&garbage), Step::Exec, libc::ENOEXEC),
                (
                    run(user()
                        .time()
                        .monotonic_offset(TimeOffset::behind(Duration::from_secs(1 << 31)))),
                    Step::TimeOffsets,
                    libc::ERANGE,
                ),
            ] {
                fails(&command, step, errno);
                fails(
                    &command.umask(0o77).new_session().die_with_parent(),
                    step,
                    errno,
                );
            }
        }
        rustix::process::chdir("/").unwrap();
    });
}

#[test]
fn is_the_same_after_a_failed_clone() {
    isolated_as_both(|| {
        let calls = [libc::SYS_clone3, libc::SYS_clone];
        let plans = ENGINES.map(|engine| Sandbox::new().engine(engine).command("/bin/true"));
        let plans = plans.map(|command| command.compile().unwrap());
        seccomp::deny(&calls.map(|call| (call, libc::EAGAIN))).unwrap();
        for plan in plans {
            let error = unchanged(|| plan.spawn().unwrap_err());
            assert_eq!(error.step(), Some(Step::Clone));
            assert_eq!(error.kind(), ErrorKind::LimitReached);
        }
    });
}

#[test]
fn is_the_same_when_maps_are_refused_to_a_caller_that_is_not_dumpable() {
    isolated_as_user(|| {
        require!(userns);
        set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
        let command = Sandbox::new()
            .user()
            .user_map(IdMap::root())
            .command("/bin/true");
        let error = unchanged(|| command.spawn().unwrap_err());
        assert_eq!(
            (error.step(), error.raw_os_error()),
            (Some(Step::IdMap), Some(libc::EACCES))
        );
        assert!(error.hint().unwrap().contains("dumpable"), "{error:?}");
    });
}

/// The exit signal of a child is SIGCHLD only once it is the program.
#[test]
fn sigchld_speaks_of_programs_only() {
    isolated_as_both(|| {
        require!(userns);
        raw::count(libc::SIGCHLD);
        for engine in ENGINES {
            let user = || Sandbox::new().user().user_map(IdMap::root()).engine(engine);
            let before = raw::counted();
            for _ in 0..20 {
                user().command("/no/such/program").spawn().unwrap_err();
                user()
                    .mount()
                    .rootfs(Rootfs::dir("/no/such"))
                    .command("/bin/true")
                    .spawn()
                    .unwrap_err();
            }
            assert_eq!(raw::counted(), before, "{engine:?}");
            assert!(user().command("/bin/true").status().unwrap().success());
            assert_eq!(raw::counted(), before + 1, "{engine:?}");
        }
    });
}

#[test]
fn a_caller_that_ignores_sigchld() {
    isolated_as_both(|| {
        require!(userns);
        raw::ignore(libc::SIGCHLD);
        for engine in ENGINES {
            let user = || Sandbox::new().user().user_map(IdMap::root()).engine(engine);
            unchanged(|| {
                let mut child = user().command("/bin/true").spawn().unwrap();
                assert_reaped_by_kernel(&child.wait().unwrap_err());
                assert_reaped_by_kernel(&child.try_wait().unwrap_err());
            });
            fails(&user().command("/no/such"), Step::Exec, libc::ENOENT);
        }
    });
}

fn assert_reaped_by_kernel(error: &Error) {
    assert_eq!(error.step(), Some(Step::Wait), "{error:?}");
    assert_eq!(error.raw_os_error(), Some(libc::ECHILD), "{error:?}");
    assert!(error.hint().unwrap().contains("SIGCHLD"), "{error:?}");
}

/// Whatever the crate opens then has the numbers of the standard streams.
#[test]
fn a_caller_without_standard_streams() {
    isolated(|| {
        for closed in [&[0][..], &[1], &[0, 1], &[0, 1, 2]] {
            let status = common::in_forked_child(|| {
                closed.iter().copied().for_each(raw::close);
                i32::from(!ENGINES.into_iter().all(streams_work))
            });
            assert!(status.success(), "with {closed:?} closed: {status}");
        }
    });
}

fn streams_work(engine: Engine) -> bool {
    let command = Sandbox::new().engine(engine).command("/bin/sh");
    let command = command.args(["-c", "cat; echo error >&2"]);
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    output.status.success() && output.stdout == b"hello\n" && output.stderr == b"error\n"
}

#[test]
fn a_caller_with_a_thread_that_reaps_any_child() {
    isolated(|| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = waitpid(None, WaitOptions::NOHANG);
                    std::thread::yield_now();
                }
            });
            let _stop = SetOnDrop(&stop);
            for engine in ENGINES.into_iter().cycle().take(150) {
                let sandbox = || Sandbox::new().engine(engine);
                let mut child = sandbox().command("/bin/true").spawn().unwrap();
                match child.wait() {
                    Ok(status) => assert!(status.success(), "{status}"),
                    Err(error) => assert_reaped_by_kernel(&error),
                }
                let error = sandbox().command("/no/such").spawn().unwrap_err();
                assert_eq!(error.step(), Some(Step::Exec), "{error:?}");
            }
        });
        assert_eq!(probe::children(rustix::process::getpid().as_raw_pid()), []);
    });
}
