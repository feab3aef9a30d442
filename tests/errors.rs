//! Failures made on the real kernel: each names its step and the cure, and leaves nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ringfence::{Command, Engine, Error, ErrorKind, IdMap, Rootfs, Sandbox, Stdio, Step};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{DumpableBehavior, Resource, getegid, geteuid, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities};
use tempfile::TempDir;

use common::leaks::{Census, assert_same};
use common::seccomp::{self, Arg, Filter};
use common::{
    in_forked_child, isolated_as_both, isolated_as_user, isolated_as_user_with_subids, require, sys,
};
use support::{ENGINES, enter_userns, is_privileged, sandbox, with_programs};

/// What an error is expected to say.
#[derive(Debug)]
struct Expected {
    kind: ErrorKind,
    step: Step,
    errno: i32,
    /// Words of the hint.
    hint: &'static [&'static str],
}

/// Fails to start the command, twice, and compares the process before and after.
#[track_caller]
fn assert_fails(command: &Command, expected: &Expected) -> Error {
    let fail = || match command.spawn() {
        Err(error) => error,
        Ok(_) => panic!("started, but was to fail: {expected:?}"),
    };
    drop(fail());
    let before = Census::take();
    let error = fail();
    assert_same(&before, &Census::take());
    assert_eq!(error.kind(), expected.kind, "{error:?}");
    assert_eq!(error.step(), Some(expected.step), "{error:?}");
    assert_eq!(error.raw_os_error(), Some(expected.errno), "{error:?}");
    assert!(error.syscall().is_some(), "{error:?}");
    let hint = error.hint().unwrap_or_else(|| panic!("no hint: {error:?}"));
    for word in expected.hint {
        assert!(hint.contains(word), "{error:?} lacks {word}");
    }
    let io = std::io::Error::from(error);
    assert_eq!(
        io.kind(),
        std::io::Error::from_raw_os_error(expected.errno).kind()
    );
    *io.into_inner().unwrap().downcast().unwrap()
}

fn in_user() -> Command {
    Sandbox::new()
        .user()
        .user_map(IdMap::root())
        .command("/bin/true")
}

/// Root inside, or the caller where it is privileged.
fn root() -> Sandbox {
    match is_privileged() {
        true => Sandbox::new(),
        false => Sandbox::new().user().user_map(IdMap::root()),
    }
}

/// As the filters of containers do it: clone3 is hidden, as its flags cannot be read, and user
/// namespaces are refused to clone and unshare.
#[test]
fn user_namespaces_refused_by_seccomp() {
    isolated_as_both(|| {
        require!(userns);
        let apparmor = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
        if !is_privileged() && fs::read_to_string(apparmor).is_ok_and(|text| text.trim() == "1") {
            let test = common::test_name!();
            return require::missing(test, "userns", "AppArmor would be named as the cause");
        }
        let flag = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
        Filter::new()
            .deny(libc::SYS_clone3, libc::ENOSYS)
            .deny_if(libc::SYS_clone, Arg::HasAny(0, flag), libc::EPERM)
            .deny_if(libc::SYS_unshare, Arg::HasAny(0, flag), libc::EPERM)
            .install()
            .unwrap();
        let expected = Expected {
            kind: ErrorKind::PermissionDenied,
            step: Step::Clone,
            errno: libc::EPERM,
            hint: &["seccomp", "CLONE_NEWUSER"],
        };
        assert_fails(&in_user(), &expected);
        // What does not need it still works.
        assert!(Sandbox::new().command("true").status().unwrap().success());
    });
}

#[test]
fn clone3_refused_rather_than_hidden_by_seccomp() {
    isolated_as_both(|| {
        require!(userns);
        seccomp::deny(&[(libc::SYS_clone3, libc::EPERM)]).unwrap();
        // The older way is taken.
        assert!(in_user().status().unwrap().success());
        let error = Sandbox::new()
            .engine(Engine::Clone3)
            .command("true")
            .spawn()
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().unwrap().contains("seccomp"), "{error:?}");
    });
}

/// In a user namespace of its own the test may set its limits.
fn limit_namespaces(kind: &str, limit: u32) {
    fs::write(
        format!("/proc/sys/user/max_{kind}_namespaces"),
        limit.to_string(),
    )
    .unwrap();
}

#[test]
fn user_namespaces_switched_off_by_their_limit() {
    isolated_as_both(|| {
        require!(userns);
        enter_userns(0, UnshareFlags::empty());
        limit_namespaces("user", 0);
        for engine in ENGINES {
            let sandbox = Sandbox::new().user().user_map(IdMap::root()).engine(engine);
            let expected = Expected {
                kind: ErrorKind::LimitReached,
                step: Step::Clone,
                errno: libc::ENOSPC,
                hint: &["user.max_user_namespaces is 0", "sysctl"],
            };
            assert_fails(&sandbox.command("/bin/true"), &expected);
        }
    });
}

