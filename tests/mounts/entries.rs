//! The entries of a root, one by one.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ringfence::mount::{Attributes, Propagation};
use ringfence::{Bind, ErrorKind, HidePid, Overlay, Proc, Rootfs, Sandbox, Step, Tmpfs};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use tempfile::TempDir;

use crate::common::{isolated_as_both, require};
use crate::inside::{in_tmpfs, namespaces, options, programs, sh, try_sh};

/// A directory that holds an executable root: links to the places where programs are bound.
fn root_dir(dir: &Path) {
    for name in ["usr", "proc", "old"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    fs::write(dir.join("file"), "lower").unwrap();
}

#[test]
fn binds_have_the_options_asked_for() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let dir = TempDir::new().unwrap();
        let at = |name: &str| format!("/{name}");
        let cases = [
            ("plain", Bind::new(), "rw,nosuid,nodev"),
            ("ro", Bind::new().read_only(), "ro,nosuid,nodev"),
            ("dev", Bind::new().allow_dev(), "rw,nosuid"),
            ("suid", Bind::new().allow_suid(), "rw,nodev"),
            ("noexec", Bind::new().noexec(), "rw,nosuid,nodev,noexec"),
        ];
        let mut sandbox = in_tmpfs();
        for (name, bind, _) in cases {
            sandbox = sandbox.bind_with(dir.path(), at(name), bind);
        }
        let base = options(&sandbox, "/plain");
        for (name, _, expected) in cases {
            let found = options(&sandbox, &at(name));
            for word in ["rw", "ro", "nosuid", "nodev", "noexec"] {
                let wanted = expected.split(',').any(|one| one == word);
                let inherited = word != "rw"
                    && word != "nosuid"
                    && word != "nodev"
                    && base.iter().any(|one| one == word);
                assert_eq!(
                    found.iter().any(|one| one == word),
                    wanted || inherited,
                    "{name}: {found:?}"
                );
            }
        }
    });
}

#[test]
fn a_missing_source_is_an_error_or_nothing() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let said = sh(
            &in_tmpfs()
                .bind_try("/nonexistent", "/a")
                .bind_ro_try("/nonexistent", "/b"),
            "ls -d /a /b 2>&1 | wc -l; cut -d' ' -f5 /proc/self/mountinfo | grep -c '^/[ab]$' || true",
        );
        assert_eq!(said, "2\n0\n");
        let error = try_sh(&in_tmpfs().bind("/nonexistent", "/a"), "true").unwrap_err();
        assert_eq!(error.kind(), ringfence::ErrorKind::NotFound);
        assert!(error.to_string().contains("/nonexistent at /a"), "{error}");
    });
}

#[test]
fn a_descriptor_can_be_bound() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("file"), "first").unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/f"), "below").unwrap();
        let open = |name: &str| OwnedFd::from(File::open(dir.path().join(name)).unwrap());
        let sandbox = in_tmpfs()
            .bind_fd(open("file"), "/file", Bind::new().read_only())
            .bind_fd(open("sub"), "/sub", Bind::new());
        assert_eq!(sh(&sandbox, "cat /file /sub/f"), "firstbelow");

        let plan = sandbox
            .clone()
            .command("/bin/cat")
            .arg("/file")
            .compile()
            .unwrap();
        fs::rename(dir.path().join("file"), dir.path().join("moved")).unwrap();
        symlink("/etc/passwd", dir.path().join("file")).unwrap();
        let error = plan.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{error:?}");

        let gone = open("moved");
        fs::remove_file(dir.path().join("moved")).unwrap();
        let sandbox = in_tmpfs().bind_fd(gone, "/file", Bind::new());
        let error = try_sh(&sandbox, "true").unwrap_err();
        assert_eq!(error.setter(), Some("bind_fd"), "{error:?}");
    });
}

#[test]
fn a_file_has_the_contents_of_a_descriptor() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let mut file = tempfile::tempfile().unwrap();
        let text = "line\n".repeat(20_000);
        file.write_all(text.as_bytes()).unwrap();
        let position = file.stream_position().unwrap();
        let sandbox =
            in_tmpfs().file_from("/etc/made", OwnedFd::from(file.try_clone().unwrap()), 0o640);
        for _ in 0..2 {
            let said = sh(&sandbox, "stat -c '%a %s' /etc/made; uniq /etc/made");
            assert_eq!(said, "640 100000\nline\n");
        }
        assert_eq!(file.stream_position().unwrap(), position);
    });
}

