//! Namespaces at a path.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use ringfence::ns::{Mount, Namespace, Net, Uts, netns_names, unpin, unpin_netns};
use ringfence::{AnyNamespace, ErrorKind, NamespaceId, Step};

use super::{census, create, kinds, tmpfs, with_capabilities};
use crate::common::leaks::assert_same;
use crate::common::{in_forked_child, isolated, isolated_as_user, probe, require};

/// What mountinfo says is mounted at a path.
fn mounted(path: &Path) -> Option<String> {
    probe::mount_at("thread-self", path.to_str().unwrap()).unwrap()
}

#[track_caller]
fn assert_pinned(path: &Path, id: NamespaceId) {
    let line = mounted(path).unwrap();
    assert_eq!(
        line.split(' ').nth(3),
        Some(id.to_string().as_str()),
        "{line}"
    );
    assert!(line.contains(" - nsfs "), "{line}");
    let stat = fs::metadata(path).unwrap();
    assert_eq!((stat.dev(), stat.ino()), (id.device(), id.inode()));
}

#[test]
fn every_kind_is_pinned_found_and_unpinned() {
    with_capabilities!({
        tmpfs("/tmp");
        kinds().for_each(|kind| drop(create(kind).unwrap()));
        let before = census().with_files(Path::new("/tmp"));
        for kind in kinds() {
            let path = Path::new("/tmp").join(kind.proc_name());
            let namespace = create(kind).unwrap();
            let id = namespace.id();
            let unique = namespace.unique_id();
            let pin = namespace
                .pin(&path)
                .unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(pin.path(), path);
            assert_pinned(&path, id);
            drop(namespace);
            // Nothing but the pin holds it now.
            let found = AnyNamespace::open(&path).unwrap();
            assert_eq!((found.id(), found.unique_id()), (id, unique));
            assert_eq!(found.kind(), kind);
            drop(found);

            assert_eq!(pin.keep(), path);
            assert_pinned(&path, id);
            unpin(&path).unwrap();
            assert!(mounted(&path).is_none() && !path.exists());

            let again = create(kind).unwrap();
            drop(again.pin(&path).unwrap());
            assert!(mounted(&path).is_none() && !path.exists());
            again.pin(&path).unwrap().unpin().unwrap();
            assert!(mounted(&path).is_none() && !path.exists());
        }
        assert_same(&before, &census().with_files(Path::new("/tmp")));
    });
}

#[test]
fn a_pin_survives_its_maker() {
    with_capabilities!({
        tmpfs("/tmp");
        let path = Path::new("/tmp/uts");
        let status = in_forked_child(|| {
            let namespace = Namespace::<Uts>::create().unwrap();
            let set = namespace.run_in(|| rustix::system::sethostname(b"kept"));
            set.unwrap().unwrap();
            let _ = namespace.pin(path).unwrap().keep();
            0
        });
        assert!(status.success());
        let found = Namespace::<Uts>::open(path).unwrap();
        let name = found.run_in(|| rustix::system::uname().nodename().to_owned());
        assert_eq!(name.unwrap().as_c_str(), c"kept");
        unpin(path).unwrap();
    });
}

#[test]
fn what_is_at_the_path_is_left_alone() {
    with_capabilities!({
        tmpfs("/tmp");
        let namespace = Namespace::<Uts>::create().unwrap();
        let path = Path::new("/tmp/file");
        fs::write(path, "precious").unwrap();
        let error = namespace.pin(path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        assert!(error.hint().unwrap().contains("pin_on"), "{error:?}");
        let error = namespace.pin("/tmp/no/pin").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert!(error.hint().unwrap().contains("directory"), "{error:?}");
        std::os::unix::fs::symlink("/tmp/elsewhere", "/tmp/link").unwrap();
        let error = namespace.pin("/tmp/link").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        assert!(!Path::new("/tmp/elsewhere").exists());

        for wrong in ["/tmp/file", "/tmp", "/proc/self/ns/uts", "/tmp/link"] {
            let error = unpin(wrong).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::NotThatNamespace,
                "{wrong}: {error:?}"
            );
        }
        assert_eq!(fs::read_to_string(path).unwrap(), "precious");

        // A pin that somebody else has replaced is not ours to take away.
        let pin = namespace.pin("/tmp/pin").unwrap();
        unpin("/tmp/pin").unwrap();
        let other = Namespace::<Uts>::create().unwrap();
        let others = other.pin("/tmp/pin").unwrap();
        drop(pin);
        assert_pinned(Path::new("/tmp/pin"), other.id());
        drop(others);
    });
}

