//! Owners, parents, levels, and the numbers of processes.

use std::fs;
use std::io::{PipeWriter, Read};
use std::os::fd::AsFd;

use ringfence::ns::{Namespace, Net, Pid, User, Uts};
use ringfence::{AnyNamespace, ErrorKind, Kind, NamespaceSet, Sandbox};
use rustix::process::{Signal, getegid, geteuid, kill_process};
use rustix::thread::UnshareFlags;

use super::{kinds, with_capabilities};
use crate::common::{in_forked_child, isolated::wait_for, isolated_as_both, probe, require, sys};
use crate::support::Waiting;

#[test]
fn the_owner_is_the_user_namespace_of_the_creator() {
    isolated_as_both(|| {
        require!(userns);
        let own = Namespace::<User>::current().unwrap();
        let child = Waiting::start(&Sandbox::new().all());
        let set = child.namespaces().unwrap();
        let user = set.user.as_ref().unwrap();
        for kind in kinds() {
            let owner = set.get(kind).unwrap().user_namespace().unwrap();
            let expected = if kind == Kind::User { &own } else { user };
            assert_eq!(owner, *expected, "{kind}");
        }
        assert_eq!(user.parent().unwrap(), Some(own));
        let pid = set.pid.unwrap();
        assert_eq!(pid.parent().unwrap(), Some(Namespace::current().unwrap()));
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(user.owner_uid().unwrap(), uid);
    });
}

#[test]
fn above_the_caller_there_is_nothing() {
    isolated_as_both(|| {
        require!(userns);
        let before = Namespace::<Net>::current().unwrap();
        let outside = Namespace::<User>::current().unwrap();
        crate::support::enter_userns(0, UnshareFlags::NEWUTS);
        let own = Namespace::<User>::current().unwrap();
        assert_eq!(own.parent().unwrap(), None);
        assert_eq!(
            (own.level().unwrap(), own.ancestors().unwrap()),
            (0, vec![])
        );
        let uts = Namespace::<Uts>::current().unwrap();
        assert_eq!(uts.user_namespace().unwrap(), own);
        // What belongs to the outside is not shown.
        let error = before.user_namespace().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.hint().is_some());
        assert_eq!(outside.parent().unwrap(), None);
    });
}

/// A child that nests as deep as the kernel lets it, and waits.
fn nest(ready: PipeWriter) -> i32 {
    let child = sys::fork().unwrap();
    if let Some(child) = child {
        return child;
    }
    let (mut uid, mut gid) = (geteuid().as_raw(), getegid().as_raw());
    while sys::unshare(UnshareFlags::NEWUSER).is_ok() {
        fs::write("/proc/self/setgroups", "deny").unwrap();
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
        (uid, gid) = (0, 0);
    }
    // With the kernel's error, and the crate's.
    let error = Namespace::<User>::create().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::LimitReached);
    assert!(error.hint().unwrap().contains("32 levels"), "{error:?}");
    drop(ready);
    loop {
        std::thread::park();
    }
}

#[test]
fn thirty_two_levels_and_the_error_of_the_next() {
    isolated_as_both(|| {
        require!(userns);
        let (mut ready, tell) = std::io::pipe().unwrap();
        let child = nest(tell);
        assert_eq!(ready.read(&mut [0]).unwrap(), 0);
        let deepest = Namespace::<User>::of_pid(child.cast_unsigned()).unwrap();
        let ancestors = deepest.ancestors().unwrap();
        assert_eq!(deepest.level().unwrap(), ancestors.len());
        let own = Namespace::<User>::current().unwrap();
        let own_at = ancestors.iter().position(|one| *one == own).unwrap();
        // As deep as it gets: the kernel counts from the first namespace.
        if require::root().is_ok() {
            assert_eq!((own_at, ancestors.len()), (32, 33));
        }
        for pair in ancestors.windows(2) {
            assert_eq!(pair[0].parent().unwrap().as_ref(), Some(&pair[1]));
        }
        kill_process(rustix::process::Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
        wait_for(child);
    });
}

#[test]
fn pid_namespaces_nest_as_well() {
    with_capabilities!({
        let own = Namespace::<Pid>::current().unwrap();
        let outer = Waiting::start(&Sandbox::new().pid());
        let outer_ns = outer.namespaces().unwrap().pid.unwrap();
        assert_eq!(outer_ns.parent().unwrap(), Some(own));
        assert_eq!(
            outer_ns.level().unwrap(),
            Namespace::<Pid>::current().unwrap().level().unwrap() + 1
        );
        let user = outer_ns.user_namespace().unwrap();
        assert!(user.is_current().unwrap());
    });
}

/// Goes down one pid namespace at a time, each with a process 1, as far as the kernel lets it. Returns how
/// many that were.
fn nest_pids() -> i32 {
    if let Err(error) = sys::unshare(UnshareFlags::NEWPID) {
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error:?}");
        let error = Namespace::<Pid>::create().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::LimitReached);
        assert!(error.hint().unwrap().contains("32 levels"), "{error:?}");
        return 0;
    }
    let status = in_forked_child(nest_pids);
    1 + status.code().unwrap()
}

#[test]
fn thirty_two_levels_of_pids_and_the_error_of_the_next() {
    with_capabilities!({
        let status = in_forked_child(nest_pids);
        let below = usize::try_from(status.code().unwrap()).unwrap();
        if is_in_first_pid_namespace() {
            assert_eq!(below, 32);
        }
        assert!((1..=32).contains(&below), "{below}");
    });
}

/// The inode number that the kernel gives that one.
fn is_in_first_pid_namespace() -> bool {
    const PROC_PID_INIT_INO: u64 = 0xEFFF_FFFC;
    let own = Namespace::<Pid>::current().unwrap();
    own.id().inode() == PROC_PID_INIT_INO
}

#[test]
fn numbers_of_processes_are_those_of_nspid() {
    with_capabilities!({
        let child = Waiting::start(&Sandbox::new().pid().init());
        let pid = child.namespaces().unwrap().pid.unwrap();
        let [program] = probe::children(child.id().cast_signed())
            .try_into()
            .unwrap();
        for outside in [child.id(), program.pid.cast_unsigned()] {
            let numbers = probe::status(outside, "NSpid").unwrap();
            let inside: u32 = numbers.split_whitespace().last().unwrap().parse().unwrap();
            assert_eq!(pid.pid_inside(outside).unwrap(), Some(inside));
            assert_eq!(pid.pid_outside(inside).unwrap(), Some(outside));
        }
        assert_eq!(pid.pid_inside(std::process::id()).unwrap(), None);
        assert_eq!(pid.pid_outside(4_000_000).unwrap(), None);
        let own = Namespace::<Pid>::current().unwrap();
        assert_eq!(own.pid_inside(child.id()).unwrap(), Some(child.id()));
    });
}

#[test]
fn handles_keep_namespaces_alive() {
    with_capabilities!({
        let set = NamespaceSet::create(&Sandbox::new().uts().net()).unwrap();
        let (uts, net) = (set.uts.unwrap(), set.net.unwrap());
        assert!(set.user.is_none() && set.pid.is_none());
        let ids = [uts.id(), net.id()];
        let mut handles: Vec<AnyNamespace> = vec![uts.into(), net.into()];
        handles.extend(handles[0].try_clone());
        assert_eq!(handles[2].id(), ids[0]);
        assert!(handles[2].as_fd().try_clone_to_owned().is_ok());
        let distinct: std::collections::HashSet<_> = handles.into_iter().collect();
        assert_eq!(distinct.len(), 2);
    });
}
