//! The root of a sandbox, seen from inside, and by mountinfo from outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use ringfence::{ErrorKind, IdMap, Rootfs, Sandbox, Step, Tmpfs};
use rustix::mount::{MountFlags, mount};
use rustix::process::geteuid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::thread::UnshareFlags;
use tempfile::TempDir;

use common::leaks::{Census, assert_same};
use common::{isolated_as_both, probe, require, sys};
use support::{ENGINES, Waiting, enter_userns, is_privileged, sandbox, sh, shell, with_programs};

/// Root inside, or the caller where it is privileged; with programs.
fn base() -> Sandbox {
    with_programs(match is_privileged() {
        true => Sandbox::new(),
        false => Sandbox::new().user().user_map(IdMap::root()),
    })
}

/// The fields of a line of mountinfo that matter here.
#[derive(Debug)]
struct Mount {
    point: String,
    options: BTreeSet<String>,
    propagation: Vec<String>,
    kind: String,
    super_options: String,
}

fn mounts(pid: u32) -> Vec<Mount> {
    probe::mountinfo(pid)
        .unwrap()
        .iter()
        .map(|line| {
            let (mount, fs) = line.split_once(" - ").unwrap();
            let mount: Vec<_> = mount.split(' ').collect();
            let fs: Vec<_> = fs.split(' ').collect();
            Mount {
                point: mount[4].to_owned(),
                options: mount[5].split(',').map(str::to_owned).collect(),
                propagation: mount[6..].iter().map(|&field| field.to_owned()).collect(),
                kind: fs[0].to_owned(),
                super_options: fs[2].to_owned(),
            }
        })
        .collect()
}

#[track_caller]
fn mounted<'a>(mounts: &'a [Mount], point: &str) -> &'a Mount {
    mounts
        .iter()
        .rfind(|mount| mount.point == point)
        .unwrap_or_else(|| panic!("nothing at {point}: {mounts:?}"))
}

fn has(mount: &Mount, options: &[&str]) -> bool {
    options.iter().all(|&option| mount.options.contains(option))
}

/// A mount namespace of this process in which anybody may mount.
fn enter_mountns() {
    match is_privileged() {
        true => sys::unshare(UnshareFlags::NEWNS).unwrap(),
        false => enter_userns(geteuid().as_raw(), UnshareFlags::NEWNS),
    }
}

fn mount_tmpfs(at: &Path) {
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), None).unwrap();
}

#[test]
fn the_root_holds_what_was_put_into_it_and_nothing_else() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        for engine in ENGINES {
            let sandbox = base()
                .pid()
                .dir("/empty")
                .dir_with_mode("/private", 0o700)
                .file("/etc/motd", b"hello\0\xff\n")
                .file_with_mode("/etc/script", "#!/bin/sh\necho ran\n", 0o755)
                .symlink("../nowhere", "/link")
                .tmpfs("/tmp")
                .proc("/proc")
                .engine(engine);
            let seen = sh(
                &sandbox,
                "ls -A / | tr '\\n' ' '; ls -A /etc /empty /tmp; \
                 stat -c '%a %F' /empty /private /etc /etc/motd /etc/script /tmp; \
                 readlink /link; od -An -c /etc/motd; /etc/script; ls -A /usr",
            );
            let mut expected: Vec<_> = ["empty", "etc", "link", "private", "proc", "tmp", "usr"]
                .map(str::to_owned)
                .into();
            for dir in ["bin", "sbin", "lib", "lib32", "lib64"] {
                let dir = Path::new("/").join(dir);
                if dir.exists() || dir.is_symlink() {
                    expected.push(dir.file_name().unwrap().to_str().unwrap().to_owned());
                }
            }
            expected.sort();
            let usr: Vec<_> = sh(&Sandbox::new(), "ls -A /usr")
                .lines()
                .map(str::to_owned)
                .collect();
            let expected = format!(
                "{} /empty:\n\n/etc:\nmotd\nscript\n\n/tmp:\n\
                 755 directory\n700 directory\n755 directory\n644 regular file\n\
                 755 regular file\n1777 directory\n../nowhere\n   h   e   l   l   o  \\0 377  \\n\n\
                 ran\n{}",
                expected.join(" "),
                usr.join("\n")
            );
            assert_eq!(seen, expected, "{engine:?}");
        }
    });
}

