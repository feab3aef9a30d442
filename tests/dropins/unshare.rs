//! unshare(1).

use super::row::{Row, Status, compare, row};
use super::tools::Pair;
use crate::common::{isolated, isolated_as_user, isolated_as_user_with_subids, require, sys};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};
use rustix::thread::{CpuSet, UnshareFlags, sched_setaffinity};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use tempfile::TempDir;

/// Without a user namespace.
fn privileged() -> Vec<Row> {
    vec![
        row("").new_namespaces(&[]),
        row("-f").new_namespaces(&[]),
        row("--fork --").new_namespaces(&[]),
        row("-m").new_namespaces(&["mnt"]),
        row("--mount").new_namespaces(&["mnt"]),
        row("-u").new_namespaces(&["uts"]),
        row("--ipc").new_namespaces(&["ipc"]),
        row("-n").new_namespaces(&["net"]).fact("lo", "down"),
        row("-C").new_namespaces(&["cgroup"]),
        row("--time"),
        row("-muinC").new_namespaces(&["mnt", "uts", "ipc", "net", "cgroup"]),
        row("-p").new_namespaces(&[]).fact("child", "1"),
        row("-pf").new_namespaces(&["pid"]).fact("pid", "1"),
        row("--mount-proc").new_namespaces(&["mnt"]),
        row("-p --mount-proc")
            .new_namespaces(&["mnt"])
            .fact("child", "1"),
        row("-pf --mount-proc").new_namespaces(&["mnt", "pid"]),
        row("-pf --mount-proc=/proc").new_namespaces(&["mnt", "pid"]),
        row("-pf --mount-proc --propagation shared"),
        row("-pf --mount-proc --propagation unchanged"),
        row("-m --propagation private"),
        row("-m --propagation shared"),
        row("-m --propagation=slave"),
        row("-m --prop unchanged"),
        row("-S 1000").fact("Uid", "1000 1000 1000 1000"),
        row("--setuid=1000 -n").fact("CapEff", "0000000000000000"),
        row("-G 1000").fact("Gid", "1000 1000 1000 1000"),
        row("-S 1000 --setgid 1000 -u").fact("Groups", ""),
        row("-T --monotonic=1000 --boottime=2000"),
        row("-T --monotonic=-1"),
        row("--clear-env")
            .since("--whitelist-env")
            .fact("env", "OLDPWD='/var'\nPWD='/var'"),
        row("--whitelist-env=VARIABLE,NONE,PATH").since("--whitelist-env"),
        row("-w /tmp").fact("cwd", "/tmp"),
        row("--wd=/tmp -m").fact("cwd", "/tmp"),
        row("-R /").fact("cwd", "/"),
        row("-R / -w /etc -n").fact("cwd", "/etc"),
        row("--kill-child -pf --mount-proc").new_namespaces(&["mnt", "pid"]),
        row("--kill-child=SIGTERM -S 1000"),
        row("--forward-signals -n")
            .since("--forward-signals")
            .new_namespaces(&["net"]),
    ]
}

/// With a user namespace, as any user.
fn in_user_namespace() -> Vec<Row> {
    vec![
        row("-U").new_namespaces(&["user"]),
        row("-U --setgroups=deny").fact("setgroups", "deny"),
        row("-U --setgroups allow").fact("setgroups", "allow"),
        row("-r").new_namespaces(&["user"]).fact("Uid", "0 0 0 0"),
        row("--map-root-user --setgroups=deny")
            .fact("setgroups", "deny")
            .differs("it denies twice, which is an error"),
        row("--map-root"),
        row("-c").new_namespaces(&["user"]),
        row("--map-user=5"),
        row("--map-user=daemon").fact("Uid", "1 1 1 1"),
        row("--map-group=7"),
        row("--map-user=5 --map-group=daemon").fact("Gid", "1 1 1 1"),
        row("-r --map-user=5").fact("Uid", "5 5 5 5"),
        row("-rm").new_namespaces(&["user", "mnt"]),
        row("-rn").new_namespaces(&["user", "net"]),
        row("-rT"),
        row("-ruiC").new_namespaces(&["user", "uts", "ipc", "cgroup"]),
        row("-rp").fact("child", "1"),
        row("-rpf").fact("pid", "1"),
        row("-rpf --mount-proc").new_namespaces(&["user", "mnt", "pid"]),
        row("-rmuinpCf --mount-proc --kill-child"),
        row("-UmuinpCf"),
        row("-rm --propagation slave"),
        row("-rm --propagation unchanged"),
        row("-r -S 0"),
        row("-r -R / -w /tmp"),
        row("-rT --boottime 100"),
        row("-U --keep-caps"),
        row("-c --keep-caps -n").new_namespaces(&["user", "net"]),
        row("-r --keep-caps"),
        row("-rpf --mount-binfmt")
            .since("--mount-binfmt")
            .new_namespaces(&["user", "mnt", "pid"]),
        row("-rpf -l :ringfence-test:E::ringfence::/bin/echo:")
            .since("--load-interp")
            .program([
                "sh",
                "-c",
                "cd /proc/sys/fs/binfmt_misc; read -r l < ringfence-test; echo $l",
            ])
            .fact("said", "enabled"),
    ]
}