#[test]
fn too_many_namespaces_of_a_kind() {
    isolated_as_both(|| {
        require!(userns);
        enter_userns(0, UnshareFlags::empty());
        limit_namespaces("uts", 0);
        let expected = Expected {
            kind: ErrorKind::LimitReached,
            step: Step::Clone,
            errno: libc::ENOSPC,
            hint: &["user.max_uts_namespaces is 0"],
        };
        assert_fails(&Sandbox::new().uts().command("/bin/true"), &expected);
    });
}

#[test]
fn user_namespaces_nested_too_deeply() {
    isolated_as_both(|| {
        require!(userns);
        let mut levels = 0;
        // Each must have ids, or it may not make the next.
        while require::userns().is_ok() {
            enter_userns(0, UnshareFlags::empty());
            levels += 1;
            assert!(levels <= 33, "there is no end to it");
        }
        for engine in ENGINES {
            let sandbox = Sandbox::new().user().user_map(IdMap::root()).engine(engine);
            let expected = Expected {
                kind: ErrorKind::LimitReached,
                step: Step::Clone,
                errno: libc::ENOSPC,
                hint: &["nested more than 32 levels"],
            };
            assert_fails(&sandbox.command("/bin/true"), &expected);
        }
    });
}

#[test]
fn programs_that_are_not_there() {
    isolated_as_both(|| {
        require!(userns);
        for engine in ENGINES {
            let sandbox = with_programs(root()).engine(engine);
            let not_found = |hint| Expected {
                kind: ErrorKind::NotFound,
                step: Step::Exec,
                errno: libc::ENOENT,
                hint,
            };
            // On the host, but not inside.
            let exe = sandbox.clone().command("/etc/passwd");
            assert_fails(&exe, &not_found(&["/etc/passwd", "inside the root"]));
            let name = sandbox.clone().command("no-such-program");
            assert_fails(&name, &not_found(&["PATH", "inside the root"]));
            let file = sandbox.file("/file", "").command("/file/program");
            let expected = Expected {
                errno: libc::ENOTDIR,
                hint: &["inside the root"],
                ..not_found(&[])
            };
            assert_fails(&file, &expected);
        }
    });
}

/// A 64-bit ELF file of this machine that names an interpreter and has nothing else.
fn elf_with_interpreter(interpreter: &str) -> Vec<u8> {
    const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
        62
    } else {
        183
    };
    let (header, entry) = (64_u64, 56_u16);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let shorts = |file: &mut Vec<u8>, values: &[u16]| {
        values
            .iter()
            .for_each(|value| file.extend(value.to_le_bytes()));
    };
    let longs = |file: &mut Vec<u8>, values: &[u64]| {
        values
            .iter()
            .for_each(|value| file.extend(value.to_le_bytes()));
    };
    // ET_DYN, version 1, no entry point, one program header.
    shorts(&mut file, &[3, MACHINE, 1, 0]);
    longs(&mut file, &[0, header, 0]);
    shorts(&mut file, &[0, 0, 64, entry, 1, 64, 0, 0]);
    // PT_INTERP, readable.
    let (at, length) = (header + u64::from(entry), interpreter.len() as u64 + 1);
    shorts(&mut file, &[3, 0, 4, 0]);
    longs(&mut file, &[at, at, at, length, length, 1]);
    file.extend(interpreter.bytes());
    file.push(0);
    file
}

#[test]
fn programs_whose_interpreter_is_not_there() {
    isolated_as_both(|| {
        require!(userns);
        for engine in ENGINES {
            let missing = |contents: &[u8], hint| {
                let sandbox = root()
                    .mount()
                    .rootfs(Rootfs::tmpfs())
                    .file_with_mode("/program", contents, 0o755)
                    .engine(engine);
                let expected = Expected {
                    kind: ErrorKind::NotFound,
                    step: Step::Exec,
                    errno: libc::ENOENT,
                    hint,
                };
                assert_fails(&sandbox.clone().command("/program"), &expected);
                // Found along the PATH, it is not passed over either.
                let along = sandbox.command("program").env("PATH", "/usr/bin:/:/bin");
                assert_fails(&along, &expected);
            };
            missing(
                b"#! /opt/no/shell -e\n",
                &["exists inside the root", "/opt/no/shell", "bind"],
            );
            let elf = elf_with_interpreter("/lib64/ld-of-another-libc.so.1");
            missing(
                &elf,
                &[
                    "exists inside the root",
                    "/lib64/ld-of-another-libc.so.1",
                    "bind",
                ],
            );
        }
    });
}

