//! Propagation types: what the kernel says after they are set, and where mounts then appear.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "common/mount_namespace.rs"]
mod mount_namespace;

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use mount_namespace::{
    SYS_LISTMOUNT, SYS_STATMOUNT, Side, bind, isolated, make_dir, mountinfo, scratch, skip, tmpfs,
    without,
};
use ringfence::ErrorKind;
use ringfence::mount::{Propagation, PropagationState, Recursion, propagation_of, set_propagation};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount};

use Propagation::{Private, Shared, Slave, SlaveShared, Unbindable};

const STATES: [Propagation; 5] = [Shared, Slave, SlaveShared, Private, Unbindable];

/// The optional fields of the topmost mount at this path, as mountinfo has them.
fn tags(path: &Path) -> Option<String> {
    let text = String::from_utf8(mountinfo()).expect("these tests mount nothing odd");
    let fields = |line: &str| {
        let (head, _) = line.split_once(" - ")?;
        let fields: Vec<&str> = head.split(' ').collect();
        (fields[4] == path.to_str()?).then(|| fields[6..].join(" "))
    };
    text.lines().rev().find_map(fields)
}

/// What the kernel's text says, which must be what is read back as a value, in both ways.
#[track_caller]
fn state(path: &Path) -> PropagationState {
    let state = propagation_of(path).expect("the propagation of a mount");
    let old = std::thread::scope(|scope| {
        let old = scope.spawn(|| {
            without(&[SYS_STATMOUNT, SYS_LISTMOUNT]);
            propagation_of(path)
        });
        old.join()
            .expect("no panic")
            .expect("the propagation of a mount without statmount")
    });
    assert_eq!(state, old);
    assert_eq!(Some(state.to_string()), tags(path));
    state
}

fn set(path: &Path, propagation: Propagation) {
    set_propagation(path, propagation, Recursion::MountOnly).expect("a mount point of ours");
}

/// A mount in this state at `mount`, with a peer at `peer` that is, or becomes, its master.
fn mount_in(state: Propagation, base: &Path) -> (PathBuf, PathBuf) {
    let (mount, peer) = (tmpfs(base.join("mount")), base.join("peer"));
    make_dir(mount.join("below"));
    if matches!(state, Private | Unbindable) {
        set(&mount, state);
        make_dir(&peer);
    } else {
        set(&mount, Shared);
        bind(&mount, &peer);
        set(&mount, state);
    }
    (mount, peer)
}

fn unmount_both(mount: &Path, peer: &Path) {
    for path in [mount, peer] {
        while unmount(path, UnmountFlags::DETACH).is_ok() {}
    }
}

/// The state diagram of Documentation/filesystems/sharedsubtree.rst, with a last column for a slave
/// that is then shared.
const TRANSITIONS: [(Propagation, [Propagation; 5]); 5] = [
    (Shared, [Shared, Slave, SlaveShared, Private, Unbindable]),
    (
        Slave,
        [SlaveShared, Slave, SlaveShared, Private, Unbindable],
    ),
    (
        SlaveShared,
        [SlaveShared, Slave, SlaveShared, Private, Unbindable],
    ),
    (Private, [Shared, Private, Shared, Private, Unbindable]),
    (
        Unbindable,
        [Shared, Unbindable, Shared, Private, Unbindable],
    ),
];

fn assert_transitions() {
    let base = scratch();
    for (before, row) in TRANSITIONS {
        for (set_to, expected) in STATES.into_iter().zip(row) {
            let (mount, peer) = mount_in(before, &base);
            assert_eq!(state(&mount).propagation(), before);
            set(&mount, set_to);
            let after = state(&mount);
            assert_eq!(after.propagation(), expected, "{before} set to {set_to}");
            let is_slave = matches!(expected, Slave | SlaveShared);
            let master = is_slave.then(|| state(&peer).peer_group().expect("the peer is shared"));
            assert_eq!(after.master(), master, "{before} set to {set_to}");
            unmount_both(&mount, &peer);
        }
    }
    // Alone in its group, a shared mount has nobody to be a slave of.
    let alone = tmpfs(base.join("alone"));
    set(&alone, Shared);
    set(&alone, Slave);
    assert_eq!(state(&alone).propagation(), Private);
}

