//! Every system call that a spawn makes is made to fail in turn. Each time the spawn must either work,
//! with the same result as ever, or say which step and which call failed, and leave nothing behind.
#![allow(
    clippy::unwrap_used,
    reason = "what goes wrong in a test fails the test"
)]

mod common;
mod raw;
mod seen;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::faults::{Call, Faults, Run, Syscall, syscalls, window};
use common::leaks::{Census, assert_same};
use common::{isolated, isolated_as_user, require};
use ringfence::{Bind, Command, Engine, IdMap, Rootfs, Sandbox};
use seen::cgroup::Cgroup;
use seen::{await_single_thread, everything, locked_down, looker, many_ids, minimal, seen};

/// An error that none of these calls gives of itself.
const INJECTED: i32 = libc::EXDEV;

/// All calls of a spawn, in parent and child, but these:
/// - memory of the allocator and of threads, and `futex`, which std and libc abort or spin on;
/// - `close`, `waitid` for a child of one's own, `umask`, `getpid` and the like, which the kernel never
///   refuses.
const CALLS: &[Syscall] = syscalls![
    SYS_capget,
    SYS_capset,
    SYS_chdir,
    SYS_clone,
    SYS_clone3,
    SYS_close_range,
    SYS_dup3,
    SYS_execve,
    SYS_exit_group,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_fchdir,
    SYS_fcntl,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fsopen,
    SYS_fstat,
    SYS_fstatfs,
    SYS_ioctl,
    SYS_ioprio_set,
    SYS_kill,
    SYS_landlock_restrict_self,
    SYS_mkdirat,
    SYS_mount,
    SYS_mount_setattr,
    SYS_move_mount,
    SYS_newfstatat,
    SYS_open_tree,
    SYS_openat,
    SYS_openat2,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    SYS_pipe2,
    SYS_pivot_root,
    SYS_poll,
    SYS_prctl,
    SYS_pread64,
    SYS_prlimit64,
    SYS_read,
    SYS_readlinkat,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_sched_setaffinity,
    SYS_seccomp,
    SYS_sendmsg,
    SYS_setdomainname,
    SYS_setgroups,
    SYS_sethostname,
    SYS_setpriority,
    SYS_setresgid,
    SYS_setresuid,
    SYS_setsid,
    SYS_socket,
    SYS_statfs,
    SYS_statx,
    SYS_symlinkat,
    SYS_timer_create,
    SYS_timer_settime,
    SYS_umount2,
    SYS_unshare,
    SYS_write,
];

/// Calls that a spawn does without.
fn is_harmless(call: &Call) -> bool {
    let has_arg = |index: usize, value: i32| call.args[index] == u64::from(value.unsigned_abs());
    match call.syscall.name {
        // They end a child that has told its error and ends by itself.
        "SYS_pidfd_send_signal" | "SYS_kill" => true,
        // It is repeated.
        "SYS_exit_group" => true,
        // What is not found is made, unless it is there after all.
        "SYS_openat2" => true,
        // std looks at a descriptor before it closes it, in debug builds.
        "SYS_fcntl" => has_arg(1, libc::F_GETFD),
        // The name of a thread; a look whether the dumpable flag has to be restored.
        "SYS_prctl" => has_arg(0, libc::PR_SET_NAME) || has_arg(0, libc::PR_GET_DUMPABLE),
        _ => false,
    }
}

/// Restoring what was in force before does not fail.
fn cannot_fail(run: &Run, call: &Call) -> bool {
    let sigprocmask = |call: &&Call| call.by_body && call.syscall.name == "SYS_rt_sigprocmask";
    let first_mask = run.calls.iter().find(sigprocmask);
    let restores_mask = sigprocmask(&call)
        && (first_mask != Some(call)
            || call.args[0] != u64::from(libc::SIG_SETMASK.unsigned_abs()));
    let sets_dumpable = call.syscall.name == "SYS_prctl"
        && call.args[0] == u64::from(libc::PR_SET_DUMPABLE.unsigned_abs());
    restores_mask || sets_dumpable
}

/// In the traced process: spawns and prints what came of it.
fn spawn_once(command: &Command) {
    let plan = command.compile().unwrap();
    // Once for what lasts: the pool of stacks, the arenas of threads.
    let usual = seen(plan.spawn().unwrap());
    await_single_thread();
    let before = Census::take();
    let begun = Instant::now();
    let spawned = window(|| plan.spawn());
    let took = begun.elapsed();
    match spawned {
        Ok(child) => {
            assert_eq!(seen(child), usual);
            println!("worked");
        }
        Err(error) => println!(
            "{:?}|{}|{}",
            error.step(),
            error.syscall().unwrap_or("?"),
            error.raw_os_error().unwrap_or(0)
        ),
    }
    await_single_thread();
    assert_same(&before, &Census::take());
    // Nobody has waited for the time of the set-up to be over.
    assert!(took < Duration::from_secs(10), "took {took:?}");
}

