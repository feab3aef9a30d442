//! The state of this process, so that what a call left behind or changed can be seen.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rustix::process::{dumpable_behavior, getpid, parent_process_death_signal};
use rustix::thread::{capabilities_secure_bits, get_keep_capabilities};

use super::{probe, sys};

/// What the kernel says of this process and of the calling thread, as lines in named sections.
///
/// The first use of something may leave lasting state behind, an allocation or a cached
/// descriptor; so do once what is to be tested, and take the first census after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    sections: BTreeMap<&'static str, Vec<String>>,
}

impl Census {
    /// The sections: `fds`, `children`, `threads`, `mounts`, `maps`, `links` (network devices),
    /// `environ`, `rlimits`, `signals`, `status` (ids, capabilities, umask, masks, seccomp),
    /// `attributes` (cwd, root, dumpable, securebits and the like), `namespaces`.
    pub(crate) fn take() -> Self {
        let sections = [
            // First, as the others read files and allocate.
            ("fds", fds()),
            ("maps", maps()),
            ("children", children()),
            ("threads", threads()),
            ("mounts", probe::mountinfo("thread-self").unwrap()),
            ("links", links()),
            (
                "environ",
                env::vars_os()
                    .map(|(key, value)| format!("{key:?}={value:?}"))
                    .collect(),
            ),
            ("rlimits", lines("/proc/thread-self/limits")),
            ("signals", signals()),
            ("status", status()),
            ("attributes", attributes()),
            ("namespaces", namespaces()),
        ];
        Self {
            sections: sections.into(),
        }
    }

    /// Also the section `files`: everything below a directory.
    pub(crate) fn with_files(mut self, dir: &Path) -> Self {
        let mut found = Vec::new();
        walk(dir, dir, &mut found);
        self.sections.insert("files", found);
        self
    }

    /// Leaves sections out, for what the call under test is meant to change.
    pub(crate) fn without(mut self, sections: &[&str]) -> Self {
        for name in sections {
            assert!(self.sections.remove(*name).is_some(), "no section {name}");
        }
        self
    }

    pub(crate) fn section(&self, name: &str) -> &[String] {
        &self.sections[name]
    }

    /// What is gone (`-`) and what is new (`+`) in `after`; empty if nothing is.
    pub(crate) fn difference(&self, after: &Self) -> String {
        let mut report = String::new();
        for (name, before) in &self.sections {
            let Some(after) = after.sections.get(name) else {
                continue;
            };
            let gone = missing_from(after, before)
                .into_iter()
                .map(|line| ('-', line));
            let new = missing_from(before, after)
                .into_iter()
                .map(|line| ('+', line));
            let changes: Vec<_> = gone.chain(new).collect();
            if !changes.is_empty() {
                let _ = writeln!(report, "{name}:");
            }
            for (sign, line) in changes {
                let _ = writeln!(report, "  {sign} {line}");
            }
        }
        report
    }
}

/// Fails the test with a list of the differences, if there are any in the sections of both.
#[track_caller]
pub(crate) fn assert_same(before: &Census, after: &Census) {
    let difference = before.difference(after);
    assert!(
        difference.is_empty(),
        "the process is not as it was:\n{difference}"
    );
}

/// The lines of `these` that `others` lacks, each as often as it is lacking.
fn missing_from<'a>(others: &[String], these: &'a [String]) -> Vec<&'a String> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for line in others {
        *counts.entry(line.as_str()).or_default() += 1;
    }
    let is_missing = |line: &&String| match counts.get_mut(line.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    these.iter().filter(is_missing).collect()
}

fn lines(path: &str) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Numbers, targets and flags; the flags hold O_CLOEXEC.
fn fds() -> Vec<String> {
    let numbers = names("/proc/self/fd");
    let describe = |number: String| {
        // The descriptor of the directory itself is closed by now.
        let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        // Before Linux 5.14, not readable by a user who is not dumpable.
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.map_or("?", str::trim);
        Some(format!("{number} -> {} flags {flags}", target.display()))
    };
    numbers.into_iter().filter_map(describe).collect()
}

fn children() -> Vec<String> {
    let state = |zombie| if zombie { "zombie" } else { "alive" };
    let children = probe::children(getpid().as_raw_pid());
    let mut found: Vec<_> = children
        .iter()
        .map(|child| {
            format!(
                "{} ({}) {}",
                child.pid,
                child.comm,
                state(child.is_zombie())
            )
        })
        .collect();
    // Where /proc is that of another pid namespace, it may not show them.
    if let Some(pid) = sys::unreaped_child().filter(|pid| children.iter().all(|c| c.pid != *pid)) {
        found.push(format!("{pid} zombie, by waitid"));
    }
    found
}

