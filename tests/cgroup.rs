//! Cgroups: made, used and removed, as the kernel's files show it.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use common::{isolated, require};
use ringfence::cgroup::{Cgroup, Controllers, Limits};
use ringfence::{Engine, ErrorKind, Sandbox, Stdio, Step};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

fn parent() -> Cgroup {
    Cgroup::open(require::cgroup2_dir().unwrap()).unwrap()
}

fn name(test: &str) -> String {
    format!("ringfence-{test}-{}", std::process::id())
}

#[test]
fn what_is_made_goes_with_its_value() {
    isolated(|| {
        require!(cgroup2);
        let cgroup = parent().create(name("made")).unwrap();
        let path = cgroup.path().to_owned();
        assert!(path.join("cgroup.procs").exists());
        let below = cgroup.create("below").unwrap().keep();
        assert_eq!(below.path(), path.join("below"));
        for name in ["", "..", "a/b", "a\0b", "a\nb"] {
            let error = cgroup.create(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        }
        let error = cgroup.create("below").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        drop(below);
        assert!(path.join("below").exists());
        drop(cgroup);
        assert!(!path.exists());
    });
}

#[test]
fn a_program_is_born_in_it_and_sees_itself_at_the_root() {
    isolated(|| {
        require!(root, cgroup2);
        for engine in [Engine::Auto, Engine::Clone] {
            let cgroup = parent().create(name("born")).unwrap();
            let sandbox = Sandbox::new().cgroup().into_cgroup(&cgroup).engine(engine);
            let mut child = sandbox
                .command("/bin/cat")
                .arg("/proc/self/cgroup")
                .arg("-")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            assert_eq!(cgroup.processes().unwrap(), [child.id()]);
            assert!(cgroup.events().unwrap().populated);
            drop(child.stdin.take());
            let mut said = String::new();
            child
                .stdout
                .take()
                .unwrap()
                .read_to_string(&mut said)
                .unwrap();
            assert!(said.lines().any(|line| line == "0::/"), "{said}");
            assert!(child.wait().unwrap().success());
            let stats = cgroup.stats().unwrap();
            assert!(stats.cpu.unwrap().time.as_nanos() > 0, "{stats:?}");
            cgroup.remove().unwrap();
        }
    });
}

#[test]
fn it_is_frozen_thawed_and_killed() {
    isolated(|| {
        require!(root, cgroup2);
        let cgroup = parent().create(name("frozen")).unwrap();
        let start = || {
            let mut child = Sandbox::new()
                .into_cgroup(&cgroup)
                .command("/bin/cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.as_ref().unwrap().write_all(b"?").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            child
        };
        let mut first = start();
        cgroup.freeze().unwrap();
        assert!(cgroup.events().unwrap().frozen);
        let frozen = Sandbox::new()
            .into_cgroup(&cgroup)
            .command("/bin/true")
            .spawn();
        assert_eq!(frozen.unwrap_err().step(), Some(Step::Cgroup));
        cgroup.thaw().unwrap();
        assert!(!cgroup.events().unwrap().frozen);
        cgroup.kill().unwrap();
        assert!(!cgroup.events().unwrap().populated);
        assert_eq!(first.wait().unwrap().code(), None);
        // And it can be used again.
        let mut second = start();
        drop(second.stdin.take());
        assert!(second.wait().unwrap().success());
        let mut third = start();
        cgroup.remove().unwrap();
        assert_eq!(third.wait().unwrap().code(), None);
    });
}

/// Frozen to be killed, it could do neither: nobody would thaw it.
#[test]
fn the_caller_does_not_end_itself() {
    isolated(|| {
        require!(root, cgroup2);
        let parent = parent();
        let outer = parent.create(name("own")).unwrap();
        let below = outer.create("below").unwrap();
        for own in [&outer, &below] {
            own.add(std::process::id()).unwrap();
            let sandbox = Sandbox::new().into_cgroup(&outer);
            let mut child = sandbox.command("/bin/sleep").arg("1000").spawn().unwrap();
            let long = Duration::from_secs(60);
            for refused in [
                outer.kill().unwrap_err(),
                outer.freeze().unwrap_err(),
                child.kill_all().unwrap_err(),
                child.shutdown(libc::SIGTERM, long).unwrap_err(),
            ] {
                assert_eq!(refused.raw_os_error(), Some(libc::EDEADLK), "{refused:?}");
                assert!(refused.hint().is_some(), "{refused:?}");
            }
            assert!(!outer.events().unwrap().frozen);
            assert_eq!(child.try_wait().unwrap(), None, "nothing was done");
            child.kill().unwrap();
            child.wait().unwrap();
        }
        parent.add(std::process::id()).unwrap();
        outer.kill().unwrap();
        drop(below);
        outer.remove().unwrap();
    });
}

/// What a program has joined is not its own.
#[test]
fn who_joins_a_cgroup_ends_alone() {
    isolated(|| {
        require!(root, cgroup2);
        let cgroup = parent().create(name("joined")).unwrap();
        let start = |sandbox: Sandbox| {
            let command = sandbox.command("/bin/sleep").arg("1000");
            command.kill_on_drop().spawn().unwrap()
        };
        let mut there = start(Sandbox::new().into_cgroup(&cgroup));
        let mut joined = start(Sandbox::new().join_cgroup(there.id()));
        assert!(cgroup.processes().unwrap().contains(&joined.id()));
        let error = joined.kill_all().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        let status = joined.shutdown(libc::SIGCONT, Duration::ZERO).unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        assert_eq!(there.try_wait().unwrap(), None);
        let mut reaped = start(Sandbox::new().join_cgroup(there.id()).init());
        reaped.kill_all().unwrap();
        assert_eq!(reaped.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert_eq!(there.try_wait().unwrap(), None);
        there.kill_all().unwrap();
        assert_eq!(there.wait().unwrap().signal(), Some(libc::SIGKILL));
        cgroup.remove().unwrap();
    });
}

#[test]
fn a_process_can_be_moved_there() {
    isolated(|| {
        require!(root, cgroup2);
        let cgroup = parent().create(name("moved")).unwrap();
        let child = Sandbox::new()
            .command("/bin/cat")
            .stdin(Stdio::piped())
            .kill_on_drop()
            .spawn()
            .unwrap();
        cgroup.add(child.id()).unwrap();
        let own = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        let wanted = cgroup.path().file_name().unwrap().to_str().unwrap();
        assert!(
            own.lines()
                .any(|line| line.starts_with("0::") && line.ends_with(wanted)),
            "{own}"
        );
        drop(child);
        cgroup.remove().unwrap();
    });
}

/// On a hybrid host the controllers that everybody wants belong to cgroup v1.
#[test]
fn a_controller_that_is_missing_is_named() {
    isolated(|| {
        require!(root, cgroup2);
        let cgroup = parent().create(name("limits")).unwrap();
        let has = cgroup.controllers().unwrap();
        let v1 = fs::read_to_string("/proc/self/cgroup").unwrap();
        for (controller, word, limits) in [
            (
                Controllers::MEMORY,
                "memory",
                Limits::new().memory_max(1 << 30),
            ),
            (Controllers::PIDS, "pids", Limits::new().pids_max(100)),
        ] {
            if has.contains(controller) {
                cgroup.set(&limits).unwrap();
                continue;
            }
            let error = cgroup.set(&limits).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(word), "{error}");
            let hint = error.hint().unwrap();
            if v1.lines().any(|line| line.contains(&format!(":{word}:"))) {
                assert!(hint.contains("hybrid host"), "{hint}");
            }
            if !parent().controllers().unwrap().contains(controller) {
                let error = parent().enable(controller).unwrap_err();
                assert!(error.to_string().contains(word), "{error}");
            }
        }
    });
}

#[test]
fn only_what_is_a_cgroup_is_opened() {
    isolated(|| {
        for path in ["/tmp", "/proc", "/nonexistent", "/etc/passwd"] {
            assert!(Cgroup::open(path).is_err(), "{path}");
        }
        require!(cgroup2);
        let own = Cgroup::current().unwrap();
        let me = fs::read_to_string("/proc/self/cgroup").unwrap();
        let unified = me
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .unwrap();
        assert!(
            own.path().ends_with(unified.trim_start_matches('/')),
            "{own:?} {unified}"
        );
    });
}