#[test]
fn programs_that_may_not_be_executed() {
    isolated_as_both(|| {
        require!(userns);
        let sandbox = with_programs(root())
            .dev("/dev")
            .file_with_mode("/dev/shm/program", "#!/bin/sh\n", 0o755)
            .file("/plain", "#!/bin/sh\n")
            .file_with_mode("/nonsense", "neither a script nor ELF\n", 0o755);
        let denied = |hint| Expected {
            kind: ErrorKind::PermissionDenied,
            step: Step::Exec,
            errno: libc::EACCES,
            hint,
        };
        let run = |program| sandbox.clone().command(program);
        assert_fails(&run("/dev/shm/program"), &denied(&["mounted noexec"]));
        assert_fails(&run("/plain"), &denied(&["may not be executed", "mode"]));
        assert_fails(&run("/usr"), &denied(&["it is a directory"]));
        // As execvp does: what may not be executed is remembered if nothing better is found.
        let along = run("plain").env("PATH", "/usr/bin:/:/bin");
        assert_fails(&along, &denied(&["may not be executed"]));
        let expected = Expected {
            kind: ErrorKind::System,
            step: Step::Exec,
            errno: libc::ENOEXEC,
            hint: &["architecture", "#!"],
        };
        assert_fails(&run("/nonsense"), &expected);
    });
}

#[test]
fn arguments_that_are_too_long() {
    isolated_as_both(|| {
        let command = Sandbox::new().command("true").arg("x".repeat(1 << 20));
        let expected = Expected {
            kind: ErrorKind::System,
            step: Step::Exec,
            errno: libc::E2BIG,
            hint: &["ARG_MAX"],
        };
        assert_fails(&command, &expected);
    });
}

#[test]
fn programs_along_a_path_that_the_user_may_not_look_into() {
    isolated_as_user(|| {
        let closed = TempDir::new().unwrap();
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o000)).unwrap();
        let path = format!("{}:/usr/bin", closed.path().display());
        let command = Sandbox::new().command("no-such-program").env("PATH", path);
        let expected = Expected {
            kind: ErrorKind::PermissionDenied,
            step: Step::Exec,
            errno: libc::EACCES,
            hint: &["PATH", "may not look into"],
        };
        assert_fails(&command, &expected);
    });
}

#[test]
fn directories_that_are_not_there() {
    isolated_as_both(|| {
        require!(userns);
        let expected = |step, errno, hint| Expected {
            kind: ErrorKind::NotFound,
            step,
            errno,
            hint,
        };
        let missing = expected(Step::CurrentDir, libc::ENOENT, &["dir()", "bind()"]);
        let inside = with_programs(root()).file("/file", "");
        assert_fails(
            &inside.clone().command("true").current_dir("/work"),
            &missing,
        );
        assert_fails(
            &Sandbox::new().command("true").current_dir("/no/such"),
            &missing,
        );
        let file = expected(Step::CurrentDir, libc::ENOTDIR, &["no directory"]);
        assert_fails(&inside.clone().command("true").current_dir("/file"), &file);
        let chroot = root().chroot("/no/such").command("/bin/true");
        let expected_there = expected(Step::PivotRoot, libc::ENOENT, &["no such directory"]);
        assert_fails(&chroot, &expected_there);
        let in_the_way = |step| expected(step, libc::ENOTDIR, &["no directory", "on the way"]);
        let tmpfs = inside.clone().tmpfs("/file");
        assert_fails(&tmpfs.command("true"), &in_the_way(Step::Tmpfs));
        let dir = inside.dir("/file/dir");
        assert_fails(&dir.command("true"), &in_the_way(Step::Dir));
    });
}

/// A mount namespace for this process, and the right to mount.
fn enter_mountns() {
    match is_privileged() {
        true => sys::unshare(UnshareFlags::NEWNS).unwrap(),
        false => enter_userns(0, UnshareFlags::NEWNS),
    }
}

#[test]
fn proc_refused_because_it_is_masked() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        enter_mountns();
        mount_bind("/dev/null", "/proc/version").unwrap();
        let sandbox = with_programs(Sandbox::new().user().pid())
            .user_map(IdMap::root())
            .proc("/proc");
        let expected = Expected {
            kind: ErrorKind::PermissionDenied,
            step: Step::Proc,
            errno: libc::EPERM,
            hint: &["masked", "bind it instead", "systempaths=unconfined"],
        };
        for engine in ENGINES {
            let command = sandbox.clone().engine(engine).command("/bin/true");
            assert_fails(&command, &expected);
        }
    });
}

