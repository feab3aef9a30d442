//! Bad input: each an error with step, path and errno, and nothing left behind.

use std::fs;
use std::os::unix::fs::symlink;

use ringfence::{Error, ErrorKind, Overlay, Rootfs, Sandbox, Step, Tmpfs};
use tempfile::TempDir;

use crate::common::leaks::{Census, assert_same};
use crate::common::{in_forked_child, isolated_as_both, require};
use crate::inside::{Kernel, in_tmpfs, namespaces, try_sh};

#[track_caller]
fn refused(sandbox: &Sandbox) -> Error {
    try_sh(sandbox, "true").unwrap_err()
}

#[test]
fn bad_input_is_an_error_with_step_path_and_errno() {
    isolated_as_both(|| {
        require!(userns, new_proc, overlay);
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "").unwrap();
        fs::create_dir(path("dir")).unwrap();
        symlink("loop", path("loop")).unwrap();
        let no = "/nonexistent";
        let cases = [
            (in_tmpfs().bind(no, "/a"), Step::Bind, no, libc::ENOENT),
            (
                in_tmpfs().bind(path("loop"), "/a"),
                Step::Bind,
                "loop",
                libc::ELOOP,
            ),
            (
                in_tmpfs().dir("/d").bind(path("file"), "/d"),
                Step::Bind,
                "at /d",
                libc::ENOTDIR,
            ),
            (
                in_tmpfs().file("/f", "").bind(path("dir"), "/f"),
                Step::Bind,
                "at /f",
                libc::ENOTDIR,
            ),
            (
                in_tmpfs().file("/f", "").dir("/f/d"),
                Step::Dir,
                "/f/d",
                libc::ENOTDIR,
            ),
            (in_tmpfs().mask(no), Step::Mask, no, libc::ENOENT),
            (in_tmpfs().read_only(no), Step::Remount, no, libc::ENOENT),
            (
                in_tmpfs().file("/f", "").file("/f", ""),
                Step::File,
                "/f",
                libc::EEXIST,
            ),
            (
                in_tmpfs().symlink("/p", "/l").proc("/l"),
                Step::Proc,
                "/l",
                libc::ELOOP,
            ),
            (
                in_tmpfs().tmpfs_with("/t", Tmpfs::new().size(u64::MAX).inodes(u64::MAX)),
                Step::Tmpfs,
                "/t",
                libc::EINVAL,
            ),
            (
                in_tmpfs().overlay("/o", Overlay::new(path("dir")).lower(path("file"))),
                Step::Overlay,
                "/o",
                libc::ENOTDIR,
            ),
            (
                in_tmpfs().overlay("/o", Overlay::new(path("dir")).upper(path("dir"), no)),
                Step::Overlay,
                "/o",
                libc::ENOENT,
            ),
            (
                namespaces().rootfs(Rootfs::dir(no)),
                Step::Root,
                no,
                libc::ENOENT,
            ),
            (
                namespaces().rootfs(Rootfs::dir(path("file"))),
                Step::Root,
                "file",
                libc::ENOTDIR,
            ),
            (
                namespaces().rootfs(Rootfs::overlay(Overlay::new(path("file")).throwaway())),
                Step::Root,
                "file",
                libc::ENOTDIR,
            ),
        ];
        for kernel in [Kernel::New, Kernel::Classic] {
            let status = in_forked_child(|| {
                kernel.pretend();
                let _ = refused(&in_tmpfs().mask(no));
                let before = Census::take();
                for (sandbox, step, object, errno) in &cases {
                    let Err(error) = try_sh(sandbox, "true") else {
                        // The kernel takes any number of inodes on some versions.
                        assert_eq!(*step, Step::Tmpfs);
                        continue;
                    };
                    assert_eq!(error.step(), Some(*step), "{error:?}");
                    assert!(error.to_string().contains(object), "{object}: {error:?}");
                    assert_eq!(error.raw_os_error(), Some(*errno), "{error:?}");
                    assert!(
                        error.hint().is_some() || *errno == libc::ELOOP || *errno == libc::ENOTDIR,
                        "{error:?}"
                    );
                }
                assert_same(&before, &Census::take());
                0
            });
            assert!(status.success(), "{kernel:?}: {status}");
        }
        let error =
            refused(&in_tmpfs().overlay("/o", Overlay::new(path("dir")).lower(path("file"))));
        let hint = error.hint().unwrap();
        assert!(hint.contains("/file is not a directory"), "{hint}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    });
}

#[test]
fn contradictions_name_their_setter() {
    let cases = [
        (Sandbox::new().mount().mask("relative"), "mask"),
        (Sandbox::new().mount().mask("/a/../b"), "mask"),
        (Sandbox::new().mount().bind_try("/a", "/"), "bind_try"),
        (Sandbox::new().mask("/a"), "mask"),
        (Sandbox::new().user().mount().cgroup2("/c"), "cgroup2"),
        (
            Sandbox::new().mount().overlay("/o", Overlay::new("/a")),
            "overlay",
        ),
        (Sandbox::new().mount().rootfs(Overlay::new("/a")), "rootfs"),
        (Sandbox::new().mount().template(), "template"),
        (
            Sandbox::new().lock_mounts(ringfence::MountLock::Nested),
            "lock_mounts",
        ),
        (
            Sandbox::new()
                .mount()
                .remount("/a", ringfence::mount::Attributes::STRICTATIME),
            "remount",
        ),
    ];
    for (sandbox, setter) in cases {
        let error = sandbox.command("/bin/true").compile().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert_eq!(error.setter(), Some(setter), "{error:?}");
    }
}
