//! What the probes find agrees with what then works.

use std::fs;

use rustix::process::geteuid;
use rustix::thread::UnshareFlags;

use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated, isolated_as_both, isolated_as_user, probe, require, seccomp, sys};

#[test]
fn root_is_not_the_root_of_a_user_namespace() {
    isolated_as_both(|| {
        require!(userns);
        let uid = geteuid().as_raw();
        sys::unshare(UnshareFlags::NEWUSER).unwrap();
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
        sys::unshare(UnshareFlags::NEWUTS).unwrap();
        assert!(require::root().is_err());
    });
}

#[test]
fn a_probe_leaves_nothing_behind() {
    isolated_as_both(|| {
        let probes = [
            ("root", require::root as fn() -> Result<(), String>),
            ("userns", require::userns),
            ("netns", require::netns),
            ("timens", require::timens),
            ("overlay", require::overlay),
            ("new_proc", require::new_proc),
            ("subuid", require::subuid),
            ("cgroup2", require::cgroup2),
            ("seccomp_notify", require::seccomp_notify),
        ];
        let before = Census::take();
        for (name, probe) in probes {
            println!("{name}: {:?}", probe());
        }
        assert_same(&before, &Census::take());
        if let Ok(dir) = require::cgroup2_dir() {
            let made = dir.join(format!("ringfence-probe-{}", std::process::id()));
            assert!(!made.exists());
        }
    });
}

#[test]
fn a_user_who_is_refused_user_namespaces_is_told() {
    isolated_as_user(|| {
        require!(userns);
        seccomp::deny(&[(libc::SYS_unshare, libc::EPERM)]).unwrap();
        let why = require::userns().unwrap_err();
        assert!(why.starts_with("unshare(CLONE_NEWUSER): "), "{why}");
    });
}

#[test]
fn the_kernel_has_a_version() {
    isolated(|| {
        assert_eq!(require::kernel(2, 6), Ok(()));
        let why = require::kernel(9999, 0).unwrap_err();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(why.contains(release.trim()), "{why}");
    });
}

#[test]
fn programs_are_looked_for() {
    isolated(|| {
        assert_eq!(require::program("sh"), Ok(()));
        assert!(require::program("no-such-program").is_err());
    });
}

#[test]
fn root_has_its_own_namespaces() {
    isolated(|| {
        require!(root);
        let before = probe::namespace("self", "uts").unwrap();
        sys::unshare(UnshareFlags::NEWUTS).unwrap();
        assert_ne!(probe::namespace("self", "uts").unwrap(), before);
    });
}
