//! Known escapes by mounts, each tried against this crate: as root and in a user namespace, by the newer
//! calls and by mount(2).
#![allow(clippy::unwrap_used, reason = "a helper of a test fails by a panic")]

mod common;
#[path = "mounts/inside.rs"]
mod inside;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{in_forked_child, isolated_as_both, require};
use inside::{Kernel, in_tmpfs, namespaces, programs, sh, texts, try_sh};
use ringfence::{Bind, ErrorKind, Overlay, Rootfs, Sandbox, Step};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;
use tempfile::TempDir;

/// Runs the body for each kind of sandbox that the caller may have, by each way to mount. Every run has a
/// scene of its own.
fn on_each(body: impl Fn(&Scene)) {
    let mut kinds = vec![("user namespace", namespaces())];
    if common::require::root().is_ok() {
        kinds.push(("root", Sandbox::new().mount().pid().net().ipc().cgroup()));
    }
    for (kind, base) in kinds {
        for kernel in [Kernel::New, Kernel::Classic] {
            let status = in_forked_child(|| {
                kernel.pretend();
                let scene = Scene::new(base.clone());
                body(&scene);
                scene.assert_untouched();
                0
            });
            assert!(status.success(), "{kind}, {kernel:?}: {status}");
        }
    }
}

/// A root directory and a directory of the host that nothing inside may reach.
struct Scene {
    base: Sandbox,
    dir: TempDir,
}

impl Scene {
    fn new(base: Sandbox) -> Self {
        let dir = TempDir::new().unwrap();
        let scene = Self { base, dir };
        for name in ["root", "root/usr", "victim", "victim/dir", "shared"] {
            fs::create_dir(scene.path(name)).unwrap();
        }
        fs::write(scene.path("victim/file"), "precious").unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A link in the scene that names the victim, as seen from outside.
    fn link(&self, target: &str, at: &str) {
        symlink(self.path(target), self.path(at)).unwrap();
    }

    fn in_dir(&self) -> Sandbox {
        programs(self.base.clone().rootfs(Rootfs::dir(self.path("root"))))
    }

    fn in_tmpfs(&self) -> Sandbox {
        programs(self.base.clone().rootfs(Rootfs::tmpfs())).proc("/proc")
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let mut names: Vec<_> = fs::read_dir(self.path("victim"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["dir", "file"]);
        assert_eq!(fs::read(self.path("victim/file")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(self.path("victim/dir")).unwrap().count(), 0);
    }
}

/// runc CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: `/proc` of the root is a link to a directory that
/// the attacker fills.
#[test]
fn a_proc_that_is_a_link_is_refused() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        on_each(|scene| {
            fs::create_dir(scene.path("root/fake")).unwrap();
            symlink("fake", scene.path("root/proc")).unwrap();
            symlink("/fake", scene.path("root/sys")).unwrap();
            symlink("fake", scene.path("root/parent")).unwrap();
            for (sandbox, step) in [
                (scene.in_dir().proc("/proc"), Step::Proc),
                (scene.in_dir().proc("/parent/proc"), Step::Proc),
                (scene.in_dir().sysfs("/sys"), Step::Sysfs),
                (scene.in_dir().mqueue("/proc"), Step::Mqueue),
                (scene.in_dir().devpts("/proc"), Step::Devpts),
                (scene.in_dir().cgroup2("/proc"), Step::Cgroup2),
            ] {
                let error = try_sh(&sandbox, "true").unwrap_err();
                assert_eq!(error.step(), Some(step), "{error:?}");
                assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error:?}");
            }
            assert_eq!(fs::read_dir(scene.path("root/fake")).unwrap().count(), 0);
        });
    });
}

/// How often a link is swapped in at least.
const SWAPS: usize = 10_000;