fn sweep(make: impl Fn() -> Command) {
    let faults = Faults::new(CALLS);
    let body = || spawn_once(&make());
    let clean = faults.watch(body);
    assert!(clean.succeeded(), "{clean}");
    assert!(clean.output.ends_with("worked\n"), "{clean}");
    let mut faulted = 0;
    for (k, call) in (1..).zip(&clean.calls) {
        if cannot_fail(&clean, call) {
            continue;
        }
        let run = faults.fail(k, INJECTED, body);
        let failed = &run.calls[k - 1];
        // Where threads race, another call may be the k-th.
        if !cannot_fail(&run, failed) {
            check(k, &run, failed);
            faulted += 1;
        }
    }
    println!("{faulted} of {} calls made to fail", clean.calls.len());
    assert!(faulted > 10, "{clean}");
}

fn check(k: usize, run: &Run, failed: &Call) {
    assert!(run.succeeded(), "call {k}: {run}");
    assert!(run.left_behind.is_empty(), "call {k}: {run}");
    let said = run.output.lines().last().unwrap_or_default();
    if said == "worked" {
        assert!(is_harmless(failed), "not harmless: call {k}: {run}");
        return;
    }
    let fields: Vec<_> = said.split('|').collect();
    let [step, syscall, errno] = fields[..] else {
        panic!("call {k}: {run}");
    };
    assert!(step.starts_with("Some("), "no step, call {k}: {run}");
    assert_eq!(errno, INJECTED.to_string(), "call {k}: {run}");
    // Of what std does, a thread for one, only the step is known.
    let by_std = failed.by_body && syscall == "?" && step == "Some(Prepare)";
    let name = failed.syscall.name.trim_start_matches("SYS_");
    assert!(
        syscall == name || by_std,
        "{syscall} is not {name}, call {k}: {run}"
    );
}

#[test]
fn of_a_plain_child() {
    isolated(|| {
        require!(seccomp_notify);
        sweep(|| looker(Sandbox::new()));
    });
}

#[test]
fn of_a_user_namespace() {
    isolated(|| {
        require!(seccomp_notify, userns);
        sweep(|| {
            looker(
                Sandbox::new()
                    .user()
                    .user_map(IdMap::root())
                    .uts()
                    .hostname("box"),
            )
        });
    });
}

#[test]
fn of_a_user_namespace_of_an_unprivileged_user() {
    isolated_as_user(|| {
        require!(seccomp_notify, userns);
        sweep(|| looker(Sandbox::new().user().user_map(IdMap::root())));
    });
}

#[test]
fn of_all_namespaces_and_a_root() {
    isolated(|| {
        require!(seccomp_notify, userns, netns, timens, new_proc);
        sweep(|| {
            looker(everything())
                .current_dir("/tmp")
                .umask(0o27)
                .new_session()
        });
    });
}

fn with_data() -> Sandbox {
    let sandbox = minimal(Sandbox::new().user().pid().user_map(IdMap::root()));
    sandbox.bind_data("text", "/data", 0o600, Bind::new().read_only())
}

#[test]
fn of_a_file_in_memory() {
    isolated(|| {
        require!(seccomp_notify, userns);
        sweep(|| looker(with_data()));
    });
}

#[test]
fn of_maps_that_the_caller_writes() {
    isolated(|| {
        require!(seccomp_notify, root);
        sweep(|| looker(many_ids()).uid(7).gid(8));
    });
}

#[test]
fn of_other_ids() {
    isolated(|| {
        require!(seccomp_notify, root);
        sweep(|| looker(Sandbox::new()).uid(1234).gid(2345).groups([3456]));
    });
}

#[test]
fn of_a_child_that_dies_with_its_parent() {
    isolated(|| {
        require!(seccomp_notify, userns, new_proc);
        let sandbox = || Sandbox::new().user().pid().user_map(IdMap::root());
        sweep(|| looker(minimal(sandbox())).die_with_parent());
    });
}

#[test]
fn of_lock_down() {
    isolated(|| {
        require!(seccomp_notify, userns);
        let sandbox = || Sandbox::new().user().user_map(IdMap::root());
        sweep(|| looker(locked_down(sandbox()).disable_userns()));
    });
}

#[test]
fn of_lock_down_with_other_ids() {
    isolated(|| {
        require!(seccomp_notify, root);
        sweep(|| looker(locked_down(many_ids())).uid(7).gid(8));
    });
}

#[test]
fn of_the_engine_clone() {
    isolated(|| {
        require!(seccomp_notify, userns, netns, timens, new_proc);
        sweep(|| looker(everything().engine(Engine::Clone)));
    });
}

#[test]
fn of_the_engine_fork() {
    isolated(|| {
        require!(seccomp_notify, userns, timens);
        let sandbox = || Sandbox::new().user().user_map(IdMap::root()).time();
        sweep(|| {
            looker(
                sandbox()
                    .boottime_offset(Duration::from_secs(3))
                    .engine(Engine::Fork),
            )
        });
    });
}

#[test]
fn of_a_time_namespace_on_an_older_kernel() {
    isolated(|| {
        require!(seccomp_notify, userns, timens);
        raw::pretend_old_kernel();
        let sandbox = || Sandbox::new().user().user_map(IdMap::root()).time();
        sweep(|| looker(sandbox().boottime_offset(Duration::from_secs(3))));
    });
}

