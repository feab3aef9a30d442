//! The caller ends a program, and everything with it.

use crate::common::{isolated, probe, require};
use ringfence::{Child, ErrorKind, Sandbox, Stdio};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Starts a script that says when it is ready.
fn start(sandbox: Sandbox, script: &str) -> Child {
    let mut child = sandbox
        .command("/bin/sh")
        .args(["-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn with_init() -> Sandbox {
    Sandbox::new().user().pid().init()
}

/// Nothing of these is left.
fn assert_gone(processes: &[probe::Process]) {
    assert!(!processes.is_empty());
    for process in processes {
        let now = probe::Process::read(process.pid);
        let gone = now.is_none_or(|now| !now.is_same(process) || now.is_zombie());
        assert!(gone, "{process:?}");
    }
}

/// Nothing of these is left in a moment: who is killed, but is nobody's to wait for, ends by itself.
fn assert_end(processes: &[probe::Process]) {
    for process in processes {
        let pid = Pid::from_raw(process.pid).unwrap();
        let ended = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => probe::ends_within(&pidfd, Duration::from_secs(10)),
            Err(_) => true,
        };
        let now = probe::Process::read(process.pid);
        assert!(
            ended || now.is_none_or(|now| !now.is_same(process)),
            "{process:?}"
        );
    }
}

fn family(child: &Child) -> Vec<probe::Process> {
    let pid = child.id().cast_signed();
    let mut found = probe::descendants(pid);
    found.extend(probe::Process::read(pid));
    found
}

#[test]
fn a_program_that_obeys_ends_by_itself() {
    isolated(|| {
        require!(userns);
        let script = "trap 'exit 3' TERM; sleep 1000 & echo ready; while :; do wait; done";
        let mut child = start(with_init(), script);
        let family = family(&child);
        let status = child.shutdown(libc::SIGTERM, LONG).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_gone(&family);
    });
}

#[test]
fn a_program_that_does_not_is_killed() {
    isolated(|| {
        require!(userns);
        let script = "trap '' TERM; sleep 1000 & echo ready; while :; do wait; done";
        let mut child = start(with_init(), script);
        let family = family(&child);
        let status = child
            .shutdown(libc::SIGTERM, Duration::from_millis(20))
            .unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        assert_gone(&family);
        // Again is no error.
        assert_eq!(child.shutdown(libc::SIGTERM, LONG).unwrap(), status);
    });
}

#[test]
fn a_daemon_does_not_escape_from_a_pid_namespace() {
    isolated(|| {
        require!(userns);
        let daemon = "setsid sh -c 'echo ready; exec sleep 1000' >&1 & wait";
        for sandbox in [with_init(), Sandbox::new().user().pid()] {
            let mut child = start(sandbox, daemon);
            let family = family(&child);
            child.kill_all().unwrap();
            child.wait().unwrap();
            assert_gone(&family);
        }
    });
}

#[test]
fn without_either_kill_all_is_refused() {
    isolated(|| {
        let mut child = start(Sandbox::new(), "echo ready; exec sleep 1000");
        let error = child.kill_all().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().is_some());
        let status = child.shutdown(libc::SIGTERM, LONG).unwrap();
        assert_eq!(status.signal(), Some(libc::SIGTERM));
    });
}

/// A cgroup that is removed.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        let name = format!("ringfence-test-{}", std::process::id());
        let path = crate::common::require::cgroup2_dir().unwrap().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.0.join("below"));
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_cgroup_is_emptied_and_stays_usable() {
    isolated(|| {
        require!(root, cgroup2);
        let cgroup = Cgroup::new();
        let below = cgroup.0.join("below");
        std::fs::create_dir(&below).unwrap();
        let script = format!(
            "sh -c 'echo $$ > {}/cgroup.procs; setsid sleep 1000 & echo ready; exec sleep 1000' & wait",
            below.display()
        );
        for _ in 0..2 {
            let mut child = start(Sandbox::new().into_cgroup(&cgroup.0), &script);
            let family = family(&child);
            let status = child.shutdown(libc::SIGWINCH, Duration::ZERO).unwrap();
            assert_eq!(status.signal(), Some(libc::SIGKILL));
            assert!(!family.is_empty());
            assert_end(&family);
        }
    });
}

/// The kernel refuses to remove a cgroup with processes in it, those that are still ending among them.
#[test]
fn a_cgroup_can_be_removed_at_once() {
    isolated(|| {
        require!(root, cgroup2);
        for _ in 0..50 {
            let cgroup = Cgroup::new();
            // Memory to give back makes ending last longer.
            let script = "for i in 1 2 3 4 5 6 7 8; do head -c 20000000 /dev/zero | tail -c 20000000 | sleep 1000 & done; \
                          echo ready; wait";
            let mut child = start(Sandbox::new().into_cgroup(&cgroup.0), script);
            child.kill_all().unwrap();
            std::fs::remove_dir(&cgroup.0).unwrap();
            child.wait().unwrap();
        }
    });
}

/// What is in a cgroup and has another pid namespace's number only cannot be killed by it.
#[test]
fn a_cgroup_that_does_not_become_empty_is_an_error() {
    isolated(|| {
        require!(root, cgroup2, new_proc);
        let cgroup = Cgroup::new();
        let stranger = std::process::Command::new("/bin/sleep").arg("1000").spawn();
        let mut stranger = stranger.unwrap();
        let procs = cgroup.0.join("cgroup.procs");
        std::fs::write(&procs, stranger.id().to_string()).unwrap();
        crate::common::sys::unshare(rustix::thread::UnshareFlags::NEWPID).unwrap();
        let status = crate::common::in_forked_child(|| {
            let sandbox = Sandbox::new().into_cgroup(&cgroup.0);
            let mut child = sandbox.command("/bin/sleep").arg("1000").spawn().unwrap();
            let error = child.kill_all().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
            assert!(error.hint().is_some());
            child.wait().unwrap();
            0
        });
        assert!(status.success(), "{status}");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    });
}

#[test]
fn kill_on_drop_ends_the_whole_namespace() {
    isolated(|| {
        require!(userns);
        let child = with_init()
            .command("/bin/sh")
            .args(["-c", "sleep 1000 & wait"])
            .kill_on_drop()
            .spawn()
            .unwrap();
        let family = family(&child);
        drop(child);
        assert_gone(&family);
    });
}
