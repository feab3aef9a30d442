//! Which descriptors reach the program, and under which numbers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ringfence::{Child, IdMap, Init, Sandbox, Stdio, Unmapped};
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;
use rustix::process::{Resource, Rlimit, getegid, geteuid, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated, isolated_as_both, require, seccomp, sys};
use crate::support::{ENGINES, Waiting};

/// The descriptors of a running program, but for its standard streams.
fn of(child: &Child) -> BTreeMap<i32, String> {
    of_process(child.id())
}

fn of_process(pid: u32) -> BTreeMap<i32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let number: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            let target = fs::read_link(entry.path()).unwrap();
            let name = target.file_name().unwrap_or_default();
            (number, name.to_str().unwrap().to_owned())
        })
        .filter(|(number, _)| *number > 2)
        .collect()
}

fn made(dir: &Path, name: &str) -> OwnedFd {
    File::create(dir.join(name)).unwrap().into()
}

/// A file as descriptor `number` of this process.
fn at(dir: &Path, name: &str, number: i32) -> Arc<OwnedFd> {
    sys::dup_over(made(dir, name), number).unwrap();
    Arc::new(sys::own(number))
}

fn expected(pairs: &[(i32, &str)]) -> BTreeMap<i32, String> {
    pairs
        .iter()
        .map(|&(number, name)| (number, name.to_owned()))
        .collect()
}

#[test]
fn no_stray_descriptor_reaches_the_program() {
    isolated_as_both(|| {
        require!(userns);
        let dir = TempDir::new().unwrap();
        // dup2 clears FD_CLOEXEC.
        let strays = [40, 41, 500].map(|number| at(dir.path(), "stray", number));
        for engine in ENGINES {
            for sandbox in [
                Sandbox::new(),
                Sandbox::new().user().user_map(IdMap::root()),
            ] {
                let sandbox = sandbox.engine(engine);
                let child = Waiting::start(&sandbox);
                assert_eq!(of(&child), expected(&[]), "{engine:?}");
                let command = Waiting::command(&sandbox);
                let child = Waiting::of(command.descriptor(strays[1].clone(), 41));
                assert_eq!(of(&child), expected(&[(41, "stray")]), "{engine:?}");
            }
        }
    });
}

/// What the child has open of the caller's while it waits for its maps.
fn during_the_set_up(sandbox: Sandbox, given: &Arc<OwnedFd>) -> BTreeMap<i32, String> {
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let tell = Arc::clone(&seen);
    let look = move |process: Unmapped<'_>| {
        *tell.lock().unwrap() = of_process(process.id());
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let file = |name| format!("/proc/{}/{name}", process.id());
        fs::write(file("uid_map"), format!("0 {uid} 1"))?;
        fs::write(file("gid_map"), format!("0 {gid} 1"))
    };
    let command = sandbox.user().user_map(IdMap::root()).map_writer(look);
    let command = command.command("/bin/true").stdout(Stdio::piped());
    let mut child = command.descriptor(Arc::clone(given), 7).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    std::mem::take(&mut seen.lock().unwrap())
}

/// Whoever waits for the end of a pipe or socket of the caller's does not have to wait for a set-up that
/// takes long.
#[test]
fn no_stray_descriptor_is_open_during_the_set_up() {
    isolated_as_both(|| {
        require!(userns);
        let dir = TempDir::new().unwrap();
        // Above most of the strays, and above what the set-up itself has.
        let given = at(dir.path(), "given", 60);
        let _strays = [9, 20, 58, 59, 61, 500].map(|number| at(dir.path(), "stray", number));
        let check = |sandbox: Sandbox, sockets: usize| {
            let open = during_the_set_up(sandbox, &given);
            let count = |start: &str| open.values().filter(|name| name.starts_with(start)).count();
            assert_eq!(count("stray"), 0, "{open:?}");
            assert_eq!(open.get(&60).map(String::as_str), Some("given"), "{open:?}");
            // Its own ends, and not those of the caller.
            assert_eq!((count("pipe:"), count("socket:")), (1, sockets), "{open:?}");
        };
        let with_init = || Sandbox::new().pid().init_with(Init::new());
        for engine in ENGINES {
            check(Sandbox::new().engine(engine), 0);
            check(with_init().engine(engine), 1);
        }
        // Process 1 is a copy of the caller then.
        seccomp::deny(&[(libc::SYS_execveat, libc::EPERM)]).unwrap();
        check(with_init(), 1);
    });
}

