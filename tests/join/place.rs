//! Root, working directory and cgroup of a program that joins.

use std::fs;

use ringfence::ns::{Mount, Namespace, User};
use ringfence::{IdMap, JoinDir, Sandbox};

use super::{stage, target};
use crate::common::{isolated, isolated_as_both, require};
use crate::seen::cgroup::Cgroup;
use crate::support::{Waiting, sh, with_programs};

fn link(pid: u32, name: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
    link.into_os_string().into_string().unwrap()
}

fn identity(pid: impl std::fmt::Display, name: &str) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let file = fs::metadata(format!("/proc/{pid}/{name}")).unwrap();
    (file.dev(), file.ino())
}

/// A process with a root of its own, in /tmp there.
fn contained() -> Waiting {
    let sandbox = with_programs(Sandbox::new().user().user_map(IdMap::root()))
        .dir("/tmp")
        .file("/marked", "yes");
    Waiting::of(Waiting::command(&sandbox).current_dir("/tmp"))
}

#[test]
fn the_root_of_a_joined_mount_namespace() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = contained();
        let sandbox = Sandbox::new().join_all(target.id());
        let joined = Waiting::start(&sandbox);
        assert_eq!(identity(joined.id(), "root"), identity(target.id(), "root"));
        assert_eq!(link(joined.id(), "cwd"), "/");
        assert_eq!(sh(&sandbox, "pwd; cat /marked"), "/\nyes");
        let command = sandbox.clone().command("/bin/cat").current_dir("/tmp");
        let joined = Waiting::of(command);
        assert_eq!(identity(joined.id(), "cwd"), identity(target.id(), "cwd"));
        // As the target's.
        let follow = sandbox.clone().join_dir(JoinDir::of(target.id()));
        let joined = Waiting::start(&follow);
        assert_eq!(identity(joined.id(), "cwd"), identity(target.id(), "cwd"));
    });
}

/// The root of a process need not be that of its mount namespace.
#[test]
fn the_root_of_a_process() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let sandbox = Sandbox::new()
            .join(Namespace::<Mount>::of_pid(target.id()).unwrap())
            .join(Namespace::<User>::of_pid(target.id()).unwrap());
        let inner = contained();
        let of_inner = Sandbox::new()
            .join(Namespace::<User>::of_pid(inner.id()).unwrap())
            .join_root(JoinDir::of(inner.id()));
        let joined = Waiting::start(&of_inner);
        assert_eq!(identity(joined.id(), "root"), identity(inner.id(), "root"));
        assert_eq!(identity(joined.id(), "cwd"), identity(inner.id(), "root"));
        // The caller's, where a mount namespace is joined.
        let dir = tempfile::tempdir().unwrap();
        let sandbox = sandbox.join_dir(dir.path());
        let joined = Waiting::start(&sandbox);
        assert_eq!(
            identity(joined.id(), "cwd"),
            identity("self", &format!("root{}", dir.path().display()))
        );
    });
}

#[test]
fn the_cgroup_of_a_process() {
    isolated(|| {
        require!(cgroup2);
        stage!();
        let cgroup = Cgroup::new();
        let target = Waiting::start(&Sandbox::new().into_cgroup(cgroup.path()));
        let of = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            text.lines()
                .find(|line| line.starts_with("0::"))
                .unwrap()
                .to_owned()
        };
        let plain = Waiting::start(&Sandbox::new());
        assert_ne!(of(plain.id()), of(target.id()));
        for sandbox in [Sandbox::new(), Sandbox::new().pid().user()] {
            let joined = Waiting::start(&sandbox.join_cgroup(target.id()));
            assert_eq!(of(joined.id()), of(target.id()));
        }
        let other = super::target();
        let both = Sandbox::new().join_all(other.id()).join_cgroup(&*target);
        let joined = Waiting::start(&both);
        assert_eq!(of(joined.id()), of(target.id()));
    });
}