#[test]
fn permissions_are_changed() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let sandbox = in_tmpfs()
            .dir("/made")
            .chmod("/made", 0o1711)
            .file_with_mode("/made/file", "", 0)
            .chmod("/made/file", 0o640)
            .symlink("file", "/made/link")
            .chmod("/made/link", 0o600);
        let said = sh(&sandbox, "stat -c %a /made /made/file");
        assert_eq!(said, "1711\n600\n");
        let missing = try_sh(&in_tmpfs().chmod("/missing", 0o700), "true").unwrap_err();
        assert_eq!(missing.step(), Some(ringfence::Step::Chmod));
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
        let invalid = try_sh(&in_tmpfs().chmod("/made", 0o10000), "true").unwrap_err();
        assert_eq!(invalid.setter(), Some("chmod"));
    });
}

#[test]
fn procfs_shows_less_where_asked() {
    isolated_as_both(|| {
        require!(userns, new_proc, kernel(5, 8));
        let sandbox = programs(namespaces().rootfs(Rootfs::tmpfs())).proc_with(
            "/proc",
            Proc::new().subset_pid().hidepid(HidePid::Invisible),
        );
        let said = sh(
            &sandbox,
            "ls /proc/meminfo /proc/sys 2>&1 | wc -l; grep -o 'subset=pid' /proc/self/mountinfo; grep -Eo 'hidepid=(2|invisible)' /proc/self/mountinfo | wc -l",
        );
        assert_eq!(said, "2\nsubset=pid\n1\n");
    });
}

#[test]
fn a_cgroup_tree_is_read_only_unless_asked() {
    isolated_as_both(|| {
        require!(userns, new_proc, cgroup2);
        let sandbox = in_tmpfs().cgroup2("/cgroup").cgroup2_writable("/cgroup2");
        let said = sh(
            &sandbox,
            "cat /proc/self/cgroup | grep ^0; refused mkdir /cgroup/x; cut -d' ' -f5,6 /proc/self/mountinfo | grep cgroup",
        );
        assert!(said.contains("/cgroup ro,nosuid,nodev,noexec"), "{said}");
        assert!(said.contains("/cgroup2 rw,nosuid,nodev,noexec"), "{said}");
    });
}

#[test]
fn masks_hide_files_and_directories() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let dir = TempDir::new().unwrap();
        root_dir(&dir.path().join("data"));
        symlink("file", dir.path().join("data/link")).unwrap();
        let sandbox = in_tmpfs().bind(dir.path().join("data"), "/data");
        let said = sh(
            &sandbox.clone().mask("/data/link").mask("/data/usr"),
            "cat /data/file; ls -A /data/usr; refused touch /data/usr/x; stat -c %t:%T /data/file",
        );
        assert_eq!(said, "1:3\n");
        let error = try_sh(&sandbox.mask("/data/nothing"), "true").unwrap_err();
        assert_eq!(error.step(), Some(ringfence::Step::Mask));
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert!(error.hint().unwrap().contains("nothing to hide"));
        assert_eq!(fs::read(dir.path().join("data/file")).unwrap(), b"lower");
    });
}

#[test]
fn a_part_can_be_read_only() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let dir = TempDir::new().unwrap();
        root_dir(&dir.path().join("data"));
        let sandbox = in_tmpfs()
            .bind(dir.path().join("data"), "/data")
            .read_only("/data/usr")
            .remount("/data/file", Attributes::READ_ONLY | Attributes::NOEXEC);
        let said = sh(
            &sandbox,
            "touch /data/old/new; refused touch /data/usr/new; refused sh -c 'echo x > /data/file'; echo done",
        );
        assert_eq!(said, "done\n");
        assert!(options(&sandbox, "/data/file").contains(&"noexec".to_owned()));
        let error = try_sh(&in_tmpfs().remount("/usr", Attributes::NOATIME), "true").unwrap_err();
        assert_eq!(error.setter(), Some("remount"));
    });
}

#[test]
fn a_root_can_be_read_only() {
    isolated_as_both(|| {
        require!(userns, new_proc, overlay);
        let dir = TempDir::new().unwrap();
        root_dir(dir.path());
        let layer = TempDir::new().unwrap();
        root_dir(layer.path());
        // Where the caller may mount, something is mounted below the directory.
        let below = dir.path().join("old");
        let _ = mount(
            c"none",
            below.as_path(),
            c"tmpfs",
            MountFlags::empty(),
            None,
        );
        for (root, refused) in [
            (Rootfs::tmpfs(), 1),
            (Rootfs::dir(dir.path()), 2),
            (Rootfs::overlay(Overlay::new(layer.path()).throwaway()), 2),
        ] {
            let sandbox = programs(namespaces().rootfs(root.read_only()))
                .proc("/proc")
                .tmpfs("/tmp");
            let said = sh(
                &sandbox,
                "touch /tmp/x; touch /new /old/new 2>&1 | grep -c Read-only || true",
            );
            assert_eq!(said, format!("{refused}\n"));
        }
        assert!(!dir.path().join("new").exists());
    });
}