/// Runs the body, and again where mounts are made by mount(2).
fn by_both_ways(body: impl Fn()) {
    body();
    let status = in_forked_child(|| {
        seccomp::deny(&[(libc::SYS_mount_setattr, libc::ENOSYS)]).unwrap();
        body();
        0
    });
    assert!(status.success(), "without mount_setattr: {status}");
}

#[test]
fn mounts_that_cannot_be_made() {
    isolated_as_both(|| {
        require!(userns);
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let missing = dir.path().join("missing");
        by_both_ways(|| {
            let cases = [
                (
                    with_programs(root()).bind(&missing, "/data"),
                    Step::Bind,
                    ErrorKind::NotFound,
                    libc::ENOENT,
                    "does not exist",
                ),
                (
                    root().mount().rootfs(Rootfs::dir(&missing)),
                    Step::Root,
                    ErrorKind::NotFound,
                    libc::ENOENT,
                    "does not exist",
                ),
                (
                    with_programs(root()).bind("/proc/self/exe", "/x"),
                    Step::Bind,
                    ErrorKind::System,
                    libc::EINVAL,
                    "/proc/self/exe",
                ),
                (
                    with_programs(root()).file("/x", "").bind(dir.path(), "/x"),
                    Step::Bind,
                    ErrorKind::NotFound,
                    libc::ENOTDIR,
                    "only on a directory",
                ),
                (
                    with_programs(root()).file("/x", "").file("/x", ""),
                    Step::File,
                    ErrorKind::System,
                    libc::EEXIST,
                    "there is a file already",
                ),
                (
                    with_programs(root()).dir("/x").symlink("y", "/x"),
                    Step::Symlink,
                    ErrorKind::System,
                    libc::EEXIST,
                    "something else",
                ),
                (
                    with_programs(root()).file("/usr/ringfence-test", ""),
                    Step::File,
                    ErrorKind::System,
                    libc::EROFS,
                    "read-only",
                ),
            ];
            for (sandbox, step, kind, errno, word) in cases {
                let expected = Expected {
                    kind,
                    step,
                    errno,
                    hint: &[],
                };
                let error = assert_fails(&sandbox.command("/bin/true"), &expected);
                assert!(error.hint().unwrap().contains(word), "{error:?}");
            }
        });
    });
}

#[test]
fn a_source_that_the_child_may_not_reach() {
    isolated_as_user(|| {
        require!(userns);
        let dir = TempDir::new().unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir_all(closed.join("inner")).unwrap();
        let mode = rustix::fs::Mode::empty();
        rustix::fs::chmod(&closed, mode).unwrap();
        let sandbox = with_programs(root()).bind(closed.join("inner"), "/x");
        // Root of a user namespace may pass what its own ids own; another's not.
        let theirs = with_programs(root()).bind("/proc/1/root", "/x");
        let expected = Expected {
            kind: ErrorKind::PermissionDenied,
            step: Step::Bind,
            errno: libc::EACCES,
            hint: &["not accessible"],
        };
        by_both_ways(|| {
            assert!(
                sandbox
                    .clone()
                    .command("/bin/true")
                    .status()
                    .unwrap()
                    .success()
            );
            assert_fails(&theirs.clone().command("/bin/true"), &expected);
        });
        rustix::fs::chmod(&closed, rustix::fs::Mode::RWXU).unwrap();
    });
}

#[test]
fn no_descriptor_left() {
    isolated_as_both(|| {
        let run = Sandbox::new().command("/bin/true").stdout(Stdio::piped());
        run.status().unwrap();
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let highest = open
            .map(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            })
            .max()
            .unwrap();
        let mut limit = getrlimit(Resource::Nofile);
        // Every number below the limit is taken, with a few by us: what a spawn needs must be ours to
        // free, even where no other descriptor was open.
        let mut fill = Vec::new();
        limit.current = Some(highest + 16);
        setrlimit(Resource::Nofile, limit).unwrap();
        while let Ok(file) = fs::File::open("/dev/null") {
            fill.push(file);
        }
        let expected = Expected {
            kind: ErrorKind::LimitReached,
            step: Step::Prepare,
            errno: libc::EMFILE,
            hint: &["RLIMIT_NOFILE"],
        };
        let fails = |command: &Command, expected: &Expected| {
            let error = command.spawn().map(drop).unwrap_err();
            assert_eq!(error.kind(), expected.kind, "{error:?}");
            assert_eq!(error.step(), Some(expected.step), "{error:?}");
            assert_eq!(error.raw_os_error(), Some(expected.errno), "{error:?}");
            assert!(
                error.hint().unwrap().contains(expected.hint[0]),
                "{error:?}"
            );
        };
        // A pipe needs two, a pidfd one, /dev/null one.
        fails(&run, &expected);
        let pidfd = Expected {
            step: Step::Clone,
            ..expected
        };
        for engine in ENGINES {
            let command = Sandbox::new().engine(engine).command("/bin/true");
            fails(&command, &pidfd);
        }
        let null = Expected {
            step: Step::Compile,
            ..pidfd
        };
        fails(
            &Sandbox::new().command("/bin/true").stdin(Stdio::null()),
            &null,
        );
        let left = fill.len();
        drop(fill);
        // All of them are free again: nothing has been left open, and no child.
        let again: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
        assert_eq!(again.len(), left);
        assert_eq!(sys::unreaped_child(), None);
        drop(again);
        assert!(run.status().unwrap().success());
    });
}