#[test]
fn mounts_are_those_asked_for_in_their_order() {
    isolated_as_both(|| {
        require!(userns, netns, new_proc);
        let sandbox = base()
            .pid()
            .net()
            .ipc()
            .proc("/proc")
            .sysfs("/sys")
            .mqueue("/dev/mqueue")
            .tmpfs_with("/small", Tmpfs::new().size(1 << 20).inodes(10).mode(0o750));
        for engine in ENGINES {
            let child = Waiting::start(&sandbox.clone().engine(engine));
            let mounts = mounts(child.id());
            let shown: Vec<_> = mounts
                .iter()
                .map(|mount| mount.point.as_str())
                // Directories that are no links into /usr, and what is mounted below them.
                .filter(|point| {
                    !["/usr/", "/bin", "/sbin", "/lib"]
                        .iter()
                        .any(|own| point.starts_with(own))
                })
                .collect();
            let expected = ["/", "/usr", "/proc", "/sys", "/dev/mqueue", "/small"];
            assert_eq!(shown, expected, "{engine:?}");

            assert_eq!(mounted(&mounts, "/").kind, "tmpfs");
            assert!(has(mounted(&mounts, "/"), &["rw", "nosuid", "nodev"]));
            assert!(has(mounted(&mounts, "/usr"), &["ro", "nosuid", "nodev"]));
            let strict = ["nosuid", "nodev", "noexec"];
            for (point, kind) in [
                ("/proc", "proc"),
                ("/sys", "sysfs"),
                ("/dev/mqueue", "mqueue"),
            ] {
                let mount = mounted(&mounts, point);
                assert_eq!(mount.kind, kind);
                assert!(has(mount, &strict), "{mount:?}");
            }
            assert!(has(mounted(&mounts, "/sys"), &["ro"]));
            let small = mounted(&mounts, "/small");
            for option in ["size=1024k", "nr_inodes=10", "mode=750"] {
                assert!(
                    small.super_options.split(',').any(|o| o == option),
                    "{small:?}"
                );
            }
            for mount in &mounts {
                assert_eq!(mount.propagation, [""; 0], "private");
            }
        }
    });
}

#[test]
fn later_entries_cover_earlier_ones() {
    isolated_as_both(|| {
        require!(userns);
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("file"), "bound").unwrap();
        let covered = base()
            .tmpfs("/a")
            .file("/a/b/c", "1")
            .bind(dir.path(), "/a/b");
        assert_eq!(sh(&covered, "ls /a/b; cat /a/b/file"), "file\nbound");
        let filled = base()
            .bind(dir.path(), "/a")
            .tmpfs("/a/dir")
            .file("/a/dir/x", "2");
        assert_eq!(sh(&filled, "ls /a; cat /a/dir/x"), "dir\nfile\n2");
        // What an entry makes inside a bind is there outside as well, what it mounts is not.
        assert!(dir.path().join("dir").is_dir());
        assert_eq!(fs::read_dir(dir.path().join("dir")).unwrap().count(), 0);
    });
}

#[test]
fn read_only_binds_are_read_only_in_their_depth() {
    isolated_as_both(|| {
        require!(userns);
        enter_mountns();
        let dir = TempDir::new().unwrap();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        mount_tmpfs(&below);
        fs::write(below.join("file"), "text").unwrap();
        // In a user namespace of one's own the mounts may be those of another.
        for sandbox in [
            base(),
            with_programs(Sandbox::new().user().user_map(IdMap::root())),
        ] {
            let read_only = sandbox.clone().bind_ro(dir.path(), "/data");
            let child = Waiting::start(&read_only);
            let mounts = mounts(child.id());
            for point in ["/data", "/data/below"] {
                assert!(has(mounted(&mounts, point), &["ro", "nosuid", "nodev"]));
            }
            let script =
                "cat /data/below/file; echo x 2>&1 >/data/x || echo x >/data/below/file || echo no";
            let seen = sh(&read_only, script);
            assert!(seen.starts_with("text") && seen.ends_with("no"), "{seen}");
            assert_eq!(seen.matches("Read-only file system").count(), 2, "{seen}");
            let writable = sandbox.bind(dir.path(), "/data");
            sh(&writable, "echo y >/data/below/new; rm /data/below/new");
        }
    });
}