#[test]
fn descriptors_come_under_their_numbers() {
    isolated(|| {
        let dir = TempDir::new().unwrap();
        let dir = dir.path();
        for engine in ENGINES {
            let (a, b) = (at(dir, "a", 50), at(dir, "b", 51));
            let command = || Waiting::command(&Sandbox::new().engine(engine));
            let before = Census::take().without(&["maps"]);
            let give = |pairs: &[(&Arc<OwnedFd>, i32)]| {
                let command = pairs.iter().fold(command(), |command, (fd, target)| {
                    command.descriptor(Arc::clone(fd), *target)
                });
                of(&Waiting::of(command))
            };
            // Each where it is; exchanged; in a chain; twice; over one that the set-up itself has.
            for (pairs, numbers) in [
                (vec![(&a, 50)], vec![(50, "a")]),
                (vec![(&a, 50), (&b, 51)], vec![(50, "a"), (51, "b")]),
                (vec![(&a, 51), (&b, 50)], vec![(50, "b"), (51, "a")]),
                (vec![(&a, 51), (&b, 52)], vec![(51, "a"), (52, "b")]),
                (vec![(&b, 52), (&a, 51)], vec![(51, "a"), (52, "b")]),
                (
                    vec![(&a, 51), (&a, 52), (&a, 50)],
                    vec![(50, "a"), (51, "a"), (52, "a")],
                ),
                (vec![(&a, 3), (&b, 4)], vec![(3, "a"), (4, "b")]),
                (vec![(&b, 999), (&a, 51)], vec![(51, "a"), (999, "b")]),
            ] {
                assert_eq!(give(&pairs), expected(&numbers), "{engine:?}");
            }
            let all: Vec<_> = (3..60).map(|number| (&a, number)).collect();
            assert_eq!(give(&all).len(), 57, "{engine:?}");
            assert_same(&before, &Census::take().without(&["maps"]));
        }
    });
}

/// The pipes of the standard streams may stand where a descriptor has to go, and the other way round.
#[test]
fn descriptors_and_standard_streams_do_not_collide() {
    isolated(|| {
        let dir = TempDir::new().unwrap();
        let file = Arc::new(made(dir.path(), "file"));
        for engine in ENGINES {
            let command = Sandbox::new().engine(engine).command("sh");
            let output = (3..30)
                .fold(command, |command, number| {
                    command.descriptor(file.clone(), number)
                })
                .args(["-c", "echo out; echo err >&2; readlink /proc/$$/fd/29"])
                .output()
                .unwrap();
            let out = String::from_utf8(output.stdout).unwrap();
            assert!(
                out.starts_with("out\n") && out.ends_with("/file\n"),
                "{engine:?} {out}"
            );
            assert_eq!(output.stderr, b"err\n", "{engine:?}");
        }
    });
}

#[test]
fn a_descriptor_is_the_same_open_file() {
    isolated(|| {
        let dir = TempDir::new().unwrap();
        let file = Arc::new(made(dir.path(), "file"));
        for engine in ENGINES {
            let command = Sandbox::new().engine(engine).command("sh");
            let status = command
                .args(["-c", "echo from inside >&7"])
                .descriptor(file.clone(), 7)
                .status();
            assert!(status.unwrap().success());
        }
        let text = fs::read_to_string(dir.path().join("file")).unwrap();
        assert_eq!(text, "from inside\n".repeat(ENGINES.len()));
    });
}

/// As with std's: once the command and the plan are gone, only the program holds what it was given.
#[test]
fn what_was_handed_over_is_let_go_with_the_plan() {
    isolated(|| {
        for bound in [false, true] {
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
            let (other, further) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
            let command = Sandbox::new()
                .command("sh")
                .args(["-c", "echo to stdout; echo to 7 >&7"])
                .stdout(writer)
                .descriptor(further, 7);
            let command = match bound {
                true => command.die_with_parent(),
                false => command,
            };
            let mut child = command.spawn().unwrap();
            drop(command);
            child.wait().unwrap();
            for (pipe, expected) in [(reader, "to stdout\n"), (other, "to 7\n")] {
                rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK).unwrap();
                let mut text = String::new();
                // EAGAIN would mean that somebody could still write.
                File::from(pipe).read_to_string(&mut text).unwrap();
                assert_eq!(text, expected);
            }
            drop(child);
        }
    });
}

/// Two descriptors change places, and one of the places is the last that there is.
#[test]
fn the_highest_number_can_be_swapped() {
    isolated(|| {
        let dir = TempDir::new().unwrap();
        let limit = getrlimit(Resource::Nofile);
        let current = Some(64);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
        let (low, high) = (at(dir.path(), "low", 50), at(dir.path(), "high", 63));
        for engine in ENGINES {
            let sandbox = Sandbox::new().engine(engine);
            let child = Waiting::of(
                sandbox
                    .command("cat")
                    .descriptor(Arc::clone(&low), 63)
                    .descriptor(Arc::clone(&high), 50),
            );
            assert_eq!(
                of(&child),
                expected(&[(50, "high"), (63, "low")]),
                "{engine:?}"
            );
        }
    });
}