/// What ends in another way than by a program that exits.
fn endings() -> Vec<Row> {
    vec![
        row("")
            .program(["sh", "-c", "exit 3"])
            .status(Status::Code(3)),
        row("-rf")
            .program(["sh", "-c", "exit 255"])
            .status(Status::Code(255)),
        row("")
            .program(["sh", "-c", "kill -TERM $$"])
            .status(Status::Signal(15)),
        row("-f")
            .program(["sh", "-c", "kill -KILL $$"])
            .status(Status::Signal(9))
            .differs("util-linux 2.38 cannot end by SIGKILL"),
        row("-rf")
            .program(["sh", "-c", "kill -USR1 $$"])
            .status(Status::Signal(10)),
        row("-r")
            .program([])
            .env("SHELL", "/bin/pwd")
            .fact("said", "/var"),
        row("")
            .program(["nosuch"])
            .fails(127, "failed to execute nosuch: No such file"),
        row("-r")
            .program(["/etc/passwd"])
            .fails(126, "Permission denied"),
        row("--foo").fails(1, "unrecognized option '--foo'"),
        row("-Z").fails(1, "invalid option -- 'Z'"),
        row("-R")
            .program([])
            .fails(1, "option requires an argument -- 'R'"),
        row("--root")
            .program([])
            .fails(1, "option '--root' requires an argument"),
        row("--fork=1").fails(1, "option '--fork' doesn't allow an argument"),
        row("-S abc").fails(1, "failed to parse uid: 'abc'"),
        row("-U --setgroups=maybe").fails(1, "unsupported --setgroups argument 'maybe'"),
        row("-m --propagation=up").fails(1, "unsupported propagation mode: up"),
        row("--kill-child=FOO").fails(1, "unknown signal: FOO"),
        row("--boottime=1").fails(1, "--boottime require unsharing of a time namespace"),
        row("-r --setgroups=allow").fails(1, "--setgroups=allow and --map-group"),
        row("-w /nosuch").fails(1, "/nosuch"),
        row("-r -R /nosuch").fails(1, "cannot change root directory to '/nosuch': No such file"),
        row("-r -S 5").fails(1, "unshare: "),
        row("-rG 0").fails(1, "unshare: "),
        row("-rm --mount-proc").fails(1, "unshare: "),
        row("--map-users=3").fails(1, "mapping '3'"),
        row("--owner=me").since("--owner").fails(1, "unshare: "),
    ]
}

/// A file system for files that a test makes, in a mount namespace of its own.
struct Scratch(PathBuf);