#[test]
fn transitions_are_those_of_the_kernels_documentation() {
    isolated(
        "transitions_are_those_of_the_kernels_documentation",
        assert_transitions,
    );
}

#[test]
fn transitions_are_the_same_by_mount() {
    isolated("transitions_are_the_same_by_mount", || {
        without(&[libc::SYS_mount_setattr]);
        assert_transitions();
    });
}

/// Where a mount made below the first appears, if the copy of that in another namespace, or the copy's
/// copy, is of the other type.
struct Expected {
    copy: Propagation,
    down: bool,
    up: bool,
    from_master: bool,
}

/// A copy for a new namespace is a peer of a shared mount, and has the master of a slave. `copied` is its
/// type before it is given another.
fn expected(before: Propagation, copied: Propagation, after: Propagation) -> Expected {
    let none = |copy| Expected {
        copy,
        down: false,
        up: false,
        from_master: false,
    };
    match (before, after) {
        (Shared, Shared) => Expected {
            down: true,
            up: true,
            ..none(Shared)
        },
        (Shared, Slave) => Expected {
            down: true,
            ..none(Slave)
        },
        (Slave, Shared) => Expected {
            from_master: true,
            ..none(SlaveShared)
        },
        (Slave, Slave) => Expected {
            from_master: true,
            ..none(Slave)
        },
        (Private, Slave) => none(Private),
        // Documented to stay unbindable, as it does on 5.10 to 6.12 and on 7.2; 6.18 makes it private.
        (Unbindable, Slave) => none(copied),
        (_, after) => none(after),
    }
}

/// Mounts, and says whether that appeared at the other path as well.
fn appears(side: &Side, mount_here: bool, at: &Path, elsewhere: &Path) -> bool {
    let (at, elsewhere) = (at.to_owned(), elsewhere.to_owned());
    if mount_here {
        tmpfs(&at);
        side.run(move || tags(&elsewhere)).is_some()
    } else {
        side.run(move || tmpfs(&at));
        tags(&elsewhere).is_some()
    }
}

/// All four types before the other namespace is made, by all four that the copy is given there.
#[test]
fn sixteen_combinations_seen_from_both_sides() {
    isolated("sixteen_combinations_seen_from_both_sides", || {
        let base = scratch();
        for before in [Shared, Slave, Private, Unbindable] {
            for after in [Shared, Slave, Private, Unbindable] {
                let what = format!("{before} here, copy set to {after}");
                let (mount, master) = mount_in(before, &base);
                for name in ["down", "up", "master"] {
                    make_dir(mount.join(name));
                }
                let here = state(&mount);

                let side = Side::new();
                let copy = mount.clone();
                let (copied, there) = side.run(move || {
                    let copied = state(&copy).propagation();
                    set(&copy, after);
                    (copied, state(&copy))
                });
                assert!(
                    copied == before || (before, copied) == (Unbindable, Private),
                    "{what}"
                );
                let expected = expected(before, copied, after);
                assert_eq!(there.propagation(), expected.copy, "{what}");
                assert_eq!(state(&mount), here, "{what}: this side is left alone");
                match (before, after) {
                    (Shared, Shared) => assert_eq!(there.peer_group(), here.peer_group()),
                    (Shared, Slave) => assert_eq!(there.master(), here.peer_group()),
                    (Slave, Shared | Slave) => assert_eq!(there.master(), here.master()),
                    _ => assert_eq!(there.master(), None, "{what}"),
                }

                let (down, up) = (mount.join("down"), mount.join("up"));
                assert_eq!(
                    appears(&side, true, &down, &down),
                    expected.down,
                    "{what}: down"
                );
                assert_eq!(appears(&side, false, &up, &up), expected.up, "{what}: up");
                if before == Slave {
                    let at = master.join("master");
                    let below = mount.join("master");
                    let seen = appears(&side, true, &at, &below);
                    assert_eq!(seen, expected.from_master, "{what}: from the master");
                    assert!(tags(&below).is_some(), "{what}: the slave here still takes");
                }
                drop(side);
                unmount_both(&mount, &master);
            }
        }
    });
}

