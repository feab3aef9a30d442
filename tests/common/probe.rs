//! Readers of /proc: the kernel's account of a process.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A field of `/proc/PID/status` (`pid` may be `"self"` or `"thread-self"`).
pub(crate) fn status(pid: impl Display, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

/// The identity of a namespace of a process as (device, inode): `kind` is a name in `/proc/PID/ns`.
pub(crate) fn namespace(pid: impl Display, kind: &str) -> io::Result<(u64, u64)> {
    let file = fs::metadata(format!("/proc/{pid}/ns/{kind}"))?;
    Ok((file.dev(), file.ino()))
}

/// The lines of `/proc/PID/mountinfo`.
pub(crate) fn mountinfo(pid: impl Display) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The mountinfo line of what is mounted on top at `point`, as the kernel writes it (`\040` for a
/// space).
pub(crate) fn mount_at(pid: impl Display, point: &str) -> io::Result<Option<String>> {
    let lines = mountinfo(pid)?;
    Ok(lines
        .into_iter()
        .rfind(|line| line.split(' ').nth(4) == Some(point)))
}

/// One process, as `/proc/PID/stat` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// In clock ticks since boot: tells two processes apart that had the same pid.
    pub(crate) started: u64,
}

impl Process {
    pub(crate) fn read(pid: impl Display) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may hold any byte, a parenthesis too.
        let (head, tail) = text.rsplit_once(')')?;
        let (pid, comm) = head.split_once(" (")?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        Some(Self {
            pid: pid.parse().ok()?,
            comm: comm.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether this was read of the same process, maybe at another time.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }

    pub(crate) fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Kills it and waits until it is a zombie or gone.
    pub(crate) fn kill(&self) {
        let Some(pidfd) =
            Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            return;
        };
        // Only now is the pid pinned, so only now can it be told whose it is.
        if Self::read(self.pid).is_none_or(|now| !now.is_same(self)) {
            return;
        }
        // ESRCH is a process that has ended meanwhile, which is what is wanted.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        ends_within(&pidfd, Duration::from_secs(2));
    }
}

/// Whether the process behind a pidfd ends within the given time.
pub(crate) fn ends_within(pidfd: impl std::os::fd::AsFd, time: Duration) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let timeout = Timespec::try_from(time).unwrap();
    loop {
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => return ready == 1,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// Every process that this /proc shows.
pub(crate) fn processes() -> Vec<Process> {
    let names = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse::<i32>().ok())
        .filter_map(Process::read)
        .collect()
}

/// The children of a process, zombies among them.
pub(crate) fn children(pid: i32) -> Vec<Process> {
    processes()
        .into_iter()
        .filter(|process| process.parent == pid)
        .collect()
}

/// The children of a process, their children, and so on.
pub(crate) fn descendants(pid: i32) -> Vec<Process> {
    let mut by_parent: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in processes() {
        by_parent.entry(process.parent).or_default().push(process);
    }
    let mut found = by_parent.remove(&pid).unwrap_or_default();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let children = by_parent.remove(&process.pid).unwrap_or_default();
        found.extend(children);
        next += 1;
    }
    found
}

/// What a process and all that descend from it are doing, a line for each thread: for whoever has to find out what
/// they wait for. A call is its number, its arguments and where it was made, if this process may see that.
pub(crate) fn doing(pid: i32) -> String {
    let read = |task: &str, file| {
        let text = fs::read_to_string(format!("{task}/{file}"));
        text.map_or_else(
            |error| error.kind().to_string(),
            |text| text.trim().to_owned(),
        )
    };
    let all = Process::read(pid).into_iter().chain(descendants(pid));
    let tasks = all.flat_map(|process| {
        let tasks = fs::read_dir(format!("/proc/{}/task", process.pid));
        let tasks = tasks.into_iter().flatten().flatten();
        let lines = tasks.map(move |task| {
            let task = task.path().display().to_string();
            let below_proc = task.trim_start_matches("/proc/");
            let state = Process::read(below_proc).map_or('?', |thread| thread.state);
            let field = |name| status(below_proc, name).unwrap_or_default();
            format!(
                "{task} ({}, child of {}) {state} in {}: {}; signals {} {} blocked {}\n",
                process.comm,
                process.parent,
                read(&task, "wchan"),
                read(&task, "syscall"),
                field("SigPnd"),
                field("ShdPnd"),
                field("SigBlk"),
            )
        });
        lines.collect::<Vec<_>>()
    });
    tasks.collect()
}

/// Kills what descends from a process, until nothing of it is left alive.
pub(crate) fn kill_descendants(pid: i32) {
    // More than once, as one may have been forked during the scan; not forever.
    for _ in 0..20 {
        let alive: Vec<_> = descendants(pid)
            .into_iter()
            .filter(|p| !p.is_zombie())
            .collect();
        if alive.is_empty() {
            return;
        }
        alive.iter().for_each(Process::kill);
    }
}