#[test]
fn restrictions_of_the_source_stay() {
    isolated_as_both(|| {
        require!(userns);
        enter_mountns();
        let dir = TempDir::new().unwrap();
        let flags = MountFlags::NOEXEC | MountFlags::RDONLY | MountFlags::NOATIME;
        mount("tmpfs", dir.path(), "tmpfs", flags, None).unwrap();
        let child = Waiting::start(&base().bind(dir.path(), "/data"));
        let mounts = mounts(child.id());
        let data = mounted(&mounts, "/data");
        assert!(
            has(data, &["ro", "noexec", "noatime", "nosuid", "nodev"]),
            "{data:?}"
        );
    });
}

#[test]
fn a_file_is_bound_on_a_file() {
    isolated_as_both(|| {
        require!(userns);
        let dir = TempDir::new().unwrap();
        let source = dir.path().join("source");
        fs::write(&source, "source\n").unwrap();
        let sandbox = base()
            .bind_ro(&source, "/made/on/the/way")
            .file("/there", "covered")
            .bind(&source, "/there")
            .symlink("/there", "/link")
            .bind_ro(&source, "/link");
        let seen = sh(
            &sandbox,
            "cat /made/on/the/way /there; stat -c %F /link; echo more >>/there || echo refused",
        );
        // `/link` has led to `/there`, which then is read-only.
        assert!(
            seen.starts_with("source\nsource\nsymbolic link\n"),
            "{seen}"
        );
        assert!(seen.ends_with("Read-only file system\nrefused"), "{seen}");
        assert_eq!(fs::read_to_string(&source).unwrap(), "source\n");
    });
}

#[test]
fn devices_work() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        for engine in ENGINES {
            let sandbox = base().pid().proc("/proc").dev("/dev").engine(engine);
            let seen = sh(
                &sandbox,
                "ls -x -w 200 /dev; \
                 for node in null zero full random urandom tty; do stat -c '%n %F %t:%T' /dev/$node; done; \
                 stat -c '%a %F' /dev/shm /dev/pts; readlink /dev/ptmx /dev/fd /dev/stdin; \
                 echo gone >/dev/null; head -c 4 /dev/zero | od -An -tx1; \
                 { echo x >/dev/full; } 2>/dev/null || echo full; \
                 head -c 8 /dev/urandom | wc -c; echo err >/dev/stderr; \
                 touch /dev/shm/file && ls /dev/shm",
            );
            let expected = "\
fd  full  null\tptmx  pts  random  shm  stderr\tstdin  stdout  tty  urandom  zero
/dev/null character special file 1:3
/dev/zero character special file 1:5
/dev/full character special file 1:7
/dev/random character special file 1:8
/dev/urandom character special file 1:9
/dev/tty character special file 5:0
1777 directory
755 directory
pts/ptmx
/proc/self/fd
/proc/self/fd/0
 00 00 00 00
full
8
err
file";
            let (listed, rest) = seen.split_once('\n').unwrap();
            let (expected_list, expected) = expected.split_once('\n').unwrap();
            let words = |text: &str| {
                text.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert_eq!(words(listed), words(expected_list), "{engine:?}");
            assert_eq!(rest, expected, "{engine:?}");
        }
    });
}

