//! nsenter(1).

use super::probe::hand_on_target;
use super::row::{Row, Status, compare, row};
use super::tools::Pair;
use crate::common::{isolated, isolated_as_user, isolated_as_user_with_subids, require};
use crate::seen::cgroup::Cgroup;
use crate::support::Waiting;
use ringfence::ns::{Namespace, Net};
use ringfence::{Extent, IdMap, Sandbox, Setgroups};
use rustix::fs::fstat;
use rustix::process::{Gid, Pid, PidfdFlags, pidfd_open};
use rustix::thread::set_thread_groups;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

const ALL: &[&str] = &["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"];
/// In the help of an original that has what 2.38 has not.
const NEWER: &str = "--net-socket";
const CAPS: &str = "000001ffffffffff";
const NO_GROUPS: &str = "that no group can be dropped is an error, also where there is none";

fn start(sandbox: &Sandbox) -> Waiting {
    let command = Waiting::command(sandbox).current_dir("/usr");
    let target = Waiting::of(command.env_clear().env("TARGET", "value"));
    hand_on_target(target.id());
    target
}

/// Rows for a target, which is their first option, with the namespaces that the program is in.
fn joining(pid: u32, rows: &[(&str, &[&str])]) -> Vec<Row> {
    let row = |(options, kinds): &(&str, &[&str])| row(format!("-t {pid} {options}")).joins(kinds);
    rows.iter().map(row).collect()
}

/// A target with all namespaces but the user namespace.
fn privileged(pid: u32) -> Vec<Row> {
    let mut rows = joining(
        pid,
        &[
            ("-m", &["mnt"]),
            ("-u", &["uts"]),
            ("-i", &["ipc"]),
            ("-n", &["net"]),
            ("-C", &["cgroup"]),
            ("-T", &["time"]),
            ("-p", &["pid"]),
            ("--mount --uts", &["mnt", "uts"]),
            ("--ipc --net --cgroup", &["ipc", "net", "cgroup"]),
            ("--time --pid", &["time", "pid"]),
            ("-m -u -i -n -p -C -T", ALL),
            ("--all", ALL),
            ("-a --preserve-credentials", ALL),
            ("-a -F", &["cgroup", "ipc", "mnt", "net", "time", "uts"]),
            ("-p --no-fork", &[]),
        ],
    );
    let with = |options: &str| row(format!("-t {pid} {options}"));
    let file = |kind: &str| format!("/proc/{pid}/ns/{kind}");
    rows.extend([
        row(format!("--uts={}", file("uts"))).joins(&["uts"]),
        row(format!("-n{} -i{}", file("net"), file("ipc"))).joins(&["net", "ipc"]),
        row(format!("-p{}", file("pid"))).joins(&["pid"]),
        with(&format!("-a --uts={}", "/proc/self/ns/uts")),
        with("-p").fact("pid", "other").fact("child", "other"),
        with("-u -w").fact("cwd", "/usr"),
        with("-u -w/tmp").fact("cwd", "/tmp"),
        with("-u --wd=/tmp").fact("cwd", "/tmp"),
        with("-m -w").fact("cwd", "/usr"),
        with("-m").fact("cwd", "/"),
        with("-u -r").fact("cwd", "/var"),
        with("-u --root=/ -w").fact("cwd", "/usr"),
        with("-m -r -w").fact("cwd", "/usr"),
        with("-u -W /tmp").fact("cwd", "/tmp"),
        with("-m --wdns=/tmp").fact("cwd", "/tmp"),
        with("-m -W etc").fact("cwd", "/etc"),
        with("-u -S 1000").fact("Uid", "1000 1000 1000 1000"),
        with("-a -G 1000").fact("Groups", ""),
        with("-n --setuid=1000 --setgid 1000").fact("CapEff", "0000000000000000"),
        with("-a -S 1000 -G 1000").joins(ALL),
        with("-u --env")
            .since("--env")
            .fact("env", "OLDPWD='/var'\nPWD='/var'\nTARGET='value'"),
        with("-u --keep-caps").since("--keep-caps"),
        with("-u -S follow -G follow")
            .since(NEWER)
            .fact("Uid", "0 0 0 0"),
    ]);
    rows
}

