//! Root of the joined namespaces gets nothing of what joins, and nothing of the caller.
//!
//! Without `PR_SET_DUMPABLE` in the second stage every attack here works.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringfence::{Command, ErrorKind, Kind, NamespaceSet, Sandbox, Stdio};
use rustix::mount::{MountFlags, mount};
use rustix::net::SendFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::attack::{SECRET, attack, descriptors, let_go};
use super::{stage, target};
use crate::common::isolated::die_with_parent;
use crate::common::leaks::{Census, assert_same};
use crate::common::{in_forked_child, isolated, isolated_as_both, probe, require, sys};
use crate::seen::hold::held_at;
use crate::support::Waiting;

/// Where the attacker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// Root in the user namespace, with the pid namespace and `/proc` of the caller.
    Outside,
    /// In all namespaces of the target.
    Inside,
}

/// A process that attacks on demand.
struct Attacker {
    pid: i32,
    orders: std::io::PipeWriter,
    reports: BufReader<std::io::PipeReader>,
}

impl Attacker {
    fn new(from: From, target: &Waiting) -> Self {
        let set = NamespaceSet::of_pid(target.id()).unwrap();
        let (orders, ours) = std::io::pipe().unwrap();
        let (reports, theirs) = std::io::pipe().unwrap();
        match sys::fork().unwrap() {
            Some(pid) => {
                drop((orders, theirs));
                let reports = BufReader::new(reports);
                let mut attacker = Self {
                    pid,
                    orders: ours,
                    reports,
                };
                assert_eq!(attacker.line(), "ready");
                attacker
            }
            None => {
                die_with_parent();
                drop((ours, reports));
                enter(from, &set);
                serve(from, orders, theirs);
                sys::exit_now(0)
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.reports.read_line(&mut line).unwrap(), 0, "it is gone");
        line.trim_end().to_owned()
    }

    /// How many processes it saw, and what it got. The number is for who sees more than one.
    fn attack(&mut self, pid: i32) -> (usize, Vec<String>) {
        writeln!(self.orders, "{pid}").unwrap();
        let mut got = Vec::new();
        loop {
            let line = self.line();
            match line.strip_prefix("done ") {
                Some(seen) => return (seen.parse().unwrap(), got),
                None => got.push(line),
            }
        }
    }

    /// So that who was attacked can end.
    fn lets_go(&mut self) {
        writeln!(self.orders, "let go").unwrap();
        assert_eq!(self.line(), "let go");
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        for process in probe::descendants(self.pid) {
            process.kill();
        }
        probe::Process::read(self.pid)
            .iter()
            .for_each(probe::Process::kill);
        crate::common::isolated::wait_for(self.pid);
    }
}

fn enter(from: From, set: &NamespaceSet) {
    let enter = |kind, link| {
        let namespace = set.get(kind).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(link)).unwrap();
    };
    enter(Kind::User, LinkNameSpaceType::User);
    rustix::thread::set_thread_res_gid(gid(), gid(), gid()).unwrap();
    rustix::thread::set_thread_res_uid(uid(), uid(), uid()).unwrap();
    if from == From::Inside {
        enter(Kind::Mount, LinkNameSpaceType::Mount);
        enter(Kind::Pid, LinkNameSpaceType::ProcessID);
        if let Some(child) = sys::fork().unwrap() {
            crate::common::isolated::wait_for(child);
            sys::exit_now(0);
        }
        die_with_parent();
        mount("proc", "/proc", "proc", MountFlags::empty(), None).unwrap();
    }
}

fn uid() -> rustix::thread::Uid {
    rustix::thread::Uid::ROOT
}

fn gid() -> rustix::thread::Gid {
    rustix::thread::Gid::ROOT
}

fn serve(from: From, orders: std::io::PipeReader, mut reports: std::io::PipeWriter) {
    writeln!(reports, "ready").unwrap();
    for order in BufReader::new(orders).lines() {
        let Ok(pid) = order.unwrap().parse::<i32>() else {
            let_go(0);
            writeln!(reports, "let go").unwrap();
            continue;
        };
        let victims = match from {
            From::Outside => vec![pid],
            From::Inside => others(),
        };
        if victims.is_empty() {
            // As it would be with one.
            attack(0);
        }
        for got in victims.iter().flat_map(|pid| attack(*pid)) {
            writeln!(reports, "{}", got.replace('\n', " ")).unwrap();
        }
        writeln!(reports, "done {}", victims.len()).unwrap();
    }
}

/// All that it sees but itself and the target.
fn others() -> Vec<i32> {
    let own = rustix::process::getpid().as_raw_pid();
    let pids = probe::processes().into_iter().map(|process| process.pid);
    pids.filter(|pid| *pid != own && *pid != 1).collect()
}

fn joining(target: &Waiting) -> Command {
    let sandbox = Sandbox::new().join_all(target.id());
    let command = sandbox.command("/bin/true").env_clear();
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null())
}