impl Scratch {
    /// With a shared mount and a slave of it. On one processor: Linux 6.18 numbers namespaces for each apart, and a
    /// file keeps a mount namespace only if its number is higher than that of the file's.
    fn new() -> Self {
        let mut processor = CpuSet::new();
        processor.set(0);
        sched_setaffinity(None, &processor).unwrap();
        sys::unshare(UnshareFlags::NEWNS).unwrap();
        // Kept, as what is removed when it is dropped is not known to be the tmpfs: nothing here removes a tree.
        let scratch = Self(TempDir::new().unwrap().keep());
        mount("scratch", &scratch.0, "tmpfs", MountFlags::empty(), None).unwrap();
        let (shared, slave) = (scratch.dir("shared"), scratch.dir("slave"));
        mount("shared", &shared, "tmpfs", MountFlags::empty(), None).unwrap();
        mount_change(&shared, MountPropagationFlags::SHARED).unwrap();
        mount_bind_recursive(&shared, &slave).unwrap();
        mount_change(&slave, MountPropagationFlags::DOWNSTREAM).unwrap();
        scratch
    }

    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.0.join(name);
        fs::create_dir(&dir).unwrap();
        dir
    }

    /// Rows in which a file keeps a namespace.
    fn files(&self) -> Vec<Row> {
        let kinds = [
            ("uts", "uts", ""),
            ("ipc", "ipc", ""),
            ("net", "net", ""),
            ("cgroup", "cgroup", ""),
            ("mount", "mnt", ""),
            ("user", "user", ""),
            ("time", "time", ""),
            ("pid", "pid", " -f"),
        ];
        let mut rows: Vec<_> = kinds
            .into_iter()
            .map(|(option, kind, more)| {
                let file = self.0.join(kind);
                File::create(&file).unwrap();
                let row = row(format!("--{option}={}{more}", file.display())).keeps(kind, &file);
                match kind {
                    "user" => row.differs("util-linux 2.38 mounts from inside the new namespace"),
                    _ => row,
                }
            })
            .collect();
        let missing = self.0.join("missing/file");
        rows.push(row(format!("--uts={}", missing.display())).fails(1, "No such file"));
        rows
    }

    /// Rows with another root, which has the programs, read-only, and no more than places for the rest.
    fn roots(&self) -> Vec<Row> {
        let root = self.dir("root");
        for name in ["usr", "proc", "var"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        let usr = root.join("usr");
        mount_bind("/usr", &usr).unwrap();
        mount_remount(&usr, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        for name in ["bin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        let dir = root.display();
        let rows = vec![
            row(format!("-mpf -R {dir} --mount-proc"))
                .new_namespaces(&["mnt", "pid"])
                .fact("cwd", "/"),
            row(format!("-mpf --root={dir} -w /var --mount-proc=/proc")).fact("cwd", "/var"),
            row(format!("-rmpf --root={dir} --mount-proc")).fact("Uid", "0 0 0 0"),
        ];
        let more = [format!("-R {dir}"), format!("-r -R {dir} -w /usr")];
        let more = more.map(|options| row(options).program(["sh", "-c", "echo $PWD /*"]));
        rows.into_iter().chain(more).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let gone = unmount(&self.0, UnmountFlags::DETACH).is_ok();
        // Only a directory that is empty.
        assert!(gone && fs::remove_dir(&self.0).is_ok() || std::thread::panicking());
    }
}

#[test]
fn as_root() {
    let pair = Pair::find("unshare");
    isolated(|| {
        require!(root, timens);
        let scratch = Scratch::new();
        let mut rows = privileged();
        rows.extend(in_user_namespace());
        rows.extend(endings());
        rows.extend(scratch.files());
        rows.extend(scratch.roots());
        compare(&pair, rows);
    });
}

#[test]
fn as_user() {
    let pair = Pair::find("unshare");
    isolated_as_user(|| {
        require!(userns, timens);
        let mut rows = in_user_namespace();
        rows.extend(endings());
        rows.extend([
            row("-n").fails(1, "unshare failed: Operation not permitted"),
            row("-m --mount-proc").fails(1, "unshare failed: Operation not permitted"),
            row("-S 0").fails(1, "Operation not permitted"),
            row("-R /").fails(1, "Operation not permitted"),
            row("--owner=0:0")
                .since("--owner")
                .fails(1, "Operation not permitted"),
        ]);
        compare(&pair, rows);
    });
}

#[test]
fn as_user_with_subids() {
    let pair = Pair::find("unshare");
    isolated_as_user_with_subids(|| {
        require!(userns, subuid);
        let first = require::subids().unwrap().uid.0;
        compare(&pair, ranges(first));
    });
}

fn ranges(first: u32) -> Vec<Row> {
    vec![
        row("--map-auto").fact("uid_map", format!("0 {first} 65536")),
        row("--map-users=auto --map-groups=auto"),
        row("--map-users=auto"),
        row(format!(
            "--map-users={first},5,10 --map-groups={first},7,20"
        )),
        row(format!("--map-users=5:{first}:10"))
            .since("<inneruid>:<outeruid>")
            .fact("uid_map", format!("5 {first} 10")),
        row("--map-subids")
            .since("--map-subids")
            .fact("uid_map", format!("{first} {first} 65536")),
        row("--map-users=subids --map-groups=subids").since("--map-subids"),
        row(format!("-r --map-users={first},1,10")),
        row("--map-auto -S 3 -G 4").fact("Uid", "3 3 3 3"),
        row("--map-auto --setgroups=deny")
            .fact("setgroups", "deny")
            .differs("it gives up setgroups(2) after the map, which is an error"),
        row("--map-auto -S 3 --keep-caps"),
        row("--map-auto -mpf --mount-proc -S 0 -G 0"),
    ]
}
