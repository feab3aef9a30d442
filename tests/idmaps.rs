//! Id maps, as the kernel prints them in /proc/PID.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use ringfence::{Engine, ErrorKind, Extent, IdMap, Sandbox, Setgroups, Step};
use rustix::mount::mount_bind;
use rustix::process::{getegid, geteuid, getgroups};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tempfile::TempDir;

use common::leaks::{Census, assert_same};
use common::{
    isolated, isolated_as_both, isolated_as_user, isolated_as_user_with_subids, probe, require,
};
use support::{ENGINES, Waiting, sh, text_of};

/// The id that stands for all that are not mapped.
const OVERFLOW: u32 = 65534;

fn extent(inside: u32, outside: u32, count: u32) -> Extent {
    Extent {
        inside,
        outside,
        count,
    }
}

/// A map as the kernel holds it: sorted, as it sorts maps of more than five extents.
fn map_of(pid: u32, file: &str) -> Vec<Extent> {
    let mut extents: Vec<_> = text_of(format!("/proc/{pid}/{file}"))
        .lines()
        .map(|line| {
            let numbers: Vec<u32> = line
                .split_whitespace()
                .map(|n| n.parse().unwrap())
                .collect();
            extent(numbers[0], numbers[1], numbers[2])
        })
        .collect();
    extents.sort_by_key(|extent| extent.inside);
    extents
}

/// The effective id of a process, as seen from here.
fn id_of(pid: u32, field: &str) -> u32 {
    let ids = probe::status(pid, field).unwrap();
    let ids: Vec<u32> = ids.split('\t').map(|id| id.parse().unwrap()).collect();
    assert!(ids.iter().all(|&id| id == ids[0]), "{ids:?}");
    ids[0]
}

/// What a map becomes.
struct Expected<'a> {
    users: &'a [Extent],
    groups: &'a [Extent],
    setgroups: &'a str,
    /// Effective ids of the program as seen from here.
    uid: u32,
    gid: u32,
}

#[track_caller]
fn assert_mapped(sandbox: &Sandbox, expected: &Expected<'_>) {
    let child = Waiting::start(sandbox);
    let pid = child.id();
    assert_eq!(map_of(pid, "uid_map"), expected.users);
    assert_eq!(map_of(pid, "gid_map"), expected.groups);
    let setgroups = text_of(format!("/proc/{pid}/setgroups"));
    assert_eq!(setgroups.trim_end(), expected.setgroups);
    assert_eq!(id_of(pid, "Uid"), expected.uid);
    assert_eq!(id_of(pid, "Gid"), expected.gid);
}

#[test]
fn maps_of_the_callers_own_id() {
    isolated_as_both(|| {
        require!(userns);
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let user = || Sandbox::new().user();
        let cases = [
            (user(), uid, gid),
            (user().user_map(IdMap::identity()), uid, gid),
            (user().user_map(IdMap::root()), 0, 0),
            (
                user().user_map(IdMap::single(4_000_000_000)),
                4_000_000_000,
                4_000_000_000,
            ),
            (user().group_map(IdMap::root()), 0, 0),
            (
                user().user_map(IdMap::root()).group_map(IdMap::single(5)),
                0,
                5,
            ),
            // Numbers say nothing about the other kind of id.
            (user().user_map(IdMap::range(7, uid, 1)), 7, gid),
            (user().group_map(extent(9, gid, 1)), uid, 9),
        ];
        for (sandbox, inside_uid, inside_gid) in cases {
            for engine in ENGINES {
                let expected = Expected {
                    users: &[extent(inside_uid, uid, 1)],
                    groups: &[extent(inside_gid, gid, 1)],
                    setgroups: "deny",
                    uid,
                    gid,
                };
                assert_mapped(&sandbox.clone().engine(engine), &expected);
            }
            let ids = sh(&sandbox, "id -u; id -g");
            assert_eq!(ids, format!("{inside_uid}\n{inside_gid}"));
        }
    });
}

