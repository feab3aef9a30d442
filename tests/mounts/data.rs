//! Files in memory that are bound.

use std::fs;
use std::path::Path;

use ringfence::{Bind, Rootfs, Tmpfs};
use rustix::fs::inotify;
use rustix::mount::{MountFlags, mount};
use rustix::process::geteuid;
use rustix::thread::UnshareFlags;

use crate::common::leaks::{Census, assert_same};
use crate::common::{in_forked_child, isolated_as_both, require};
use crate::inside::{Kernel, in_tmpfs, namespaces, options, programs, sh};
use crate::support::enter_userns;

#[test]
fn each_program_has_its_own() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        for kernel in [Kernel::New, Kernel::WithoutSetattr, Kernel::Classic] {
            let status = in_forked_child(|| {
                kernel.pretend();
                let fixed = Bind::new().read_only();
                let sandbox = in_tmpfs()
                    .bind_data("mine\n", "/dir/data", 0o640, Bind::new())
                    .bind_data("theirs\n", "/fixed", 0o444, fixed)
                    .bind_data("", "/empty", 0o600, Bind::new());
                let look = "stat -c '%a %u %s' /dir/data /fixed /empty; cat /dir/data /fixed";
                let seen = "640 0 5\n444 0 7\n600 0 0\nmine\ntheirs\n";
                for _ in 0..2 {
                    let write =
                        "echo more >>/dir/data; refused chmod 777 /fixed; refused rm /dir/data";
                    assert_eq!(
                        sh(&sandbox, &format!("{look}; {write}")),
                        seen,
                        "{kernel:?}"
                    );
                }
                let (first, second) = (options(&sandbox, "/dir/data"), options(&sandbox, "/fixed"));
                assert_eq!(first[..3], ["rw", "nosuid", "nodev"]);
                assert_eq!(second[..3], ["ro", "nosuid", "nodev"]);
                0
            });
            assert!(status.success(), "{kernel:?}: {status}");
        }
    });
}

/// Over a file of the caller's, which stays as it is; and nothing is made in the caller's file system.
#[test]
fn the_caller_has_no_part_in_it() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        if !geteuid().is_root() {
            enter_userns(0, UnshareFlags::NEWNS);
        }
        // Where everybody else makes files as well.
        for place in [&std::env::temp_dir(), Path::new("/dev/shm")] {
            mount("tmpfs", place, "tmpfs", MountFlags::empty(), None).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "the caller's").unwrap();
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC);
        let watch = watch.unwrap();
        for place in [dir.path(), &std::env::temp_dir(), "/dev/shm".as_ref()] {
            let made = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&watch, place, made).unwrap();
        }
        let sandbox = in_tmpfs().bind_ro(dir.path(), "/dir").bind_data(
            "mine",
            "/dir/file",
            0o644,
            Bind::new(),
        );
        assert_eq!(sh(&sandbox, "cat /dir/file"), "mine");
        let before = Census::take().without(&["maps"]);
        assert_eq!(
            sh(&sandbox, "echo -n more >>/dir/file; cat /dir/file"),
            "minemore"
        );
        assert_same(&before, &Census::take().without(&["maps"]));
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"the caller's");
        let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 512];
        let mut events = inotify::Reader::new(&watch, &mut buffer);
        assert!(events.next().is_err());
    });
}

#[test]
fn a_template_leaves_room_for_it() {
    isolated_as_both(|| {
        require!(root, new_proc, kernel(6, 15));
        let root = Rootfs::from(Tmpfs::new()).read_only();
        let sandbox = programs(namespaces().rootfs(root)).template();
        let sandbox = sandbox.bind_data("mine\n", "/etc/data", 0o600, Bind::new());
        for _ in 0..2 {
            assert_eq!(
                sh(&sandbox, "cat /etc/data; echo more >>/etc/data"),
                "mine\n"
            );
        }
    });
}

#[test]
fn the_plan_says_what_it_is() {
    let sandbox = in_tmpfs().bind_data("mine", "/data", 0o600, Bind::new().read_only());
    let plan = sandbox
        .clone()
        .command("true")
        .compile()
        .unwrap()
        .to_string();
    let expected =
        "bind: 4 bytes in memory, mode 0600, at /data, read-only [unlinkat, openat, write, ";
    assert!(plan.contains(expected), "{plan}");
    let odd = sandbox.bind_data("", "/odd", 0o10000, Bind::new());
    let error = odd.command("true").compile().unwrap_err();
    assert_eq!(error.setter(), Some("bind_data"), "{error:?}");
}
