//! However the child is made, the program finds itself in the same state.
#![allow(
    clippy::unwrap_used,
    reason = "what goes wrong in a test fails the test"
)]

mod common;
mod raw;
mod seen;

use std::time::Duration;

use common::{isolated, isolated_as_both, isolated_as_user_with_subids, probe, require, seccomp};
use ringfence::{Command, Engine, ErrorKind, IdMap, Sandbox, Setgroups, TimeOffset};
use seen::cgroup::Cgroup;
use seen::{everything, looker, many_ids, minimal, seen};

/// What the program sees with each engine, and with the default where clone3 is missing.
fn same_by_every_engine(
    make: impl Fn(Sandbox) -> Command,
    sandbox: impl Fn() -> Sandbox,
) -> Vec<String> {
    let with = |engine| seen(make(sandbox().engine(engine)).spawn().unwrap());
    let by_clone3 = with(Engine::Clone3);
    for engine in [Engine::Auto, Engine::Clone, Engine::Fork] {
        assert_eq!(with(engine), by_clone3, "{engine:?}");
    }
    let status = common::in_forked_child(|| {
        seccomp::deny(&[(libc::SYS_clone3, libc::ENOSYS)]).unwrap();
        let error = make(sandbox().engine(Engine::Clone3))
            .compile()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        for engine in [Engine::Auto, Engine::Clone, Engine::Fork] {
            // The filter shows, of course.
            let is_other = |line: &String| {
                !["Seccomp", "NoNewPrivs"]
                    .iter()
                    .any(|name| line.starts_with(name))
            };
            let but_for_filter =
                |lines: Vec<String>| lines.into_iter().filter(is_other).collect::<Vec<_>>();
            let found = but_for_filter(with(engine));
            assert_eq!(
                found,
                but_for_filter(by_clone3.clone()),
                "{engine:?} without clone3"
            );
        }
        0
    });
    assert!(status.success(), "{status}");
    by_clone3
}

fn new_kinds(lines: &[String]) -> usize {
    lines.iter().filter(|line| line.ends_with(": new")).count()
}

#[test]
fn of_nothing() {
    isolated_as_both(|| {
        let lines = same_by_every_engine(looker, Sandbox::new);
        assert_eq!(new_kinds(&lines), 0);
    });
}

#[test]
fn of_each_namespace_alone() {
    isolated_as_both(|| {
        require!(userns, netns, timens);
        let user = || Sandbox::new().user().user_map(IdMap::root());
        let sandboxes: [fn(Sandbox) -> Sandbox; 7] = [
            Sandbox::pid,
            Sandbox::mount,
            Sandbox::net,
            Sandbox::uts,
            Sandbox::ipc,
            Sandbox::cgroup,
            Sandbox::time,
        ];
        assert_eq!(new_kinds(&same_by_every_engine(looker, user)), 1);
        for add in sandboxes {
            assert_eq!(new_kinds(&same_by_every_engine(looker, || add(user()))), 2);
        }
    });
}

#[test]
fn of_all_namespaces_and_a_root() {
    isolated_as_both(|| {
        require!(userns, netns, timens, new_proc);
        let make = |sandbox| {
            looker(sandbox)
                .umask(0o27)
                .current_dir("/tmp")
                .new_session()
        };
        let lines = same_by_every_engine(make, everything);
        assert_eq!(new_kinds(&lines), 8);
    });
}

#[test]
fn of_negative_offsets() {
    isolated_as_both(|| {
        require!(userns, timens);
        let offset = TimeOffset::behind(Duration::from_millis(1500));
        let user = || Sandbox::new().user().user_map(IdMap::root()).time();
        let lines = same_by_every_engine(looker, || user().monotonic_offset(offset));
        let is_offset =
            |line: &String| line.split_whitespace().eq(["monotonic", "-2", "500000000"]);
        assert!(lines.iter().any(is_offset), "{lines:?}");
    });
}

