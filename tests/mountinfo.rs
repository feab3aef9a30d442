//! `MountTable` against the kernel: its text, its tree and its path lookups.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "common/mount_namespace.rs"]
mod mount_namespace;
#[path = "common/mountinfo_line.rs"]
mod mountinfo_line;

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mount_namespace::{
    Process, SYS_LISTMOUNT, SYS_STATMOUNT, Side, bind, has_full_statmount, idmap, is_root,
    isolated, make_dir, mountinfo, scratch, skip, tmpfs, unshare, without,
};
use mountinfo_line::{escape, lines};
use ringfence::ErrorKind;
use ringfence::mount::mountinfo::MountTable;
use ringfence::mount::{Propagation, Recursion, set_propagation};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree,
};

/// Fails on the first line that differs, for a message that can be read.
#[track_caller]
fn assert_same_text(table: &MountTable, text: &[u8]) {
    // Older kernels do not escape the number sign.
    let plain = |text: &[u8]| String::from_utf8_lossy(text).replace("\\043", "#");
    let (ours, theirs) = (plain(&lines(table)), plain(text));
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}

/// Asserts that the table is the kernel's text, whichever way it is read.
#[track_caller]
fn assert_tables_agree() {
    let text = mountinfo();
    let table = MountTable::current().expect("the current table");
    let old = refusing(&LISTMOUNT, MountTable::current).expect("the table without listmount");
    assert_same_text(&table, &text);
    assert_same_text(&old, &text);
    assert_eq!(table, old);
    assert_eq!(table, MountTable::parse(&text).expect("the kernel's text"));
}

fn odd_names() -> [&'static OsStr; 12] {
    [
        b"sp ace".as_slice(),
        b"tab\t",
        b"new\nline",
        b"back\\slash",
        b"\\040",
        b"hash#",
        b"comma,equals=",
        b"quote\"",
        b" - ",
        b"\xff\xfenot utf-8",
        "\u{1f5ff}".as_bytes(),
        b"colon:",
    ]
    .map(OsStr::from_bytes)
}

#[test]
fn odd_names_come_back_as_they_are() {
    isolated("odd_names_come_back_as_they_are", || {
        let base = scratch();
        for name in odd_names() {
            let target = make_dir(base.join(name));
            rustix::mount::mount(name, &target, "tmpfs", MountFlags::empty(), None).unwrap();
            let inside = make_dir(target.join(name));
            bind(&inside, base.join("bind").join(name));

            let table = MountTable::current().unwrap();
            let mount = table.mount_over(&target).unwrap();
            assert_eq!((mount.target(), mount.source()), (target.as_path(), name));
            let bound = table.mount_over(base.join("bind").join(name)).unwrap();
            assert_eq!(bound.root(), Path::new("/").join(name));
        }
        let target = make_dir(base.join("no source"));
        rustix::mount::mount("", &target, "tmpfs", MountFlags::empty(), None).unwrap();
        assert_eq!(
            MountTable::current()
                .unwrap()
                .mount_over(&target)
                .unwrap()
                .source(),
            ""
        );
        assert_tables_agree();
    });
}

