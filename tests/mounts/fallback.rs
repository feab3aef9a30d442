//! The same tests by each of the ways to mount, and the same mount table.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ringfence::{Bind, MountLock, Overlay, Rootfs, Sandbox, Tmpfs};
use rustix::mount::{MountFlags, mount, mount_bind};
use tempfile::TempDir;

use crate::common::{in_forked_child, isolated_as_both, require};
use crate::inside::{Kernel, in_tmpfs, namespaces, options, programs, sh, try_sh};

/// Runs the body once for each kernel, in a process where that is what there is.
fn on_each(body: impl Fn(Kernel)) {
    for kernel in [Kernel::New, Kernel::WithoutSetattr, Kernel::Classic] {
        let status = in_forked_child(|| {
            kernel.pretend();
            body(kernel);
            0
        });
        assert!(status.success(), "{kernel:?}: {status}");
    }
}

/// A directory with a file, and where the caller may mount, a tmpfs and a bound file below it.
fn source(dir: &Path) -> bool {
    fs::create_dir_all(dir.join("sub/deep")).unwrap();
    fs::write(dir.join("file"), "text").unwrap();
    fs::write(dir.join("bound"), "").unwrap();
    let mounted = mount(
        c"none",
        dir.join("sub").as_path(),
        c"tmpfs",
        MountFlags::empty(),
        None,
    )
    .is_ok();
    if mounted {
        fs::create_dir(dir.join("sub/de ep")).unwrap();
        let deep = dir.join("sub/de ep");
        mount(c"none", deep.as_path(), c"tmpfs", MountFlags::NOEXEC, None).unwrap();
        fs::write(deep.join("file"), "deep").unwrap();
        mount_bind(deep.join("file"), dir.join("bound")).unwrap();
    }
    mounted
}

/// One sandbox with everything in it.
fn everything(dir: &Path) -> Sandbox {
    let lower = dir.join("lower");
    in_tmpfs()
        .bind_ro(dir.join("source"), "/ro")
        .bind(dir.join("source"), "/rw")
        .bind_with(
            dir.join("source"),
            "/strict",
            Bind::new().read_only().noexec().nosymfollow(),
        )
        .bind_try("/nonexistent", "/never")
        .bind_data("told", "/told", 0o640, Bind::new().read_only())
        .bind(dir.join("source/file"), "/etc/file")
        .sysfs("/sys")
        .mqueue("/mqueue")
        .devpts("/pts")
        .tmpfs_with("/small", Tmpfs::new().size(1 << 20).mode(0o700))
        .overlay("/over", Overlay::new(&lower).throwaway())
        .overlay("/over2", Overlay::new(&lower).throwaway())
        .bind(dir.join("source"), "/part")
        .read_only("/part/sub")
        .mask("/proc/version")
        .mask("/proc/sys")
        .dir_with_mode("/made", 0o750)
        .file("/made/hello", "hello\n")
        .symlink("made/hello", "/link")
}

/// What is on top at each mount point, without what differs from run to run: ids, device numbers, and
/// how an overlay names its layers.
fn table(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .map(|line| {
            let (mount, file_system) = line.split_once(" - ").unwrap();
            let mount: Vec<&str> = mount.split(' ').skip(3).collect();
            let file_system: Vec<&str> = file_system
                .split(' ')
                .map(|field| field.split(",lowerdir").next().unwrap())
                .collect();
            let line = format!("{} - {}", mount.join(" "), file_system.join(" "));
            (mount[1].to_owned(), line)
        })
        .collect()
}

