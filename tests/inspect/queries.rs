//! What is looked up in a snapshot.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence::inspect::{Change, Relation, Scan};
use ringfence::ns::{Namespace, Uts};
use ringfence::{Kind, Namespaces, Sandbox};
use rustix::thread::UnshareFlags;

use super::animal::Animal;
use super::inode;
use crate::common::{probe, require, sys};
use crate::support::{Waiting, sandbox, with_capabilities};

#[test]
fn who_is_together_with_whom() {
    with_capabilities!({
        let me = std::process::id();
        let near = Animal::new(|_| ());
        let mut far = Animal::new(|_| sys::unshare(UnshareFlags::NEWUTS).unwrap());
        far.told();
        let snapshot = Scan::new().run().unwrap();
        let same = snapshot.compare(me, near.pid).unwrap();
        assert_eq!(
            (same.different, same.unknown & Namespaces::UTS),
            Default::default()
        );
        let other = snapshot.compare(me, far.pid).unwrap();
        assert_eq!(other.different, Namespaces::UTS);
        assert!(other.same.contains(Namespaces::USER | Namespaces::PID));
        let all: BTreeSet<_> = snapshot
            .sharing_all(me, Namespaces::UTS | Namespaces::PID)
            .map(|process| process.pid)
            .collect();
        assert!(all.contains(&near.pid) && !all.contains(&far.pid) && !all.contains(&me));
        let mut any = snapshot.sharing_any(me, Namespaces::UTS | Namespaces::PID);
        assert!(any.any(|process| process.pid == far.pid));
        let uts = snapshot.by_inode(inode(far.pid, "uts")).unwrap();
        let members: Vec<_> = snapshot.members(uts.id).map(|one| one.pid).collect();
        assert_eq!(members, [far.pid]);
    });
}

/// So many that threads share them out.
#[test]
fn hundreds_of_processes_are_each_there_once() {
    with_capabilities!({
        let mut parent = Animal::new(|tell| {
            sys::unshare(UnshareFlags::NEWUTS).unwrap();
            let children: Vec<_> = (0..600).map(|_| Animal::new(|_| ())).collect();
            for child in &children {
                tell.tell(child.pid.into());
            }
            children
        });
        let mut pids = parent.told();
        pids.push(parent.pid.into());
        pids.sort_unstable();
        let snapshot = Scan::new().run().unwrap();
        let uts = snapshot.by_inode(inode(parent.pid, "uts")).unwrap();
        let members: Vec<u64> = uts.members.iter().map(|&pid| pid.into()).collect();
        assert_eq!(members, pids);
        assert_eq!(
            uts.leader.as_ref().unwrap().pid,
            parent.pid.min(uts.members[0])
        );
        for pair in snapshot.processes().windows(2) {
            assert!(pair[0].pid < pair[1].pid);
        }
    });
}

/// The scan looks at its own process last.
#[test]
fn the_scanning_process_is_the_leader_where_its_id_is_the_lowest() {
    with_capabilities!({
        sys::unshare(UnshareFlags::NEWUTS).unwrap();
        let child = Animal::new(|_| ());
        let own = std::process::id();
        let snapshot = Scan::new().run().unwrap();
        let uts = snapshot.by_inode(inode("self", "uts")).unwrap();
        assert_eq!(uts.members, [own, child.pid]);
        assert_eq!(uts.leader.as_ref().unwrap().pid, own);
    });
}

#[test]
fn numbers_in_pid_namespaces() {
    with_capabilities!({
        let child = Waiting::start(&sandbox().pid().init());
        let [program] = probe::children(child.id().cast_signed())
            .try_into()
            .unwrap();
        let program = program.pid.cast_unsigned();
        let snapshot = Scan::new().run().unwrap();
        let namespace = snapshot.by_inode(inode(child.id(), "pid")).unwrap();
        let table = snapshot.pid_table(namespace.id);
        for pid in [child.id(), program] {
            let numbers = probe::status(pid, "NSpid").unwrap();
            let last = numbers.split_whitespace().last().unwrap().parse().unwrap();
            assert_eq!(table.inside(pid), Some(last));
            assert_eq!(table.outside(last), Some(pid));
            assert_eq!(snapshot.pid_inside(pid, namespace.id), Some(last));
            let own = snapshot.by_inode(inode("self", "pid")).unwrap();
            assert_eq!(snapshot.pid_inside(pid, own.id), Some(pid));
        }
        assert_eq!(table.entries.len(), 2);
        assert_eq!(table.inside(std::process::id()), None);
    });
}