#[test]
fn options_of_mounts_and_file_systems() {
    isolated("options_of_mounts_and_file_systems", || {
        let base = scratch();
        let flags = [
            ("nosuid", MountFlags::NOSUID),
            ("nodev", MountFlags::NODEV),
            ("noexec", MountFlags::NOEXEC),
            ("noatime", MountFlags::NOATIME),
            ("nodiratime", MountFlags::NODIRATIME),
            ("nosymfollow", MountFlags::from_bits_retain(256)),
            ("relatime", MountFlags::empty()),
        ];
        for (name, flags) in flags {
            let target = make_dir(base.join(name));
            rustix::mount::mount("tmpfs", &target, "tmpfs", flags, c"size=4k").unwrap();
            let table = MountTable::current().unwrap();
            let mount = table.mount_over(&target).unwrap();
            assert!(mount.options().contains(name), "{mount:?}");
            let size = mount.super_options().get("size").unwrap();
            assert_eq!(size.value.as_deref(), Some(OsStr::new("4k")));
        }
        let strict = make_dir(base.join("strict"));
        let flags = MountFlags::STRICTATIME | MountFlags::LAZYTIME | MountFlags::SYNCHRONOUS;
        let flags = flags | MountFlags::DIRSYNC;
        rustix::mount::mount("tmpfs", &strict, "tmpfs", flags, None).unwrap();
        let read_only = tmpfs(base.join("read only"));
        rustix::mount::mount_remount(&read_only, MountFlags::RDONLY, c"").unwrap();
        let read_only_bind = bind(&strict, base.join("read-only bind"));
        rustix::mount::mount_remount(&read_only_bind, MountFlags::BIND | MountFlags::RDONLY, c"")
            .unwrap();

        let table = MountTable::current().unwrap();
        let mount = table.mount_over(&strict).unwrap();
        assert_eq!(mount.options().as_os_str(), "rw");
        for option in ["rw", "sync", "dirsync", "lazytime"] {
            assert!(mount.super_options().contains(option), "{mount:?}");
        }
        let mount = table.mount_over(&read_only).unwrap();
        assert!(mount.options().contains("rw") || mount.options().contains("ro"));
        assert!(mount.super_options().contains("ro"));
        let mount = table.mount_over(&read_only_bind).unwrap();
        assert!(mount.options().contains("ro") && mount.super_options().contains("rw"));
        assert_tables_agree();
    });
}

/// The one thing that `statmount(2)` does not tell. When it does, this test says so.
#[test]
fn mandatory_locks_are_in_proc_alone() {
    isolated("mandatory_locks_are_in_proc_alone", || {
        let target = make_dir(scratch().join("mand"));
        let flags = MountFlags::PERMIT_MANDATORY_FILE_LOCKING;
        if let Err(error) = rustix::mount::mount("tmpfs", &target, "tmpfs", flags, None) {
            return skip("mandatory_locks_are_in_proc_alone", "mand", &error);
        }
        let has_mand = |table: MountTable| {
            let mount = table.mount_over(&target).unwrap();
            mount.super_options().contains("mand")
        };
        let text = MountTable::parse(&mountinfo()).unwrap();
        if !has_mand(text) {
            return skip(
                "mandatory_locks_are_in_proc_alone",
                "mand",
                &"the kernel drops it",
            );
        }
        assert_eq!(
            has_mand(MountTable::current().unwrap()),
            !has_full_statmount()
        );
    });
}

#[test]
fn file_systems_that_print_their_own_fields() {
    isolated("file_systems_that_print_their_own_fields", || {
        let name = "file_systems_that_print_their_own_fields";
        let base = scratch();

        if let Err(error) = overlays(&base) {
            skip(name, "overlay", &error);
        }

        let namespace_file = base.join("uts");
        fs::write(&namespace_file, "").unwrap();
        rustix::mount::mount_bind("/proc/self/ns/uts", &namespace_file).unwrap();
        let table = MountTable::current().unwrap();
        let root = table.mount_over(&namespace_file).unwrap().root();
        assert_eq!(root, fs::read_link("/proc/self/ns/uts").unwrap());

        let gone = make_dir(base.join("gone"));
        let left = bind(&gone, base.join("left"));
        fs::remove_dir(&gone).unwrap();
        let table = MountTable::current().unwrap();
        assert_eq!(table.mount_over(&left).unwrap().root(), "/gone//deleted");
        assert_tables_agree();

        match mount_fuse(&make_dir(base.join("fuse"))) {
            Ok(_connection) => {
                let table = MountTable::current().unwrap();
                assert_eq!(
                    table.mount_over(base.join("fuse")).unwrap().fs_type(),
                    "fuse.sub#type"
                );
                assert_tables_agree();
            }
            Err(error) => skip(name, "fuse", &error),
        }
    });
}

