//! New namespaces, and nothing beside them.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use ringfence::ns::{Namespace, Net, Pid, Time, User};
use ringfence::{
    AnyNamespace, Engine, ErrorKind, Extent, IdMap, Kind, NamespaceSet, Rootfs, Sandbox,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::AsFd;

use crate::raw;
use crate::support::is_privileged;

use super::{census, create, kinds, link, with_capabilities};
use crate::common::leaks::assert_same;
use crate::common::{
    in_forked_child, isolated, isolated_as_both, isolated_as_user, probe, require, seccomp,
};

#[test]
fn every_kind_without_a_trace() {
    with_capabilities!({
        for kind in kinds() {
            drop(create(kind).unwrap_or_else(|error| panic!("{error:?}")));
        }
        let before = census();
        for kind in kinds() {
            let namespace = create(kind).unwrap();
            assert_eq!(namespace.kind(), kind);
            assert_ne!(namespace.to_string(), link("self", kind));
            // The first process comes with its pidfd, a socket, its program and /dev/null.
            let after = census();
            assert_eq!(
                after.section("fds").len(),
                before.section("fds").len() + if kind == Kind::Pid { 5 } else { 1 },
                "{:?}",
                after.section("fds")
            );
            let processes = usize::from(kind == Kind::Pid);
            assert_eq!(
                after.section("children").len(),
                before.section("children").len() + processes
            );
            let left = ["fds", "children"];
            assert_same(&before.clone().without(&left), &after.without(&left));
            drop(namespace);
            assert_same(&before, &census());
        }
    });
}

#[test]
fn the_process_of_a_pid_namespace_lives_as_long_as_its_handles() {
    with_capabilities!({
        let pid = Namespace::<Pid>::create().unwrap();
        let children = || {
            let own = rustix::process::getpid().as_raw_pid();
            let ids = probe::children(own)
                .into_iter()
                .map(|child| child.pid.cast_unsigned());
            ids.collect::<Vec<_>>()
        };
        let [first] = children().try_into().unwrap();
        assert_eq!(link(first, Kind::Pid), pid.to_string());
        assert_eq!(pid.pid_outside(1).unwrap(), Some(first));
        assert_eq!(pid.pid_inside(first).unwrap(), Some(1));
        let clone = AnyNamespace::from(pid.try_clone().unwrap());
        drop(pid);
        assert_eq!(children(), [first]);
        drop(clone);
        assert_eq!(children(), []);
    });
}

#[test]
fn namespaces_of_a_user_without_privilege() {
    isolated_as_user(|| {
        require!(userns);
        let error = Namespace::<Net>::create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.hint().unwrap().contains("NamespaceSet::create"));

        let before = census();
        let set = NamespaceSet::create(&Sandbox::new().all().user_map(IdMap::root())).unwrap();
        let user = set.user.as_ref().unwrap();
        for kind in kinds() {
            let namespace = set.get(kind).unwrap();
            assert_ne!(namespace.to_string(), link("self", kind));
            if kind != Kind::User {
                assert_eq!(namespace.user_namespace().unwrap(), *user);
            }
        }
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(user.owner_uid().unwrap(), uid);
        // The first process of the pid namespace is in the user namespace.
        let extent = |outside| Extent {
            inside: 0,
            outside,
            count: 1,
        };
        assert_eq!(user.uid_map().unwrap(), [extent(uid)]);
        let gid = rustix::process::getegid().as_raw();
        assert_eq!(user.gid_map().unwrap(), [extent(gid)]);
        drop(set);
        assert_same(&before, &census());

        let only = NamespaceSet::create(&Sandbox::new().user().uts()).unwrap();
        assert_eq!(only.iter().count(), 2);
    });
}

#[test]
fn a_user_namespace_has_its_map() {
    isolated_as_both(|| {
        require!(userns);
        let user = Namespace::<User>::create_with_map(IdMap::single(7)).unwrap();
        let error = user.uid_map().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "nobody is in it");
        let status = in_forked_child(|| {
            let fd = user.as_fd();
            move_into_link_name_space(fd, Some(LinkNameSpaceType::User)).unwrap();
            assert_eq!(rustix::process::geteuid().as_raw(), 7);
            let own = Namespace::<User>::current().unwrap();
            assert_eq!(own, user);
            // From inside, the maps are relative to the parent.
            assert_eq!(own.uid_map().unwrap()[0].inside, 7);
            0
        });
        assert!(status.success());
    });
}

#[test]
fn a_time_namespace_has_its_offsets() {
    with_capabilities!({
        require!(timens);
        let sandbox = Sandbox::new()
            .time()
            .monotonic_offset(Duration::from_secs(100));
        let set = NamespaceSet::create(&sandbox).unwrap();
        let time = set.time.unwrap();
        let plain = Namespace::<Time>::create().unwrap();
        assert_ne!(time, plain);
        for (namespace, offset) in [(time, "100"), (plain, "0")] {
            let status = in_forked_child(|| {
                let fd = namespace.as_fd();
                move_into_link_name_space(fd, Some(LinkNameSpaceType::Time)).unwrap();
                assert!(namespace.is_current().unwrap());
                let text = fs::read_to_string("/proc/self/timens_offsets").unwrap();
                let line = text.lines().find(|line| line.starts_with("monotonic"));
                assert_eq!(line.unwrap().split_whitespace().nth(1), Some(offset));
                0
            });
            assert!(status.success());
        }
    });
}

#[test]
fn the_loopback_of_a_network_namespace_is_up() {
    with_capabilities!({
        require!(netns);
        let net = Namespace::<Net>::create().unwrap();
        let listener = net.run_in(|| TcpListener::bind("127.0.0.1:80")).unwrap();
        listener.unwrap();
    });
}

