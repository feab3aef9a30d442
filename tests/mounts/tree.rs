//! Trees and file systems without a sandbox, by what mountinfo says of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ringfence::mount::{Attributes, Filesystem, Propagation, Recursion, Tree};
use ringfence::{ErrorKind, Step};
use rustix::mount::{MountFlags, mount};
use tempfile::TempDir;

use crate::common::probe::mount_at;
use crate::common::{isolated_as_both, require};
use crate::inside::{in_tmpfs, sh};

fn line(path: &Path) -> Option<String> {
    mount_at("self", path.to_str().unwrap()).unwrap()
}

#[test]
fn a_file_system_is_nowhere_until_it_is_attached() {
    isolated_as_both(|| {
        require!(root, kernel(5, 12));
        let dir = TempDir::new().unwrap();
        let tmpfs = || {
            Filesystem::new("tmpfs")
                .source("a, b")
                .option("size", "64k")
                .attributes(Attributes::NOSUID | Attributes::NOATIME)
        };
        drop(tmpfs().create().unwrap());
        let tree = tmpfs().create().unwrap();
        assert_eq!(line(dir.path()), None);
        tree.attach(dir.path()).unwrap();
        drop(tree);
        let line = line(dir.path()).unwrap();
        assert!(line.contains(" rw,nosuid,noatime "), "{line}");
        assert!(line.contains(" tmpfs a,\\040b rw,size=64k"), "{line}");
    });
}