/// Not a test of its own: opens a pseudo-terminal where another runs it.
#[test]
fn opens_a_terminal() {
    if std::env::var_os(TERMINAL).is_none() {
        return;
    }
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&name)
        .unwrap();
    rustix::io::write(&theirs, b"through\n").unwrap();
    let mut text = [0; 9];
    fs::File::from(ours).read_exact(&mut text).unwrap();
    assert_eq!(&text, b"through\r\n");
    println!("opened: {name}");
}

const TERMINAL: &str = "RINGFENCE_TEST_TERMINAL";

#[test]
fn the_terminals_are_its_own() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        // Of the instance outside, where the next one gets another number.
        let _held = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let dir = TempDir::new().unwrap();
        let program = dir.path().join("test");
        fs::copy("/proc/self/exe", &program).unwrap();
        let command = base()
            .pid()
            .proc("/proc")
            .dev("/dev")
            .bind_ro(program, "/test")
            .command("/test")
            .args(["opens_a_terminal", "--exact", "--nocapture"])
            .env(TERMINAL, "1");
        let text = support::stdout(&command);
        // The first of its instance, whatever there is outside.
        assert!(text.contains("opened: /dev/pts/0"), "{text}");
    });
}

#[test]
fn message_queues_are_its_own() {
    isolated_as_both(|| {
        require!(userns);
        let sandbox = base().ipc().mqueue("/dev/mqueue");
        assert_eq!(
            sh(
                &sandbox,
                "touch /dev/mqueue/q; cat /dev/mqueue/q | cut -c 1-5"
            ),
            "QSIZE"
        );
        assert_eq!(sh(&sandbox, "ls -A /dev/mqueue"), "");
    });
}

#[test]
fn sysfs_shows_its_own_network() {
    isolated_as_both(|| {
        require!(userns, netns);
        let sandbox = base().net().sysfs("/sys");
        let devices = sh(&sandbox, "ls /sys/class/net");
        assert!(devices.lines().any(|line| line == "lo"), "{devices}");
        assert!(!devices.contains("eth"), "{devices}");
    });
}

/// A directory that a program can run in.
fn root_dir() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64"] {
        let host = Path::new("/").join(name);
        let inside = dir.path().join(name);
        match host.read_link() {
            Ok(target) => symlink(target, inside).unwrap(),
            Err(_) if host.is_dir() => fs::create_dir(inside).unwrap(),
            Err(_) => {}
        }
    }
    fs::write(dir.path().join("mark"), "own root").unwrap();
    dir
}

fn in_dir(dir: &TempDir) -> Sandbox {
    let mut sandbox = match is_privileged() {
        true => Sandbox::new(),
        false => Sandbox::new().user().user_map(IdMap::root()),
    }
    .mount()
    .rootfs(Rootfs::dir(dir.path()));
    for name in ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"] {
        let host = Path::new(name);
        if host.is_dir() && !host.is_symlink() {
            sandbox = sandbox.bind_ro(host, host);
        }
    }
    sandbox
}

#[test]
fn an_existing_directory_becomes_the_root() {
    isolated_as_both(|| {
        require!(userns);
        let dir = root_dir();
        let before = Census::take();
        for engine in ENGINES {
            let sandbox = in_dir(&dir).engine(engine);
            let seen = sh(
                &sandbox,
                "cat /mark; pwd; cd /..; pwd; echo kept >/new; ls -d /tmp || echo no",
            );
            assert!(seen.starts_with("own root/\n/\n"), "{seen}");
            assert!(seen.ends_with("\nno"), "{seen}");
            assert_eq!(
                fs::read_to_string(dir.path().join("new")).unwrap(),
                "kept\n"
            );
            assert_eq!(
                fs::metadata(dir.path().join("new")).unwrap().uid(),
                geteuid().as_raw()
            );
        }
        assert_eq!(before.section("mounts"), Census::take().section("mounts"));
    });
}