/// Those that name a namespace, or a process, in ways that 2.38 has not.
fn newer(pid: u32) -> Vec<Row> {
    let inode = |kind| {
        fs::metadata(format!("/proc/{pid}/ns/{kind}"))
            .unwrap()
            .ino()
    };
    let pidfd = Pid::from_raw(pid.cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let number = fstat(pidfd.unwrap().unwrap()).unwrap().st_ino;
    vec![
        row(format!("-n=:{}", inode("net")))
            .since("nsid")
            .joins(&["net"]),
        row(format!("--uts=:{}", inode("uts")))
            .since("nsid")
            .joins(&["uts"]),
        row("--uts=:1234567")
            .since("nsid")
            .fails(1, "cannot open namespace of id 1234567"),
        row("--uts=:net")
            .since("nsid")
            .fails(1, "failed to parse nsid"),
        row(format!("-t {pid}:{number} -u"))
            .since(NEWER)
            .joins(&["uts"]),
        row(format!("-t {pid}:1 -u"))
            .since(NEWER)
            .fails(1, "pidfd inode 1 not found"),
    ]
}

/// What ends in another way than by a program that exits.
fn endings(pid: u32) -> Vec<Row> {
    let with = |options: &str| row(format!("-t {pid} {options}"));
    vec![
        with("-n")
            .program(["sh", "-c", "exit 3"])
            .status(Status::Code(3)),
        with("-n")
            .program(["sh", "-c", "kill -TERM $$"])
            .status(Status::Signal(15)),
        with("-n")
            .program([])
            .env("SHELL", "/bin/pwd")
            .fact("said", "/var"),
        with("-n")
            .program(["nosuch"])
            .fails(127, "failed to execute nosuch: No such file"),
        with("-n")
            .program(["/etc/passwd"])
            .fails(126, "Permission denied"),
        with("-n -w/nosuch").fails(1, "cannot open /nosuch: No such file"),
        with("-n -r/nosuch").fails(1, "cannot open /nosuch: No such file"),
        with("-n -W /nosuch").fails(1, "/nosuch: No such file"),
        with("-n -W /usr -w").fails(1, "mutually exclusive"),
        with("-U").fails(
            1,
            "reassociate to namespace 'ns/user' failed: Invalid argument",
        ),
        with("-u/nosuch").fails(1, "cannot open /nosuch: No such file"),
        with("-u/etc/passwd").fails(
            1,
            "reassociate to namespace 'ns/uts' failed: Invalid argument",
        ),
        with("--uts=/proc/self/ns/net").fails(
            1,
            "reassociate to namespace 'ns/uts' failed: Invalid argument",
        ),
        with("-S abc -n").fails(1, "failed to parse uid: 'abc'"),
        with("-n --foo").fails(1, "unrecognized option '--foo'"),
        with("-n -Y").fails(1, "invalid option -- 'Y'"),
        with("--all=1").fails(1, "option '--all' doesn't allow an argument"),
        row("-t abc -n").fails(1, "failed to parse pid: 'abc'"),
        row("-t 4194305 -n").fails(1, "cannot open /proc/4194305"),
        row("-n").fails(1, "no target PID specified"),
        row("-n -t")
            .program([])
            .fails(1, "option requires an argument -- 't'"),
        with("").since(NEWER).fails(1, "no namespace specified"),
    ]
}

/// A target in a user namespace whose root can drop groups, as root of the one above or who has made it.
fn in_user_namespace(pid: u32) -> Vec<Row> {
    let with = |options: &str| row(format!("-t {pid} {options}"));
    let all: Vec<_> = ALL.iter().copied().chain(["user"]).collect();
    vec![
        with("-U")
            .joins(&["user"])
            .fact("Uid", "0 0 0 0")
            .fact("Groups", ""),
        with("-a").joins(&all).fact("CapEff", CAPS),
        with("-U -m -p").joins(&["user", "mnt", "pid"]),
        with("-U -n").joins(&["user", "net"]),
        row(format!("--user=/proc/{pid}/ns/user")).joins(&["user"]),
        with("-U -S 5 -G 6")
            .fact("Uid", "5 5 5 5")
            .fact("Gid", "6 6 6 6"),
        with("-a -S 5").fact("CapEff", "0000000000000000"),
        with("-U -S 70000").fails(1, "setuid failed: Invalid argument"),
        with("-U -G 70000").fails(1, "setgid failed: Invalid argument"),
        with("-U --preserve-credentials").fact("Uid", "65534 65534 65534 65534"),
        with("-a -r -w").fact("cwd", "/usr"),
        with("-U -W /tmp").fact("cwd", "/tmp"),
        with("-U -S 5 --keep-caps")
            .since("--keep-caps")
            .fact("CapAmb", CAPS),
        with("-U -S follow -G follow")
            .since(NEWER)
            .fact("Gid", "0 0 0 0"),
        with("--user-parent")
            .since("--user-parent")
            .fails(1, "'ns/user' failed: Invalid"),
    ]
}

/// A target in a user namespace that denies setgroups(2).
fn without_groups(pid: u32) -> Vec<Row> {
    let with = |options: &str| row(format!("-t {pid} {options} --preserve-credentials"));
    vec![
        with("-U").joins(&["user"]),
        with("-a").fact("Uid", "0 0 0 0").fact("CapEff", CAPS),
        with("-U -n -u").joins(&["user", "net", "uts"]),
        with("-U -i -C -T").joins(&["user", "ipc", "cgroup", "time"]),
        with("-U -m").fact("cwd", "/"),
        with("-U -m -w").fact("cwd", "/usr"),
        with("-U -r").fact("cwd", "/var"),
        with("-U -p").joins(&["user", "pid"]),
        with("-U -p -F").fact("child", "other"),
        with("-a -W /tmp").fact("cwd", "/tmp"),
        with("-U --env").since("--env"),
        with("-U --keep-caps")
            .since("--keep-caps")
            .fact("CapAmb", CAPS),
        with("-U -S 5").fails(1, "setuid failed: Invalid argument"),
    ]
}

#[test]
fn as_root() {
    let pair = Pair::find("nsenter");
    isolated(|| {
        require!(root, timens);
        let all = Sandbox::new().mount().uts().ipc().net().pid().cgroup();
        let target = start(&all.time());
        let mut rows = privileged(target.id());
        rows.extend(newer(target.id()));
        rows.extend(endings(target.id()));
        let own = std::process::id();
        let at_home = ["-a", "-m", "-m -w", "-u -p"];
        rows.extend(at_home.map(|options| row(format!("-t {own} {options}")).joins(&[])));
        let socket = Namespace::<Net>::of_pid(target.id()).unwrap();
        let socket = socket.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        let number = socket.as_raw_fd();
        rows.push(
            row(format!("-t {own} --net-socket {number}"))
                .since("--net-socket")
                .joins(&["net"]),
        );
        compare(&pair, rows);
    });
}

#[test]
fn as_root_into_a_cgroup() {
    let pair = Pair::find("nsenter");
    isolated(|| {
        require!(root, cgroup2);
        let cgroup = Cgroup::new();
        let target = start(&Sandbox::new().uts().into_cgroup(cgroup.path()));
        let shown = fs::read_to_string(format!("/proc/{}/cgroup", target.id())).unwrap();
        let shown = shown.lines().find(|line| line.starts_with("0::")).unwrap();
        let row = row(format!("-t {} -u --join-cgroup", target.id()))
            .since("--join-cgroup")
            .program(["grep", "^0::", "/proc/self/cgroup"])
            .fact("said", shown);
        compare(&pair, vec![row]);
        drop(target);
    });
}

#[test]
fn as_root_into_user_namespaces() {
    let pair = Pair::find("nsenter");
    isolated(|| {
        require!(root, timens);
        let all = Sandbox::new().all().time();
        let range = Extent {
            inside: 0,
            outside: 100_000,
            count: 65536,
        };
        let map = IdMap::from_iter([range]);
        let allows = all.clone().user_map(map.clone()).group_map(map);
        let target = start(&allows.setgroups(Setgroups::Allow));
        set_thread_groups(&[Gid::from_raw(7)]).unwrap();
        compare(&pair, in_user_namespace(target.id()));

        let target = start(&all.user_map(IdMap::root()));
        let mut rows = without_groups(target.id());
        rows.push(row(format!("-t {} -U", target.id())).fact("Groups", ""));
        rows.push(row(format!("-t {} -u", target.id())).fact("Groups", "7"));
        compare(&pair, rows);

        // One within another, which is in its parent's namespaces but for that one.
        let nested = Sandbox::new().user().user_map(IdMap::root());
        let nested = nested.command("unshare").args(["-U", "cat"]);
        let inner = Waiting::of(nested);
        hand_on_target(inner.id());
        let rows = ["--user-parent", "-U --user-parent"].map(|options| {
            row(format!("-t {} {options}", inner.id()))
                .since("--user-parent")
                .fact("ns user", "new")
                .fact("Uid", "0 0 0 0")
        });
        compare(&pair, rows.into());
    });
}

#[test]
fn as_user() {
    let pair = Pair::find("nsenter");
    isolated_as_user(|| {
        require!(userns, timens);
        let target = start(&Sandbox::new().all().time().user_map(IdMap::root()));
        let pid = target.id();
        let with = |options: &str| row(format!("-t {pid} {options}"));
        let own = std::process::id();
        let has_groups = !rustix::process::getgroups().unwrap().is_empty();
        let drops_groups = |options: &str| match has_groups {
            true => with(options).fails(1, "setgroups failed: Operation not permitted"),
            false => with(options).differs(NO_GROUPS),
        };
        let mut rows = without_groups(pid);
        rows.extend([
            drops_groups("-a"),
            drops_groups("-U -G 0"),
            with("-n").fails(
                1,
                "reassociate to namespace 'ns/net' failed: Operation not permitted",
            ),
            with("-p").fails(1, "'ns/pid' failed: Operation not permitted"),
            row("-t 1 -u").fails(1, "cannot open /proc/1/ns/uts: Permission denied"),
            row(format!("-t {own} -u"))
                .joins(&[])
                .differs("to join where one is already takes a privilege"),
        ]);
        compare(&pair, rows);
    });
}

#[test]
fn as_user_with_subids() {
    let pair = Pair::find("nsenter");
    isolated_as_user_with_subids(|| {
        require!(userns, timens, subuid);
        let range = IdMap::subid_range;
        let all = Sandbox::new()
            .all()
            .time()
            .user_map(range())
            .group_map(range());
        let target = start(&all.setgroups(Setgroups::Allow));
        compare(&pair, in_user_namespace(target.id()));
    });
}
