//! What the machine and the caller can do, found by trying it.
//!
//! Each function is a need that [`require!`] can name. It says what stood in the way.

use std::env;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::{Errno, write};
use rustix::mount::{MountFlags, mount};
use rustix::process::{getegid, geteuid};
use rustix::system::uname;
use rustix::thread::UnshareFlags;
use tempfile::TempDir;

use super::{isolated, probe, seccomp, sys, user};

/// Needs whose absence fails the test instead of skipping it, separated by commas.
const STRICT: &str = "RINGFENCE_TEST_REQUIRE";

/// Returns from the test, or from its isolated body, unless every need is met:
/// `require!(root, kernel(5, 12), program("nft"))`.
///
/// What is missing is printed as `SKIPPED test: need: why`, and is a panic instead if the
/// environment variable `RINGFENCE_TEST_REQUIRE` names the need.
macro_rules! require {
    ($($need:ident $(($($arg:expr),*))?),+ $(,)?) => {
        $(
            if let Err(why) = $crate::common::require::$need($($($arg),*)?) {
                let test = $crate::common::test_name!();
                $crate::common::require::missing(test, stringify!($need), &why);
                return;
            }
        )+
    };
}
pub(crate) use require;

pub(crate) fn missing(test: &str, need: &str, why: &str) {
    let uid = geteuid().as_raw();
    let user = if uid == user::UID {
        format!(" as uid {uid}")
    } else {
        String::new()
    };
    // These are promised of who runs the suite, not of the user that root becomes.
    let of_the_runner = ["root", "cgroup2"].contains(&need) && uid == user::UID;
    let strict = env::var(STRICT).unwrap_or_default();
    let mut promised = strict.split(',').map(str::trim);
    if !of_the_runner && promised.any(|name| name == need) {
        panic!("{test}{user} needs {need}, which {STRICT} promises: {why}");
    }
    // Not eprintln, which libtest captures.
    let _ = writeln!(io::stderr(), "SKIPPED {test}{user}: {need}: {why}");
}

/// All the capabilities of root in the first user namespace, as far as namespaces go.
pub(crate) fn root() -> Result<(), String> {
    // PROC_USER_INIT_INO: a user namespace, too, has a root that can do the unshare below.
    const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
    let user = probe::namespace("self", "user").map_err(|error| format!("ns/user: {error}"))?;
    if user.1 != FIRST_USER_NAMESPACE {
        return Err("this is not the first user namespace".into());
    }
    try_in_child(|| unshare(UnshareFlags::NEWUTS, "unshare(CLONE_NEWUTS)"))
}

/// A user namespace that the caller makes and maps its own ids in.
pub(crate) fn userns() -> Result<(), String> {
    let maps = OwnMaps::new();
    try_in_child(|| enter_userns(UnshareFlags::empty(), &maps))
}

/// A network namespace, in a user namespace unless the caller is privileged.
pub(crate) fn netns() -> Result<(), String> {
    let maps = OwnMaps::new();
    if root().is_ok() {
        return try_in_child(|| unshare(UnshareFlags::NEWNET, "unshare(CLONE_NEWNET)"));
    }
    try_in_child(|| enter_userns(UnshareFlags::NEWNET, &maps))
}

/// Devices of tun(4).
pub(crate) fn tun() -> Result<(), String> {
    let opened = fs::File::open("/dev/net/tun");
    opened
        .map(drop)
        .map_err(|error| format!("/dev/net/tun: {error}"))
}