/// Held still just before it makes a call, the joiner is attacked at leisure.
fn held(call: libc::c_long, from: From) {
    let target = target();
    let mut attacker = Attacker::new(from, &target);
    let plan = joining(&target).compile().unwrap();
    assert!(SECRET.starts_with(b"the caller"));
    // On others it works.
    let other = Waiting::start(&Sandbox::new().join_all(target.id()));
    let (_, got) = attacker.attack(other.id().cast_signed());
    for what in [
        "exe of",
        "root of",
        "environ of",
        "maps of",
        "ptrace",
        "pidfd_getfd of 0",
    ] {
        assert!(
            got.iter().any(|line| line.starts_with(what)),
            "{what}: {got:?}"
        );
    }
    attacker.lets_go();
    drop(other);
    let mut result = None;
    let spawned = held_at(
        call,
        || plan.spawn(),
        |pid| result = Some((attacker.attack(pid), attacker)),
    );
    let ((seen, got), _attacker) = result.unwrap();
    assert_eq!(seen, 1);
    assert_eq!(got, [""; 0]);
    assert!(spawned.unwrap().wait().unwrap().success());
}

macro_rules! held_at_calls {
    ($($name:ident: $call:ident, $from:ident;)*) => {
        $(
            #[test]
            fn $name() {
                isolated_as_both(|| {
                    require!(seccomp_notify, userns, new_proc);
                    stage!();
                    held(libc::$call, From::$from);
                });
            }
        )*
    };
}

// The stage in the user namespace; the process that it has made, before it has ids of the namespace,
// when it has, and when it is about to execute the program.
held_at_calls! {
    the_stage: SYS_clone, Outside;
    its_process_from_outside: SYS_setresgid, Outside;
    its_process: SYS_setresgid, Inside;
    its_process_before_the_exec: SYS_execve, Inside;
}

/// What the descriptors of a process are, in order.
fn links_of(pid: i32) -> Vec<String> {
    let numbers = (0..64).map(|number| format!("/proc/{pid}/fd/{number}"));
    let links = numbers.filter_map(|path| std::fs::read_link(path).ok());
    links.map(|link| link.display().to_string()).collect()
}

/// exec gives the program its new memory, which root of the joined user namespace may look into, before it closes
/// anything: until it does, what is left for it to close is there for the taking.
#[test]
fn the_socket_is_all_that_is_left_for_exec_to_close() {
    isolated(|| {
        require!(root, seccomp_notify, userns);
        stage!();
        let target = target();
        let plan = joining(&target).compile().unwrap();
        let mut links = Vec::new();
        let spawned = held_at(
            libc::SYS_execve,
            || plan.spawn(),
            |pid| links = links_of(pid),
        );
        assert!(spawned.unwrap().wait().unwrap().success());
        let (streams, rest) = links.split_at(3);
        assert_eq!(streams, ["/dev/null"; 3]);
        assert!(
            matches!(rest, [one] if one.starts_with("socket:")),
            "{rest:?}"
        );
    });
}

/// Whoever is root in there can get at the socket in the moment of the exec, and say what the stage never does.
#[test]
fn a_failure_without_an_errno_is_none() {
    isolated(|| {
        require!(root, seccomp_notify, userns);
        stage!();
        let target = target();
        let plan = joining(&target).compile().unwrap();
        // Of execve, and of a call of the lock-down.
        for (errno, call) in [
            (0_i32, 1_u32),
            (-1, 0x1_0000),
            (4096, 1),
            (i32::MAX, 0x1_0000),
        ] {
            let status = in_forked_child(|| {
                let failed = [3, errno.cast_unsigned(), call, 0]
                    .map(u32::to_ne_bytes)
                    .concat();
                let forge = |pid| {
                    let sent = descriptors(pid)
                        .iter()
                        .filter(|(_, fd)| {
                            rustix::net::send(fd, &failed, SendFlags::NOSIGNAL).is_ok()
                        })
                        .count();
                    assert_eq!(sent, 1);
                };
                let error = held_at(libc::SYS_execve, || plan.spawn(), forge).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::DiedBeforeExec, "{error:?}");
                0
            });
            assert!(status.success(), "{errno}: {status}");
        }
    });
}

/// Whatever the moment: many programs join while the attacker does not pause.
#[test]
fn at_any_time() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        stage!();
        let target = target();
        let mut attacker = Attacker::new(From::Inside, &target);
        let plan = joining(&target).compile().unwrap();
        assert!(plan.spawn().unwrap().wait().unwrap().success());
        let before = Census::take().without(&["maps", "threads"]);
        let over = AtomicBool::new(false);
        let (seen, got) = std::thread::scope(|scope| {
            let attacking = scope.spawn(|| {
                let (mut seen, mut all) = (0, Vec::new());
                while !over.load(Ordering::Relaxed) {
                    let (number, got) = attacker.attack(0);
                    seen += number;
                    all.extend(got);
                }
                (seen, all)
            });
            // As many as there is time for, on a machine that does other things too.
            let begun = Instant::now();
            for round in 0..300 {
                if round >= 20 && begun.elapsed() > Duration::from_secs(10) {
                    break;
                }
                assert!(plan.spawn().unwrap().wait().unwrap().success());
            }
            over.store(true, Ordering::Relaxed);
            attacking.join().unwrap()
        });
        assert!(seen > 0, "it has seen nobody");
        // The program itself is in its namespaces, and at its mercy. While it is executed, so is the socket to the
        // caller, who trusts nothing that comes from there.
        for line in got.iter().filter(|line| !line.contains("socket:[")) {
            for secret in ["the secret", "memfd", "HOME=", ":["] {
                assert!(!line.contains(secret), "{secret}: {line}");
            }
        }
        assert_same(&before, &Census::take().without(&["maps", "threads"]));
    });
}