#[test]
fn the_mount_table_is_the_same() {
    isolated_as_both(|| {
        require!(userns, new_proc, overlay);
        let dir = TempDir::new().unwrap();
        source(&dir.path().join("source"));
        fs::create_dir(dir.path().join("lower")).unwrap();
        let sandbox = everything(dir.path());
        let out = dir.path().join("table");
        let mut first = None;
        for kernel in [Kernel::New, Kernel::WithoutSetattr, Kernel::Classic] {
            let status = in_forked_child(|| {
                kernel.pretend();
                fs::write(&out, sh(&sandbox, "cat /proc/self/mountinfo")).unwrap();
                0
            });
            assert!(status.success(), "{kernel:?}: {status}");
            let table = table(&fs::read_to_string(&out).unwrap());
            let first = first.get_or_insert_with(|| table.clone());
            assert_eq!(*first, table, "{kernel:?}");
        }
        let all = first.unwrap();
        let strict: Vec<_> = all
            .values()
            .filter(|line| line.contains(" /strict"))
            .collect();
        assert!(!strict.is_empty());
        for line in strict {
            assert!(line.contains(" ro,nosuid,nodev,noexec,"), "{line}");
            assert!(line.contains("nosymfollow"), "{line}");
        }
        for line in all.values().filter(|line| line.contains(" /ro")) {
            assert!(line.contains(" ro,nosuid,nodev,"), "{line}");
        }
    });
}

#[test]
fn everything_works_inside() {
    isolated_as_both(|| {
        require!(userns, new_proc, overlay);
        let dir = TempDir::new().unwrap();
        source(&dir.path().join("source"));
        fs::create_dir(dir.path().join("lower")).unwrap();
        fs::write(dir.path().join("lower/f"), "lower").unwrap();
        let sandbox = everything(dir.path());
        on_each(|_| {
            let said = sh(
                &sandbox,
                "cat /link; cat /etc/file; echo; cat /over/f; echo
                 refused touch /ro/new; refused touch /ro/sub/new
                 refused touch /part/sub/new; touch /part/new; rm /part/new
                 echo changed > /over/f; cat /over/f; cat /over2/f; echo
                 cat /proc/version; ls -A /proc/sys; ls -A /never 2>&1 | wc -l
                 echo x > /dev/null; head -c 3 /dev/zero | wc -c; test -c /dev/ptmx
                 test -c /pts/ptmx; stat -c %a /made /small",
            );
            assert_eq!(said, "hello\ntext\nlower\nchanged\nlower\n1\n3\n750\n700\n");
            assert_eq!(fs::read(dir.path().join("lower/f")).unwrap(), b"lower");
        });
    });
}

/// Submounts below a read-only bind: none of them can be written to, whatever they are.
#[test]
fn read_only_reaches_every_submount() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let dir = TempDir::new().unwrap();
        let mounted = source(&dir.path().join("source"));
        let sandbox = in_tmpfs().bind_ro(dir.path().join("source"), "/ro");
        on_each(|_| {
            let said = sh(
                &sandbox,
                "for f in /ro/new /ro/sub/new '/ro/sub/de ep/new' /ro/bound; do
                   if [ -e \"${f%/new}\" ]; then (: > \"$f\") 2>&1 | sed 's/.*: //'; fi
                 done
                 grep ' /ro[^ ]* rw' /proc/self/mountinfo || true",
            );
            let refused = if mounted { 4 } else { 3 };
            assert_eq!(said, "Read-only file system\n".repeat(refused));
        });
    });
}

/// In a user namespace the inherited flags are locked; a remount that forgets one is refused.
#[test]
fn locked_flags_of_the_source_stay() {
    isolated_as_both(|| {
        require!(root, userns, new_proc);
        let dir = TempDir::new().unwrap();
        let locked = MountFlags::NOSUID
            | MountFlags::NODEV
            | MountFlags::NOEXEC
            | MountFlags::NOATIME
            | MountFlags::NODIRATIME
            | MountFlags::NOSYMFOLLOW;
        mount(c"none", dir.path(), c"tmpfs", locked, None).unwrap();
        let sandbox = in_tmpfs()
            .bind_ro(dir.path(), "/ro")
            .bind_with(dir.path(), "/rw", Bind::new().allow_dev().allow_suid())
            .bind(dir.path(), "/later")
            .read_only("/later");
        on_each(|_| {
            let said = sh(&sandbox, "cut -d' ' -f5,6 /proc/self/mountinfo");
            let flags = "nosuid,nodev,noexec,noatime,nodiratime,nosymfollow";
            for expected in [
                format!("/ro ro,{flags}"),
                format!("/rw rw,{flags}"),
                format!("/later ro,{flags}"),
            ] {
                assert!(said.contains(&expected), "{expected} in\n{said}");
            }
        });
    });
}