#[test]
fn ones_own_mount_namespace_cannot_be_pinned_in_itself() {
    with_capabilities!({
        tmpfs("/tmp");
        let own = Namespace::<Mount>::current().unwrap();
        let error = own.pin("/tmp/own").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error:?}");
        assert_eq!(error.step(), Some(Step::Pin));
        assert!(error.hint().unwrap().contains("older"));
        assert!(!Path::new("/tmp/own").exists(), "nothing stays behind");
    });
}

#[test]
fn without_privilege_nothing_stays_behind() {
    isolated_as_user(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net");
        let error = Namespace::<Net>::current().unwrap().pin(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        assert!(!path.exists());
    });
}

#[test]
fn thousands_of_pins_from_eight_threads() {
    with_capabilities!({
        tmpfs("/tmp");
        let namespace = Namespace::<Uts>::create().unwrap();
        let before = census().with_files(Path::new("/tmp"));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let namespace = &namespace;
                scope.spawn(move || {
                    for round in 0..10 {
                        let pin = |number| {
                            let path = format!("/tmp/{thread}-{round}-{number}");
                            namespace.pin(&path).unwrap()
                        };
                        // Half of them by their paths, the others when they are dropped.
                        let mut pins: Vec<_> = (0..50).map(pin).collect();
                        for pin in pins.drain(..25) {
                            let kept = pin.keep();
                            assert_eq!(Namespace::<Uts>::open(&kept).unwrap(), *namespace);
                            unpin(kept).unwrap();
                        }
                    }
                });
            }
        });
        assert_same(&before, &census().with_files(Path::new("/tmp")));
    });
}

#[test]
fn of_one_name_there_is_one() {
    with_capabilities!({
        tmpfs("/tmp");
        let namespace = Namespace::<Uts>::create().unwrap();
        let pins: Vec<_> = std::thread::scope(|scope| {
            let pin = || namespace.pin("/tmp/one");
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(pin)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(pins.iter().filter(|pin| pin.is_ok()).count(), 1);
        let refused = pins.iter().filter_map(|pin| pin.as_ref().err());
        for error in refused {
            assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
        }
    });
}

#[test]
fn names_are_those_of_ip_netns() {
    with_capabilities!({
        require!(netns);
        tmpfs("/run");
        assert_eq!(netns_names().unwrap(), [""; 0]);
        let net = Namespace::<Net>::create().unwrap();
        let pin = net.pin_netns("blue").unwrap();
        assert_pinned(Path::new("/run/netns/blue"), net.id());
        let line = mounted(Path::new("/run/netns")).unwrap();
        assert!(line.contains(" shared:"), "{line}");
        let mounts = probe::mountinfo("self").unwrap().len();
        let error = net.pin_netns("blue").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        // The directory becomes a mount point once only.
        assert_eq!(probe::mountinfo("self").unwrap().len(), mounts);
        assert_eq!(Namespace::open_netns("blue").unwrap(), net);
        fs::write("/run/netns/no-namespace", "").unwrap();
        assert_eq!(netns_names().unwrap(), ["blue"]);
        for name in ["", ".", "..", "a/b", "/", "a\0b", &"a".repeat(256)] {
            let error = net.pin_netns(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(
                Namespace::open_netns(name).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
            assert_eq!(
                unpin_netns(name).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
        }
        drop(pin);
        assert_eq!(netns_names().unwrap(), [""; 0]);
    });
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn ip_netns_and_the_crate_find_each_others_names() {
    isolated(|| {
        // ip goes back to where it came from, which a user namespace does not own.
        require!(root, program("ip"));
        tmpfs("/run");
        let net = Namespace::<Net>::create().unwrap();
        let _ = net.pin_netns("ours").unwrap().keep();
        ip(&["netns", "add", "theirs"]);
        let list = ip(&["netns", "list"]);
        let mut names: Vec<_> = list
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["ours", "theirs"]);
        assert_eq!(netns_names().unwrap(), names);
        let theirs = Namespace::open_netns("theirs").unwrap();
        assert!(theirs != net && !theirs.is_current().unwrap());
        let links = ip(&["-n", "ours", "-o", "link"]);
        assert!(links.contains("lo: <LOOPBACK,UP"), "{links}");
        ip(&["netns", "delete", "ours"]);
        unpin_netns("theirs").unwrap();
        assert_eq!(ip(&["netns", "list"]), "");
        assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);
    });
}