#[test]
fn of_namespaces_without_a_user_namespace() {
    isolated(|| {
        require!(root, netns, timens);
        let kinds = || Sandbox::new().pid().net().uts().ipc().cgroup().time();
        let lines = same_by_every_engine(looker, || minimal(kinds().hostname("box")));
        assert_eq!(new_kinds(&lines), 7);
    });
}

#[test]
fn of_ids() {
    isolated(|| {
        require!(root, userns);
        let ids = |sandbox| looker(sandbox).uid(5).gid(6);
        same_by_every_engine(ids, many_ids);
        same_by_every_engine(
            |sandbox| looker(sandbox).uid(5).gid(6).groups([7, 8]),
            Sandbox::new,
        );
        let allowing = || many_ids().setgroups(Setgroups::Allow);
        same_by_every_engine(|sandbox| ids(sandbox).groups([7, 8]), allowing);
        // Not even the caller's own ids exist inside.
        let foreign = || Sandbox::new().user().user_map(IdMap::range(0, 300_000, 10));
        same_by_every_engine(looker, || foreign().group_map(IdMap::range(0, 300_000, 10)));
    });
}

#[test]
fn of_maps_by_newuidmap() {
    isolated_as_user_with_subids(|| {
        require!(userns, subuid);
        let user = |engine| {
            Sandbox::new()
                .user()
                .user_map(IdMap::subids())
                .engine(engine)
        };
        let with = |engine| seen(looker(user(engine)).uid(1).gid(1).spawn().unwrap());
        let by_clone3 = with(Engine::Clone3);
        for engine in [Engine::Clone, Engine::Fork] {
            assert_eq!(with(engine), by_clone3, "{engine:?}");
        }
    });
}

/// clone cannot make the child in the cgroup; the child moves there, before the cgroup namespace is made.
#[test]
fn of_a_cgroup() {
    isolated(|| {
        require!(cgroup2);
        let cgroup = Cgroup::new();
        let name = cgroup.path().file_name().unwrap().to_str().unwrap();
        let plain = || Sandbox::new().into_cgroup(cgroup.path());
        let lines = same_by_every_engine(looker, plain);
        assert!(lines.iter().any(|line| line.ends_with(name)), "{lines:?}");
        let lines = same_by_every_engine(looker, || plain().cgroup());
        assert_eq!(new_kinds(&lines), 1);
    });
}

#[test]
fn of_a_child_that_dies_with_its_parent() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let user = || minimal(Sandbox::new().user().pid().user_map(IdMap::root()));
        same_by_every_engine(|sandbox| looker(sandbox).die_with_parent(), user);
    });
}

/// Before Linux 6.2 a program enters a new time namespace only if a process is born into it.
#[test]
fn of_a_time_namespace_on_an_older_kernel() {
    isolated_as_both(|| {
        require!(userns, netns, timens, new_proc);
        let commands = |engine| {
            let user = || Sandbox::new().user().user_map(IdMap::root()).engine(engine);
            [
                looker(user().time().boottime_offset(Duration::from_secs(7))),
                looker(everything().engine(engine)).umask(0o27),
                looker(minimal(user().pid().time())).die_with_parent(),
            ]
        };
        let by_vfork = commands(Engine::Auto).map(|command| seen(command.spawn().unwrap()));
        raw::pretend_old_kernel();
        for engine in [Engine::Auto, Engine::Clone, Engine::Fork] {
            for (command, expected) in commands(engine).into_iter().zip(&by_vfork) {
                let plan = command.compile().unwrap();
                assert!(plan.to_string().contains("born into"), "{plan}");
                assert_eq!(seen(plan.spawn().unwrap()), *expected, "{plan}");
            }
        }
        let missing = Sandbox::new().user().time().command("/no/such");
        let error = missing.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error:?}");
        assert_eq!(probe::children(rustix::process::getpid().as_raw_pid()), []);
    });
}