/// runc CVE-2021-30465, LXC CVE-2015-1335: a component of the destination is exchanged for a link while the
/// sandbox is set up.
#[test]
fn a_link_swapped_in_during_the_set_up_leads_nowhere() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let kinds = if common::require::root().is_ok() {
            4
        } else {
            2
        };
        let time = Duration::from_secs(5) / kinds;
        on_each(|scene| {
            for name in ["root/a", "root/a/b", "root/out"] {
                fs::create_dir(scene.path(name)).unwrap();
            }
            scene.link("victim", "root/swap");
            fs::write(scene.path("shared/f"), "").unwrap();
            // Read-only binds to see by: nothing that is mounted may be missing either.
            let sandbox = scene
                .in_dir()
                .proc("/out/proc")
                .tmpfs("/a/tmp")
                .bind(scene.path("shared"), "/a/dir")
                .bind(scene.path("shared/f"), "/a/new/f")
                .dir("/a/made/here")
                .file("/a/tmp/text", "text");
            let plan = sandbox.command("/bin/true").compile().unwrap();
            let stop = AtomicBool::new(false);
            let swaps = AtomicUsize::new(0);
            let mut rounds = (0_usize, 0_usize);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (one, other) = (scene.path("root/a"), scene.path("root/swap"));
                    while !stop.load(Ordering::Relaxed) {
                        renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                        swaps.fetch_add(1, Ordering::Relaxed);
                    }
                });
                let begun = Instant::now();
                while begun.elapsed() < time
                    || swaps.load(Ordering::Relaxed) < SWAPS
                    || rounds.0 + rounds.1 <= 20
                {
                    match plan.spawn() {
                        Ok(mut child) => {
                            assert!(child.wait().unwrap().success());
                            rounds.0 += 1;
                        }
                        Err(error) => {
                            let errno = error.raw_os_error().unwrap();
                            assert!(
                                [libc::ENOENT, libc::EEXIST, libc::ENOTDIR, libc::ELOOP]
                                    .contains(&errno),
                                "{error:?}"
                            );
                            rounds.1 += 1;
                        }
                    }
                    scene.assert_untouched();
                }
                stop.store(true, Ordering::Relaxed);
            });
            println!("{rounds:?} started and refused, {swaps:?} swaps");
            assert!(rounds.0 + rounds.1 > 20, "{rounds:?}");
            assert!(swaps.into_inner() >= SWAPS);
        });
    });
}

/// runc CVE-2024-21626: the working directory is a descriptor of the host's.
#[test]
fn the_working_directory_is_no_descriptor_of_the_host() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        on_each(|scene| {
            let _held: Vec<_> = (0..20)
                .map(|_| rustix::io::dup(File::open(scene.path("victim")).unwrap()).unwrap())
                .collect();
            for number in 0..64 {
                for process in ["self", "thread-self", "1"] {
                    let command = scene
                        .in_tmpfs()
                        .command("/bin/pwd")
                        .arg("-P")
                        .current_dir(format!("/proc/{process}/fd/{number}"));
                    let error = command.status().unwrap_err();
                    assert_eq!(error.step(), Some(Step::CurrentDir), "{error:?}");
                }
            }
            let command = scene.in_tmpfs().command("/bin/pwd").arg("-P");
            for (dir, expected) in [("/usr/../..", "/\n"), ("/bin/..", "/usr\n")] {
                let output = command.clone().current_dir(dir).output().unwrap();
                let (said, _) = texts(&output);
                // Where the host's /bin is no link, its parent is the root.
                assert!(said == expected || said == "/\n", "{said}");
            }
        });
    });
}

/// runc CVE-2024-45310, bubblewrap CVE-2026-87766: what is made on the way to a destination follows a link in
/// a directory that the attacker writes to.
#[test]
fn nothing_is_made_through_a_link_to_the_host() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        on_each(|scene| {
            scene.link("victim", "shared/abs");
            symlink("../../../../../../../../..", scene.path("shared/up")).unwrap();
            scene.link("victim/new", "shared/dangling");
            let up = format!("/w/up{}/victim", scene.dir.path().display());
            let at = |place: &str| scene.in_tmpfs().bind(scene.path("shared"), "/w").dir(place);
            let places = ["/w/abs".to_owned(), up, "/w/dangling".to_owned()];
            for place in &places {
                let below = format!("{place}/below");
                let bound = scene.in_tmpfs().bind(scene.path("shared"), "/w");
                for sandbox in [
                    at(&below),
                    bound.clone().file(&below, "text"),
                    bound.clone().file(place, "text"),
                    bound.clone().symlink("x", &below),
                    bound.clone().tmpfs(&below),
                    bound.clone().bind(scene.path("root"), &below),
                    bound.clone().bind(scene.path("victim/file"), &below),
                    bound.clone().bind(scene.path("victim/file"), place),
                    bound.clone().mask(&below),
                    bound.clone().mask(format!("{place}/file")),
                    bound.clone().dev(&below),
                    bound.read_only(format!("{place}/dir")),
                ] {
                    // Refused, or made inside: both are well.
                    let _ = try_sh(&sandbox, "true");
                    scene.assert_untouched();
                }
            }
            assert_eq!(fs::read_dir(scene.path("shared")).unwrap().count(), 3);
        });
    });
}

