//! Older kernels and filters: the same results by other ways.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use ringfence::ns::{Namespace, Pid, Uts, unpin};
use ringfence::{AnyNamespace, Child, NamespaceId, NamespaceSet, Sandbox};
use rustix::mount::{MountFlags, mount};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::UnshareFlags;

use super::{census, create, kinds, tmpfs, with_capabilities};
use crate::common::isolated::{in_forked_child, wait_for};
use crate::common::leaks::assert_same;
use crate::common::seccomp::{Arg, Filter};
use crate::common::sys::{self, Answer};
use crate::common::{isolated_as_both, probe, require};
use crate::support::{Waiting, enter_userns, is_privileged};

const NSIO: u32 = 0xb7 << 8;
const NS_GET_NSTYPE: u32 = NSIO | 3;
const PIDFS: u32 = 0xff << 8;

/// An ioctl that reads something of this size.
fn reads(size: u32, number: u32) -> u32 {
    2 << 30 | size << 16 | NSIO | number
}

/// The ioctls that came with Linux 6.11 and later.
fn new_ioctls() -> Vec<u32> {
    let translation = (6..=9).map(|number| reads(4, number));
    let ids = [reads(8, 5), reads(8, 13)];
    let of_pidfd = (1..=10).map(|number| PIDFS | number);
    translation.chain(ids).chain(of_pidfd).collect()
}

fn without(ioctls: &[u32], errno: i32) {
    let filter = ioctls.iter().fold(Filter::new(), |filter, request| {
        filter.deny_if(libc::SYS_ioctl, Arg::Is(1, *request), errno)
    });
    filter.install().unwrap();
}

/// What the crate says of a process.
fn told(child: &Child) -> Vec<NamespaceId> {
    let pid = child.id();
    let mut ids = Vec::new();
    for set in [
        child.namespaces().unwrap(),
        NamespaceSet::of_pid(pid).unwrap(),
        NamespaceSet::of_thread(pid).unwrap(),
        NamespaceSet::current().unwrap(),
    ] {
        ids.extend(set.iter().map(AnyNamespace::id));
    }
    ids
}

#[test]
fn without_the_newer_ioctls_all_is_found_as_well() {
    isolated_as_both(|| {
        require!(userns);
        let child = Waiting::start(&Sandbox::new().all());
        let expected = told(&child);
        assert_eq!(expected.len(), 4 * kinds().count());
        for errno in [libc::ENOTTY, libc::EPERM, libc::ENOSYS] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    without(&new_ioctls(), errno);
                    assert_eq!(told(&child), expected);
                    let net = child.namespaces().unwrap().net.unwrap();
                    assert_eq!(net.unique_id(), None);
                    // Nor the type, which also old kernels tell.
                    without(&[NS_GET_NSTYPE], errno);
                    assert_eq!(told(&child), expected);
                    assert!(Namespace::<Uts>::open("/proc/self/ns/net").is_err());
                });
            });
        }
    });
}

#[test]
fn without_the_newer_ioctls_pids_are_translated_as_well() {
    with_capabilities!({
        let child = Waiting::start(&Sandbox::new().pid().init());
        let inner = Waiting::start(&Sandbox::new().pid());
        let pid = child.namespaces().unwrap().pid.unwrap();
        let own = Namespace::<Pid>::current().unwrap();
        let [program] = probe::children(child.id().cast_signed())
            .try_into()
            .unwrap();
        let program = program.pid.cast_unsigned();
        let translated = || {
            let mut all = Vec::new();
            for process in [child.id(), program, inner.id(), std::process::id()] {
                all.extend([&own, &pid].map(|ns| ns.pid_inside(process).unwrap()));
            }
            for inside in [1, 2, 3, program] {
                all.push(pid.pid_outside(inside).unwrap());
            }
            all.push(own.pid_outside(program).unwrap());
            all.push(own.pid_inside(4_000_000).unwrap());
            all
        };
        let expected = translated();
        assert_eq!(
            expected[..4],
            [Some(child.id()), Some(1), Some(program), Some(2)]
        );
        std::thread::scope(|scope| {
            scope.spawn(|| {
                without(&new_ioctls(), libc::ENOTTY);
                assert_eq!(translated(), expected);
            });
        });
    });
}