#[test]
fn nothing_of_the_old_root_is_left() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        for engine in ENGINES {
            let child = Waiting::start(&base().pid().proc("/proc").engine(engine));
            let old: BTreeSet<_> = probe::mountinfo("self")
                .unwrap()
                .iter()
                .map(|line| line.split(' ').next().unwrap().to_owned())
                .collect();
            for line in probe::mountinfo(child.id()).unwrap() {
                let id = line.split(' ').next().unwrap();
                assert!(!old.contains(id), "a mount of the caller's: {line}");
            }
            // From outside the mounts of the child are all below its root.
            let root = fs::metadata(format!("/proc/{}/root", child.id())).unwrap();
            let own = fs::metadata("/").unwrap();
            assert_ne!((root.dev(), root.ino()), (own.dev(), own.ino()));
            let cwd = fs::metadata(format!("/proc/{}/cwd", child.id())).unwrap();
            assert_eq!((root.dev(), root.ino()), (cwd.dev(), cwd.ino()));
            let seen = sh(
                &base().pid().proc("/proc").engine(engine),
                "stat -Lc %d:%i / /.. /proc/1/root/. /proc/self/cwd/../.. | uniq | wc -l",
            );
            assert_eq!(seen, "1");
        }
    });
}

#[test]
fn nothing_shows_outside() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let dir = root_dir();
        let sandbox = in_dir(&dir)
            .pid()
            .tmpfs("/tmp")
            .proc("/proc")
            .dev("/dev")
            .file("/tmp/file", "");
        // Leaves the directories to mount on.
        sh(&sandbox, "true");
        let before = Census::take().with_files(dir.path());
        let child = Waiting::start(&sandbox);
        let during = Census::take().with_files(dir.path());
        for section in ["mounts", "files", "links"] {
            assert_eq!(before.section(section), during.section(section));
        }
        drop(child);
        assert_same(&before, &Census::take().with_files(dir.path()));
    });
}

#[test]
fn the_working_directory_is_inside() {
    isolated_as_both(|| {
        require!(userns);
        std::env::set_current_dir("/usr/bin").unwrap();
        for engine in ENGINES {
            let sandbox = base()
                .dir("/work/here")
                .symlink("/work", "/w")
                .engine(engine);
            let pwd = |dir: Option<&str>| {
                let command = shell(&sandbox, "pwd -P");
                support::stdout(&match dir {
                    Some(dir) => command.current_dir(dir),
                    None => command,
                })
            };
            assert_eq!(pwd(None), "/");
            assert_eq!(pwd(Some("/work/here")), "/work/here");
            assert_eq!(pwd(Some("/w/here/..")), "/work");
            assert_eq!(pwd(Some("/../../..")), "/");
            let error = shell(&sandbox, "pwd")
                .current_dir("/missing")
                .spawn()
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert_eq!(error.step(), Some(Step::CurrentDir));
        }
    });
}

/// CVE-2024-21626: a descriptor of the caller's that the set-up still has must not be a way out.
#[test]
fn no_descriptor_leads_out() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let root = fs::File::open("/").unwrap();
        for number in 20..24 {
            sys::dup_over(&root, number).unwrap();
        }
        for (engine, proc) in ENGINES
            .into_iter()
            .flat_map(|e| [(e, "self"), (e, "1"), (e, "thread-self")])
        {
            let sandbox = base().pid().proc("/proc").engine(engine);
            for number in 0..40 {
                let dir = format!("/proc/{proc}/fd/{number}");
                let command = shell(&sandbox, "pwd -P; ls -d /proc/1/cwd/home").current_dir(&dir);
                let error = command.spawn().map(drop).unwrap_err();
                assert_eq!(error.step(), Some(Step::CurrentDir), "{dir}: {error:?}");
            }
            for way in ["cwd", "root"] {
                let command = shell(&sandbox, "pwd").current_dir(format!("/proc/{proc}/{way}"));
                assert!(command.spawn().is_err());
            }
        }
    });
}

