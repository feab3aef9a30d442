//! Namespaces that are kept alive in every way there is, and all of them found.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use ringfence::inspect::{Holder, NamespaceInfo, Scan, Snapshot, Sources};
use ringfence::ns::{Ipc, Mount, Namespace, Net, Uts};
use ringfence::{Kind, Namespaces};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use super::animal::{Animal, Teller};
use super::inode;
use crate::common::{probe, require, sys};
use crate::support::{enter_userns, with_capabilities};

fn scan() -> Snapshot {
    Scan::new().run().unwrap()
}

#[track_caller]
fn find(snapshot: &Snapshot, inode: u64) -> &NamespaceInfo {
    let found = snapshot.by_inode(inode);
    found.unwrap_or_else(|| panic!("{inode} was not found"))
}

/// What holds it, but for the descriptors of processes that are none of the test's: another scan, for instance.
fn holders(info: &NamespaceInfo, pid: u32) -> Vec<Holder> {
    let is_ours =
        |held: &&Holder| !matches!(held, Holder::Descriptor { pid: other, .. } if *other != pid);
    info.holders.iter().filter(is_ours).cloned().collect()
}

/// A new user namespace in this one, in which the caller is 0.
fn nest(others: UnshareFlags) {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER | others).unwrap();
    fs::write("/proc/self/setgroups", "deny").unwrap();
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
}

#[test]
fn nested_user_and_pid_namespaces() {
    with_capabilities!({
        let mut outer = Animal::new(|tell| {
            nest(UnshareFlags::NEWPID);
            tell.tell(inode("self", "user"));
            Animal::new(|_| {
                nest(UnshareFlags::NEWPID);
                Animal::new(|_| ())
            })
        });
        outer.told();
        let [middle] = probe::children(outer.pid.cast_signed()).try_into().unwrap();
        let mut inner = probe::children(middle.pid);
        while inner.is_empty() {
            std::thread::yield_now();
            inner = probe::children(middle.pid);
        }
        let snapshot = scan();
        for (process, above) in [(&middle, outer.pid.cast_signed()), (&inner[0], middle.pid)] {
            let user = find(&snapshot, inode(process.pid, "user"));
            let pid = find(&snapshot, inode(process.pid, "pid"));
            assert!(user.members.contains(&process.pid.cast_unsigned()));
            assert_eq!(pid.members, [process.pid.cast_unsigned()]);
            let leader = pid.leader.as_ref().unwrap();
            assert_eq!(leader.pid, process.pid.cast_unsigned());
            assert_eq!(pid.parent.unwrap().inode(), inode(above, "pid"));
            assert!(pid.owner.is_some() && user.owner == user.parent);
            assert_eq!(snapshot.ancestors(pid.id).count(), pid.level.unwrap());
            assert_eq!(user.owner_uid, Some(geteuid().as_raw()));
            assert_eq!(user.maps.as_ref().unwrap().uid[0].inside, 0);
        }
        let levels =
            [middle.pid, inner[0].pid].map(|pid| find(&snapshot, inode(pid, "pid")).level.unwrap());
        assert_eq!(levels[0] + 1, levels[1]);
    });
}

#[test]
fn a_user_namespace_that_only_its_child_holds() {
    with_capabilities!({
        let mut animal = Animal::new(|tell| {
            nest(UnshareFlags::empty());
            tell.tell(inode("self", "user"));
            nest(UnshareFlags::NEWUTS);
            tell.tell(inode("self", "user"));
        });
        let [middle, inner] = animal.told()[..] else {
            panic!("two numbers are expected")
        };
        let snapshot = scan();
        let (middle, inner) = (find(&snapshot, middle), find(&snapshot, inner));
        assert_eq!((middle.members.len(), &middle.leader), (0, &None));
        assert_eq!(
            holders(middle, animal.pid),
            [Holder::Namespace { id: inner.id }]
        );
        assert_eq!(inner.parent, Some(middle.id));
        let children: Vec<_> = snapshot.children(middle.id).collect();
        assert_eq!(children, [inner]);
        // Without relations nothing leads there, but for the descriptor of somebody who scans as well.
        let without = Sources::all() - Sources::RELATIONS - Sources::DESCRIPTORS;
        let snapshot = Scan::new().sources(without).run().unwrap();
        assert!(snapshot.get(middle.id).is_none() && snapshot.get(inner.id).is_some());
    });
}

