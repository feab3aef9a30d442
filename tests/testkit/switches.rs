//! System calls switched off, and allocation in a child caught.

use std::cell::Cell;
use std::hint::black_box;

use rustix::thread::UnshareFlags;

use crate::common::alloc::{ParentOnly, STATUS};
use crate::common::seccomp::{Arg, Filter, deny};
use crate::common::{in_forked_child, isolated, isolated_as_both, require, sys};

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn a_system_call_is_switched_off() {
    isolated_as_both(|| {
        let child = sys::clone3_vfork(0, || 3).unwrap();
        assert_eq!(isolated::wait_for(child).code(), Some(3));

        deny(&[
            (libc::SYS_clone3, libc::ENOSYS),
            (libc::SYS_unshare, libc::EPERM),
        ])
        .unwrap();
        assert_eq!(errno(sys::clone3_vfork(0, || 3)), Some(libc::ENOSYS));
        assert_eq!(errno(sys::unshare(UnshareFlags::NEWUTS)), Some(libc::EPERM));
        // And in what is started from here; glibc falls back from clone3.
        let status = std::process::Command::new("/bin/true").status().unwrap();
        assert!(status.success());
        let status = in_forked_child(|| errno(sys::clone3_vfork(0, || 3)).unwrap_or(0));
        assert_eq!(status.code(), Some(libc::ENOSYS));
    });
}

#[test]
fn one_flag_is_switched_off() {
    isolated_as_both(|| {
        require!(userns);
        let uts = Arg::HasAny(0, libc::CLONE_NEWUTS as u64);
        Filter::new()
            .deny_if(libc::SYS_unshare, uts, libc::EXDEV)
            .install()
            .unwrap();
        sys::unshare(UnshareFlags::NEWUSER).unwrap();
        assert_eq!(errno(sys::unshare(UnshareFlags::NEWUTS)), Some(libc::EXDEV));
        assert_eq!(
            errno(sys::unshare(UnshareFlags::NEWUTS | UnshareFlags::NEWIPC)),
            Some(libc::EXDEV)
        );
        sys::unshare(UnshareFlags::NEWIPC).unwrap();
    });
}

#[test]
fn the_upper_half_of_an_argument_counts() {
    isolated_as_both(|| {
        const HIGH: u64 = 1 << 40;
        // Without the filter all of these are EINVAL.
        let option = 0x7465_7374;
        Filter::new()
            .deny_if(libc::SYS_prctl, Arg::HasAny(1, HIGH | 2), libc::EXDEV)
            .deny_if(libc::SYS_prctl, Arg::Is(0, 0x7465_7375), libc::EDOM)
            .install()
            .unwrap();
        for (value, expected) in [
            (0, libc::EINVAL),
            (1, libc::EINVAL),
            (HIGH >> 32, libc::EINVAL),
            (2 << 32, libc::EINVAL),
            (2, libc::EXDEV),
            (HIGH, libc::EXDEV),
            (HIGH | 1, libc::EXDEV),
        ] {
            assert_eq!(
                errno(sys::prctl(option, value)),
                Some(expected),
                "{value:#x}"
            );
        }
        assert_eq!(errno(sys::prctl(option + 1, 0)), Some(libc::EDOM));
        assert_eq!(errno(sys::prctl(option + 1, HIGH)), Some(libc::EXDEV));
    });
}

#[test]
fn the_first_rule_that_matches_decides() {
    isolated(|| {
        Filter::new()
            .allow_if(libc::SYS_prctl, Arg::Is(0, libc::PR_GET_DUMPABLE as u32))
            .deny(libc::SYS_prctl, libc::EXDEV)
            .install()
            .unwrap();
        assert_eq!(sys::prctl(libc::PR_GET_DUMPABLE, 0).unwrap(), 1);
        assert_eq!(
            errno(sys::prctl(libc::PR_GET_KEEPCAPS, 0)),
            Some(libc::EXDEV)
        );
    });
}

#[test]
fn root_needs_no_new_privs_for_nothing() {
    isolated(|| {
        require!(root);
        deny(&[(libc::SYS_clone3, libc::ENOSYS)]).unwrap();
        assert!(!rustix::thread::no_new_privs().unwrap());
    });
}

#[test]
fn an_allocation_in_a_forked_child_ends_it() {
    isolated(|| {
        let boxed = Cell::new(Some(Box::new(1)));
        ParentOnly::arm();
        let without = in_forked_child(|| 0);
        let with = in_forked_child(|| *black_box(Box::new(0)));
        let freed = in_forked_child(|| {
            drop(boxed.take());
            0
        });
        let own = black_box(Box::new(5));
        ParentOnly::disarm();
        let disarmed = in_forked_child(|| *black_box(Box::new(0)));
        assert_eq!(without.code(), Some(0));
        assert_eq!(with.code(), Some(STATUS));
        assert_eq!(freed.code(), Some(STATUS));
        assert_eq!(disarmed.code(), Some(0));
        assert_eq!(*own, 5);
    });
}

#[test]
fn an_allocation_in_a_child_that_shares_our_memory_ends_it() {
    isolated_as_both(|| {
        require!(userns);
        let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWPID;
        for flags in [0, namespaces] {
            ParentOnly::arm();
            let without = sys::clone3_vfork(flags, || 0);
            let with = sys::clone3_vfork(flags, || *black_box(Box::new(0)));
            ParentOnly::disarm();
            assert_eq!(isolated::wait_for(without.unwrap()).code(), Some(0));
            assert_eq!(isolated::wait_for(with.unwrap()).code(), Some(STATUS));
        }
    });
}