#[test]
fn containers_are_groups_of_processes() {
    with_capabilities!({
        let plain = Waiting::start(&Sandbox::new());
        let child = Waiting::start(&sandbox().pid().mount().init());
        let [program] = probe::children(child.id().cast_signed())
            .try_into()
            .unwrap();
        let snapshot = Scan::new().run().unwrap();
        let containers = snapshot.containers();
        let of = |pid| {
            let mut found = containers.iter().filter(|one| one.processes.contains(&pid));
            (found.next(), found.count())
        };
        let (Some(container), 0) = of(child.id()) else {
            panic!("one container is expected")
        };
        assert_eq!(
            container.processes,
            [child.id(), program.pid.cast_unsigned()]
        );
        assert_eq!(container.pid.inode(), inode(child.id(), "pid"));
        assert_eq!(container.mount.inode(), inode(child.id(), "mnt"));
        let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = container.cgroup.as_ref().unwrap().to_str().unwrap();
        assert!(
            cgroups
                .lines()
                .any(|line| line.ends_with(&format!(":{path}")))
        );
        assert_eq!(snapshot.is_container(child.id()), Some(true));
        // The test itself has a mount namespace of its own.
        let me = of(std::process::id()).0.map(|one| &one.processes);
        assert_eq!(me, of(plain.id()).0.map(|one| &one.processes));
    });
}

#[test]
fn trees_follow_the_relation() {
    with_capabilities!({
        require!(userns);
        let child = Waiting::start(&Sandbox::new().user().pid().uts());
        let snapshot = Scan::new().run().unwrap();
        let id = |pid: u32, kind: &str| snapshot.by_inode(inode(pid, kind)).unwrap().id;
        let me = std::process::id();
        for (relation, kind, above) in [
            (Relation::Parent, "pid", Some(id(me, "pid"))),
            (Relation::Parent, "user", Some(id(me, "user"))),
            (Relation::Parent, "uts", None),
            (Relation::Owner, "uts", Some(id(child.id(), "user"))),
            (Relation::Owner, "user", Some(id(me, "user"))),
            (Relation::Process, "uts", Some(id(me, "uts"))),
        ] {
            let tree = snapshot.tree(relation);
            let own = id(child.id(), kind);
            let node = tree.nodes.iter().find(|node| node.id == own).unwrap();
            assert_eq!(node.above, above, "{relation:?} {kind}");
        }
    });
}

#[test]
fn watching_tells_what_came_and_went() {
    with_capabilities!({
        let scan = Scan::new().kinds(Namespaces::UTS);
        let mut watch = scan.watch(Duration::from_millis(1)).unwrap();
        let uts = Namespace::<Uts>::create().unwrap();
        let id = uts.id();
        let own = |change: &Change| change.namespace().id == id;
        // Others come and go as well, and one that has gone may have had the number.
        let has_come = |change: &Change| own(change) && matches!(change, Change::Came(_));
        assert!(watch.any(|change| has_come(&change.unwrap())));
        assert!(watch.snapshot().get(id).is_some());
        assert!(!watch.poll().unwrap().iter().any(own));
        drop(uts);
        let went = watch.poll().unwrap();
        // The number may already be another one's, which has come.
        let is_gone = |change: &Change| own(change) && matches!(change, Change::Went(_));
        let went: Vec<_> = went.into_iter().filter(is_gone).collect();
        assert_eq!(went.len(), 1, "{went:?}");
        assert_eq!(went[0].namespace().kind(), Kind::Uts);
    });
}