#[test]
fn the_other_form_of_the_second_stage_makes_the_same() {
    isolated_as_both(|| {
        require!(userns);
        // As on a system with vm.memfd_noexec.
        seccomp::deny(&[(libc::SYS_execveat, libc::EPERM)]).unwrap();
        let sandbox = Sandbox::new().all().user_map(IdMap::root());
        let first = NamespaceSet::create(&sandbox);
        if !is_privileged() {
            // Nobody without privilege may look into a copy of the caller.
            let error = first.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(error.hint().unwrap().contains("vm.memfd_noexec"));
            let before = census();
            assert!(NamespaceSet::create(&sandbox).is_err());
            return assert_same(&before, &census());
        }
        drop(first.unwrap());
        let before = census();
        let set = NamespaceSet::create(&sandbox).unwrap();
        for kind in kinds() {
            assert_ne!(set.get(kind).unwrap().to_string(), link("self", kind));
        }
        let user = Namespace::<User>::create().unwrap();
        assert_eq!(user.parent().unwrap(), Some(Namespace::current().unwrap()));
        drop((set, user));
        assert_same(&before, &census());
    });
}

#[test]
fn but_for_a_pid_namespace_nothing_is_executed() {
    isolated_as_both(|| {
        require!(userns, netns);
        let nothing = [libc::SYS_execveat, libc::SYS_execve].map(|call| (call, libc::EPERM));
        seccomp::deny(&nothing).unwrap();
        let sandbox = Sandbox::new().user().net().uts().ipc().mount().time();
        let sandbox = sandbox.user_map(IdMap::root()).hostname("box");
        let sandbox = sandbox.rootfs(Rootfs::tmpfs()).dir("/only");
        drop(NamespaceSet::create(&sandbox).unwrap());
        let before = census();
        let set = NamespaceSet::create(&sandbox).unwrap();
        let added = census().section("fds").len() - before.section("fds").len();
        assert_eq!(added, set.iter().count());
        assert_eq!(added, 6);
        let user = set.user.as_ref().unwrap();
        for namespace in set.iter().filter(|one| one.kind() != Kind::User) {
            assert_ne!(namespace.to_string(), link("self", namespace.kind()));
            assert_eq!(namespace.user_namespace().unwrap(), *user);
        }
        let status = in_forked_child(|| {
            for namespace in set.iter() {
                move_into_link_name_space(namespace.as_fd(), None).unwrap();
            }
            let name = rustix::system::uname();
            assert_eq!(name.nodename().to_str(), Ok("box"));
            let names = fs::read_dir("/")
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            assert_eq!(names.collect::<Vec<_>>(), ["only"]);
            assert_eq!(rustix::process::geteuid().as_raw(), 0);
            0
        });
        assert!(status.success());
        drop(set);
        assert_same(&before, &census());
    });
}

#[test]
fn every_engine_makes_the_same() {
    isolated_as_both(|| {
        require!(userns, timens);
        let sandbox = Sandbox::new().user().user_map(IdMap::root()).uts().time();
        let sandbox = sandbox.boottime_offset(Duration::from_secs(100));
        let check = |engine| {
            let sandbox = sandbox.clone().engine(engine);
            drop(NamespaceSet::create(&sandbox).unwrap());
            let before = census();
            let set = NamespaceSet::create(&sandbox).unwrap();
            assert_eq!(set.iter().count(), 3);
            let status = in_forked_child(|| {
                for namespace in set.iter() {
                    move_into_link_name_space(namespace.as_fd(), None).unwrap();
                    assert!(namespace.is_current().unwrap());
                }
                let text = fs::read_to_string("/proc/self/timens_offsets").unwrap();
                assert!(
                    text.lines()
                        .any(|line| line.split_whitespace().eq(["boottime", "100", "0"]))
                );
                0
            });
            assert!(status.success());
            drop(set);
            assert_same(&before, &census());
        };
        let engines = [Engine::Clone3, Engine::Clone, Engine::Fork];
        engines.into_iter().for_each(check);
        // Where another process has to be born into the time namespace.
        raw::pretend_old_kernel();
        [Engine::Auto, Engine::Fork].into_iter().for_each(check);
        // Where the kernel itself reaps the children of this process.
        raw::ignore(libc::SIGCHLD);
        let before = census();
        let set = NamespaceSet::create(&sandbox).unwrap();
        assert_eq!(set.iter().count(), 3);
        drop(set);
        assert_same(&before, &census());
    });
}

#[test]
fn a_map_of_a_range_is_written_by_the_caller() {
    isolated(|| {
        require!(root);
        let map = IdMap::range(0, 100_000, 65_536);
        let user = Namespace::<User>::create_with_map(map).unwrap();
        let before = census();
        let again = Namespace::<User>::create_with_map(IdMap::range(7, 300_000, 5)).unwrap();
        let status = in_forked_child(|| {
            let fd = again.as_fd();
            move_into_link_name_space(fd, Some(LinkNameSpaceType::User)).unwrap();
            let map = fs::read_to_string("/proc/self/uid_map").unwrap();
            let fields: Vec<_> = map.split_whitespace().collect();
            assert_eq!(fields[0], "7");
            assert_eq!(fields[2], "5");
            0
        });
        assert!(status.success());
        drop(again);
        assert_same(&before, &census());
        drop(user);
    });
}

#[test]
fn what_fails_leaves_nothing() {
    with_capabilities!({
        let before = census();
        let sandbox = Sandbox::new().mount().bind("/nonexistent", "/mnt");
        assert!(NamespaceSet::create(&sandbox).is_err());
        let sandbox = Sandbox::new().hostname("needs a uts namespace");
        let error = NamespaceSet::create(&sandbox).unwrap_err();
        assert_eq!(error.setter(), Some("hostname"));
        assert_same(&before, &census());
    });
}
