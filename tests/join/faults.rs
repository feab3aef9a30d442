//! Every system call of a join, in the caller and in the second stage, is made to fail in turn.

use ringfence::ns::{Namespace, User};
use ringfence::{Command, IdMap, JoinDir, Kind, NamespaceSet, Sandbox};

use super::{await_single_thread, stage};
use crate::common::faults::{Call, Faults, Run, Syscall, syscalls, window};
use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated, isolated_as_user, require};

/// An error that none of these calls gives of itself.
const INJECTED: i32 = libc::EXDEV;

const CALLS: &[Syscall] = syscalls![
    SYS_capget,
    SYS_capset,
    SYS_chdir,
    SYS_chroot,
    SYS_clone,
    SYS_clone3,
    SYS_execve,
    SYS_execveat,
    SYS_fchdir,
    SYS_fstat,
    SYS_fstatfs,
    SYS_ioctl,
    SYS_memfd_create,
    SYS_mount,
    SYS_openat,
    SYS_pidfd_open,
    SYS_prctl,
    SYS_sendto,
    SYS_setdomainname,
    SYS_setgroups,
    SYS_sethostname,
    SYS_setns,
    SYS_setresgid,
    SYS_setresuid,
    SYS_setsid,
    SYS_socket,
    SYS_socketpair,
    SYS_unshare,
    SYS_write,
];

/// What a join does without.
fn is_harmless(call: &Call) -> bool {
    let has_arg = |value: i32| call.args[0] == u64::from(value.unsigned_abs());
    match call.syscall.name {
        "SYS_prctl" => has_arg(libc::PR_SET_NAME),
        // A look whether one is there already.
        "SYS_openat" | "SYS_fstat" | "SYS_fstatfs" => true,
        _ => false,
    }
}

fn spawn_once(command: &Command) {
    let plan = command.compile().unwrap();
    let mut child = plan.spawn().unwrap();
    assert!(child.wait().unwrap().success());
    await_single_thread();
    let before = Census::take().without(&["maps"]);
    match window(|| plan.spawn()) {
        Ok(mut child) => {
            assert!(child.wait().unwrap().success());
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
    assert_same(&before, &Census::take().without(&["maps"]));
}

fn sweep(command: &Command) {
    let faults = Faults::new(CALLS).with_second_stage();
    let number = faults.sweep(INJECTED, || spawn_once(command), check);
    println!("{number} calls made to fail");
    assert!(number > 12);
}

fn check(k: usize, run: &Run) {
    assert!(run.succeeded(), "call {k}: {run}");
    assert!(run.left_behind.is_empty(), "call {k}: {run}");
    let failed = &run.calls[k - 1];
    let said = run.output.lines().last().unwrap_or_default();
    if said == "worked" {
        assert!(is_harmless(failed), "not harmless: call {k}: {run}");
        return;
    }
    assert!(said.starts_with("Some("), "no step: call {k}: {run}");
    let name = failed.syscall.name.trim_start_matches("SYS_");
    if name == "sendto" {
        // Nobody is left to say so.
        return assert!(said.ends_with("|?|0"), "call {k}: {run}");
    }
    let expected = format!("|{name}|{INJECTED}");
    assert!(said.ends_with(&expected), "call {k}: {run}");
}

fn joining_everything(set: &NamespaceSet) -> Sandbox {
    Sandbox::new()
        .join_set(set)
        .join_dir(JoinDir::of(std::process::id()))
}

#[test]
fn of_all_kinds() {
    isolated(|| {
        require!(seccomp_notify, userns);
        stage!();
        let set = NamespaceSet::create(&Sandbox::new().all().user_map(IdMap::root())).unwrap();
        let command = joining_everything(&set).command("/bin/true");
        let command = command.current_dir("/tmp").new_session();
        sweep(&command.keep_capabilities());
    });
}

#[test]
fn of_all_kinds_as_a_user() {
    isolated_as_user(|| {
        require!(seccomp_notify, userns);
        stage!();
        let set = NamespaceSet::create(&Sandbox::new().all().user_map(IdMap::root())).unwrap();
        let command = joining_everything(&set).command("/bin/true");
        sweep(&command.keep_capabilities());
    });
}

#[test]
fn of_new_namespaces_in_a_joined_one() {
    isolated(|| {
        require!(seccomp_notify, userns, netns);
        stage!();
        let user = Namespace::<User>::create_with_map(IdMap::root()).unwrap();
        let sandbox = Sandbox::new().net().uts().mount().ipc().pid().join(&user);
        let sandbox = sandbox.hostname("box").domainname("example.test");
        sweep(&sandbox.command("/bin/true").gid(0));
    });
}

#[test]
fn of_a_user_namespace_at_last() {
    isolated_as_user(|| {
        require!(seccomp_notify, userns);
        stage!();
        let user = Namespace::<User>::create_with_map(IdMap::root()).unwrap();
        let sandbox = Sandbox::new().join_user_last(&user);
        let command = sandbox.command("/bin/true").current_dir("/");
        sweep(&command.keep_capabilities());
    });
}

/// Where the root is not that of the mount namespace.
#[test]
fn of_another_root() {
    isolated(|| {
        require!(seccomp_notify, userns);
        stage!();
        let user = Namespace::<User>::create_with_map(IdMap::root()).unwrap();
        assert_eq!(user.kind(), Kind::User);
        sweep(
            &Sandbox::new()
                .join(&user)
                .join_root("/")
                .command("/bin/true"),
        );
    });
}