#[test]
fn a_refused_option_is_named_with_the_kernels_words() {
    isolated_as_both(|| {
        require!(root);
        let error = Filesystem::new("tmpfs")
            .option("size", "big")
            .create()
            .unwrap_err();
        assert_eq!(error.step(), Some(Step::Mount));
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(error.to_string().contains("tmpfs, size=big"), "{error}");
        assert!(
            error.hint().unwrap().contains("Bad value for 'size'"),
            "{error:?}"
        );
        let error = Filesystem::new("tmpfs")
            .flag("nonsense")
            .create()
            .unwrap_err();
        assert!(error.hint().unwrap().contains("nonsense"), "{error:?}");
        let error = Filesystem::new("nonesuch").create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn attributes_of_a_tree_are_set_and_cleared() {
    isolated_as_both(|| {
        require!(root, kernel(5, 12));
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["source", "source/below", "at"] {
            fs::create_dir(at(name)).unwrap();
        }
        let below = at("source/below");
        mount(
            c"none",
            below.as_path(),
            c"tmpfs",
            MountFlags::empty(),
            None,
        )
        .unwrap();

        let tree = Tree::clone_of(at("source"), Recursion::Tree).unwrap();
        tree.set(
            Attributes::READ_ONLY | Attributes::STRICTATIME,
            Recursion::Tree,
        )
        .unwrap();
        tree.set(Attributes::NODEV, Recursion::MountOnly).unwrap();
        tree.set_propagation(Propagation::Shared, Recursion::Tree)
            .unwrap();
        tree.attach(at("at")).unwrap();
        let options = |path: &Path| line(path).unwrap().split(' ').nth(5).unwrap().to_owned();
        assert_eq!(options(&at("at")), "ro,nodev");
        assert_eq!(options(&at("at/below")), "ro");
        assert!(line(&at("at/below")).unwrap().contains(" shared:"));
        tree.clear(Attributes::READ_ONLY, Recursion::Tree).unwrap();
        tree.set(Attributes::RELATIME, Recursion::MountOnly)
            .unwrap();
        assert_eq!(options(&at("at")), "rw,nodev,relatime");
        assert_eq!(options(&below), "rw,relatime");

        let only = Tree::clone_of(at("source"), Recursion::MountOnly).unwrap();
        only.attach(at("at")).unwrap();
        assert_eq!(
            line(&at("at")).unwrap().split(' ').nth(5),
            Some("rw,relatime")
        );
        let error = Tree::clone_of(at("nothing"), Recursion::Tree).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert!(error.to_string().contains("/nothing"), "{error}");
    });
}

#[test]
fn a_held_mount_can_be_moved() {
    isolated_as_both(|| {
        require!(root, kernel(5, 12));
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            fs::create_dir(at(name)).unwrap();
        }
        Filesystem::new("tmpfs")
            .create()
            .unwrap()
            .attach(at("a"))
            .unwrap();
        let held = Tree::open(at("a")).unwrap();
        held.attach(at("b")).unwrap();
        assert_eq!(line(&at("a")), None);
        assert!(line(&at("b")).is_some());
        let plain = Tree::open(at("a")).unwrap();
        let error = plain.attach(at("b")).unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            Some(libc::EINVAL),
            "no mount is there"
        );
    });
}

#[test]
fn owners_are_mapped() {
    isolated_as_both(|| {
        require!(root, kernel(6, 3));
        let dir = TempDir::new().unwrap();
        let tmpfs = Filesystem::new("tmpfs").create().unwrap();
        tmpfs.attach(dir.path()).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        fs::create_dir(dir.path().join("at")).unwrap();
        std::os::unix::fs::chown(dir.path().join("file"), Some(5), Some(6)).unwrap();

        // A user namespace in which 0..10 are 70000.. outside.
        let child = ringfence::Sandbox::new()
            .user()
            .user_map(ringfence::IdMap::range(0, 70_000, 10))
            .group_map(ringfence::IdMap::range(0, 80_000, 10))
            .command("/bin/sleep")
            .arg("1000")
            .kill_on_drop()
            .spawn()
            .unwrap();
        let namespace = fs::File::open(format!("/proc/{}/ns/user", child.id())).unwrap();
        let tree = Tree::clone_of(dir.path(), Recursion::MountOnly)
            .unwrap()
            .idmapped(&namespace, Recursion::MountOnly)
            .unwrap();
        tree.attach(dir.path().join("at")).unwrap();
        let seen = fs::metadata(dir.path().join("at/file")).unwrap();
        assert_eq!((seen.uid(), seen.gid()), (70_005, 80_006));
        // What is made through the mapped mount by a mapped owner lands on disk unmapped.
        fs::write(dir.path().join("at/new"), "").unwrap_err();
        std::os::unix::fs::chown(dir.path().join("at/file"), Some(70_001), Some(80_002)).unwrap();
        let below = fs::metadata(dir.path().join("file")).unwrap();
        assert_eq!((below.uid(), below.gid()), (1, 2));
    });
}

#[test]
fn owners_are_mapped_by_a_map() {
    isolated_as_both(|| {
        require!(root, kernel(6, 3));
        let dir = TempDir::new().unwrap();
        let tmpfs = Filesystem::new("tmpfs").create().unwrap();
        tmpfs.attach(dir.path()).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        fs::create_dir(dir.path().join("at")).unwrap();
        for name in ["", "file"] {
            std::os::unix::fs::chown(dir.path().join(name), Some(1000), Some(1000)).unwrap();
        }
        Tree::clone_of(dir.path(), Recursion::MountOnly)
            .unwrap()
            .idmapped_by(ringfence::IdMap::range(1000, 0, 1), Recursion::MountOnly)
            .unwrap()
            .attach(dir.path().join("at"))
            .unwrap();
        let seen = fs::metadata(dir.path().join("at/file")).unwrap();
        assert_eq!((seen.uid(), seen.gid()), (0, 0));
        fs::write(dir.path().join("at/new"), "").unwrap();
        let below = fs::metadata(dir.path().join("new")).unwrap();
        assert_eq!((below.uid(), below.gid()), (1000, 1000));
    });
}

#[test]
fn a_tree_is_bound_in_every_spawn() {
    isolated_as_both(|| {
        require!(root, new_proc, kernel(6, 15));
        let tree = Filesystem::new("tmpfs").create().unwrap();
        tree.set(Attributes::NOEXEC, Recursion::MountOnly).unwrap();
        let sandbox = in_tmpfs().bind_tree(tree, "/at");
        let script = "ls /at; touch /at/$(ls /at | wc -l); grep ' /at ' /proc/self/mountinfo | cut -d' ' -f6";
        assert_eq!(sh(&sandbox, script), "rw,noexec,relatime\n");
        assert_eq!(sh(&sandbox, script), "0\nrw,noexec,relatime\n");
    });
}

#[test]
fn without_privilege_it_says_what_is_needed() {
    isolated_as_both(|| {
        if crate::common::require::root().is_ok() {
            return;
        }
        let error = Tree::clone_of("/", Recursion::Tree).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.hint().unwrap().contains("CAP_SYS_ADMIN"));
    });
}