#[test]
fn a_pin() {
    with_capabilities!({
        let dir = tempfile::tempdir().unwrap();
        let uts = Namespace::<Uts>::create().unwrap();
        let id = uts.id();
        let pin = uts.pin(dir.path().join("uts")).unwrap();
        drop(uts);
        let snapshot = scan();
        let found = find(&snapshot, id.inode());
        assert_eq!((found.kind(), found.members.len()), (Kind::Uts, 0));
        assert!(found.owner.is_some(), "was opened: {found:?}");
        let within = inode("self", "mnt");
        let path = pin.path().to_owned();
        let is_here = |holder: &&Holder| {
            matches!(holder, Holder::Mount { within: at, target }
                if at.inode() == within && *target == path)
        };
        assert_eq!(found.pins().filter(is_here).count(), 1, "{found:?}");
        pin.unpin().unwrap();
        // Another one may have been given the number.
        let again = scan();
        let again = again.get(id);
        assert!(
            again.is_none_or(|info| info.pins().find(is_here).is_none()),
            "{again:?}"
        );
    });
}

/// An empty file system of one's own in a mount namespace of one's own.
fn scratch(dir: &Path) {
    mount("scratch", dir, "tmpfs", MountFlags::empty(), None).unwrap();
}

#[test]
fn a_pin_in_another_mount_namespace() {
    with_capabilities!({
        let dir = tempfile::tempdir().unwrap();
        let mut animal = Animal::new(|tell| {
            sys::unshare(UnshareFlags::NEWNS).unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            scratch(dir.path());
            let uts = Namespace::<Uts>::create().unwrap();
            tell.tell(uts.id().inode());
            uts.pin(dir.path().join("a b")).unwrap().keep();
        });
        let inode_of_pin = animal.number();
        let snapshot = scan();
        let found = find(&snapshot, inode_of_pin);
        let within = snapshot.by_inode(inode(animal.pid, "mnt")).unwrap().id;
        let target = dir.path().join("a b");
        assert_eq!(
            holders(found, animal.pid),
            [Holder::Mount { within, target }]
        );
        assert!(found.owner.is_some(), "was opened: {found:?}");
    });
}

#[test]
fn a_mount_namespace_without_processes_and_a_pin_in_it() {
    with_capabilities!({
        let dir = tempfile::tempdir().unwrap();
        let mut animal = Animal::new(|tell| {
            let mounts = Namespace::<Mount>::create().unwrap();
            let uts = Namespace::<Uts>::create().unwrap();
            let pin = || {
                scratch(dir.path());
                uts.pin(dir.path().join("uts")).unwrap().keep()
            };
            mounts.run_in(pin).unwrap();
            tell.tell(mounts.id().inode());
            tell.tell(uts.id().inode());
            mounts
        });
        let [mounts, uts] = animal.told()[..] else {
            panic!("two numbers are expected")
        };
        let snapshot = scan();
        let (mounts, uts) = (find(&snapshot, mounts), find(&snapshot, uts));
        assert!(mounts.members.is_empty());
        let held = holders(mounts, animal.pid);
        assert!(matches!(held[..], [Holder::Descriptor { .. }]), "{held:?}");
        let within = mounts.id;
        let target = dir.path().join("uts");
        assert_eq!(holders(uts, animal.pid), [Holder::Mount { within, target }]);
        assert!(uts.owner.is_some(), "was opened: {uts:?}");
    });
}

#[test]
fn a_descriptor() {
    with_capabilities!({
        let mut animal = Animal::new(|tell| {
            let ipc = Namespace::<Ipc>::create().unwrap();
            tell.tell(ipc.id().inode());
            ipc
        });
        let number = animal.number();
        let snapshot = scan();
        let found = find(&snapshot, number);
        assert!(found.owner.is_some(), "was opened: {found:?}");
        let [Holder::Descriptor { pid, fd }] = holders(found, animal.pid)[..] else {
            panic!("{found:?}")
        };
        let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("ipc:[{number}]"));
        assert_eq!(pid, animal.pid);
        // Its own descriptors count as well, but not those of the scan.
        let own = Namespace::<Ipc>::create().unwrap();
        let me = std::process::id();
        let snapshot = scan();
        let holder =
            |holder: &Holder| matches!(holder, Holder::Descriptor { pid, .. } if *pid == me);
        for info in snapshot.namespaces() {
            let held = info.holders.iter().filter(|held| holder(held)).count();
            assert_eq!(held, usize::from(info.id == own.id()), "{info:?}");
        }
    });
}

#[test]
fn a_socket() {
    with_capabilities!({
        require!(netns);
        let mut animal = Animal::new(|tell| {
            let net = Namespace::<Net>::create().unwrap();
            tell.tell(net.id().inode());
            net.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap()
        });
        let number = animal.number();
        let snapshot = scan();
        let found = find(&snapshot, number);
        assert!(found.members.is_empty());
        assert!(
            matches!(holders(found, animal.pid)[..], [Holder::Socket { pid, .. }] if pid == animal.pid),
            "{found:?}"
        );
    });
}

/// What is told by a thread that has left the UTS namespace of the others, and waits.
fn thread_elsewhere(tell: &mut Teller, then: impl FnOnce(&mut Teller) + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sys::unshare(UnshareFlags::NEWUTS).unwrap();
            tell.tell(inode("thread-self", "uts"));
            then(tell);
            loop {
                std::thread::park();
            }
        });
    });
}