/// runc CVE-2025-31133: `/dev/null`, which hides files, is something else.
#[test]
fn a_device_that_is_something_else_is_refused() {
    isolated_as_both(|| {
        require!(root, new_proc);
        let dev = TempDir::new().unwrap();
        for name in ["zero", "full", "random", "urandom", "tty"] {
            fs::write(dev.path().join(name), "").unwrap();
            let node = format!("/dev/{name}");
            rustix::mount::mount_bind(node, dev.path().join(name)).unwrap();
        }
        fs::write(dev.path().join("precious"), "precious").unwrap();
        symlink("precious", dev.path().join("null")).unwrap();
        rustix::mount::mount_bind_recursive(dev.path(), "/dev").unwrap();
        on_each(|scene| {
            for (sandbox, step) in [
                (scene.in_tmpfs().mask("/proc/version"), Step::Mask),
                (scene.in_tmpfs().dev("/dev"), Step::Dev),
            ] {
                let error = sandbox
                    .command("/bin/true")
                    .stdin(ringfence::Stdio::inherit())
                    .status()
                    .unwrap_err();
                assert_eq!(error.step(), Some(step), "{error:?}");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
                assert!(
                    error.hint().unwrap().contains("not the device"),
                    "{error:?}"
                );
            }
        });
    });
}

/// runc CVE-2025-52565: a terminal of the root is exchanged before it is mounted over. Here terminals are
/// an instance of the sandbox's own.
#[test]
fn terminals_are_the_sandboxs_own() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        // One of the host's that would be seen.
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let _held = rustix::pty::openpt(flags).unwrap();
        on_each(|scene| {
            fs::create_dir(scene.path("root/dev")).unwrap();
            scene.link("victim", "root/dev/pts");
            scene.link("victim/file", "root/dev/ptmx");
            let said = sh(
                &scene.in_dir().dev("/dev"),
                "ls /dev/pts; readlink /dev/ptmx",
            );
            assert_eq!(said, "ptmx\npts/ptmx\n");
        });
    });
}

/// runc CVE-2025-52881: writes to `/proc/self` are redirected by what is mounted there.
#[test]
fn a_fake_proc_is_not_written_to() {
    isolated_as_both(|| {
        require!(root);
        let fake = TempDir::new().unwrap();
        fs::create_dir(fake.path().join("self")).unwrap();
        let files =
            ["setgroups", "uid_map", "gid_map"].map(|name| fake.path().join("self").join(name));
        for file in &files {
            fs::write(file, "").unwrap();
        }
        fs::create_dir(fake.path().join("self/fd")).unwrap();
        rustix::mount::mount_bind(fake.path(), "/proc").unwrap();
        let classic = Sandbox::new().mount().pid().rootfs(Rootfs::tmpfs());
        for (sandbox, kernel) in [
            (namespaces(), Kernel::New),
            (classic.bind_ro("/usr", "/usr"), Kernel::Classic),
        ] {
            let status = in_forked_child(|| {
                kernel.pretend();
                let error = sandbox.clone().command("/bin/true").status().unwrap_err();
                assert!(error.hint().unwrap().contains("not a procfs"), "{error:?}");
                0
            });
            assert!(status.success(), "{kernel:?}: {status}");
        }
        for file in &files {
            assert_eq!(fs::read(file).unwrap(), b"");
        }
    });
}

/// runc CVE-2026-41579, crun CVE-2026-47766: `/dev` of the root is a link to a directory of the host.
#[test]
fn a_dev_that_is_a_link_is_refused() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        on_each(|scene| {
            scene.link("victim", "root/dev");
            fs::create_dir(scene.path("root/real")).unwrap();
            symlink("real", scene.path("root/inner")).unwrap();
            for place in ["/dev", "/dev/dir", "/inner", "/inner/dev"] {
                let error = try_sh(&scene.in_dir().dev(place), "true").unwrap_err();
                assert_eq!(error.step(), Some(Step::Dev), "{error:?}");
                assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error:?}");
            }
            assert_eq!(fs::read_dir(scene.path("root/real")).unwrap().count(), 0);
        });
    });
}

/// flatpak CVE-2024-42472: the source of a bind is exchanged for a link between its check and its use.
#[test]
fn a_source_swapped_after_it_was_opened_is_refused() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        on_each(|scene| {
            let app = scene.path("shared/app");
            fs::create_dir(&app).unwrap();
            let opened = OwnedFd::from(File::open(&app).unwrap());
            let sandbox = scene.in_tmpfs().bind_fd(opened, "/app", Bind::new());
            let plan = sandbox.command("/bin/true").compile().unwrap();
            fs::rename(&app, scene.path("shared/old")).unwrap();
            for target in ["victim", "root"] {
                scene.link(target, "shared/app");
                let error = plan.spawn().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{error:?}");
                fs::remove_file(&app).unwrap();
            }
            fs::create_dir(&app).unwrap();
            let error = plan.spawn().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{error:?}");
            fs::remove_dir(&app).unwrap();
            fs::rename(scene.path("shared/old"), &app).unwrap();
            assert!(plan.spawn().unwrap().wait().unwrap().success());
        });
    });
}

