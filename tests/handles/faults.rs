//! Every system call that makes namespaces, in the caller and in the child, is made to fail in turn; and there is
//! no room for descriptors.

use ringfence::{IdMap, NamespaceSet, Sandbox};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::census;
use crate::common::faults::{Call, Faults, Run, Syscall, syscalls, window};
use crate::common::leaks::assert_same;
use crate::common::{isolated, isolated_as_both, isolated_as_user, require};

/// An error that none of these calls gives of itself.
const INJECTED: i32 = libc::EXDEV;

const CALLS: &[Syscall] = syscalls![
    SYS_chdir,
    SYS_clone,
    SYS_clone3,
    SYS_fstatfs,
    SYS_mount,
    SYS_openat,
    SYS_recvmsg,
    SYS_sendmsg,
    SYS_sethostname,
    SYS_setresgid,
    SYS_setresuid,
    SYS_socketpair,
    SYS_timer_create,
    SYS_timer_settime,
    SYS_write,
];

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new().user().uts().mount();
    sandbox.user_map(IdMap::root()).hostname("box")
}

fn create_once(sandbox: &Sandbox) {
    // Once for what lasts.
    drop(NamespaceSet::create(sandbox).unwrap());
    let before = census();
    match window(|| NamespaceSet::create(sandbox)) {
        Ok(set) => println!("worked: {}", set.iter().count()),
        Err(error) => println!(
            "{:?}|{}|{}",
            error.step(),
            error.syscall().unwrap_or("?"),
            error.raw_os_error().unwrap_or(0)
        ),
    }
    assert_same(&before, &census());
}

/// A look whether there is such a call; if not, another one serves.
fn is_harmless(call: &Call) -> bool {
    call.syscall.name == "SYS_clone3" && call.args[0] == 0
}

fn check(k: usize, run: &Run) {
    assert!(run.succeeded(), "call {k}: {run}");
    assert!(run.left_behind.is_empty(), "call {k}: {run}");
    let failed = &run.calls[k - 1];
    let name = failed.syscall.name.trim_start_matches("SYS_");
    let said = run.output.lines().last().unwrap_or_default();
    if said == "worked: 3" {
        return assert!(is_harmless(failed), "not harmless: call {k}: {run}");
    }
    assert!(said.starts_with("Some("), "no step: call {k}: {run}");
    let expected = format!("|{name}|{INJECTED}");
    assert!(said.ends_with(&expected), "call {k}: {run}");
}

fn sweep(sandbox: &Sandbox) {
    let faults = Faults::new(CALLS);
    let number = faults.sweep(INJECTED, || create_once(sandbox), check);
    println!("{number} calls made to fail");
    assert!(number > 12);
}

#[test]
fn of_namespaces_without_a_program() {
    isolated(|| {
        require!(seccomp_notify, userns);
        sweep(&sandbox());
    });
}

#[test]
fn of_namespaces_without_a_program_as_a_user() {
    isolated_as_user(|| {
        require!(seccomp_notify, userns);
        sweep(&sandbox());
    });
}

#[test]
fn there_is_no_room_for_descriptors() {
    isolated_as_both(|| {
        require!(userns);
        let sandbox = sandbox();
        drop(NamespaceSet::create(&sandbox).unwrap());
        let before = census();
        let usual = getrlimit(Resource::Nofile);
        let limit = |current| {
            let maximum = usual.maximum;
            setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
        };
        let highest = before.section("fds").len() as u64;
        let worked = (highest..highest + 16).map(|number| {
            limit(Some(number));
            let made = NamespaceSet::create(&sandbox);
            limit(usual.current);
            match &made {
                Ok(set) => assert_eq!(set.iter().count(), 3),
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error:?}"),
            }
            let worked = made.is_ok();
            drop(made);
            assert_same(&before, &census());
            worked
        });
        let worked: Vec<_> = worked.collect();
        assert_eq!((worked[0], worked[15]), (false, true), "{worked:?}");
    });
}
