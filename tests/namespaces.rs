//! New namespaces, as the kernel sees them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
mod support;

use std::io::{Read, Write};
use std::time::Duration;

use ringfence::{Engine, Kind, NamespaceIds, Namespaces, Sandbox, Stdio, TimeOffset};
use rustix::time::{ClockId, clock_gettime};

use common::{isolated, isolated_as_both, leaks, probe, require};
use support::{ENGINES, Waiting, is_privileged, sandbox, sh, stdout, text_of};

/// The kinds in which a process and the caller differ, by the inodes of /proc/PID/ns.
fn new_kinds(pid: u32) -> Namespaces {
    Kind::ALL
        .into_iter()
        .filter(|kind| {
            let name = kind.proc_name();
            match (probe::namespace("self", name), probe::namespace(pid, name)) {
                (Ok(own), Ok(other)) => own != other,
                // A kind that the kernel does not have.
                (Err(_), Err(_)) => false,
                (own, other) => panic!("{name}: {own:?}, {other:?}"),
            }
        })
        .fold(Namespaces::empty(), |set, kind| set | kind.into())
}

/// The handle tells of each namespace what the kernel tells.
fn assert_reported(child: &Waiting) {
    let ids = child.namespace_ids().unwrap();
    assert_eq!(ids, NamespaceIds::of_pid(child.id()).unwrap());
    for kind in Kind::ALL {
        let seen = probe::namespace(child.id(), kind.proc_name()).ok();
        let reported = ids.get(kind).map(|id| (id.device(), id.inode()));
        assert_eq!(reported, seen, "{kind}");
    }
}

/// Each with the namespaces that the caller needs beside it.
fn kinds_of_this_kernel() -> impl Iterator<Item = Namespaces> {
    let beside = match is_privileged() {
        true => Namespaces::empty(),
        false => Namespaces::USER,
    };
    Kind::ALL
        .into_iter()
        .filter(|kind| probe::namespace("self", kind.proc_name()).is_ok())
        .map(move |kind| beside | kind.into())
}

#[test]
fn each_alone_is_new_and_nothing_else() {
    isolated_as_both(|| {
        require!(userns);
        for engine in ENGINES {
            for wanted in kinds_of_this_kernel() {
                let child = Waiting::start(&Sandbox::new().namespaces(wanted).engine(engine));
                assert_eq!(new_kinds(child.id()), wanted, "{engine:?}");
                assert_reported(&child);
            }
        }
    });
}

#[test]
fn each_method_asks_for_its_kind() {
    let sandboxes = [
        (Sandbox::new(), Namespaces::empty()),
        (Sandbox::new().user(), Namespaces::USER),
        (Sandbox::new().pid(), Namespaces::PID),
        (Sandbox::new().mount(), Namespaces::MOUNT),
        (Sandbox::new().net(), Namespaces::NET),
        (Sandbox::new().uts(), Namespaces::UTS),
        (Sandbox::new().ipc(), Namespaces::IPC),
        (Sandbox::new().cgroup(), Namespaces::CGROUP),
    ];
    for (sandbox, wanted) in sandboxes {
        let plan = sandbox.command("true").compile().unwrap();
        assert_eq!(plan.namespaces(), wanted);
    }
}

#[test]
fn all_together_are_new() {
    isolated_as_both(|| {
        require!(userns, timens);
        for engine in ENGINES {
            let child = Waiting::start(&Sandbox::new().all().engine(engine));
            assert_eq!(new_kinds(child.id()), Namespaces::all(), "{engine:?}");
            assert_reported(&child);
        }
    });
}

#[test]
fn two_sandboxes_share_nothing() {
    isolated_as_both(|| {
        require!(userns, timens);
        let plan = Waiting::command(&Sandbox::new().all())
            .stdin(Stdio::piped())
            .kill_on_drop()
            .compile()
            .unwrap();
        let (one, two) = (plan.spawn().unwrap(), plan.spawn().unwrap());
        for kind in Kind::ALL {
            let seen = [&one, &two].map(|child| probe::namespace(child.id(), kind.proc_name()));
            let [one, two] = seen.map(Result::unwrap);
            assert_ne!(one, two, "{kind}");
        }
    });
}

