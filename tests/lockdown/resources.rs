//! Limits, priorities and processors: the program's, and nobody else's.

use super::{Way, fields, on_each, read_inside};
use crate::common::{isolated, isolated_as_both, probe, require};
use ringfence::lockdown::{IoPriority, Resource, Rlimit};
use ringfence::{ErrorKind, Sandbox};
use std::collections::BTreeMap;
use std::fs;

/// The lines of /proc/PID/limits, by the name that the kernel gives each.
fn limits(text: &str) -> BTreeMap<String, (String, String)> {
    let columns = |line: &str| {
        let name = line[..26].trim().to_owned();
        let mut rest = line[26..].split_whitespace().map(str::to_owned);
        (name, (rest.next().unwrap(), rest.next().unwrap()))
    };
    text.lines().skip(1).map(columns).collect()
}

fn name(resource: Resource) -> &'static str {
    match resource {
        Resource::AddressSpace => "Max address space",
        Resource::Core => "Max core file size",
        Resource::Cpu => "Max cpu time",
        Resource::Data => "Max data size",
        Resource::FileSize => "Max file size",
        Resource::Locks => "Max file locks",
        Resource::LockedMemory => "Max locked memory",
        Resource::MessageQueue => "Max msgqueue size",
        Resource::Nice => "Max nice priority",
        Resource::Descriptors => "Max open files",
        Resource::Processes => "Max processes",
        Resource::ResidentSet => "Max resident set",
        Resource::RealtimePriority => "Max realtime priority",
        Resource::RealtimeTime => "Max realtime timeout",
        Resource::PendingSignals => "Max pending signals",
        Resource::Stack => "Max stack size",
        other => panic!("{other} has no name here"),
    }
}

fn own_limits() -> BTreeMap<String, (String, String)> {
    limits(&fs::read_to_string("/proc/self/limits").unwrap())
}

/// Each a little below what the caller has, so that they differ from each other and from it.
#[test]
fn every_limit_is_the_programs_alone() {
    isolated_as_both(|| {
        require!(userns);
        let own = own_limits();
        let wanted: Vec<_> = (1..)
            .zip(Resource::ALL)
            .map(|(number, resource)| {
                let hard = &own[name(resource)].1;
                let hard = hard.parse().map_or(1 << 40, |hard: u64| hard.min(1 << 40));
                let hard = hard.saturating_sub(number);
                (resource, hard.saturating_sub(7), hard)
            })
            .collect();
        on_each(|way| {
            let limited = wanted
                .iter()
                .fold(way.sandbox(), |sandbox, &(resource, soft, hard)| {
                    sandbox.rlimit(resource, Rlimit::new(soft, hard))
                });
            let text = read_inside(way, limited, "/proc/self/limits").unwrap();
            let found = limits(&text);
            for &(resource, soft, hard) in &wanted {
                let shown = (soft.to_string(), hard.to_string());
                assert_eq!(found[name(resource)], shown, "{way:?} {resource}");
            }
            assert_eq!(own_limits(), own);
        });
    });
}

#[test]
fn no_limit_is_shown_as_none() {
    isolated(|| {
        let none = |resource| {
            let sandbox = Sandbox::new().rlimit(resource, Rlimit::UNLIMITED);
            sandbox
                .command("/bin/cat")
                .arg("/proc/self/limits")
                .output()
        };
        for resource in Resource::ALL {
            if own_limits()[name(resource)].1 != "unlimited" {
                continue;
            }
            let output = none(resource).unwrap();
            let found = limits(&String::from_utf8(output.stdout).unwrap());
            let unlimited = ("unlimited".to_owned(), "unlimited".to_owned());
            assert_eq!(found[name(resource)], unlimited, "{resource}");
        }
    });
}

#[test]
fn a_limit_that_cannot_be_is_found_when_compiled() {
    isolated_as_both(|| {
        let compile = |sandbox: Sandbox| sandbox.command("true").compile();
        let crossed = Sandbox::new().rlimit(Resource::Core, Rlimit::new(2, 1));
        assert_eq!(compile(crossed).unwrap_err().setter(), Some("rlimit"));
        let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let above = Rlimit::fixed(own.maximum.unwrap() + 1);
        let raised = Sandbox::new().user().rlimit(Resource::Descriptors, above);
        let error = compile(raised).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("nofile"), "{error}");
    });
}