#[test]
fn no_map_leaves_the_overflow_id() {
    isolated_as_both(|| {
        require!(userns);
        let sandbox = Sandbox::new().user().user_map(IdMap::none());
        let child = Waiting::start(&sandbox);
        assert_eq!(map_of(child.id(), "uid_map"), []);
        assert_eq!(map_of(child.id(), "gid_map"), []);
        // Nobody has decided on it.
        assert_eq!(
            text_of(format!("/proc/{}/setgroups", child.id())),
            "allow\n"
        );
        let ids = sh(&sandbox, "id -u; id -g");
        assert_eq!(ids, format!("{OVERFLOW}\n{OVERFLOW}"));
    });
}

#[test]
fn one_map_without_the_other() {
    isolated_as_both(|| {
        require!(userns);
        let sandbox = Sandbox::new()
            .user()
            .user_map(IdMap::root())
            .group_map(IdMap::none());
        let ids = sh(&sandbox, "id -u; id -g");
        assert_eq!(ids, format!("0\n{OVERFLOW}"));
    });
}

#[test]
fn root_maps_what_it_likes() {
    isolated(|| {
        require!(root);
        let user = || Sandbox::new().user();
        let range = [extent(0, 100_000, 65_536)];
        let several = [
            extent(0, 0, 1),
            extent(1, 200_000, 10),
            extent(1000, 1000, 1),
            extent(65_534, 65_534, 1),
        ];
        let most: Vec<_> = (0..340).map(|i| extent(i * 2, i * 2, 2)).collect();
        let everything = [extent(0, 0, u32::MAX)];
        let cases = [
            // The ids of a caller that is not mapped are no use, so 0 is taken on.
            (range.as_slice(), IdMap::from(range), 100_000),
            (several.as_slice(), IdMap::from(several), 0),
            (most.as_slice(), most.iter().copied().collect(), 0),
            (everything.as_slice(), IdMap::all(), 0),
        ];
        for (extents, map, id) in cases {
            for engine in ENGINES {
                let expected = Expected {
                    users: extents,
                    groups: extents,
                    setgroups: "deny",
                    uid: id,
                    gid: id,
                };
                let sandbox = user().user_map(map.clone()).group_map(map.clone());
                assert_mapped(&sandbox.clone().engine(engine), &expected);
                let expected = Expected {
                    setgroups: "allow",
                    ..expected
                };
                let sandbox = sandbox.setgroups(Setgroups::Allow).engine(engine);
                assert_mapped(&sandbox, &expected);
            }
        }
    });
}

#[test]
fn a_range_gives_the_program_its_ids() {
    isolated(|| {
        require!(root);
        let map = IdMap::range(0, 100_000, 1000);
        let sandbox = Sandbox::new()
            .user()
            .user_map(map.clone())
            .group_map(map)
            .setgroups(Setgroups::Allow);
        for engine in ENGINES {
            let command = Waiting::command(&sandbox.clone().engine(engine))
                .uid(7)
                .gid(8)
                .groups([9, 10]);
            let child = Waiting::of(command);
            assert_eq!(id_of(child.id(), "Uid"), 100_007);
            assert_eq!(id_of(child.id(), "Gid"), 100_008);
            let groups = probe::status(child.id(), "Groups").unwrap();
            assert_eq!(groups.trim(), "100009 100010");
        }
    });
}

/// `uid` alone must not leave the caller's groups to the program.
#[test]
fn a_change_of_the_user_drops_the_groups() {
    isolated(|| {
        require!(root);
        let groups = [0, 4, 5].map(rustix::process::Gid::from_raw);
        rustix::thread::set_thread_groups(&groups).unwrap();
        for sandbox in [
            Sandbox::new(),
            Sandbox::new()
                .user()
                .user_map(IdMap::all())
                .group_map(IdMap::all())
                .setgroups(Setgroups::Allow),
        ] {
            let child = Waiting::of(Waiting::command(&sandbox).uid(1000));
            assert_eq!(probe::status(child.id(), "Groups").unwrap(), "");
            let child = Waiting::start(&sandbox);
            assert_eq!(probe::status(child.id(), "Groups").unwrap(), "0 4 5");
        }
        assert_eq!(getgroups().unwrap(), groups);
    });
}