/// A bridge that filters by VLAN (`CONFIG_BRIDGE_VLAN_FILTERING`), in a network namespace of its own.
pub(crate) fn vlan_filtering() -> Result<(), String> {
    let arguments = "--net ip link add br0 type bridge vlan_filtering 1";
    let output = Command::new("unshare").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("unshare: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// Time namespaces (Linux 5.6, and a kernel option).
pub(crate) fn timens() -> Result<(), String> {
    probe::namespace("self", "time")
        .map(drop)
        .map_err(|error| format!("ns/time: {error}"))
}

/// An overlay mount in a user namespace (Linux 5.11).
pub(crate) fn overlay() -> Result<(), String> {
    let maps = OwnMaps::new();
    let dir = TempDir::new().map_err(|error| error.to_string())?;
    let path = dir.path().as_os_str().as_bytes();
    let at = |name: &str| CString::new([path, b"/", name.as_bytes()].concat()).unwrap();
    let (root, lower, upper, work) = (at("."), at("lower"), at("upper"), at("work"));
    let options = "userxattr,lowerdir=lower,upperdir=upper,workdir=work";
    let options = CString::new(options).unwrap();
    try_in_child(|| {
        enter_userns(UnshareFlags::NEWNS, &maps)?;
        let flags = MountFlags::empty();
        mount(c"tmpfs", root.as_c_str(), c"tmpfs", flags, None)
            .map_err(|error| ("tmpfs", error))?;
        for dir in [&lower, &upper, &work] {
            mkdirat(CWD, dir.as_c_str(), Mode::RWXU).map_err(|error| ("mkdir", error))?;
        }
        rustix::process::chdir(root.as_c_str()).map_err(|error| ("chdir", error))?;
        mount(c"overlay", c"lower", c"overlay", flags, options.as_c_str())
            .map_err(|error| ("overlay", error))
    })
}

/// A new /proc in a user, mount and pid namespace, which the kernel refuses where the present
/// one is partly masked, as in most containers.
pub(crate) fn new_proc() -> Result<(), String> {
    let maps = OwnMaps::new();
    try_in_child(|| {
        enter_userns(UnshareFlags::NEWNS | UnshareFlags::NEWPID, &maps)?;
        let status = isolated::in_forked_child_of_many(|| {
            match mount(c"proc", c"/proc", c"proc", MountFlags::empty(), None) {
                Ok(()) => 0,
                Err(error) => error.raw_os_error(),
            }
        });
        match status.code() {
            Some(0) => Ok(()),
            code => Err((
                "mount of proc",
                Errno::from_raw_os_error(code.unwrap_or(libc::EINTR)),
            )),
        }
    })
}

/// Programs that are executed by descriptor in a root without /dev/fd, which the security module TOMOYO
/// forbids where it is on, as on 5.10.
pub(crate) fn exec_without_dev() -> Result<(), String> {
    let maps = OwnMaps::new();
    let dir = TempDir::new().map_err(|error| error.to_string())?;
    let root = CString::new(dir.path().as_os_str().as_bytes()).unwrap();
    let path = dir.path().join("nothing");
    fs::write(&path, "").map_err(|error| error.to_string())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let file = fs::File::open(&path).map_err(|error| error.to_string())?;
    try_in_child(|| {
        enter_userns(UnshareFlags::empty(), &maps)?;
        rustix::process::chroot(root.as_c_str()).map_err(|error| ("chroot", error))?;
        // There is nothing in it to execute, which is found out last.
        match Errno::from_io_error(&sys::exec_file(&file)) {
            Some(Errno::NOENT) => Err(("execveat", Errno::NOENT)),
            _ => Ok(()),
        }
    })
}

/// Subordinate ids of the caller, and the set-user-ID programs that map them.
pub(crate) fn subuid() -> Result<(), String> {
    let ids = subids()?;
    // A child in a new user namespace that lives as long as the pipe is open.
    let (mut ready, child_ready) = io::pipe().map_err(|error| error.to_string())?;
    let (child_end, end) = io::pipe().map_err(|error| error.to_string())?;
    let child = match sys::fork().map_err(|error| error.to_string())? {
        Some(child) => child,
        None => {
            drop((ready, end));
            let made = sys::unshare(UnshareFlags::NEWUSER).is_ok();
            let _ = write(&child_ready, &[u8::from(made)]);
            let _ = rustix::io::read(&child_end, &mut [0; 1]);
            sys::exit_now(0);
        }
    };
    drop((child_ready, child_end));
    let mut made = [0];
    let read = ready.read_exact(&mut made);
    let result = if read.is_ok() && made == [1] {
        map_subids("newuidmap", child, geteuid().as_raw(), ids.uid)
            .and_then(|()| map_subids("newgidmap", child, getegid().as_raw(), ids.gid))
    } else {
        Err("unshare(CLONE_NEWUSER) failed".into())
    };
    drop(end);
    isolated::wait_for(child);
    result
}

fn map_subids(program: &str, pid: i32, own: u32, (first, count): (u32, u32)) -> Result<(), String> {
    let output = Command::new(program)
        .args([pid.to_string(), "0".into(), own.to_string(), "1".into()])
        .args(["1".into(), first.to_string(), count.to_string()])
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

/// The subordinate ids of the caller as (first, count).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subids {
    pub(crate) uid: (u32, u32),
    pub(crate) gid: (u32, u32),
}

/// The first ranges that /etc/subuid and /etc/subgid give the caller.
pub(crate) fn subids() -> Result<Subids, String> {
    let uid = geteuid().as_raw().to_string();
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    });
    let find = |path: &str| {
        let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let range = text.lines().find_map(|line| {
            let (owner, range) = line.split_once(':')?;
            let (first, count) = range.split_once(':')?;
            let is_ours = owner == uid || Some(owner) == name;
            is_ours.then_some((first.parse().ok()?, count.trim().parse().ok()?))
        });
        range.ok_or_else(|| format!("{path} has no range of uid {uid}"))
    };
    Ok(Subids {
        uid: find("/etc/subuid")?,
        gid: find("/etc/subgid")?,
    })
}

/// A cgroup2 hierarchy in which the caller can make a cgroup.
pub(crate) fn cgroup2() -> Result<(), String> {
    cgroup2_dir().map(drop)
}