/// What /proc says of a process, without what differs between any two, and without ignored signals:
/// std hands on those of the caller.
fn state_of(pid: u32) -> Vec<String> {
    const FIELDS: [&str; 17] = [
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "SigPnd",
        "ShdPnd",
        "SigBlk",
        "SigCgt",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Cpus_allowed",
        "Threads",
    ];
    let mut state: Vec<_> = FIELDS
        .iter()
        .map(|field| format!("{field}: {:?}", probe::status(pid, field)))
        .collect();
    for file in [
        "cmdline",
        "environ",
        "limits",
        "oom_score_adj",
        "cgroup",
        "mountinfo",
    ] {
        let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        state.push(format!("{file}: {}", String::from_utf8_lossy(&text)));
    }
    for link in ["cwd", "root", "exe"] {
        let target = std::fs::read_link(format!("/proc/{pid}/{link}")).unwrap();
        state.push(format!("{link}: {}", target.display()));
    }
    let process = probe::Process::read(pid).unwrap();
    state.push(format!(
        "parent {} group {} session {}",
        process.parent, process.group, process.session
    ));
    state
}

/// The oracle is a child of std's.
#[test]
fn nothing_is_isolated_that_was_not_asked_for() {
    isolated_as_both(|| {
        let mut std = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Until it answers it may not yet be what it is going to be.
        std.stdin.as_ref().unwrap().write_all(b"?").unwrap();
        std.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let expected = state_of(std.id());
        for engine in ENGINES {
            let child = Waiting::start(&Sandbox::new().engine(engine));
            assert_eq!(new_kinds(child.id()), Namespaces::empty());
            for (found, expected) in state_of(child.id()).iter().zip(&expected) {
                assert_eq!(found, expected, "{engine:?}");
            }
        }
        drop(std.stdin.take());
        std.wait().unwrap();
    });
}

#[test]
fn the_program_is_process_1() {
    isolated_as_both(|| {
        require!(userns);
        for engine in ENGINES {
            let child = Waiting::start(&sandbox().pid().engine(engine));
            let pids = probe::status(child.id(), "NSpid").unwrap();
            assert_eq!(pids, format!("{}\t1", child.id()), "{engine:?}");
            let pid = sh(&sandbox().pid().engine(engine), "echo $$ $PPID");
            assert_eq!(pid, "1 0", "{engine:?}");
        }
    });
}

/// The kernel gives the interface its address when it comes up.
fn loopback_is_up(pid: u32) -> bool {
    text_of(format!("/proc/{pid}/net/fib_trie")).contains("127.0.0.1")
}

fn devices(pid: u32) -> Vec<String> {
    text_of(format!("/proc/{pid}/net/dev"))
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
}

#[test]
fn loopback_is_up_unless_declined() {
    isolated_as_both(|| {
        require!(userns, netns);
        for engine in ENGINES {
            let net = sandbox().net().engine(engine);
            let child = Waiting::start(&net);
            assert!(loopback_is_up(child.id()), "{engine:?}");
            // Modules such as ip_gre add a device to every namespace.
            assert!(devices(child.id()).contains(&"lo".to_owned()));
            let child = Waiting::start(&net.loopback_down());
            assert!(!loopback_is_up(child.id()), "{engine:?}");
        }
    });
}

#[test]
fn names_are_those_given() {
    isolated_as_both(|| {
        require!(userns);
        let before = leaks::Census::take();
        let caller =
            ["hostname", "domainname"].map(|name| text_of(format!("/proc/sys/kernel/{name}")));
        let longest = "h".repeat(64);
        for engine in ENGINES {
            let named = sandbox()
                .uts()
                .hostname(&longest)
                .domainname("example.test")
                .engine(engine);
            let names = sh(
                &named,
                "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname",
            );
            assert_eq!(names, format!("{longest}\nexample.test"), "{engine:?}");
        }
        let inherited = sh(&sandbox().uts(), "cat /proc/sys/kernel/hostname");
        assert_eq!(inherited, caller[0].trim_end());
        let after =
            ["hostname", "domainname"].map(|name| text_of(format!("/proc/sys/kernel/{name}")));
        assert_eq!(after, caller);
        let kept = ["children", "status", "namespaces", "fds"];
        for section in kept {
            assert_eq!(
                before.section(section),
                leaks::Census::take().section(section)
            );
        }
    });
}