#[test]
fn a_thread() {
    with_capabilities!({
        let mut animal = Animal::new(|tell| thread_elsewhere(tell, Teller::end));
        let number = animal.number();
        let snapshot = scan();
        let found = find(&snapshot, number);
        let [Holder::Thread { pid, tid }] = holders(found, animal.pid)[..] else {
            panic!("{found:?}")
        };
        assert_eq!(pid, animal.pid);
        assert_eq!(inode(format!("{pid}/task/{tid}"), "uts"), number);
        assert_eq!(found.leader.as_ref().map(|leader| leader.pid), Some(pid));
        let [thread] = &snapshot.process(pid).unwrap().threads[..] else {
            panic!("one thread is elsewhere")
        };
        assert_eq!(thread.tid, tid);
        assert_eq!(thread.namespaces.get(Kind::Uts), Some(found.id));
    });
}

#[test]
fn a_thread_of_a_process_whose_first_thread_has_ended() {
    with_capabilities!({
        let mut animal = Animal::new(|tell| {
            let told = tell.another();
            std::thread::spawn(move || {
                let mut told = told;
                thread_elsewhere(&mut told, Teller::end);
            });
            sys::exit_thread();
        });
        let number = animal.number();
        animal.wait_for_zombie();
        let snapshot = scan();
        let found = find(&snapshot, number);
        assert!(found.members.is_empty());
        assert!(
            matches!(holders(found, animal.pid)[..], [Holder::Thread { pid, .. }] if pid == animal.pid),
            "{found:?}"
        );
        let process = snapshot.process(animal.pid).unwrap();
        assert_eq!(process.state, 'Z');
        assert_eq!(process.namespaces.get(Kind::Uts), None);
        assert!(!process.threads.is_empty());
    });
}

#[test]
fn a_time_namespace_for_children() {
    with_capabilities!({
        require!(timens);
        let mut animal = Animal::new(|tell| {
            sys::unshare(UnshareFlags::NEWTIME).unwrap();
            tell.tell(inode("self", "time_for_children"));
        });
        let number = animal.number();
        let snapshot = scan();
        let found = find(&snapshot, number);
        let pid = animal.pid;
        assert_eq!(holders(found, pid), [Holder::ForChildren { pid }]);
        let process = snapshot.process(pid).unwrap();
        assert_eq!(process.time_for_children, Some(found.id));
        assert_eq!(process.pid_for_children, None);
    });
}

#[test]
fn kinds_that_were_not_asked_for_are_left_out() {
    with_capabilities!({
        let kinds = Namespaces::UTS | Namespaces::NET;
        let snapshot = Scan::new().kinds(kinds).run().unwrap();
        for info in snapshot.namespaces() {
            // Owners are user namespaces.
            let is_asked = kinds.contains(info.kind().into());
            assert!(is_asked || info.kind() == Kind::User, "{info:?}");
        }
        let process = snapshot.process(std::process::id()).unwrap();
        assert_eq!(process.namespaces.iter().count(), 2);
    });
}

/// The inode numbers that lsns prints, each with its type and its process.
fn lsns() -> Vec<(u64, String, u32)> {
    let run = || {
        let mut command = Command::new("lsns");
        command.args(["--noheadings", "--raw", "--output", "NS,TYPE,PID"]);
        command.output().unwrap()
    };
    // It gives up when a process ends while it looks at it.
    let mut outputs = (0..100).map(|_| run());
    let output = outputs
        .find(|output| output.status.success() && !output.stdout.is_empty())
        .expect("lsns never came through");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| {
        let [number, kind, pid] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let pid = pid.parse().unwrap_or(0);
        (number.parse().unwrap(), kind.to_owned(), pid)
    });
    lines.collect()
}

#[test]
fn what_lsns_finds_is_found() {
    with_capabilities!({
        require!(program("lsns"));
        let _animal = Animal::new(|_| nest(UnshareFlags::NEWUTS | UnshareFlags::NEWIPC));
        let theirs = lsns();
        let snapshot = scan();
        let ours: BTreeSet<_> = snapshot
            .namespaces()
            .iter()
            .map(|info| info.id.inode())
            .collect();
        assert!(!theirs.is_empty());
        for (number, kind, pid) in theirs {
            // Unless it has gone in between.
            let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"));
            let is_there =
                link.is_ok_and(|link| link.as_os_str() == &*format!("{kind}:[{number}]"));
            assert!(
                ours.contains(&number) || !is_there,
                "{kind} {number} of {pid}"
            );
        }
    });
}

#[test]
fn nothing_stays_open() {
    with_capabilities!({
        enter_userns_if_root();
        let before = open_descriptors();
        scan();
        assert_eq!(open_descriptors(), before);
    });
}

fn enter_userns_if_root() {
    if geteuid().is_root() && require::root().is_ok() {
        enter_userns(0, UnshareFlags::NEWNS);
    }
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