/// kernel CVE-2022-0492: root inside writes to the cgroup hierarchy of the host.
#[test]
fn cgroups_are_read_only() {
    isolated_as_both(|| {
        require!(userns, new_proc, cgroup2, program("mount"));
        let sandbox = in_tmpfs().cgroup2("/cgroup").tmpfs("/tmp");
        let said = sh(
            &sandbox,
            "(echo 0 > /cgroup/cgroup.procs) 2>&1 | grep -c 'Read-only file system'
             mkdir /cgroup/x 2>&1 | grep -c 'Read-only file system'
             mkdir /tmp/c; mount -t cgroup -o memory none /tmp/c 2>/dev/null || true
             for dir in /cgroup /tmp/c; do
               (echo /bin/true > $dir/release_agent) 2>/dev/null && echo written
             done
             echo done",
        );
        assert_eq!(said, "1\n1\ndone\n");
    });
}

/// A directory that the sandbox has made, and covered since by what the attacker writes to, is not made in as if it
/// were still the sandbox's own.
#[test]
fn nothing_is_made_in_a_directory_that_has_been_covered() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        on_each(|scene| {
            scene.link("victim", "shared/b");
            let shared = scene.path("shared");
            let base = || scene.in_tmpfs().dir("/a").dir("/a/b");
            for covered in [
                base().bind(&shared, "/a"),
                base().symlink("a", "/l").bind(&shared, "/l"),
                base().symlink("/", "/l").bind(&shared, "/l/a"),
                base()
                    .overlay("/l", Overlay::new(&shared).throwaway())
                    .bind(&shared, "/a"),
            ] {
                for sandbox in [
                    covered.clone().dir("/a/b/c"),
                    covered.clone().tmpfs("/a/b/c"),
                    covered.clone().file("/a/b/c", "text"),
                    covered.clone().symlink("x", "/a/b/c"),
                    covered.clone().bind_ro(&shared, "/a/b/c"),
                ] {
                    // Where the link leads inside, nothing is; so it may be an error, but never be outside.
                    let _ = try_sh(&sandbox, "true");
                    scene.assert_untouched();
                }
            }
        });
    });
}

/// The same where the root is made in the caller's mount namespace, to be copied.
#[test]
fn a_template_is_made_in_no_directory_that_has_been_covered() {
    isolated_as_both(|| {
        require!(root, kernel(6, 15));
        let status = in_forked_child(|| {
            // If a mount went astray, it would be here, and must go with this process.
            common::sys::unshare(UnshareFlags::NEWNS).unwrap();
            mount_change(
                c"/",
                MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
            )
            .unwrap();
            let scene = Scene::new(Sandbox::new().mount());
            scene.link("victim", "shared/b");
            let before = common::probe::mountinfo("self").unwrap();
            let shared = scene.path("shared");
            let sandbox = programs(scene.base.clone().rootfs(Rootfs::tmpfs().read_only()))
                .template()
                .dir("/a")
                .dir("/a/b")
                .bind(&shared, "/a");
            for sandbox in [
                sandbox.clone().dir("/a/b/c"),
                sandbox.bind_ro(&shared, "/a/b/c"),
            ] {
                let _ = try_sh(&sandbox, "true");
                assert_eq!(common::probe::mountinfo("self").unwrap(), before);
                scene.assert_untouched();
            }
            0
        });
        assert!(status.success(), "{status}");
    });
}

/// The ways out of a root that chroot(2) leaves open.
#[test]
fn the_old_root_is_out_of_reach() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        on_each(|scene| {
            let said = sh(
                &scene.in_tmpfs(),
                "cd ../../../..; pwd -P; ls /.. | tr '\\n' ' '; ls /proc/1/root/.. | tr '\\n' ' '
                 echo; cut -d' ' -f5 /proc/1/mountinfo | grep -cx /",
            );
            let names = "bin lib lib64 proc sbin usr ";
            assert_eq!(said, format!("/\n{names}{names}\n1\n"));
        });
    });
}

/// What is mounted outside while a sandbox runs, and what it mounts, stay apart.
#[test]
fn mounts_do_not_cross() {
    isolated_as_both(|| {
        require!(root, new_proc, program("mount"));
        on_each(|scene| {
            let before = common::probe::mountinfo("self").unwrap();
            let sandbox = scene.in_tmpfs().bind(scene.path("shared"), "/w");
            sh(&sandbox, "mount -t tmpfs none /w");
            assert_eq!(common::probe::mountinfo("self").unwrap(), before);
            let at: &Path = &scene.path("shared");
            mount(c"none", at, c"tmpfs", MountFlags::empty(), None).unwrap();
            rustix::mount::unmount(at, rustix::mount::UnmountFlags::empty()).unwrap();
        });
    });
}