/// A mount that another one covers cannot be reached by mount(2): an error, not a writable mount.
#[test]
fn a_covered_submount_is_an_error_rather_than_writable() {
    isolated_as_both(|| {
        require!(root, userns, new_proc);
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("twice")).unwrap();
        for _ in 0..2 {
            let at = dir.path().join("twice");
            mount(c"none", at.as_path(), c"tmpfs", MountFlags::empty(), None).unwrap();
        }
        let sandbox = in_tmpfs().bind_ro(dir.path(), "/ro");
        on_each(|kernel| {
            let done = sandbox.clone().command("/bin/true").status();
            match (kernel, done) {
                (Kernel::New, done) if require::kernel(5, 12).is_ok() => {
                    assert!(done.unwrap().success());
                }
                (_, done) => {
                    let error = done.unwrap_err();
                    assert_eq!(error.step(), Some(ringfence::Step::Bind), "{error:?}");
                    assert!(error.hint().unwrap().contains("covered"), "{error:?}");
                }
            }
        });
    });
}

#[test]
fn entries_go_into_the_inherited_root() {
    isolated_as_both(|| {
        require!(userns, new_proc, overlay);
        let dir = TempDir::new().unwrap();
        for name in ["lower", "at", "ro"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("lower/f"), "lower").unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let sandbox = namespaces()
            .proc("/proc")
            .overlay(at("at"), Overlay::new(at("lower")).throwaway())
            .read_only(at("ro"));
        on_each(|_| {
            let script = format!(
                "cat {}/f; refused touch {}/x; echo more > {}/g; cut -d' ' -f5 /proc/self/mountinfo | grep -c '[.]ringfence-' || true; pwd",
                at("at"),
                at("ro"),
                at("at")
            );
            let here = std::env::current_dir().unwrap();
            assert_eq!(
                sh(&sandbox, &script),
                format!("lower0\n{}\n", here.display())
            );
            assert!(!dir.path().join("at/g").exists());
        });
    });
}

#[test]
fn without_a_user_namespace() {
    isolated_as_both(|| {
        require!(root);
        let dir = TempDir::new().unwrap();
        source(&dir.path().join("source"));
        let sandbox = programs(
            Sandbox::new()
                .mount()
                .pid()
                .rootfs(Rootfs::tmpfs().read_only()),
        )
        .proc("/proc")
        .dev("/dev")
        .bind_ro(dir.path().join("source"), "/ro")
        .lock_mounts(MountLock::DropCapability);
        on_each(|_| {
            let said = sh(
                &sandbox,
                "refused touch /x; refused touch /ro/sub/x; test -c /dev/ptmx
                 refused mount -o remount,rw,bind /ro; echo done",
            );
            assert_eq!(said, "done\n");
        });
    });
}

/// What holds of a root that is read-only, or may hold set-user-id programs, from the beginning.
fn check_restricted_root(dir: &Path) {
    let root = |bind| {
        let sandbox = namespaces().rootfs(Rootfs::bind(dir, bind));
        sandbox.bind_ro("/usr", "/usr").proc("/proc")
    };
    let read_only = root(Bind::new().read_only());
    for (sandbox, expected) in [
        (&read_only, ["ro", "nosuid", "nodev"]),
        (&root(Bind::new().allow_suid()), ["rw", "rw", "nodev"]),
    ] {
        let found = options(sandbox, "/");
        for word in expected {
            assert!(found.iter().any(|one| one == word), "{word}: {found:?}");
        }
    }
    let error = try_sh(&read_only.dir("/missing"), "true").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    assert!(!dir.join("missing").exists());
}

#[test]
fn a_root_is_restricted_from_the_beginning() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let dir = TempDir::new().unwrap();
        for name in ["usr", "proc"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            if let Ok(target) = Path::new("/").join(name).read_link() {
                symlink(target, dir.path().join(name)).unwrap();
            }
        }
        on_each(|_| check_restricted_root(dir.path()));
    });
}