fn overlays(base: &Path) -> io::Result<()> {
    let second = make_dir(base.join("second"));
    for name in odd_names() {
        // A colon would end the layer, and options are text.
        let Some(name) = name.to_str().filter(|name| !name.contains(':')) else {
            continue;
        };
        let layer = make_dir(base.join("layers").join(name));
        let layer = layer
            .to_str()
            .unwrap()
            .replace('\\', "\\\\")
            .replace(',', "\\,");
        let data = CString::new(format!("lowerdir={layer}:{}", second.display()))?;
        let target = make_dir(base.join("overlays").join(name));
        rustix::mount::mount("overlay", &target, "overlay", MountFlags::empty(), &*data)?;
    }
    Ok(())
}

/// A file system with a subtype; it needs nobody to serve it until it is looked into.
fn mount_fuse(target: &Path) -> io::Result<File> {
    let connection = File::options().read(true).write(true).open("/dev/fuse")?;
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        connection.as_raw_fd()
    );
    let data = CString::new(data)?;
    rustix::mount::mount(
        "served",
        target,
        "fuse.sub#type",
        MountFlags::empty(),
        &*data,
    )?;
    Ok(connection)
}

#[test]
fn an_idmapped_mount_says_so() {
    isolated("an_idmapped_mount_says_so", || {
        let name = "an_idmapped_mount_says_so";
        if !is_root() {
            return;
        }
        let base = scratch();
        let owner = Process::start(libc::CLONE_NEWUSER).unwrap();
        let owner = File::open(format!("/proc/{}/ns/user", owner.id())).unwrap();
        let from = tmpfs(base.join("from"));
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, &from, clone).unwrap();
        if let Err(error) = idmap(tree.as_fd(), owner.as_fd()) {
            return skip(name, "idmap", &error);
        }
        let to = make_dir(base.join("to"));
        move_mount(&tree, "", CWD, &to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
        let table = MountTable::current().unwrap();
        assert!(
            table
                .mount_over(&to)
                .unwrap()
                .options()
                .contains("idmapped")
        );
        assert_tables_agree();
    });
}

#[test]
fn propagation_is_the_same_from_both() {
    isolated("propagation_is_the_same_from_both", || {
        propagation_chain(&scratch());
        assert_tables_agree();
    });
}

/// The example of mount_namespaces(7): `top` is the master of `middle`, and that of `top/below`.
fn propagation_chain(base: &Path) -> PathBuf {
    let top = tmpfs(base.join("top"));
    make_dir(top.join("part"));
    set_propagation(&top, Propagation::Shared, Recursion::MountOnly).unwrap();
    let middle = bind(&top.join("part"), base.join("middle"));
    set_propagation(&middle, Propagation::SlaveShared, Recursion::MountOnly).unwrap();
    let below = bind(&middle, top.join("below"));
    set_propagation(&below, Propagation::Slave, Recursion::MountOnly).unwrap();
    let unbindable = tmpfs(base.join("unbindable"));
    set_propagation(&unbindable, Propagation::Unbindable, Recursion::MountOnly).unwrap();
    top
}

#[test]
fn a_changed_root_directory() {
    isolated("a_changed_root_directory", || {
        let base = scratch();
        let top = propagation_chain(&base);
        bind(Path::new("/proc"), top.join("proc"));
        let plain = make_dir(top.join("plain"));
        bind(Path::new("/proc"), plain.join("proc"));
        tmpfs(plain.join("inner"));

        for root in [top, plain] {
            let at_mount = root.ends_with("top");
            std::thread::scope(|scope| {
                let changed = scope.spawn(|| {
                    unshare(libc::CLONE_FS).unwrap();
                    rustix::process::chroot(&root).unwrap();
                    assert_tables_agree();
                    let table = MountTable::current().unwrap();
                    assert_eq!(table.root().is_some(), at_mount);
                    assert_eq!(table.mount_over("/").is_some(), at_mount);
                    let own = File::open("/proc/thread-self/ns/mnt").unwrap();
                    assert_eq!(MountTable::of_mount_namespace(&own).unwrap(), table);
                    assert_lookups_agree(&table);
                    let propagate_from = |path| {
                        table
                            .mount_over(path)
                            .unwrap()
                            .propagation()
                            .propagate_from()
                    };
                    if at_mount {
                        let dominant = table.root().unwrap().propagation().peer_group();
                        assert_eq!(propagate_from("/below"), dominant);
                    } else {
                        assert_eq!(table.tops().count(), 2);
                        assert_eq!(table.mount_over("/inner/any").unwrap().target(), "/inner");
                    }
                });
                changed.join().expect("no panic in the changed root");
            });
        }
    });
}