#[test]
fn the_callers_state_is_as_it_was() {
    isolated_as_both(|| {
        require!(userns);
        let own = Sandbox::new().user().user_map(IdMap::root());
        let others = Sandbox::new().user().user_map(IdMap::range(0, 100_000, 10));
        let spawn_both = || {
            sh(&own, "true");
            // The unprivileged caller may not; what fails leaves nothing either.
            let _ = others.clone().command("true").output();
        };
        spawn_both();
        let before = Census::take();
        spawn_both();
        assert_same(&before, &Census::take());
    });
}

/// Mounts a copy of a file of /etc with other contents over it, in this mount namespace.
fn replace(path: &str, text: &str) {
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join("copy");
    fs::write(&copy, text).unwrap();
    mount_bind(&copy, path).unwrap();
}

#[test]
fn roots_allotment_by_name_and_by_number() {
    isolated(|| {
        require!(root);
        if !["/etc/subuid", "/etc/subgid"]
            .iter()
            .all(|file| Path::new(file).exists())
        {
            let test = common::test_name!();
            return require::missing(test, "subuid", "no /etc/subuid and /etc/subgid to replace");
        }
        replace(
            "/etc/subuid",
            "other:1:2\nroot:100000:10\n# 0:5:5\n0:200000:5\n",
        );
        replace("/etc/subgid", "0:300000:7\nother:1:2\n");
        let sandbox = Sandbox::new().user().user_map(IdMap::subids());
        let expected = Expected {
            users: &[
                extent(0, 0, 1),
                extent(1, 100_000, 10),
                extent(11, 200_000, 5),
            ],
            groups: &[extent(0, 0, 1), extent(1, 300_000, 7)],
            setgroups: "deny",
            uid: 0,
            gid: 0,
        };
        assert_mapped(&sandbox, &expected);
    });
}

#[test]
fn a_users_allotment_is_mapped_by_the_helpers() {
    isolated_as_user_with_subids(|| {
        require!(userns, subuid);
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let subids = require::subids().unwrap();
        let users = [extent(0, uid, 1), extent(1, subids.uid.0, subids.uid.1)];
        let groups = [extent(0, gid, 1), extent(1, subids.gid.0, subids.gid.1)];
        for engine in ENGINES {
            for setgroups in [Setgroups::Deny, Setgroups::Allow] {
                let sandbox = Sandbox::new()
                    .user()
                    .user_map(IdMap::subids())
                    .setgroups(setgroups)
                    .engine(engine);
                let expected = Expected {
                    users: &users,
                    groups: &groups,
                    setgroups: match setgroups {
                        Setgroups::Deny => "deny",
                        Setgroups::Allow => "allow",
                    },
                    uid,
                    gid,
                };
                assert_mapped(&sandbox, &expected);
            }
        }
    });
}

/// One extent that is not the caller's own id needs the helpers as well, and so do ids in pieces.
#[test]
fn a_part_of_a_users_allotment() {
    isolated_as_user_with_subids(|| {
        require!(userns, subuid);
        let first = require::subids().unwrap();
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let alone = IdMap::range(0, first.uid.0, 100);
        let pieces = IdMap::from([
            extent(0, first.uid.0 + 1, 4),
            extent(4, uid, 1),
            extent(5, first.uid.0 + 10, 6),
        ]);
        let sandbox = Sandbox::new()
            .user()
            .user_map(alone)
            .group_map(IdMap::range(0, first.gid.0, 100));
        let expected = Expected {
            users: &[extent(0, first.uid.0, 100)],
            groups: &[extent(0, first.gid.0, 100)],
            setgroups: "deny",
            uid: first.uid.0,
            gid: first.gid.0,
        };
        assert_mapped(&sandbox, &expected);
        let sandbox = Sandbox::new().user().user_map(pieces);
        let expected = Expected {
            users: &[
                extent(0, first.uid.0 + 1, 4),
                extent(4, uid, 1),
                extent(5, first.uid.0 + 10, 6),
            ],
            groups: &[extent(gid, gid, 1)],
            setgroups: "deny",
            uid,
            gid,
        };
        assert_mapped(&sandbox, &expected);
        let ids = sh(&sandbox, "id -u");
        assert_eq!(ids, "4");
    });
}