#[test]
fn a_root_directory_is_written_to() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let dir = TempDir::new().unwrap();
        root_dir(dir.path());
        let sandbox = programs(namespaces().rootfs(Rootfs::dir(dir.path()))).proc("/proc");
        sh(&sandbox, "cat /file > /copy");
        assert_eq!(fs::read(dir.path().join("copy")).unwrap(), b"lower");
    });
}

#[test]
fn overlays_put_layers_above_each_other() {
    isolated_as_both(|| {
        require!(userns, new_proc, overlay);
        let dir = TempDir::new().unwrap();
        // Bytes that separate or escape in option strings.
        let layers =
            ["low,er=1", "mid:dle", "up\\per", "work dir"].map(|name| dir.path().join(name));
        for layer in &layers {
            fs::create_dir(layer).unwrap();
        }
        let [low, middle, upper, work] = &layers;
        for (layer, name) in [(low, "low"), (middle, "middle")] {
            fs::write(layer.join(name), name).unwrap();
            fs::write(layer.join("both"), name).unwrap();
        }
        let lowers = Overlay::new(middle).lower(low);
        let read_only = in_tmpfs().overlay("/o", lowers.clone());
        assert_eq!(
            sh(
                &read_only,
                "cat /o/low /o/middle /o/both; refused touch /o/x"
            ),
            "lowmiddlemiddle"
        );

        let throwaway = in_tmpfs().overlay(
            "/o",
            lowers.clone().throwaway_in(Tmpfs::new().size(1 << 20)),
        );
        for _ in 0..2 {
            assert_eq!(
                sh(
                    &throwaway,
                    "cat /o/both; rm /o/both; echo x > /o/new; ls /o"
                ),
                "middlelow\nmiddle\nnew\n"
            );
        }
        assert!(
            try_sh(&throwaway, "head -c 3000000 /dev/zero > /o/big")
                .is_ok_and(|out| !out.status.success())
        );

        let kept = in_tmpfs().overlay("/o", lowers.upper(upper, work));
        assert_eq!(
            sh(&kept, "rm /o/low; echo kept > /o/new; ls /o"),
            "both\nmiddle\nnew\n"
        );
        assert_eq!(sh(&kept, "ls /o; cat /o/new"), "both\nmiddle\nnew\nkept\n");
        assert_eq!(fs::read(upper.join("new")).unwrap(), b"kept\n");
        assert_eq!(fs::read(low.join("low")).unwrap(), b"low");
    });
}

#[test]
fn many_layers_fit() {
    isolated_as_both(|| {
        require!(userns, new_proc, overlay);
        let dir = TempDir::new().unwrap();
        let long = "x".repeat(200);
        let mut overlay: Option<Overlay> = None;
        for number in 0..100 {
            let layer = dir.path().join(format!("{long}{number}"));
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(number.to_string()), "").unwrap();
            overlay = Some(match overlay {
                None => Overlay::new(layer),
                Some(overlay) => overlay.lower(layer),
            });
        }
        let sandbox = in_tmpfs().overlay("/o", overlay.unwrap());
        assert_eq!(sh(&sandbox, "ls /o | wc -l"), "100\n");
    });
}

#[test]
fn an_overlay_can_be_the_root() {
    isolated_as_both(|| {
        require!(userns, new_proc, overlay);
        let dir = TempDir::new().unwrap();
        root_dir(dir.path());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let root = Rootfs::overlay(Overlay::new(dir.path()).throwaway());
        let sandbox = programs(namespaces().rootfs(root)).proc("/proc");
        for _ in 0..2 {
            assert_eq!(
                sh(
                    &sandbox,
                    "cat /file; echo changed > /file; rmdir /old; ls -d /old 2>&1 | wc -l; stat -c %a /"
                ),
                "lower1\n711\n"
            );
        }
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"lower");
        assert!(dir.path().join("old").exists());
    });
}

#[test]
fn chroot_is_another_way_into_a_root() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let sandbox = programs(namespaces().rootfs(Rootfs::tmpfs().chroot())).proc("/proc");
        assert_eq!(
            sh(&sandbox, "ls /; pwd"),
            "bin\nlib\nlib64\nproc\nsbin\nusr\n/\n"
        );
    });
}

