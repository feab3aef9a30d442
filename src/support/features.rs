//! What the crate uses of newer kernels, found by trying where that is possible.

use crate::diagnose::System;
use crate::ns::{AnyNamespace, Kind, Namespace, Pid};
use crate::plan::features::{Features, kernel_version};
use crate::plan::stage::Form;
use crate::sys::nsfs;
use crate::sys::process::landlock_version;
use crate::sys::statmount::{LSMT_ROOT, OWN_NAMESPACE, listmount, mnt_ns_id};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};
use std::os::fd::AsFd;

/// A feature of the kernel that the crate uses where it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Feature {
    /// Its name: a system call, an ioctl.
    pub name: &'static str,
    /// The version of Linux that brought it.
    pub since: &'static str,
    /// Whether it is there, and no filter hides it.
    pub available: bool,
    /// What the crate does without it.
    pub fallback: &'static str,
}

pub(super) fn probe(system: &System) -> Vec<Feature> {
    let found = Features::probe();
    let own = |kind| AnyNamespace::current(kind).ok();
    let unique_id = own(Kind::User).is_some_and(|user| nsfs::unique_id(user.as_fd()).is_ok());
    let mount_id = own(Kind::Mount).is_some_and(|mount| mnt_ns_id(mount.as_fd()).is_ok());
    let version = kernel_version();
    let actions = system.read("proc/sys/kernel/seccomp/actions_avail");
    let has_notify = actions.is_some_and(|actions| actions.contains("user_notif"));
    let features = [
        (
            "clone3",
            "5.3",
            found.clone3,
            "clone(2), and the rest by later calls",
        ),
        (
            "close_range",
            "5.9",
            found.close_range,
            "none: it is needed",
        ),
        (
            "close_range(CLOEXEC)",
            "5.11",
            found.close_range_cloexec,
            "descriptors are closed before exec instead of by it",
        ),
        (
            "overlay in a user namespace",
            "5.11",
            version >= (5, 11),
            "overlays as root only",
        ),
        (
            "openat2(RESOLVE_CACHED)",
            "5.12",
            resolve_cached(),
            "pins elsewhere are known by number only",
        ),
        (
            "fsopen, open_tree, move_mount",
            "5.2",
            found.mount_fd,
            "mount(2), with the same result",
        ),
        (
            "mount_setattr",
            "5.12",
            found.mount_setattr,
            "mount(2), with the same result",
        ),
        (
            "time namespace in a vfork child",
            "6.2",
            found.time_in_vfork,
            "one more process, with a copy of the caller's memory",
        ),
        (
            "a program in a memfd",
            "3.19",
            matches!(Form::choose(0), Ok(Form::Program { .. })),
            "a forked process 1 (vm.memfd_noexec forbids it, or a filter)",
        ),
        (
            "listmount, statmount",
            "6.8",
            listmount(LSMT_ROOT, OWN_NAMESPACE).is_ok(),
            "/proc/PID/mountinfo",
        ),
        (
            "PIDFD_THREAD",
            "6.9",
            pidfd_thread(),
            "the thread's links in /proc",
        ),
        (
            "PIDFD_GET_*_NAMESPACE",
            "6.11",
            pidfd_namespace(),
            "the links in /proc/PID/ns",
        ),
        (
            "NS_GET_PID_IN_PIDNS",
            "6.11",
            pid_in_pidns(),
            "NSpid in /proc/PID/status",
        ),
        (
            "NS_GET_MNTNS_ID",
            "6.11",
            mount_id,
            "mount namespaces are entered to be listed",
        ),
        (
            "Landlock",
            "5.13",
            landlock_version().is_ok(),
            "an error that says so",
        ),
        (
            "seccomp with a listener",
            "5.0",
            has_notify,
            "an error that says so",
        ),
        (
            "bind mounts of detached trees",
            "6.15",
            version >= (6, 15),
            "an error that says so",
        ),
        (
            "NS_GET_ID",
            "6.18",
            unique_id,
            "namespaces have no 64-bit id",
        ),
    ];
    let features = features.into_iter();
    features
        .map(|(name, since, available, fallback)| Feature {
            name,
            since,
            available,
            fallback,
        })
        .collect()
}

fn resolve_cached() -> bool {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat2(CWD, c"/", flags, Mode::empty(), ResolveFlags::CACHED);
    // The kernel may not have it in memory, but it knows the flag.
    matches!(opened, Ok(_) | Err(Errno::AGAIN))
}

fn pidfd_thread() -> bool {
    let flag = PidfdFlags::from_bits_retain(rustix::fs::OFlags::EXCL.bits());
    pidfd_open(rustix::thread::gettid(), flag).is_ok()
}

fn pidfd_namespace() -> bool {
    /// `PIDFD_GET_UTS_NAMESPACE`.
    const UTS: u8 = 10;
    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    own.is_ok_and(|own| nsfs::of_pidfd(own.as_fd(), UTS).is_ok())
}

fn pid_in_pidns() -> bool {
    let own = Namespace::<Pid>::current();
    own.is_ok_and(|own| nsfs::pid_in_pidns(own.as_fd(), std::process::id()).is_ok())
}