/// Set in a process that is to print its clocks.
const CLOCKS: &str = "RINGFENCE_TEST_CLOCKS";

fn clocks() -> [i128; 2] {
    [ClockId::Monotonic, ClockId::Boottime].map(|clock| {
        let now = clock_gettime(clock);
        i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
    })
}

/// Not a test of its own: what the next one runs inside.
#[test]
fn prints_clocks() {
    if std::env::var_os(CLOCKS).is_some() {
        let [monotonic, boottime] = clocks();
        println!("now: {monotonic} {boottime}");
    }
}

fn clocks_inside(sandbox: Sandbox) -> [i128; 2] {
    let command = sandbox
        .command("/proc/self/exe")
        .args([
            "prints_clocks",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CLOCKS, "1");
    let text = stdout(&command);
    // libtest may have begun the line.
    let (_, clocks) = text.split_once("now: ").unwrap();
    let mut clocks = clocks
        .split_whitespace()
        .map(|clock| clock.parse().unwrap());
    [clocks.next().unwrap(), clocks.next().unwrap()]
}

#[test]
fn clocks_differ_by_their_offsets() {
    isolated_as_both(|| {
        require!(userns, timens);
        const SECOND: i128 = 1_000_000_000;
        let hour = TimeOffset::from(Duration::from_secs(3600));
        let ahead = TimeOffset::ahead(Duration::new(86_400, 1));
        // The machine may have been up for a moment only.
        let behind = TimeOffset::behind(Duration::from_millis(500));
        for engine in ENGINES {
            let time = || sandbox().time().engine(engine);
            let cases = [
                (time(), [0, 0]),
                (time().monotonic_offset(hour), [3600 * SECOND, 0]),
                (time().boottime_offset(ahead), [0, 86_400 * SECOND + 1]),
                (
                    time().monotonic_offset(behind).boottime_offset(hour),
                    [-SECOND / 2, 3600 * SECOND],
                ),
                (
                    time().monotonic_offset(ahead).boottime_offset(behind),
                    [86_400 * SECOND + 1, -SECOND / 2],
                ),
            ];
            for (sandbox, offsets) in cases {
                let before = clocks();
                let inside = clocks_inside(sandbox);
                let after = clocks();
                for ((inside, offset), (before, after)) in inside
                    .into_iter()
                    .zip(offsets)
                    .zip(before.into_iter().zip(after))
                {
                    assert!(
                        (before..=after).contains(&(inside - offset)),
                        "{engine:?}: {inside} is not {offset} from {before}..{after}"
                    );
                }
            }
        }
    });
}

#[test]
fn uptime_follows_the_boottime_offset() {
    isolated_as_both(|| {
        require!(userns, timens);
        let offset = Duration::from_secs(1_000_000_000);
        let uptime = sh(
            &sandbox().time().boottime_offset(offset),
            "cat /proc/uptime",
        );
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!(seconds >= 1e9, "{uptime}");
        assert!(!text_of("/proc/uptime").starts_with("1000"));
    });
}

#[test]
fn older_ways_without_clone3_make_the_same() {
    isolated(|| {
        require!(userns, timens);
        common::seccomp::deny(&[(libc::SYS_clone3, libc::ENOSYS)]).unwrap();
        for engine in [Engine::Auto, Engine::Clone, Engine::Fork] {
            let child = Waiting::start(&Sandbox::new().all().engine(engine));
            assert_eq!(new_kinds(child.id()), Namespaces::all(), "{engine:?}");
        }
        let error = Sandbox::new()
            .engine(Engine::Clone3)
            .command("true")
            .compile()
            .unwrap_err();
        assert_eq!(error.kind(), ringfence::ErrorKind::Unsupported);
    });
}