/// Asserts for every target in the table that the kernel's lookup ends in the same mount.
#[track_caller]
fn assert_lookups_agree(table: &MountTable) -> usize {
    let mut compared = 0;
    for target in table.iter().map(|mount| mount.target()) {
        let Ok(stat) = statx(CWD, target, AtFlags::empty(), StatxFlags::MNT_ID) else {
            continue;
        };
        let expected = u32::try_from(stat.stx_mnt_id).unwrap();
        match table.mount_over(target) {
            Some(mount) => assert_eq!(mount.id(), expected, "{}", target.display()),
            None => assert!(table.get(expected).is_none(), "{}", target.display()),
        }
        compared += 1;
    }
    compared
}

#[test]
fn the_mount_over_a_path_is_the_kernels() {
    isolated("the_mount_over_a_path_is_the_kernels", || {
        let base = scratch();
        let first = tmpfs(base.join("a"));
        let hidden = tmpfs(first.join("b"));
        let shown = tmpfs(base.join("c"));
        let deep = tmpfs(shown.join("d/e"));
        let table = MountTable::current().unwrap();
        assert_eq!(table.mount_over(hidden.join("f")).unwrap().target(), hidden);
        assert_eq!(table.mount_over(shown.join("d")).unwrap().target(), shown);
        assert_eq!(
            table.mount_over(deep.join("./f//g")).unwrap().target(),
            deep
        );

        let before = table.mount_over(&first).unwrap().id();
        tmpfs(&first);
        tmpfs(&first);
        make_dir(first.join("b"));
        let table = MountTable::current().unwrap();
        let over = table.mount_over(&first).unwrap();
        assert!(over.id() != before && table.children_of(over.id()).next().is_none());
        assert_eq!(
            table.mount_over(&hidden).unwrap(),
            over,
            "the mount at a/b is covered"
        );

        assert_eq!(table.mount_over("tmp"), None);
        assert_eq!(table.mount_over(base.join("a/../c")), None);
        assert!(assert_lookups_agree(&table) >= 6);

        // Nothing that is mounted on the root directory changes where a path starts.
        rustix::mount::mount("over", "/", "tmpfs", MountFlags::empty(), None).unwrap();
        let table = MountTable::current().unwrap();
        assert_ne!(table.root().unwrap().source(), "over");
        assert!(assert_lookups_agree(&table) >= 6);
        assert_tables_agree();
    });
}

#[test]
fn the_tree_has_every_mount_once() {
    isolated("the_tree_has_every_mount_once", || {
        let base = scratch();
        let left = tmpfs(base.join("left"));
        let leaf = tmpfs(left.join("leaf"));
        let right = tmpfs(base.join("right"));
        let table = MountTable::current().unwrap();

        let mut walked: Vec<u32> = table.walk().map(|entry| entry.mount.id()).collect();
        assert_eq!(walked.first(), table.root().map(|root| root.id()).as_ref());
        walked.sort_unstable();
        let mut listed: Vec<u32> = table.iter().map(|mount| mount.id()).collect();
        listed.sort_unstable();
        assert_eq!(walked, listed);

        let tmp = table.mount_over(&base).unwrap();
        let children: Vec<_> = table
            .children_of(tmp.id())
            .map(|mount| mount.target())
            .collect();
        assert_eq!(children, [&left, &right]);
        let below: Vec<_> = table
            .walk()
            .skip_while(|entry| entry.mount != tmp)
            .map(|entry| (entry.mount.target(), entry.depth))
            .collect();
        let depth = below[0].1;
        let expected = [(&*base, 0), (&*left, 1), (&*leaf, 2), (&*right, 1)];
        assert_eq!(
            below[..4],
            expected.map(|(target, more)| (target, depth + more))
        );
    });
}