#[test]
fn a_user_without_an_allotment_is_told() {
    isolated_as_user(|| {
        require!(userns);
        if require::subids().is_ok() {
            let test = common::test_name!();
            return require::missing(test, "no_subuid", "the user has subordinate ids");
        }
        let before = Census::take();
        let sandbox = Sandbox::new().user().user_map(IdMap::subids());
        let error = sandbox.command("true").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.step(), Some(Step::Compile));
        let text = error.to_string();
        assert!(
            text.contains("user_map: /etc/subuid allots no ids"),
            "{error:?}"
        );
        for word in ["usermod --add-subuids", ":100000:65536", "IdMap::root()"] {
            assert!(error.hint().unwrap().contains(word), "{error:?}");
        }
        assert_same(&before, &Census::take());
    });
}

#[test]
fn ids_of_others_are_refused_to_a_user() {
    isolated_as_user(|| {
        require!(userns, program("newuidmap"));
        for map in [
            IdMap::range(0, 0, 1),
            IdMap::range(0, geteuid().as_raw(), 2),
            IdMap::range(0, 5, 10),
        ] {
            for engine in [Engine::Auto, Engine::Fork] {
                let sandbox = Sandbox::new().user().user_map(map.clone()).engine(engine);
                let error = sandbox.command("true").spawn().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
                assert_eq!(error.step(), Some(Step::IdMap), "{error:?}");
                assert!(error.hint().unwrap().contains("/etc/subuid"), "{error:?}");
            }
        }
    });
}

#[test]
fn a_user_may_not_allow_setgroups_on_its_own_group() {
    isolated_as_user(|| {
        let sandbox = Sandbox::new().user().setgroups(Setgroups::Allow);
        let error = sandbox.command("true").compile().unwrap_err();
        assert_eq!(error.setter(), Some("setgroups"));
    });
}

#[test]
fn setgroups_is_denied_inside() {
    isolated_as_both(|| {
        require!(userns);
        let sandbox = Sandbox::new().user().user_map(IdMap::root());
        let child = Waiting::start(&sandbox);
        assert_eq!(text_of(format!("/proc/{}/setgroups", child.id())), "deny\n");
        let error = sandbox.command("true").groups([0]).compile().unwrap_err();
        assert_eq!(error.setter(), Some("groups"));
    });
}

#[test]
fn a_caller_that_ignores_the_end_of_children_gets_its_subordinate_ids() {
    isolated_as_user_with_subids(|| {
        require!(userns, subuid, program("newuidmap"));
        support::signal::ignore(libc::SIGCHLD);
        let sandbox = Sandbox::new().user().user_map(IdMap::subids());
        let child = Waiting::start(&sandbox);
        assert_eq!(map_of(child.id(), "uid_map").len(), 2);
        assert_eq!(map_of(child.id(), "gid_map").len(), 2);
        std::mem::forget(child);
    });
}

/// Whoever set a limit to the set-up does not wait for another program beyond it.
#[test]
fn a_helper_that_hangs_is_ended() {
    isolated(|| {
        require!(root, program("newuidmap"));
        let dir = TempDir::new().unwrap();
        let helper = dir.path().join("newuidmap");
        // Sleeps for as many seconds as all its arguments together, which is longer than a test may take.
        fs::copy("/bin/sleep", &helper).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o4755)).unwrap();
        mount_bind(&helper, "/usr/bin/newuidmap").unwrap();
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::SETUID);
        set_capabilities(None, sets).unwrap();
        for engine in [Engine::Auto, Engine::Fork] {
            let error = Sandbox::new()
                .engine(engine)
                .user()
                .user_map(IdMap::range(0, 100_000, 10))
                .command("true")
                .setup_timeout(Duration::from_millis(200))
                .spawn()
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
            assert_eq!(error.step(), Some(Step::IdMap), "{error:?}");
        }
    });
}
