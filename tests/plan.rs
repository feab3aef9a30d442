//! Plans: contradictions found before anything is made, reuse, and how a plan prints itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
mod support;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ringfence::lockdown::Hardening;
use ringfence::{
    Bind, Command, ErrorKind, Extent, IdMap, Namespaces, Plan, Rootfs, Sandbox, Setgroups, Stdio,
    Step, TimeOffset, Tmpfs,
};
use rustix::process::{Resource, geteuid, getrlimit};

use common::leaks::{Census, assert_same};
use common::threads::from_threads;
use common::{isolated, isolated_as_both, require};
use support::{is_privileged, with_programs};

fn extent(inside: u32, outside: u32, count: u32) -> Extent {
    Extent {
        inside,
        outside,
        count,
    }
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// Each with the setter that is to be blamed, and a word that says why.
fn contradictory_sandboxes() -> Vec<(Sandbox, &'static str, &'static str)> {
    let new = Sandbox::new;
    let user = || Sandbox::new().user();
    let root = || Sandbox::new().mount().rootfs(Rootfs::tmpfs());
    let second = Duration::from_secs(1);
    let long = format!("/{}", "x/".repeat(2048));
    let page_of_extents: IdMap = (0..340)
        .map(|i| extent(1_000_000 + i, 1_000_000 + i, 1))
        .collect();
    vec![
        (new().user_map(IdMap::root()), "user_map", "user()"),
        (new().group_map(IdMap::root()), "group_map", "user()"),
        (new().setgroups(Setgroups::Deny), "setgroups", "user()"),
        (new().hostname("box"), "hostname", "uts()"),
        (new().domainname("box"), "domainname", "uts()"),
        (new().monotonic_offset(second), "monotonic_offset", "time()"),
        (new().boottime_offset(second), "boottime_offset", "time()"),
        (new().loopback_down(), "loopback_down", "net()"),
        (new().rootfs(Rootfs::tmpfs()), "rootfs", "mount()"),
        (new().bind("/usr", "/usr"), "bind", "mount()"),
        (new().bind_ro("/usr", "/usr"), "bind_ro", "mount()"),
        (root().bind(&long, "/a"), "bind", "4095"),
        (new().mount().rootfs(Rootfs::dir(&long)), "rootfs", "4095"),
        (new().tmpfs("/tmp"), "tmpfs", "mount()"),
        (new().proc("/proc"), "proc", "mount()"),
        (new().sysfs("/sys"), "sysfs", "mount()"),
        (new().mqueue("/dev/mqueue"), "mqueue", "mount()"),
        (new().dev("/dev"), "dev", "mount()"),
        (new().symlink("a", "/b"), "symlink", "mount()"),
        (new().dir("/a"), "dir", "mount()"),
        (new().file("/a", ""), "file", "mount()"),
        // What shows a namespace belongs to it.
        (root().user().proc("/proc"), "proc", "pid()"),
        (root().user().sysfs("/sys"), "sysfs", "net()"),
        (root().user().mqueue("/q"), "mqueue", "ipc()"),
        // Names.
        (new().uts().hostname("h".repeat(65)), "hostname", "64"),
        (new().uts().hostname("a\0b"), "hostname", "NUL"),
        (new().uts().domainname("d".repeat(65)), "domainname", "64"),
        (new().uts().domainname("\0"), "domainname", "NUL"),
        // Id maps.
        (user().user_map(IdMap::range(0, 0, 0)), "user_map", "empty"),
        (
            user().user_map(IdMap::range(u32::MAX, 0, 1)),
            "user_map",
            "beyond",
        ),
        (
            user().user_map(IdMap::range(0, u32::MAX, 1)),
            "user_map",
            "beyond",
        ),
        (
            user().group_map(IdMap::range(2, u32::MAX - 1, 2)),
            "group_map",
            "beyond",
        ),
        (
            user().user_map([extent(0, 0, 10), extent(9, 100, 1)]),
            "user_map",
            "overlap inside",
        ),
        (
            user().group_map([extent(0, 0, 10), extent(10, 9, 1)]),
            "group_map",
            "overlap outside",
        ),
        (
            user().user_map((0..341).map(|i| extent(i, i, 1)).collect::<IdMap>()),
            "user_map",
            "at most 340",
        ),
        (user().user_map(page_of_extents), "user_map", "bytes"),
        // Clocks.
        (
            new().time().monotonic_offset(Duration::from_secs(u64::MAX)),
            "monotonic_offset",
            "seconds",
        ),
        (
            new()
                .time()
                .boottime_offset(TimeOffset::behind(Duration::MAX)),
            "boottime_offset",
            "seconds",
        ),
        // Paths.
        (root().bind("/usr", "usr"), "bind", "absolute"),
        (root().bind_ro("/usr", "/a/../b"), "bind_ro", "\"..\""),
        (root().bind("", "/a"), "bind", "empty"),
        (root().bind("/a\0b", "/a"), "bind", "NUL"),
        (root().bind("/usr", "/"), "bind", "rootfs"),
        (
            new()
                .mount()
                .rootfs(Rootfs::bind("/", Bind::new().optional())),
            "rootfs",
            "missing",
        ),
        (root().tmpfs(""), "tmpfs", "empty"),
        (root().dir("/a\0"), "dir", "NUL"),
        (root().file("relative", ""), "file", "absolute"),
        (root().chmod("/a", 0o10000), "chmod", "7777"),
        (root().symlink("", "/a"), "symlink", "empty"),
        (root().symlink("a\0", "/a"), "symlink", "NUL"),
        (root().symlink("a".repeat(4096), "/a"), "symlink", "4095"),
        (root().dir(format!("/{}", "x/".repeat(2100))), "dir", "4095"),
        (root().dir(format!("/{}", "x".repeat(256))), "dir", "255"),
        (new().mount().rootfs(Rootfs::dir("")), "rootfs", "empty"),
        (new().mount().rootfs(Rootfs::dir("/a\0")), "rootfs", "NUL"),
        // Modes and sizes; to the kernel, 0 would mean without a limit.
        (root().dir_with_mode("/a", 0o10000), "dir", "7777"),
        (root().file_with_mode("/a", "", 0o10000), "file", "7777"),
        (
            root().tmpfs_with("/a", Tmpfs::new().mode(0o10000)),
            "tmpfs",
            "7777",
        ),
        (
            root().tmpfs_with("/a", Tmpfs::new().size(0)),
            "tmpfs",
            "size",
        ),
        (
            root().tmpfs_with("/a", Tmpfs::new().inodes(0)),
            "tmpfs",
            "inodes",
        ),
        (new().mount().rootfs(Tmpfs::new().size(0)), "rootfs", "size"),
        (new().into_cgroup("/proc"), "into_cgroup", "cgroup v2"),
        // What would be hidden nowhere.
        (
            root().harden(Hardening::new().mask("/etc/shadow")),
            "harden",
            "/etc/shadow",
        ),
        (
            root().harden(Hardening::new().read_only("sys")),
            "harden",
            "below /proc or /sys",
        ),
    ]
}

fn contradictory_commands() -> Vec<(Command, &'static str, &'static str)> {
    let long = format!("/{}", "x/".repeat(2048));
    let command = || Sandbox::new().command("true");
    let mapped = || {
        Sandbox::new()
            .user()
            .user_map(IdMap::root())
            .command("true")
    };
    let rooted = || {
        let root = Sandbox::new().mount().rootfs(Rootfs::tmpfs());
        root.command("/bin/true")
    };
    let limit = getrlimit(Resource::Nofile).current.unwrap();
    let beyond = i32::try_from(limit).unwrap_or(i32::MAX);
    vec![
        (Sandbox::new().command(""), "command", "empty"),
        (Sandbox::new().command("a\0b"), "command", "NUL"),
        (command().arg("a\0b"), "args", "NUL"),
        (command().arg0("\0"), "arg0", "NUL"),
        (command().env("", "x"), "env", "variable"),
        (command().env("A=B", "x"), "env", "variable"),
        (command().env("A", "\0"), "env", "NUL"),
        (command().env("PATH", "/a\0b"), "env", "NUL"),
        (command().current_dir("/a\0b"), "current_dir", "NUL"),
        (command().current_dir(""), "current_dir", "empty"),
        (command().current_dir(&long), "current_dir", "4095"),
        (rooted().current_dir(&long), "current_dir", "4095"),
        (rooted().current_dir("relative"), "current_dir", "absolute"),
        (command().umask(0o1000), "umask", "777"),
        (command().uid(u32::MAX), "uid", "valid"),
        (command().gid(u32::MAX), "gid", "valid"),
        (command().groups([1, u32::MAX]), "groups", "valid"),
        (command().groups(0..65_537), "groups", "65536"),
        (mapped().uid(1), "uid", "does not exist"),
        (mapped().gid(1), "gid", "does not exist"),
        (mapped().groups([0]), "groups", "Setgroups::Allow"),
        (command().descriptor(null(), -1), "descriptor", "negative"),
        (command().descriptor(null(), 2), "descriptor", "stderr"),
        (
            command().descriptor(null(), beyond),
            "descriptor",
            "RLIMIT_NOFILE",
        ),
        (
            command().descriptor(null(), 5).descriptor(null(), 5),
            "descriptor",
            "twice",
        ),
        (
            command().setup_timeout(Duration::ZERO),
            "setup_timeout",
            "zero",
        ),
    ]
}

#[test]
fn contradictions_name_the_setter() {
    isolated(|| {
        let before = Census::take().without(&["maps", "fds"]);
        let sandboxes = contradictory_sandboxes()
            .into_iter()
            .map(|(sandbox, setter, word)| (sandbox.command("/bin/true"), setter, word));
        for (command, setter, word) in sandboxes.chain(contradictory_commands()) {
            let error = match command.compile() {
                Err(error) => error,
                Ok(_) => panic!("{setter} ({word}) is not refused"),
            };
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
            assert_eq!(error.step(), Some(Step::Compile), "{error:?}");
            assert_eq!(error.setter(), Some(setter), "{error:?}");
            assert_eq!(error.raw_os_error(), None, "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with(&format!("{setter}: ")), "{text}");
            assert!(text.contains(word), "{text} lacks {word}");
            let io = std::io::Error::from(error);
            assert_eq!(io.kind(), std::io::ErrorKind::InvalidInput);
        }
        let after = Census::take().without(&["maps", "fds"]);
        assert_same(&before, &after);
    });
}

#[test]
fn what_looks_unusual_is_no_contradiction() {
    isolated(|| {
        require!(root);
        let most: IdMap = (0..340).map(|i| extent(2 * i, 2 * i, 2)).collect();
        for sandbox in [
            Sandbox::new().uts().hostname("h".repeat(64)).domainname(""),
            Sandbox::new().user().user_map(most.clone()).group_map(most),
            Sandbox::new().user().user_map(IdMap::none()),
            Sandbox::new()
                .mount()
                .tmpfs_with("/tmp", Tmpfs::new().size(1).mode(0)),
            Sandbox::new().mount().tmpfs("/tmp").dir("//tmp/./a//b/"),
        ] {
            let status = sandbox.command("true").status();
            assert!(status.unwrap().success());
        }
        let command = Sandbox::new().command("true").groups(0..65_536);
        assert!(command.status().unwrap().success());
    });
}

#[test]
fn a_plan_can_cross_threads() {
    fn crosses<T: Send + Sync + Clone + 'static>() {}
    crosses::<Plan>();
    crosses::<Command>();
    crosses::<Sandbox>();
}

#[test]
fn a_plan_spawns_again_and_from_many_threads() {
    isolated_as_both(|| {
        require!(userns);
        let plan = with_programs(Sandbox::new().user().pid().uts())
            .user_map(IdMap::root())
            .hostname("box")
            .command("/bin/sh")
            .args(["-c", "read x; echo $(uname -n) $$ $x; exit 3"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .compile()
            .unwrap();
        let run = |text: &str| {
            use std::io::Write;
            let mut child = plan.spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            writeln!(input, "{text}").unwrap();
            drop(input);
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(3));
            let expected = format!("box 1 {text}\n");
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        };
        run("first");
        let before = Census::take().without(&["maps"]);
        for _ in 0..3 {
            run("again");
        }
        assert_same(&before, &Census::take().without(&["maps"]));
        from_threads(8, |thread| {
            (0..5).for_each(|turn| run(&format!("{thread} {turn}")));
        });
        assert_same(&before, &Census::take().without(&["maps"]));
    });
}

#[test]
fn a_plan_keeps_what_it_was_compiled_with() {
    isolated(|| {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let command = Sandbox::new()
            .command("sh")
            .args(["-c", "echo $KEPT; pwd; umask"])
            .env("KEPT", "yes")
            .stdout(OwnedFd::from(writer));
        let plan = command.compile().unwrap();
        drop(command);
        // The descriptor is the plan's.
        for _ in 0..2 {
            assert!(plan.spawn().unwrap().wait().unwrap().success());
        }
        drop(plan);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text.matches("yes\n").count(), 2, "{text}");
    });
}

/// What plans print, where `{uid}` stands for the caller's id.
const FULL: &str = include_str!("plan/full.txt");
const PLAIN: &str = include_str!("plan/plain.txt");

fn printed(plan: &Plan) -> String {
    let uid = geteuid().as_raw();
    plan.to_string()
        .replace(&format!("0 {uid} 1"), "0 {uid} 1")
        .replace(&format!("= {uid},"), "= {uid},")
}

#[test]
fn a_plan_prints_every_step() {
    isolated_as_both(|| {
        require!(userns, timens, kernel(6, 2));
        let plan = Sandbox::new()
            .all()
            .user_map(IdMap::root())
            .hostname("box")
            .domainname("example.test")
            .monotonic_offset(TimeOffset::behind(Duration::from_millis(1500)))
            .boottime_offset(Duration::from_secs(3600))
            .rootfs(Rootfs::tmpfs())
            .bind("/srv", "/srv")
            .bind_ro("/usr", "/usr")
            .symlink("usr/bin", "/bin")
            .proc("/proc")
            .sysfs("/sys")
            .dev("/dev")
            .mqueue("/dev/mqueue")
            .tmpfs_with("/tmp", Tmpfs::new().size(1 << 20).inodes(100))
            .dir_with_mode("/root", 0o700)
            .file("/etc/hostname", "box\n")
            .command("sh")
            .args(["-c", "echo \"$0\""])
            .env_clear()
            .env("PATH", "/bin:/usr/bin")
            .current_dir("/root")
            .umask(0o022)
            .uid(0)
            .gid(0)
            .new_session()
            .die_with_parent()
            .stdin(Stdio::null())
            .descriptor(null(), 7)
            .compile()
            .unwrap();
        assert_eq!(plan.namespaces(), Namespaces::all());
        assert_eq!(printed(&plan), FULL.trim_end());
        let plan = Sandbox::new().command("/bin/true").compile().unwrap();
        assert_eq!(printed(&plan), PLAIN.trim_end());
    });
}

#[test]
fn a_plan_says_who_writes_the_maps() {
    isolated_as_both(|| {
        require!(userns);
        let writers = |sandbox: Sandbox| {
            let plan = sandbox.command("true").compile().unwrap().to_string();
            plan.lines().nth(1).unwrap().to_owned()
        };
        let own = writers(Sandbox::new().user());
        assert_eq!(own.matches("written by the child").count(), 2, "{own}");
        let none = writers(Sandbox::new().user().user_map(IdMap::none()));
        assert_eq!(none, "id maps: uid unmapped; gid unmapped");
        let range = IdMap::range(0, 100_000, 10);
        let range = Sandbox::new()
            .user()
            .user_map(range.clone())
            .group_map(range);
        if is_privileged() {
            let range = writers(range);
            assert_eq!(
                range,
                "id maps: uid 0..9 = 100000..100009, written by the caller; \
                 gid 0..9 = 100000..100009, written by the caller"
            );
        } else {
            require!(program("newuidmap"));
            let range = writers(range);
            assert!(
                range.contains("newuidmap;") && range.ends_with("newgidmap"),
                "{range}"
            );
        }
    });
}

#[test]
fn a_plan_names_descriptors_by_number_and_a_long_map_by_its_beginning() {
    isolated(|| {
        require!(root);
        let map: IdMap = (0..150).map(|i| extent(2 * i, 1000 + 2 * i, 1)).collect();
        let plan = Sandbox::new()
            .user()
            .user_map(map)
            .command("true")
            .descriptor(null(), 7)
            .descriptor(null(), 19)
            .compile()
            .unwrap();
        let text = plan.to_string();
        assert!(text.contains(" stdio: standard streams, 7, 19 ["), "{text}");
        let step = text.lines().find(|line| line.contains(". id map: uid"));
        let expected = "uid 0 = 1000, 2 = 1002 and 148 more extents, written by the caller";
        assert!(step.unwrap().contains(expected), "{text}");
        assert_eq!(text.matches("298 = 1298").count(), 1, "{text}");
    });
}
