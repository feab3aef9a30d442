//! Sandboxes of many sorts, and what a program sees in them: the kernel's account, which two runs of one
//! plan must have in common.
#![allow(dead_code, reason = "every test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test fails by a panic"
)]

pub(crate) mod cgroup;
pub(crate) mod hold;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringfence::{Child, Command, Extent, IdMap, Rootfs, Sandbox, Stdio};

use crate::common::probe;
use crate::common::seccomp::ALLOW;

/// What the program shows of itself.
const FILES: [&str; 9] = [
    "/proc/self/status",
    "/proc/self/uid_map",
    "/proc/self/gid_map",
    "/proc/self/setgroups",
    "/proc/self/mountinfo",
    "/proc/self/limits",
    "/proc/self/timens_offsets",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
];
/// The lines of `/proc/self/status` that do not differ from run to run.
const STATUS: [&str; 18] = [
    "Umask:",
    "Uid:",
    "Gid:",
    "Groups:",
    "SigPnd:",
    "ShdPnd:",
    "SigBlk:",
    "SigIgn:",
    "SigCgt:",
    "CapInh:",
    "CapPrm:",
    "CapEff:",
    "CapBnd:",
    "CapAmb:",
    "NoNewPrivs:",
    "Seccomp:",
    "Threads:",
    "TracerPid:",
];
const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// The program for [`seen`], to be run in the sandbox, which must show it a procfs.
pub(crate) fn looker(sandbox: Sandbox) -> Command {
    sandbox
        .command("/bin/cat")
        .args(FILES)
        .arg("-")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
}

/// What a [`looker`] sees, and what is seen of it from outside.
pub(crate) fn seen(mut child: Child) -> Vec<String> {
    let pid = child.id();
    let mut stdin = child.stdin.take().expect("is piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("is piped"));
    // What comes back has passed through the program, which then waits for more.
    stdin.write_all(b"ready\n").unwrap();
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "{lines:?}");
        match line.trim_end() {
            "ready" => break,
            other => lines.extend(constant_part(other)),
        }
    }
    for kind in KINDS {
        let own = probe::namespace("thread-self", kind).unwrap();
        let is_new = probe::namespace(pid, kind).unwrap() != own;
        lines.push(format!(
            "{kind}: {}",
            if is_new { "new" } else { "inherited" }
        ));
    }
    match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => {
            let open: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            lines.push(format!("descriptors {open:?}"));
        }
        // A program of another user is not to be looked into that far.
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    }
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    lines.extend(cgroup.lines().map(str::to_owned));
    for link in ["cwd", "root"] {
        let target = fs::read_link(format!("/proc/{pid}/{link}")).unwrap();
        lines.push(format!("{link} {}", target.display()));
    }
    let process = probe::Process::read(pid).unwrap();
    let leads = |id: i32| id == process.pid;
    lines.push(format!(
        "leads its session: {}, its group: {}",
        leads(process.session),
        leads(process.group)
    ));
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
    lines
}

/// `None` for what is different in every run, such as a pid or the number of a mount.
fn constant_part(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split(' ').collect();
    let is_mount = fields.len() > 6 && fields.contains(&"-");
    if is_mount {
        return Some(fields[3..].join(" "));
    }
    let is_status = line.contains(":\t");
    let is_kept = !is_status || STATUS.iter().any(|name| line.starts_with(name));
    is_kept.then(|| line.to_owned())
}

/// A root with everything that a sandbox can be given.
pub(crate) fn rooted(sandbox: Sandbox) -> Sandbox {
    minimal(sandbox)
        .dev("/dev")
        .tmpfs("/tmp")
        .dir("/srv/data")
        .file("/etc/motd", "hello")
        .bind("/usr/bin/true", "/file")
        .mqueue("/mqueue")
        .sysfs("/sys")
}

/// A root that the looker can run in.
pub(crate) fn minimal(sandbox: Sandbox) -> Sandbox {
    sandbox
        .mount()
        .rootfs(Rootfs::tmpfs())
        .bind_ro("/usr", "/usr")
        .symlink("usr/bin", "/bin")
        .symlink("usr/lib", "/lib")
        .symlink("usr/lib64", "/lib64")
        .proc("/proc")
}

/// All namespaces, a full root and names.
pub(crate) fn everything() -> Sandbox {
    let sandbox = Sandbox::new()
        .all()
        .user_map(IdMap::root())
        .hostname("box")
        .domainname("example")
        .monotonic_offset(Duration::from_secs(100))
        .boottime_offset(Duration::from_secs(200));
    rooted(sandbox)
}

/// Ids that are not the caller's, which a privileged caller maps by itself.
pub(crate) fn many_ids() -> Sandbox {
    let map = |own| {
        IdMap::from([
            Extent {
                inside: 0,
                outside: own,
                count: 1,
            },
            Extent {
                inside: 1,
                outside: 200_000,
                count: 1000,
            },
        ])
    };
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    Sandbox::new().user().user_map(map(uid)).group_map(map(gid))
}

/// Returns when this process has one thread again: threads of the crate end after they have given
/// their answer.
pub(crate) fn await_single_thread() {
    await_threads(1);
}

/// Returns when this process has this many threads.
pub(crate) fn await_threads(count: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_dir("/proc/self/task").unwrap().count() > count {
        assert!(Instant::now() < deadline, "a thread does not end");
        std::thread::yield_now();
    }
}

/// Ends a thread beside the test also when the test fails.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All that binds a program without changing what it sees, but for a filter with a listener: a process that
/// is filtered by the test has no room for another.
pub(crate) fn locked_down(sandbox: Sandbox) -> Sandbox {
    use ringfence::lockdown::{Capabilities, CapabilitySets, IoPriority};
    use ringfence::lockdown::{Resource, Rlimit, SeccompFilter, Securebits};
    let allow = SeccompFilter::new([ALLOW]);
    let kill = Capabilities::KILL;
    sandbox
        .rlimit(Resource::Stack, Rlimit::new(1 << 22, 1 << 23))
        .nice(19)
        .oom_score_adj(500)
        .io_priority(IoPriority::Idle)
        .affinity(0..64)
        .securebits(Securebits::NO_SETUID_FIXUP)
        .capabilities(CapabilitySets::keep(kill).ambient(kill))
        .seccomp(allow.clone())
        .seccomp(allow)
}