#[test]
fn without_the_newer_mount_calls_pins_are_made_as_well() {
    with_capabilities!({
        tmpfs("/tmp");
        kinds().for_each(|kind| drop(create(kind).unwrap()));
        let namespaces: Vec<_> = kinds().map(|kind| create(kind).unwrap()).collect();
        let before = census().with_files(Path::new("/tmp"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let filter = Filter::new().deny(libc::SYS_open_tree, libc::ENOSYS);
                filter.install().unwrap();
                for namespace in &namespaces {
                    let path = namespace.pin("/tmp/pin").unwrap().keep();
                    assert_eq!(AnyNamespace::open(&path).unwrap(), *namespace);
                    unpin(path).unwrap();
                }
            });
        });
        assert_same(&before, &census().with_files(Path::new("/tmp")));
    });
}

/// Ends a process and starts another one, in another UTS namespace, that has the same pid.
fn replace(pid: i32, pidfd: &OwnedFd) -> i32 {
    pidfd_send_signal(pidfd, Signal::KILL).unwrap();
    wait_for(pid);
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    let other = waiting_process(true);
    assert_eq!(other, pid, "the pid is used again");
    other
}

fn waiting_process(own_uts: bool) -> i32 {
    let (mut ready, tell) = std::io::pipe().unwrap();
    if let Some(child) = sys::fork().unwrap() {
        drop(tell);
        std::io::Read::read(&mut ready, &mut [0]).unwrap();
        return child;
    }
    if own_uts {
        sys::unshare(UnshareFlags::NEWUTS).unwrap();
    }
    drop((ready, tell));
    loop {
        std::thread::park();
    }
}

/// The process is replaced when the look at it has begun, and before the link of its namespace is opened.
fn reuse_between_look_and_open() {
    let pid = waiting_process(false);
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    let pidfd = pidfd_open(process, PidfdFlags::empty()).unwrap();
    let uts = Namespace::<Uts>::of_pidfd(&pidfd).unwrap();
    assert_eq!(uts, Namespace::current().unwrap());

    let (listeners, listener) = std::sync::mpsc::channel();
    let found = std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut filter = Filter::new().trap(libc::SYS_openat);
            #[cfg(target_arch = "x86_64")]
            {
                filter = filter.trap(libc::SYS_open);
            }
            for request in new_ioctls() {
                filter = filter.deny_if(libc::SYS_ioctl, Arg::Is(1, request), libc::ENOTTY);
            }
            listeners
                .send(filter.install_with_listener().unwrap())
                .unwrap();
            Namespace::<Uts>::of_pidfd(&pidfd)
        });
        let listener = listener.recv().unwrap();
        // The first is fdinfo, which tells the number; the second the link of whoever has it.
        for call in 1..=2 {
            let notification = sys::notification(listener.as_fd()).unwrap();
            if call == 2 {
                replace(pid, &pidfd);
                let other = Namespace::<Uts>::open(format!("/proc/{pid}/ns/uts")).unwrap();
                assert_ne!(other, uts);
            }
            sys::answer(listener.as_fd(), notification.id, Answer::Continue).unwrap();
        }
        looks.join().unwrap()
    });
    let error = found.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "{error:?}");
    // By number, the new process is the one that is meant.
    assert_ne!(Namespace::<Uts>::of_pid(pid.cast_unsigned()).unwrap(), uts);
    let now = pidfd_open(process, PidfdFlags::empty()).unwrap();
    assert_ne!(now.as_raw_fd(), pidfd.as_raw_fd());
    pidfd_send_signal(&now, Signal::KILL).unwrap();
    wait_for(pid);
}

#[test]
fn a_pid_that_is_used_again_meanwhile_is_noticed() {
    isolated_as_both(|| {
        require!(seccomp_notify, new_proc);
        // A pid namespace of one's own, in which one can choose the next pid.
        let flags = UnshareFlags::NEWPID | UnshareFlags::NEWNS;
        if is_privileged() {
            sys::unshare(flags).unwrap();
        } else {
            enter_userns(0, flags);
        }
        let status = in_forked_child(|| {
            mount("proc", "/proc", "proc", MountFlags::empty(), None).unwrap();
            reuse_between_look_and_open();
            0
        });
        assert!(status.success(), "{status}");
    });
}