fn assert_recursion() {
    let base = scratch();
    let top = tmpfs(base.join("top"));
    let middle = tmpfs(top.join("middle"));
    let bottom = tmpfs(middle.join("bottom"));
    let all = || [&top, &middle, &bottom].map(|path| state(path).propagation());
    set_propagation(&top, Shared, Recursion::MountOnly).unwrap();
    assert_eq!(all(), [Shared, Private, Private]);
    set_propagation(&middle, Unbindable, Recursion::Tree).unwrap();
    assert_eq!(all(), [Shared, Unbindable, Unbindable]);
    set_propagation(&top, Shared, Recursion::Tree).unwrap();
    assert_eq!(all(), [Shared, Shared, Shared]);

    let side = Side::new();
    let there = side.run(move || {
        set_propagation(&top, SlaveShared, Recursion::Tree).unwrap();
        [top, middle, bottom].map(|path| state(&path).propagation())
    });
    assert_eq!(there, [SlaveShared; 3]);
}

#[test]
fn a_tree_is_changed_as_a_whole() {
    isolated("a_tree_is_changed_as_a_whole", assert_recursion);
}

#[test]
fn a_tree_is_changed_as_a_whole_by_mount() {
    isolated("a_tree_is_changed_as_a_whole_by_mount", || {
        without(&[libc::SYS_mount_setattr]);
        assert_recursion();
    });
}

#[test]
fn the_state_is_that_of_the_mount_below_the_path() {
    isolated("the_state_is_that_of_the_mount_below_the_path", || {
        let base = scratch();
        let mount = tmpfs(base.join("mount"));
        set(&mount, Shared);
        let inside = make_dir(mount.join("a/b"));
        let link = base.join("link");
        std::os::unix::fs::symlink(&inside, &link).unwrap();
        assert_eq!(propagation_of(&inside).unwrap(), state(&mount));
        assert_eq!(propagation_of(&link).unwrap(), state(&mount));
        set(&tmpfs(&mount), Unbindable);
        assert_eq!(propagation_of(&mount).unwrap().propagation(), Unbindable);
    });
}

#[test]
fn what_cannot_be_set_or_read_is_an_error() {
    isolated("what_cannot_be_set_or_read_is_an_error", || {
        let base = scratch();
        let plain = make_dir(base.join("plain"));
        let missing = base.join("missing");
        let attempt = || {
            let error = set_propagation(&plain, Private, Recursion::MountOnly).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "no mount point");
            let error = set_propagation(&missing, Private, Recursion::Tree).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        };
        attempt();
        std::thread::scope(|scope| {
            let by_mount = scope.spawn(|| {
                without(&[libc::SYS_mount_setattr]);
                attempt();
            });
            by_mount.join().expect("no panic");
        });
        assert_eq!(
            propagation_of(&missing).unwrap_err().kind(),
            ErrorKind::NotFound
        );

        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let detached = open_tree(CWD, &base, clone).unwrap();
        let error = propagation_of(format!("/proc/self/fd/{}", detached.as_raw_fd())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn types_are_written_as_findmnt_writes_them() {
    isolated("types_are_written_as_findmnt_writes_them", || {
        let name = "types_are_written_as_findmnt_writes_them";
        let base = scratch();
        for propagation in STATES {
            let (mount, peer) = mount_in(propagation, &base);
            let mut findmnt = Command::new("findmnt");
            let output = match findmnt
                .args(["-n", "-o", "PROPAGATION"])
                .arg(&mount)
                .output()
            {
                Ok(output) => output,
                Err(error) => return skip(name, "findmnt", &error),
            };
            let theirs = String::from_utf8(output.stdout).unwrap();
            assert_eq!(theirs.trim_end(), propagation.to_string());
            unmount_both(&mount, &peer);
        }
    });
}