/// Those that are not about to be gone: one that has been joined is still listed for a moment.
fn threads() -> Vec<String> {
    const PF_EXITING: u64 = 4;
    let living = |tid: String| {
        let stat = fs::read_to_string(format!("/proc/self/task/{tid}/stat")).ok()?;
        let (start, rest) = stat.rsplit_once(')')?;
        let flags: u64 = rest.split_whitespace().nth(6)?.parse().unwrap();
        let comm = start.split_once('(')?.1;
        (flags & PF_EXITING == 0).then(|| format!("{tid} ({comm})"))
    };
    names("/proc/self/task")
        .into_iter()
        .filter_map(living)
        .collect()
}

/// Mappings without addresses. Anonymous neighbours count as one, whatever their protection: the
/// allocator's arenas, which are reserved as a whole and opened bit by bit, then look the same
/// before and after an allocation, and a stack with its guard page is one mapping. The heap and
/// the first stack grow, and the heap comes with the first allocation that no arena serves: they do
/// not count.
fn maps() -> Vec<String> {
    let mut found = Vec::new();
    let mut anonymous: Option<(u64, u64)> = None;
    let show = |(start, end): (u64, u64)| format!("anonymous {} KiB", (end - start) >> 10);
    for line in lines("/proc/self/maps") {
        let mut fields = line.split_whitespace();
        let (start, end) = fields
            .next()
            .and_then(|range| range.split_once('-'))
            .unwrap();
        let start = u64::from_str_radix(start, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();
        let protection = fields.next().unwrap();
        let name = fields.skip(3).collect::<Vec<_>>().join(" ");
        if name.is_empty() {
            anonymous = match anonymous {
                Some((first, last)) if last == start => Some((first, end)),
                other => {
                    found.extend(other.map(show));
                    Some((start, end))
                }
            };
            continue;
        }
        found.extend(anonymous.take().map(show));
        if !matches!(name.as_str(), "[heap]" | "[stack]") {
            found.push(format!("{name} {protection} {} KiB", (end - start) >> 10));
        }
    }
    found.extend(anonymous.map(show));
    found
}

fn links() -> Vec<String> {
    let devices = lines("/proc/thread-self/net/dev");
    let name = |line: &String| line.split_once(':').map(|(name, _)| name.trim().to_owned());
    devices.iter().filter_map(name).collect()
}

fn signals() -> Vec<String> {
    let show = |signal| {
        let (handler, flags) = sys::signal_disposition(signal)?;
        let is_default = handler == libc::SIG_DFL && flags == 0;
        (!is_default).then(|| format!("signal {signal}: handler {handler:#x} flags {flags:#x}"))
    };
    (1..=64).filter_map(show).collect()
}

fn status() -> Vec<String> {
    const FIELDS: &[&str] = &[
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "SigPnd",
        "ShdPnd",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "Cpus_allowed",
    ];
    let is_state = |line: &String| {
        line.split(':')
            .next()
            .is_some_and(|name| FIELDS.contains(&name))
    };
    lines("/proc/thread-self/status")
        .into_iter()
        .filter(is_state)
        .collect()
}

fn attributes() -> Vec<String> {
    let link = |name| fs::read_link(format!("/proc/thread-self/{name}")).unwrap();
    let this = probe::Process::read("self").unwrap();
    vec![
        format!("cwd {}", link("cwd").display()),
        format!("root {}", link("root").display()),
        format!("process group {} session {}", this.group, this.session),
        format!(
            "oom_score_adj {}",
            lines("/proc/self/oom_score_adj").join("")
        ),
        format!("cgroup {}", lines("/proc/thread-self/cgroup").join(" ")),
        format!("dumpable {:?}", dumpable_behavior()),
        format!("securebits {:?}", capabilities_secure_bits()),
        format!("keepcaps {:?}", get_keep_capabilities()),
        format!("parent-death signal {:?}", parent_process_death_signal()),
        format!("child subreaper {:?}", rustix::process::child_subreaper()),
    ]
}

fn namespaces() -> Vec<String> {
    // By name, as a user who is not dumpable may follow the links but not list them.
    const KINDS: [&str; 10] = [
        "cgroup",
        "ipc",
        "mnt",
        "net",
        "pid",
        "pid_for_children",
        "time",
        "time_for_children",
        "user",
        "uts",
    ];
    let show = |kind: &str| {
        let target = fs::read_link(format!("/proc/thread-self/ns/{kind}")).ok()?;
        Some(format!("{kind} {}", target.display()))
    };
    KINDS.into_iter().filter_map(show).collect()
}

fn walk(top: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let file = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(top).unwrap().display();
        if file.is_dir() {
            found.push(format!("{name}/"));
            walk(top, &path, found);
        } else {
            found.push(format!("{name} {} bytes", file.len()));
        }
    }
}
