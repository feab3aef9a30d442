//! Mounts that root inside cannot change.

use ringfence::mount::{Recursion, Tree};
use ringfence::{IdMap, MountLock, Overlay, Rootfs, Sandbox};
use rustix::mount::{MountPropagationFlags, mount_change};
use tempfile::TempDir;

use crate::common::{isolated_as_both, probe, require};
use crate::inside::{in_tmpfs, namespaces, programs, sh, try_sh};

const ATTEMPTS: &str = "
    mount -o remount,bind,rw /ro 2>/dev/null && echo remounted
    umount /ro 2>/dev/null && echo unmounted
    umount -l /ro 2>/dev/null && echo detached
    umount /proc/version 2>/dev/null && echo unmasked
    touch /ro/new 2>/dev/null && echo written
    unshare -Um mount -o remount,bind,rw /ro 2>/dev/null && echo remounted below
    unshare -Um umount /ro 2>/dev/null && echo unmounted below
    echo done";

fn sandbox(dir: &TempDir) -> Sandbox {
    in_tmpfs().bind_ro(dir.path(), "/ro").mask("/proc/version")
}

#[test]
fn root_inside_changes_mounts_that_are_not_locked() {
    isolated_as_both(|| {
        require!(userns, new_proc, program("mount"));
        let dir = TempDir::new().unwrap();
        let said = sh(&sandbox(&dir), ATTEMPTS);
        assert!(said.starts_with("remounted\nunmounted\n"), "{said}");
    });
}

#[test]
fn root_inside_changes_no_locked_mount() {
    isolated_as_both(|| {
        require!(userns, new_proc, program("mount"));
        let dir = TempDir::new().unwrap();
        for lock in [MountLock::Nested, MountLock::DropCapability] {
            let said = sh(&sandbox(&dir).lock_mounts(lock), ATTEMPTS);
            assert_eq!(said, "done\n", "{lock:?}");
        }
    });
}

#[test]
fn nested_leaves_a_root_that_mounts_for_itself() {
    isolated_as_both(|| {
        require!(userns, new_proc, program("mount"));
        let dir = TempDir::new().unwrap();
        let said = sh(
            &sandbox(&dir).tmpfs("/tmp").lock_mounts(MountLock::Nested),
            "id -u; mount -t tmpfs none /tmp; grep CapEff /proc/self/status; cat /proc/self/uid_map | tr -s ' '",
        );
        assert!(said.starts_with("0\nCapEff:\t"), "{said}");
        assert!(said.ends_with(" 0 0 1\n"), "{said}");
        let said = sh(
            &sandbox(&dir)
                .tmpfs("/tmp")
                .lock_mounts(MountLock::DropCapability),
            "refused mount -t tmpfs none /tmp; id -u",
        );
        assert_eq!(said, "0\n");
    });
}

#[test]
fn nested_works_for_every_map_that_a_caller_may_have() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        for map in [IdMap::root(), IdMap::identity(), IdMap::single(7)] {
            let sandbox = programs(
                Sandbox::new()
                    .user()
                    .mount()
                    .pid()
                    .user_map(map)
                    .rootfs(Rootfs::tmpfs()),
            )
            .proc("/proc");
            let expected = sh(&sandbox, "id -u; id -g");
            let locked = sandbox.lock_mounts(MountLock::Nested);
            assert_eq!(sh(&locked, "id -u; id -g"), expected);
        }
        let sandbox = programs(namespaces().rootfs(Rootfs::tmpfs())).lock_mounts(MountLock::Nested);
        let error = sandbox.command("/bin/true").uid(0).status().unwrap_err();
        assert_eq!(error.setter(), Some("lock_mounts"));
    });
}