/// Something mounted over the caller's root must not keep the old root alive.
#[test]
fn the_old_root_goes_whatever_lies_over_it() {
    isolated_as_both(|| {
        require!(root);
        for _ in 0..3 {
            mount(c"none", c"/", c"tmpfs", MountFlags::empty(), None).unwrap();
        }
        let sandbox = programs(Sandbox::new().mount().pid().rootfs(Rootfs::tmpfs())).proc("/proc");
        let said = sh(&sandbox, "cut -d' ' -f5 /proc/self/mountinfo; ls /..");
        assert_eq!(
            said.lines().filter(|line| *line == "/").count(),
            1,
            "{said}"
        );
        assert!(!said.contains("/tmp") && !said.contains("root"), "{said}");
    });
}

/// What the host mounts later, and what the sandbox mounts, by propagation type.
#[test]
fn propagation_is_what_was_asked_for() {
    isolated_as_both(|| {
        require!(root);
        let dir = TempDir::new().unwrap();
        mount(c"none", dir.path(), c"tmpfs", MountFlags::empty(), None).unwrap();
        mount_change(dir.path(), MountPropagationFlags::SHARED).unwrap();
        let line = |propagation: Option<Propagation>| {
            let mut sandbox = Sandbox::new().mount();
            if let Some(propagation) = propagation {
                sandbox = sandbox.propagation(propagation);
            }
            let script = format!("grep ' {} ' /proc/self/mountinfo", dir.path().display());
            sh(&sandbox, &script)
        };
        let has = |text: &str, words: &[&str]| {
            let (fields, _) = text.split_once(" - ").unwrap();
            let fields: Vec<_> = fields.split(' ').skip(6).collect();
            ["shared:", "master:", "unbindable"].iter().all(|word| {
                fields.iter().any(|field| field.starts_with(word)) == words.contains(word)
            })
        };
        assert!(has(&line(None), &[]), "private by default");
        for (propagation, words) in [
            (Propagation::Private, &[][..]),
            (Propagation::Shared, &["shared:"][..]),
            (Propagation::Slave, &["master:"][..]),
            (Propagation::SlaveShared, &["shared:", "master:"][..]),
            (Propagation::Unbindable, &["unbindable"][..]),
        ] {
            let text = line(Some(propagation));
            assert!(has(&text, words), "{propagation:?}: {text}");
        }
    });
}

#[test]
fn the_sandboxs_own_mounts_never_show_outside() {
    isolated_as_both(|| {
        require!(root);
        mount_change(
            "/",
            MountPropagationFlags::SHARED | MountPropagationFlags::REC,
        )
        .unwrap();
        let before = crate::common::probe::mountinfo("self").unwrap();
        for propagation in [
            Propagation::Private,
            Propagation::Shared,
            Propagation::Slave,
            Propagation::SlaveShared,
            Propagation::Unbindable,
        ] {
            let mut sandbox = programs(Sandbox::new().mount().pid().rootfs(Rootfs::tmpfs()))
                .proc("/proc")
                .dev("/dev")
                .propagation(propagation);
            if require::overlay().is_ok() {
                sandbox = sandbox.overlay("/o", Overlay::new("/usr").throwaway());
            }
            sh(&sandbox, "true");
            let after = crate::common::probe::mountinfo("self").unwrap();
            assert_eq!(before, after, "{propagation:?}");
        }
        let procs = before
            .iter()
            .filter(|line| line.contains(" /proc ") && line.contains(" - proc "))
            .count();
        let shared = || Sandbox::new().mount().propagation(Propagation::Shared);
        for sandbox in [shared(), Sandbox::new().mount().inherit_propagation()] {
            // What is made on a stage over the root cannot be kept inside.
            let refused = |sandbox: &Sandbox| {
                let error = try_sh(sandbox, "true").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
                assert_eq!(before, crate::common::probe::mountinfo("self").unwrap());
            };
            let overlay = Overlay::new("/usr").throwaway();
            refused(&sandbox.clone().overlay("/tmp", overlay));
            if require::kernel(5, 12).is_err() {
                refused(&sandbox.pid().proc("/proc"));
                continue;
            }
            let error = try_sh(&sandbox.clone().tmpfs("/usr/share"), "true").unwrap_err();
            assert_eq!(error.step(), Some(Step::Propagation), "{error:?}");
            assert!(error.hint().is_some_and(|hint| hint.contains("outside")));
            // A mount point of its own is cut off first, and the rest is not.
            let tables = "grep -c ' /proc .* - proc ' /proc/self/mountinfo; \
                          grep -c '^[0-9]* [0-9]* [^ ]* / / .* shared:' /proc/self/mountinfo";
            let expected = format!("{}\n1", procs + 1);
            assert_eq!(sh(&sandbox.pid().proc("/proc"), tables).trim(), expected);
            let after = crate::common::probe::mountinfo("self").unwrap();
            assert_eq!(before, after);
        }
    });
}