/// Field 18 of /proc/PID/stat is the priority, 19 the nice value.
fn nice_of(stat: &str) -> i32 {
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(16).unwrap().parse().unwrap()
}

#[test]
fn priorities_are_the_programs_alone() {
    isolated_as_both(|| {
        require!(userns);
        on_each(|way| {
            let own = || nice_of(&fs::read_to_string("/proc/self/stat").unwrap());
            let before = own();
            let sandbox = way.sandbox().nice(19);
            let stat = read_inside(way, sandbox, "/proc/self/stat").unwrap();
            assert_eq!(nice_of(&stat), 19, "{way:?}");
            assert_eq!(own(), before, "{way:?}");
        });
    });
}

#[test]
fn io_priorities_are_the_programs_alone() {
    isolated_as_both(|| {
        require!(userns, program("ionice"));
        on_each(|way| {
            for (priority, said) in [
                (IoPriority::Idle, "idle"),
                (IoPriority::BestEffort(6), "best-effort: prio 6"),
            ] {
                let command = way.command(way.sandbox().io_priority(priority), "ionice");
                let mut child = command
                    .stdin(ringfence::Stdio::null())
                    .stdout(ringfence::Stdio::piped())
                    .spawn()
                    .unwrap();
                if way.stage == super::Stage::Gate {
                    child.release().unwrap();
                }
                let output = child.wait_with_output().unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                assert_eq!(text.trim_end(), said, "{way:?}");
            }
            let own = std::process::Command::new("ionice").output().unwrap();
            assert!(String::from_utf8(own.stdout).unwrap().starts_with("none"));
        });
    });
}

#[test]
fn processors_are_the_programs_alone() {
    isolated_as_both(|| {
        require!(userns);
        let own = probe::status("self", "Cpus_allowed_list");
        let last = rustix::thread::sched_getaffinity(None).unwrap();
        let last = (0..1024).rfind(|&cpu| last.is_set(cpu)).unwrap();
        on_each(|way| {
            let sandbox = way.sandbox().affinity([last]);
            let text = read_inside(way, sandbox, "/proc/self/status").unwrap();
            let allowed = &fields(&text)["Cpus_allowed_list"];
            assert_eq!(*allowed, last.to_string(), "{way:?}");
            assert_eq!(probe::status("self", "Cpus_allowed_list"), own);
        });
        let error = Sandbox::new().affinity([]).command("true").compile();
        assert_eq!(error.unwrap_err().setter(), Some("affinity"));
        let error = Sandbox::new()
            .affinity([8000])
            .command("/bin/true")
            .status();
        let error = error.unwrap_err();
        assert_eq!(error.syscall(), Some("sched_setaffinity"), "{error:?}");
    });
}

#[test]
fn the_oom_score_is_the_programs_alone() {
    isolated_as_both(|| {
        require!(userns);
        let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let wanted = own.trim().parse::<i32>().unwrap() + 100;
        on_each(|way| {
            let sandbox = way.sandbox().oom_score_adj(wanted);
            let text = read_inside(way, sandbox, "/proc/self/oom_score_adj").unwrap();
            assert_eq!(text.trim(), wanted.to_string(), "{way:?}");
            assert_eq!(fs::read_to_string("/proc/self/oom_score_adj").unwrap(), own);
        });
    });
}

/// The kernel's answer to what an unprivileged caller may not do is an error, and the program never runs.
#[test]
fn what_takes_privilege_is_an_error() {
    crate::common::isolated_as_user(|| {
        for (sandbox, call) in [
            (Sandbox::new().nice(-5), "setpriority"),
            (
                Sandbox::new().io_priority(IoPriority::Realtime(0)),
                "ioprio_set",
            ),
            (Sandbox::new().oom_score_adj(-1000), "write"),
        ] {
            let error = sandbox.command("/bin/true").status().unwrap_err();
            assert_eq!(error.syscall(), Some(call), "{error:?}");
            assert!(error.hint().is_some(), "{error:?}");
        }
    });
}

/// Each way is one that the kernel tells apart.
#[test]
fn ways_differ() {
    let ways = Way::all();
    assert!(ways.len() >= 10, "{ways:?}");
}