#[test]
fn the_table_of_another_process() {
    isolated("the_table_of_another_process", || {
        let base = scratch();
        let shared = tmpfs(base.join("shared"));
        set_propagation(&shared, Propagation::Shared, Recursion::MountOnly).unwrap();
        let group = propagation_at(&MountTable::current().unwrap(), &shared).peer_group();

        let process = Process::start(libc::CLONE_NEWNS).unwrap();
        tmpfs(shared.join("both"));
        tmpfs(base.join("here"));
        let table = MountTable::of_pid(process.id()).unwrap();
        assert_same_text(
            &table,
            &fs::read(format!("/proc/{}/mountinfo", process.id())).unwrap(),
        );
        assert_eq!(propagation_at(&table, &shared).peer_group(), group);
        assert_eq!(
            table.mount_over(shared.join("both")).unwrap().target(),
            shared.join("both")
        );
        assert_eq!(table.mount_over(base.join("here")).unwrap().target(), base);

        let error = MountTable::of_pid(u32::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

fn propagation_at(table: &MountTable, path: &Path) -> ringfence::mount::PropagationState {
    table.mount_over(path).unwrap().propagation()
}

/// A namespace with a less privileged owner gets the shared mounts of the other as slaves.
#[test]
fn a_copy_for_another_user_namespace_is_a_slave() {
    isolated("a_copy_for_another_user_namespace_is_a_slave", || {
        let shared = tmpfs(scratch().join("shared"));
        set_propagation(&shared, Propagation::Shared, Recursion::MountOnly).unwrap();
        let process = Process::start(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).unwrap();
        let ours = propagation_at(&MountTable::current().unwrap(), &shared);
        let theirs = propagation_at(&MountTable::of_pid(process.id()).unwrap(), &shared);
        assert_eq!(theirs.propagation(), Propagation::Slave);
        assert_eq!(
            (theirs.master(), theirs.peer_group()),
            (ours.peer_group(), None)
        );
    });
}

#[test]
fn the_table_of_a_namespace() {
    isolated("the_table_of_a_namespace", || {
        let name = "the_table_of_a_namespace";
        let base = scratch();
        tmpfs(base.join("before"));
        let own = File::open("/proc/thread-self/ns/mnt").unwrap();
        let table = MountTable::of_mount_namespace(&own).unwrap();
        assert_same_text(&table, &mountinfo());

        // Of a thread alone, so that no process can be found in it.
        let side = Side::new();
        let there = base.join("there");
        let (namespace, text) = side.run(move || {
            tmpfs(there);
            (File::open("/proc/thread-self/ns/mnt").unwrap(), mountinfo())
        });
        let of_namespace = || MountTable::of_mount_namespace(&namespace);
        assert_same_text(&of_namespace().unwrap(), &text);
        assert_same_text(&refusing(&LISTMOUNT, of_namespace).unwrap(), &text);
        if has_full_statmount() && !is_on_initramfs() {
            assert_same_text(&refusing(&[libc::SYS_setns], of_namespace).unwrap(), &text);
        } else {
            skip(
                name,
                "listmount",
                &"it does not list all of other namespaces",
            );
        }
        let error = refusing(&[LISTMOUNT[0], LISTMOUNT[1], libc::SYS_setns], of_namespace);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_same_text(&MountTable::current().unwrap(), &mountinfo());
    });
}

/// Where the root directory is the bottom mount, the kernel takes another for the root.
fn is_on_initramfs() -> bool {
    MountTable::parse(&mountinfo())
        .unwrap()
        .root()
        .is_some_and(|root| root.parent() == root.id())
}

#[test]
fn the_table_of_a_namespace_with_a_process_in_it() {
    isolated("the_table_of_a_namespace_with_a_process_in_it", || {
        let base = scratch();
        let top = propagation_chain(&base);
        let every_way = || {
            let process = Process::start(libc::CLONE_NEWNS).unwrap();
            let namespace = File::open(format!("/proc/{}/ns/mnt", process.id())).unwrap();
            let text = fs::read(format!("/proc/{}/mountinfo", process.id())).unwrap();
            let of_namespace = || MountTable::of_mount_namespace(&namespace);
            let table = of_namespace().unwrap();
            assert_same_text(&table, &text);
            assert_eq!(refusing(&LISTMOUNT, of_namespace).unwrap(), table);
            assert_eq!(refusing(&[libc::SYS_setns], of_namespace).unwrap(), table);
            let neither = [LISTMOUNT[0], LISTMOUNT[1], libc::SYS_setns];
            assert_eq!(refusing(&neither, of_namespace).unwrap(), table);
            table
        };
        every_way();

        // The master of `below` loses its only mount over there: what takes its place is known inside
        // the namespace, not to listmount from here.
        let side = Side::new();
        rustix::mount::unmount(base.join("middle"), UnmountFlags::DETACH).unwrap();
        let table = every_way();
        let dominant = propagation_at(&table, &top).peer_group();
        let below = propagation_at(&table, &top.join("below"));
        assert!(
            dominant.is_some() && below.propagate_from() == dominant,
            "{below:?}"
        );
        drop(side);
    });
}

/// A process with a root directory of its own does not see what is outside of that.
#[test]
fn a_process_with_another_root_does_not_stand_for_its_namespace() {
    isolated(
        "a_process_with_another_root_does_not_stand_for_its_namespace",
        || {
            let root = make_dir(scratch().join("root"));
            rustix::mount::mount_bind_recursive("/", &root).unwrap();
            let process = Process::start_in(&root, libc::CLONE_NEWNS).unwrap();
            let namespace = File::open(format!("/proc/{}/ns/mnt", process.id())).unwrap();
            let of_namespace = || MountTable::of_mount_namespace(&namespace);
            let seen = MountTable::of_pid(process.id()).unwrap();
            let neither = [LISTMOUNT[0], LISTMOUNT[1], libc::SYS_setns];
            let error = refusing(&neither, of_namespace).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let all = of_namespace().unwrap();
            assert_eq!(all, refusing(&LISTMOUNT, of_namespace).unwrap());
            assert_eq!(
                all.mount_over(&root).unwrap().id(),
                seen.root().unwrap().id()
            );
            assert!(all.len() > seen.len());
        },
    );
}

const LISTMOUNT: [libc::c_long; 2] = [SYS_STATMOUNT, SYS_LISTMOUNT];

/// Does this in a thread to which the kernel refuses these calls.
fn refusing<T: Send>(calls: &[libc::c_long], task: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| {
            without(calls);
            task()
        });
        refused.join().expect("no panic")
    })
}

#[test]
fn what_is_not_a_mount_namespace_is_refused() {
    for path in ["/proc/self/ns/net", "/dev/null", "/"] {
        let error = MountTable::of_mount_namespace(File::open(path).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotThatNamespace, "{path}");
    }
}

/// Mounts that stay are in every table that is read while others come and go.
#[test]
fn no_mount_is_lost_while_others_come_and_go() {
    isolated("no_mount_is_lost_while_others_come_and_go", || {
        let base = scratch();
        let stay: Vec<PathBuf> = (0..50)
            .map(|number| tmpfs(base.join(format!("stay{number}"))))
            .collect();
        let moving = make_dir(base.join("moving"));
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    tmpfs(&moving);
                    rustix::mount::unmount(&moving, UnmountFlags::empty()).unwrap();
                }
            });
            let pid = std::process::id();
            for _ in 0..50 {
                for table in [
                    MountTable::current().unwrap(),
                    MountTable::of_pid(pid).unwrap(),
                ] {
                    for path in &stay {
                        assert_eq!(table.mount_over(path).unwrap().target(), path);
                    }
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
}

#[test]
fn the_lines_of_these_tests_are_escaped_like_the_kernels() {
    assert_eq!(escape(b"a b#\\", b" #\\"), br"a\040b\043\134");
}