#[test]
fn of_a_child_in_a_cgroup() {
    isolated(|| {
        require!(seccomp_notify, cgroup2);
        for engine in [Engine::Auto, Engine::Clone] {
            let cgroup = Cgroup::new();
            sweep(|| {
                looker(
                    Sandbox::new()
                        .cgroup()
                        .into_cgroup(cgroup.path())
                        .engine(engine),
                )
            });
        }
    });
}

/// The printed plan is what a reviewer goes by.
#[test]
fn no_call_of_a_child_is_missing_from_the_printed_plan() {
    isolated(|| {
        require!(seccomp_notify, root, userns, netns, timens, new_proc);
        let faults = Faults::new(CALLS);
        for command in [
            looker(everything())
                .current_dir("/tmp")
                .umask(0o27)
                .new_session(),
            looker(many_ids()).uid(7).gid(8),
            looker(Sandbox::new()).uid(7).groups([8]).current_dir("/"),
            looker(minimal(Sandbox::new().user().pid())).die_with_parent(),
            looker(Sandbox::new().user().mount().rootfs(Rootfs::dir("/"))),
            looker(everything().engine(Engine::Clone)),
            looker(everything().engine(Engine::Fork)),
            looker(locked_down(Sandbox::new().user()).disable_userns()),
            looker(locked_down(many_ids())).uid(7),
            looker(with_data()),
        ] {
            let plan = command.compile().unwrap();
            let run = faults.watch(|| drop(seen(window(|| plan.spawn()).unwrap())));
            assert!(run.succeeded(), "{run}");
            let text = plan.to_string();
            let lists = text
                .lines()
                .filter_map(|line| line.rsplit_once('[')?.1.strip_suffix(']'));
            let printed: BTreeSet<_> = lists.flat_map(|list| list.split(", ")).collect();
            let made = run
                .calls
                .iter()
                .filter(|call| !call.by_body && !is_harmless(call));
            for call in made {
                let name = call.syscall.name.trim_start_matches("SYS_");
                assert!(printed.contains(name), "{name} is missing from\n{text}");
            }
        }
    });
}

/// Only the first spawn of a process maps a stack, so this one is watched.
#[test]
fn of_the_mapping_of_a_stack() {
    isolated(|| {
        require!(seccomp_notify);
        let faults = Faults::new(syscalls![SYS_mmap, SYS_mprotect]);
        let plan = Sandbox::new().command("/bin/true").compile().unwrap();
        let body = || {
            let before = Census::take();
            match window(|| plan.spawn()) {
                Ok(mut child) => {
                    assert!(child.wait().unwrap().success());
                    println!("worked");
                }
                Err(error) => {
                    assert_same(&before, &Census::take());
                    let step = error.step();
                    println!("{step:?}|{:?}|{:?}", error.syscall(), error.raw_os_error());
                }
            }
        };
        // Stack, shared page, mark of the process, guard page.
        let failed = faults.sweep(INJECTED, body, |k, run| {
            let call = ["mmap", "mmap", "mmap", "mprotect"][k - 1];
            let expected = format!("Some(Prepare)|Some({call:?})|Some({INJECTED})\n");
            assert!(run.succeeded(), "call {k}: {run}");
            assert!(run.output.ends_with(&expected), "call {k}: {run}");
        });
        assert_eq!(failed, 4);
    });
}

/// A failing program is explained by looking at it; when that fails as well, the reason stays the same.
#[test]
fn of_the_look_at_a_program_that_cannot_be_executed() {
    isolated(|| {
        require!(seccomp_notify);
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        fs::write(&script, "#!/no/such/interpreter\n").unwrap();
        make_executable(&script);
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        for (program, errno) in [
            (script.as_path(), libc::ENOENT),
            (plain.as_path(), libc::EACCES),
            (Path::new("/no/such/program"), libc::ENOENT),
        ] {
            explained(program, errno);
        }
    });
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn explained(program: &Path, errno: i32) {
    let plan = Sandbox::new().command(program).compile().unwrap();
    let faults = Faults::new(CALLS);
    let body = || {
        plan.spawn().unwrap_err();
        let before = Census::take();
        let error = window(|| plan.spawn()).unwrap_err();
        println!("{:?}|{:?}", error.step(), error.raw_os_error());
        assert_same(&before, &Census::take());
    };
    let clean = faults.watch(body);
    let usual = format!("Some(Exec)|Some({errno})\n");
    assert!(clean.output.ends_with(&usual), "{clean}");
    let after_exec = |call: &Call| call.syscall.name == "SYS_execve";
    let exec = clean.calls.iter().position(after_exec).unwrap();
    for (k, call) in (1..).zip(&clean.calls).skip(exec + 1) {
        if cannot_fail(&clean, call) {
            continue;
        }
        let run = faults.fail(k, INJECTED, body);
        assert!(run.succeeded(), "call {k}: {run}");
        assert!(run.left_behind.is_empty(), "call {k}: {run}");
        assert!(run.output.ends_with(&usual), "call {k}: {run}");
    }
}