/// `PR_SET_DUMPABLE` of a server that protects itself.
#[test]
fn a_caller_that_is_not_dumpable() {
    isolated_as_user(|| {
        require!(userns);
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
        let expected = Expected {
            kind: ErrorKind::PermissionDenied,
            step: Step::IdMap,
            errno: libc::EACCES,
            hint: &["not dumpable", "PR_SET_DUMPABLE"],
        };
        for engine in ENGINES {
            let sandbox = Sandbox::new().user().user_map(IdMap::root()).engine(engine);
            assert_fails(&sandbox.command("/bin/true"), &expected);
        }
        // Nothing to be written, nothing to be refused.
        let sandbox = Sandbox::new().user().user_map(IdMap::none());
        assert!(sandbox.command("/bin/true").status().unwrap().success());
    });
}

/// Where the mapping programs are hidden or powerless; the caller may mount for that, but is
/// without capabilities then.
fn over_the_helpers(cover: impl FnOnce()) {
    let uid = geteuid().as_raw();
    assert_eq!(uid, getegid().as_raw());
    enter_userns(uid, UnshareFlags::NEWNS);
    cover();
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).unwrap();
}

#[test]
fn the_mapping_programs_are_not_privileged() {
    isolated_as_user_with_subids(|| {
        require!(userns, subuid);
        let dir = TempDir::new().unwrap();
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        over_the_helpers(|| {
            for helper in ["/usr/bin/newuidmap", "/usr/bin/newgidmap"] {
                mount_bind(&plain, helper).unwrap();
            }
        });
        let sandbox = Sandbox::new().user().user_map(IdMap::subids());
        let error = sandbox.command("/bin/true").spawn().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        assert_eq!(error.step(), Some(Step::Compile), "{error:?}");
        assert!(
            error
                .hint()
                .unwrap()
                .contains("chmod u+s /usr/bin/newuidmap"),
            "{error:?}"
        );
    });
}

#[test]
fn the_mapping_programs_are_not_there() {
    isolated_as_user_with_subids(|| {
        require!(userns, subuid);
        over_the_helpers(|| {
            for dir in ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"] {
                if Path::new(dir).is_dir() {
                    mount("tmpfs", dir, "tmpfs", MountFlags::empty(), None).unwrap();
                }
            }
        });
        let sandbox = Sandbox::new().user().user_map(IdMap::subids());
        let error = sandbox.command("/bin/true").spawn().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert_eq!(error.step(), Some(Step::Compile), "{error:?}");
        for word in ["install newuidmap", "uidmap", "IdMap::root()"] {
            assert!(error.hint().unwrap().contains(word), "{error:?}");
        }
    });
}

#[test]
fn new_namespaces_without_privilege() {
    isolated_as_user(|| {
        if is_privileged() {
            return;
        }
        let expected = Expected {
            kind: ErrorKind::PermissionDenied,
            step: Step::Clone,
            errno: libc::EPERM,
            hint: &["CAP_SYS_ADMIN", "user()"],
        };
        for engine in ENGINES {
            let command = Sandbox::new().net().engine(engine).command("/bin/true");
            assert_fails(&command, &expected);
        }
    });
}

#[test]
fn clocks_that_would_be_negative() {
    isolated_as_both(|| {
        require!(userns, timens);
        use ringfence::TimeOffset;
        let year = std::time::Duration::from_secs(365 * 86_400 * 100);
        let sandbox = sandbox().time().boottime_offset(TimeOffset::behind(year));
        let expected = Expected {
            kind: ErrorKind::System,
            step: Step::TimeOffsets,
            errno: libc::ERANGE,
            hint: &["negative"],
        };
        assert_fails(&sandbox.command("/bin/true"), &expected);
    });
}