/// The same where only the root directory is changed: the image may hold a link to such a descriptor.
#[test]
fn no_descriptor_leads_out_of_a_changed_root() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let dir = TempDir::new().unwrap();
        let host = fs::File::open("/").unwrap();
        for number in 20..24 {
            sys::dup_over(&host, number).unwrap();
        }
        for engine in ENGINES {
            let base = Sandbox::new().user().user_map(IdMap::root()).pid().mount();
            let sandbox = base.engine(engine).chroot(dir.path()).proc("/proc");
            let sandbox = ["/bin", "/lib", "/lib64", "/usr"]
                .into_iter()
                .filter(|path| fs::metadata(path).is_ok())
                .fold(sandbox, |sandbox, path| sandbox.bind_ro(path, path));
            for number in 0..40 {
                let link = dir.path().join(format!("work{number}"));
                let _ = symlink(format!("/proc/self/fd/{number}"), &link);
                for dir in [format!("/work{number}"), format!("work{number}")] {
                    let command = shell(&sandbox, "ls -d home").current_dir(&dir);
                    // By pipes, for which descriptors are kept as well.
                    let error = command.output().map(drop).unwrap_err();
                    assert_eq!(error.step(), Some(Step::CurrentDir), "{dir}: {error:?}");
                }
            }
            for dir in ["/usr", "usr"] {
                let said = shell(&sandbox, "pwd").current_dir(dir).output().unwrap();
                assert_eq!(String::from_utf8_lossy(&said.stdout), "/usr\n");
            }
        }
    });
}

#[test]
fn entries_without_a_root_go_into_the_inherited_one() {
    isolated_as_both(|| {
        require!(userns);
        let dir = TempDir::new().unwrap();
        let at = dir.path().join("tmp");
        fs::create_dir(&at).unwrap();
        let before = Census::take().with_files(dir.path());
        let sandbox = sandbox().mount().tmpfs(&at).file(at.join("file"), "inside");
        let file = at.join("file");
        assert_eq!(sh(&sandbox, &format!("cat {}", file.display())), "inside");
        assert!(!file.exists());
        let after = Census::take().with_files(dir.path());
        for section in ["mounts", "files", "children", "fds"] {
            assert_eq!(before.section(section), after.section(section));
        }
    });
}

#[test]
fn the_umask_of_the_caller_does_not_change_modes() {
    isolated_as_both(|| {
        require!(userns);
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let sandbox = base()
            .dir("/dir")
            .file("/file", "")
            .file_with_mode("/open", "", 0o666);
        let seen = sh(&sandbox, "stat -c %a /dir /file /open; umask");
        assert_eq!(seen, "755\n644\n666\n0077");
    });
}

#[test]
fn a_path_is_not_made_through_a_link_to_the_outside() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let dir = root_dir();
        let outside = TempDir::new().unwrap();
        for name in ["absolute", "proc"] {
            symlink(outside.path(), dir.path().join(name)).unwrap();
        }
        let up = format!("../../../../../../..{}", outside.path().display());
        symlink(up, dir.path().join("relative")).unwrap();
        for name in ["absolute", "relative"] {
            let sandbox = in_dir(&dir).file(format!("/{name}/file"), "inside");
            let error = sandbox.command("/bin/true").status();
            assert_eq!(
                fs::read_dir(outside.path()).unwrap().count(),
                0,
                "{error:?}"
            );
        }
        let sandbox = in_dir(&dir).pid().proc("/proc");
        let error = sandbox.command("/bin/true").status().unwrap_err();
        assert_eq!(error.step(), Some(Step::Proc), "{error:?}");
        assert!(error.hint().unwrap().contains("symbolic link"), "{error:?}");
    });
}

#[test]
fn a_failing_entry_leaves_nothing() {
    isolated_as_both(|| {
        require!(userns);
        let dir = TempDir::new().unwrap();
        let fail = || {
            let sandbox = base().tmpfs("/a").bind("/nonexistent-source", "/a/b");
            sandbox.command("/bin/true").spawn().map(drop).unwrap_err()
        };
        fail();
        let before = Census::take().with_files(dir.path());
        for _ in 0..3 {
            assert_eq!(fail().step(), Some(Step::Bind));
        }
        assert_same(&before, &Census::take().with_files(dir.path()));
    });
}
