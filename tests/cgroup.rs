//! Cgroups: made, used and removed, as the kernel's files show it.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use common::{isolated, require};
use ringfence::cgroup::{Cgroup, Controllers, Limits};
use ringfence::{Engine, ErrorKind, Sandbox, Stdio, Step};
use std::fs;
use std::io::{Read, Write};

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