/// The caller's own cgroup2 directory, or else the root of that mount, whichever takes a new cgroup.
pub(crate) fn cgroup2_dir() -> Result<PathBuf, String> {
    let mounts = probe::mountinfo("self").map_err(|error| format!("mountinfo: {error}"))?;
    let (root, point) = mounts
        .iter()
        .find_map(|line| {
            let (mount, fs) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            (fs.split(' ').next() == Some("cgroup2")).then_some((fields.next()?, fields.next()?))
        })
        .ok_or("no cgroup2 is mounted")?;
    let cgroups = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
    let own = cgroups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or("/");
    let own = own
        .strip_prefix(root)
        .unwrap_or(own)
        .trim_start_matches('/');
    let mut refusal = String::new();
    for dir in [Path::new(point).join(own), PathBuf::from(point)] {
        match make_cgroup(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) => refusal = format!("{}: {error}", dir.display()),
        }
    }
    Err(refusal)
}

/// A controller of cgroup2, for a new cgroup.
pub(crate) fn controller(name: &str) -> Result<(), String> {
    let control = cgroup2_dir()?.join("cgroup.subtree_control");
    fs::write(&control, format!("+{name}"))
        .map_err(|error| format!("{}: {error}", control.display()))
}

fn make_cgroup(dir: &Path) -> io::Result<()> {
    let cgroup = dir.join(format!("ringfence-probe-{}", std::process::id()));
    fs::create_dir(&cgroup)?;
    let procs = fs::metadata(cgroup.join("cgroup.procs"));
    fs::remove_dir(&cgroup)?;
    procs.map(drop)
}

/// A seccomp filter that reports to a listener (Linux 5.0, and only one such filter per process).
pub(crate) fn seccomp_notify() -> Result<(), String> {
    let filter = seccomp::Filter::new();
    try_in_child(|| {
        let listener = filter.install_with_listener().map(drop);
        listener.map_err(|error| {
            (
                "seccomp",
                Errno::from_io_error(&error).unwrap_or(Errno::INVAL),
            )
        })
    })
}

/// A core file beside the program that dumps it: not where a handler of the machine's takes it.
pub(crate) fn core_file() -> Result<(), String> {
    let path = "/proc/sys/kernel/core_pattern";
    let pattern = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    if pattern.starts_with(['|', '/', '@']) {
        return Err(format!("{path} is {}", pattern.trim_end()));
    }
    match rustix::process::getrlimit(rustix::process::Resource::Core).maximum {
        Some(0) => Err("the hard limit of core files is 0".into()),
        _ => Ok(()),
    }
}

/// A kernel of at least this version.
pub(crate) fn kernel(major: u32, minor: u32) -> Result<(), String> {
    let name = uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|n| n.parse().ok());
    let found: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= (major, minor) {
        return Ok(());
    }
    Err(format!(
        "the kernel is {release}, not {major}.{minor} or later"
    ))
}

/// An executable file of that name in the search path.
pub(crate) fn program(name: &str) -> Result<(), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|dir| {
        fs::metadata(dir.join(name))
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    });
    if found {
        Ok(())
    } else {
        Err(format!("no {name} in the search path"))
    }
}

/// Tries a sequence of system calls in a forked child; the error names the step that failed.
///
/// The calling process may have other threads, so `body` must not allocate.
pub(crate) fn try_in_child(
    body: impl FnOnce() -> Result<(), (&'static str, Errno)>,
) -> Result<(), String> {
    let (mut reader, writer) = io::pipe().map_err(|error| error.to_string())?;
    let status = isolated::in_forked_child_of_many(|| match body() {
        Ok(()) => 0,
        Err((step, error)) => {
            let _ = write(writer.as_fd(), step.as_bytes());
            error.raw_os_error()
        }
    });
    drop(writer);
    let mut step = String::new();
    reader
        .read_to_string(&mut step)
        .map_err(|error| error.to_string())?;
    match status.code() {
        Some(0) => Ok(()),
        Some(errno) => Err(format!("{step}: {}", io::Error::from_raw_os_error(errno))),
        None => Err(format!("the probing process ended with {status}")),
    }
}

fn unshare(flags: UnshareFlags, step: &'static str) -> Result<(), (&'static str, Errno)> {
    let result = sys::unshare(flags);
    result.map_err(|error| (step, Errno::from_io_error(&error).unwrap_or(Errno::INVAL)))
}

/// The text of maps of the caller's own ids to 0, made before the fork.
struct OwnMaps {
    uid: String,
    gid: String,
}

impl OwnMaps {
    fn new() -> Self {
        Self {
            uid: format!("0 {} 1", geteuid().as_raw()),
            gid: format!("0 {} 1", getegid().as_raw()),
        }
    }
}

fn enter_userns(others: UnshareFlags, maps: &OwnMaps) -> Result<(), (&'static str, Errno)> {
    unshare(UnshareFlags::NEWUSER | others, "unshare(CLONE_NEWUSER)")?;
    for (file, text) in [
        (c"/proc/self/setgroups", "deny"),
        (c"/proc/self/uid_map", maps.uid.as_str()),
        (c"/proc/self/gid_map", maps.gid.as_str()),
    ] {
        let step = "/proc/self/setgroups, uid_map or gid_map";
        let file = openat(CWD, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let file = file.map_err(|error| (step, error))?;
        write(&file, text.as_bytes()).map_err(|error| (step, error))?;
    }
    Ok(())
}