#[test]
fn nothing_of_a_template_is_shared_that_could_be_written_to() {
    isolated_as_both(|| {
        require!(root, new_proc, kernel(6, 15));
        let dir = TempDir::new().unwrap();
        let sandbox = programs(namespaces().rootfs(Rootfs::tmpfs().read_only()).template())
            .bind_ro(dir.path(), "/ro")
            .bind(dir.path(), "/rw")
            .file("/etc/hello", "hello\n")
            .proc("/proc")
            .dev("/dev")
            .tmpfs("/tmp")
            .bind(dir.path(), "/tmp/below")
            .mask("/proc/version");
        let plan = sandbox
            .clone()
            .command("/bin/sh")
            .args([
                "-euc",
                "refused() { if \"$@\" 2>/dev/null; then echo \"not refused: $*\"; fi; }
                 cat /etc/hello /proc/version; ls -A /tmp /dev/shm; echo $$; touch /tmp/x /dev/shm/x /tmp/below/y /rw/z
                 mount -o remount,bind,rw / 2>/dev/null || echo locked
                 refused touch /new; refused chmod 700 /etc; refused touch /ro/x
                 umount /usr 2>/dev/null || true; ls /usr | wc -l > /tmp/gone",
            ])
            .env("PATH", "/bin")
            .stdout(ringfence::Stdio::piped())
            .compile()
            .unwrap();
        let mut first = None;
        for _ in 0..3 {
            let output = plan.spawn().unwrap().wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let first = first.get_or_insert_with(|| output.stdout.clone());
            assert_eq!(*first, output.stdout);
        }
        let said = String::from_utf8(first.unwrap()).unwrap();
        assert!(said == "hello\n/dev/shm:\n\n/tmp:\nbelow\n1\n", "{said}");
    });
}

/// The mounts inside are those of a sandbox without a template.
#[test]
fn a_template_gives_the_same_mounts() {
    isolated_as_both(|| {
        require!(root, new_proc, kernel(6, 15));
        let dir = TempDir::new().unwrap();
        let fresh = programs(namespaces().rootfs(Rootfs::tmpfs().read_only()))
            .bind_ro(dir.path(), "/ro")
            .proc("/proc")
            .dev("/dev")
            .tmpfs("/tmp")
            .mask("/proc/version");
        // Only the file system of the root itself is read-only as well.
        let script =
            "cut -d' ' -f4- /proc/self/mountinfo | sed 's/tmpfs none ro,/tmpfs none rw,/' | sort";
        assert_eq!(sh(&fresh.clone().template(), script), sh(&fresh, script));
    });
}

/// In the caller's namespace the sources are shared: what is mounted inside must not show there.
#[test]
fn a_template_has_no_peers_outside() {
    isolated_as_both(|| {
        require!(root, new_proc, overlay, kernel(6, 15));
        let all = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
        mount_change("/", all).unwrap();
        let dir = TempDir::new().unwrap();
        for name in ["root", "lower", "root/at", "upper", "work"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let tree = Tree::clone_of(dir.path(), Recursion::Tree).unwrap();
        let before = probe::mountinfo("self").unwrap();
        let overlay = Overlay::new(dir.path().join("root")).lower(dir.path().join("lower"));
        for root in [
            Rootfs::dir(dir.path().join("root")),
            Rootfs::tmpfs().read_only(),
            Rootfs::overlay(
                overlay
                    .clone()
                    .upper(dir.path().join("upper"), dir.path().join("work")),
            ),
        ] {
            let sandbox = programs(Sandbox::new().mount().pid().rootfs(root).template())
                .bind(dir.path(), "/at")
                .overlay("/o", overlay.clone())
                .proc("/proc");
            let said = sh(
                &sandbox,
                "ls -d /o/at; grep -E 'shared:|master:' /proc/self/mountinfo || true
                 mount -t tmpfs none /at; mount -t tmpfs none /usr",
            );
            assert_eq!(said, "/o/at\n");
        }
        let sandbox = in_tmpfs().bind_tree(tree, "/at");
        assert_eq!(
            sh(&sandbox, "ls /at; mount -t tmpfs none /at/lower"),
            "lower\nroot\nupper\nwork\n"
        );
        assert_eq!(probe::mountinfo("self").unwrap(), before);
    });
}

#[test]
fn a_template_says_what_it_cannot_do() {
    isolated_as_both(|| {
        require!(userns, kernel(6, 15));
        let error = try_sh(
            &programs(namespaces().rootfs(Rootfs::tmpfs())).template(),
            "true",
        )
        .unwrap_err();
        assert_eq!(error.setter(), Some("template"), "{error:?}");
        let root = Rootfs::tmpfs().read_only();
        let done = try_sh(&programs(namespaces().rootfs(root)).template(), "true");
        match (crate::common::require::root(), done) {
            (Ok(()), done) => assert!(done.unwrap().status.success()),
            (Err(_), done) => {
                let error = done.unwrap_err();
                assert!(error.hint().unwrap().contains("CAP_SYS_ADMIN"), "{error:?}");
            }
        }
    });
}
