//! What cannot be seen is said.

use ringfence::Kind;
use ringfence::inspect::Scan;
use rustix::mount::{MountFlags, mount};
use rustix::thread::UnshareFlags;

use super::animal::Animal;
use super::inode;
use crate::common::seccomp::{Arg, Filter};
use crate::common::sys;
use crate::common::{in_forked_child, isolated_as_both, isolated_as_user, probe, require};
use crate::support::{enter_userns, in_quiet_place, is_privileged, with_capabilities};

#[test]
fn the_processes_of_others_are_counted() {
    isolated_as_user(|| {
        let me = std::process::id();
        let snapshot = Scan::new().run().unwrap();
        let refused = |process: &&probe::Process| {
            let link = std::fs::read_link(format!("/proc/{}/ns/user", process.pid));
            link.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        };
        // They come and go; those of the system stay.
        let others = probe::processes();
        let others: Vec<_> = others.iter().filter(refused).collect();
        assert_eq!(snapshot.unseen().processes.total() > 0, !others.is_empty());
        assert_eq!(snapshot.unseen().is_complete(), others.is_empty());
        for other in others {
            let Some(process) = snapshot.process(other.pid.cast_unsigned()) else {
                continue;
            };
            assert_eq!(process.namespaces.iter().count(), 0);
        }
        let own: Vec<_> = snapshot.namespaces_of(me).collect();
        for namespace in &own {
            assert_eq!(
                namespace.id.inode(),
                inode(me, namespace.kind().proc_name())
            );
            assert!(namespace.members.contains(&me));
        }
        assert_eq!(
            own.len(),
            std::fs::read_dir("/proc/self/ns").unwrap().count() - 2
        );
    });
}

#[test]
fn a_nested_pid_namespace_is_not_all_there_is() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        in_quiet_place(|| {
            let snapshot = Scan::new().run().unwrap();
            assert!(snapshot.unseen().processes_outside);
            assert!(snapshot.unseen().to_string().contains("outside"));
            assert_eq!(snapshot.processes().len(), 1);
            assert_eq!(snapshot.is_container(1), Some(true));
        });
    });
}

/// A `/proc` in which the caller itself does not show.
#[test]
fn somebody_elses_proc() {
    with_capabilities!({
        require!(new_proc);
        sys::unshare(UnshareFlags::NEWPID).unwrap();
        let uts = inode("self", "uts");
        let mut animal = Animal::new(|tell| {
            mount("proc", "/proc", "proc", MountFlags::empty(), None).unwrap();
            tell.tell(inode("self", "pid"));
        });
        let pid_namespace = animal.number();
        let scan = || {
            let snapshot = Scan::new().run().unwrap();
            let [process] = snapshot.processes() else {
                panic!("one process is expected: {:?}", snapshot.processes())
            };
            let id = |kind| process.namespaces.get(kind).unwrap().inode();
            assert_eq!(process.pid, 1);
            assert_eq!((id(Kind::Pid), id(Kind::Uts)), (pid_namespace, uts));
            assert!(snapshot.unseen().processes_outside);
        };
        scan();
        // Before Linux 6.11 no pidfd leads to the caller's own namespaces.
        let get_namespace = (1..=10).map(|number| 0xFF00 | number);
        let older = get_namespace.fold(Filter::new(), |filter, request| {
            filter.deny_if(libc::SYS_ioctl, Arg::Is(1, request), libc::ENOTTY)
        });
        older.install().unwrap();
        scan();
    });
}

#[test]
fn hidden_processes_are_mentioned() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        match is_privileged() {
            true => sys::unshare(UnshareFlags::NEWPID | UnshareFlags::NEWNS).unwrap(),
            false => enter_userns(0, UnshareFlags::NEWPID | UnshareFlags::NEWNS),
        }
        let status = in_forked_child(|| {
            let options = c"hidepid=2";
            mount("proc", "/proc", "proc", MountFlags::empty(), options).unwrap();
            let snapshot = Scan::new().run().unwrap();
            assert!(snapshot.unseen().hidden_processes);
            0
        });
        assert!(status.success(), "{status}");
    });
}
