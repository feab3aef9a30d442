//! bwrap(1).

use super::bwrap_life::adopt;
use super::probe::Facts;
use super::row::{Row, Status, compare, row};
use super::tools::Pair;
use crate::common::{isolated, isolated_as_user, require};
use std::collections::BTreeMap;
use std::fs;

/// The caller's file system, read-only.
fn all(options: &str) -> Row {
    bwrap(&format!("--ro-bind / / {options}"))
}

/// A root in memory with the programs.
fn programs(options: &str) -> Row {
    bwrap(&format!(
        "--ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 {options}"
    ))
}

fn bwrap(options: &str) -> Row {
    row(options).view(view).says_the_same().leaves_processes()
}

/// What of the new root does not matter: where bubblewrap has it from, mounts that cover others, what of the
/// kernel's file systems is read-only or without effect; and ids in an intermediate user namespace.
fn view(facts: &mut Facts) {
    let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut count = BTreeMap::new();
    for line in own.lines() {
        *count.entry(line.split(' ').nth(4)).or_insert(0) += 1;
    }
    if let Some(table) = facts.remove("mountinfo") {
        let mut mounts = BTreeMap::new();
        for line in table.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            let (at, options) = (fields[1], fields[2]);
            let kernel = ["/proc", "/dev", "/sys"]
                .iter()
                .any(|top| at.starts_with(top));
            let hidden = count.get(&Some(at)).is_some_and(|count| *count > 1);
            if !kernel && !hidden {
                let kind = fields.iter().skip_while(|field| **field != "-").nth(1);
                let options = match kind {
                    Some(&"mqueue") => "",
                    _ => options,
                };
                mounts.insert(at, format!("{at} {options} {}", kind.unwrap_or(&"")));
            }
        }
        let mounts: Vec<_> = mounts.into_values().collect();
        facts.insert("mounts".to_owned(), mounts.join("\n"));
    }
    for map in ["uid_map", "gid_map"] {
        if let Some(lines) = facts.get_mut(map) {
            let fields: Vec<_> = lines.split(' ').collect();
            if let [inside, _, count] = fields[..] {
                *lines = format!("{inside} {count}");
            }
        }
    }
}

/// What is in `/t`.
const SHOW: [&str; 3] = [
    "sh",
    "-c",
    "cd /t; find . -mindepth 1 -printf '%M %U %G %s %p %l\\n' | sort; find . -type f -exec cat {} +",
];

fn namespaces() -> Vec<Row> {
    vec![
        all("").fact("cwd", "/var"),
        all("--"),
        all("--unshare-ipc"),
        all("--unshare-pid --proc /proc").fact("pid", "other"),
        all("--unshare-pid --as-pid-1 --proc /proc").fact("pid", "1"),
        all("--unshare-net").fact("lo", "up"),
        all("--unshare-uts"),
        all("--unshare-uts --hostname box")
            .program(["hostname"])
            .fact("said", "box"),
        all("--unshare-cgroup"),
        all("--unshare-cgroup-try"),
        all("--unshare-user"),
        all("--unshare-user-try"),
        all("--unshare-all --proc /proc"),
        all("--unshare-all --share-net --proc /proc").fact("ns net", "same"),
        all("--unshare-all --proc /proc --dev /dev"),
        all("--unshare-user --uid 1000").fact("Uid", "1000 1000 1000 1000"),
        all("--unshare-user --gid 1000").fact("Gid", "1000 1000 1000 1000"),
        all("--unshare-user --uid 0 --gid 0").fact("Uid", "0 0 0 0"),
        all("--unshare-all --uid 5 --gid 6 --proc /proc").fact("Gid", "6 6 6 6"),
        all("--unshare-user --disable-userns"),
        all("--unshare-user --disable-userns")
            .program(["sh", "-c", "unshare -U true 2>/dev/null || echo no"])
            .fact("said", "no"),
        all("--unshare-user --disable-userns --assert-userns-disabled"),
        all("--assert-userns-disabled")
            .fails(1, "creation of new user namespaces was not disabled"),
    ]
}

fn privileges() -> Vec<Row> {
    let allow: &[u8] = &[6, 0, 0, 0, 0, 0, 0xff, 0x7f];
    vec![
        all("").fact("NoNewPrivs", "1"),
        all("--cap-drop ALL").fact("CapEff", "0000000000000000"),
        all("--cap-drop CAP_NET_RAW"),
        all("--cap-drop ALL --cap-add CAP_KILL").fact("CapEff", "0000000000000020"),
        all("--cap-drop ALL --cap-add CAP_KILL --cap-add CAP_CHOWN")
            .fact("CapAmb", "0000000000000021"),
        all("--cap-drop ALL --cap-add cap_kill --cap-drop CAP_KILL"),
        all("--unshare-user --cap-drop ALL --cap-add CAP_NET_ADMIN"),
        all("--unshare-user --uid 1000 --cap-drop ALL --cap-add CAP_NET_ADMIN")
            .fact("CapEff", "0000000000001000"),
        all("--unshare-user --uid 1000 --cap-drop ALL"),
        all("--unshare-pid --proc /proc --cap-drop ALL"),
        all("--seccomp 40")
            .descriptor(40, allow)
            .fact("Seccomp", "2"),
        all("--add-seccomp-fd 40 --add-seccomp-fd 41")
            .descriptor(40, allow)
            .descriptor(41, allow)
            .fact("Seccomp", "2"),
        all("--unshare-pid --proc /proc --seccomp 40").descriptor(40, allow),
        all("--seccomp 40")
            .descriptor(40, b"123")
            .fails(1, "Invalid seccomp data, must be multiple of 8"),
        all("--seccomp 90").fails(1, "Can't read seccomp data: Bad file descriptor"),
        all("--seccomp 40 --add-seccomp-fd 40")
            .descriptor(40, allow)
            .fails(1, "--add-seccomp-fd cannot be combined with --seccomp"),
    ]
}

fn mounts() -> Vec<Row> {
    vec![
        programs("--proc /proc").fact("cwd", "/"),
        programs("--proc /proc --dev /dev --tmpfs /tmp"),
        programs("--proc /proc --dev /dev").program([
            "sh",
            "-c",
            "ls -Al --time-style=+ /dev | sed 's/.*root *//;s/.*nogroup *//'| awk '{print $NF}'; test -w /dev/null && test -d /dev/pts",
        ]),
        programs("--dev-bind /dev /dev").program(["sh", "-c", "echo > /dev/null"]),
        programs("--bind /dev /dev").program(["sh", "-c", "echo > /dev/null 2>&1 || echo no"]),
        programs("--proc /proc --bind /var /var").fact("cwd", "/var"),
        programs("--proc /proc --bind-try /nosuch /x --ro-bind-try /nosuch /y --dev-bind-try /nosuch /z"),
        programs("--proc /proc --ro-bind-try /etc /etc"),
        programs("--ro-bind /etc/passwd /t/passwd").program(["ls", "/t"]).fact("said", "passwd"),
        programs("--tmpfs /t").program(SHOW),
        programs("--perms 1777 --tmpfs /t/a --size 65536 --tmpfs /t/b").program(SHOW),
        programs("--size 65536 --tmpfs /t")
            .program(["sh", "-c", "head -c 70000 /usr/bin/bwrap > /t/x 2>&-; stat -c %s /t/x"])
            .fact("said", "65536"),
        programs("--dir /t/a/b --perms 0700 --dir /t/c").program(SHOW),
        programs("--dir /t/a --symlink ../x /t/a/b").program(SHOW),
        programs("--symlink ../x /t/a/b")
            .program(SHOW)
            .differs("a directory on the way that is missing has mode 0755 here"),
        programs("--symlink x /t/a --symlink y /t/b").program(SHOW),
        programs("--file 40 /t/data").descriptor(40, b"content\n").program(SHOW),
        programs("--dir /t/a --perms 0640 --file 40 /t/a/data").descriptor(40, b"content\n").program(SHOW),
        programs("--bind-data 40 /t/data").descriptor(40, b"content\n").program(SHOW),
        programs("--perms 0444 --ro-bind-data 40 /t/data").descriptor(40, b"content\n").program(SHOW),
        programs("--ro-bind-data 40 /t/data")
            .descriptor(40, b"content\n")
            .program(["sh", "-c", "exec 2>&-; (echo > /t/data) || echo no"])
            .fact("said", "no"),
        programs("--dir /t/a --chmod 0711 /t/a").program(SHOW),
        programs("--tmpfs /t --dir /t/a --remount-ro /t")
            .program(["sh", "-c", "mkdir /t/b 2>&- || echo no"])
            .fact("said", "no"),
        programs("--remount-ro /")
            .program(["sh", "-c", "mkdir /b 2>&- || echo no"])
            .fact("said", "no"),
        programs("").program(["sh", "-c", "mkdir /b && echo yes"]).fact("said", "yes"),
        programs("--unshare-ipc --proc /proc --mqueue /t"),
        bwrap("--tmpfs / --ro-bind /usr /usr --symlink usr/lib /lib --symlink usr/lib64 /lib64")
            .program(["/usr/bin/ls", "/"])
            .fact("said", "lib\nlib64\nusr"),
        bwrap("--dir /hidden --ro-bind / /").program(["sh", "-c", "ls -d /hidden || true"]),
        all("--proc /proc").fact("ns pid", "same"),
        all("--tmpfs /tmp --bind /var /tmp/var"),
        all("--tmpfs /etc").program(["ls", "/etc"]).fact("said", ""),
        programs("--overlay-src /usr/lib --overlay-src /usr/share --ro-overlay /t")
            .since("--overlay-src")
            .program(["sh", "-c", "ls -d /t/doc /t/os-release; mkdir /t/x 2>&- || echo no"])
            .fact("said", "/t/doc\n/t/os-release\nno"),
        programs("--overlay-src /usr/share --tmp-overlay /t")
            .since("--overlay-src")
            .program(["sh", "-c", "mkdir /t/x; ls -d /t/x /t/doc"])
            .fact("said", "/t/doc\n/t/x"),
        programs("--overlay-src /usr/share --ro-overlay /t")
            .since("--overlay-src")
            .fails(1, "--ro-overlay requires at least two --overlay-src"),
        programs("--overlay /var /tmp /t")
            .since("--overlay-src")
            .fails(1, "--overlay requires at least one --overlay-src"),
        programs("--overlay-src /usr --tmpfs /t")
            .since("--overlay-src")
            .fails(1, "--overlay-src must be followed by"),
    ]
}

fn environment() -> Vec<Row> {
    let directory = ["sh", "-c", "pwd; echo $PWD; echo $OLDPWD"];
    vec![
        all("--setenv FOO bar --unsetenv VARIABLE"),
        all("--clearenv --setenv FOO bar"),
        all("--clearenv").program(["env"]),
        all("--chdir /usr")
            .program(directory)
            .fact("said", "/usr\n/usr"),
        all("--chdir /usr --unshare-pid").program(directory),
        programs("").program(directory).fact("said", "/\n/"),
        programs("--setenv HOME /usr")
            .program(directory)
            .fact("said", "/usr\n/usr"),
        programs("--dir /a/b --setenv HOME /a")
            .program(directory)
            .fact("said", "/a\n/a"),
        programs("--tmpfs /home --setenv HOME /home")
            .program(directory)
            .fact("said", "/home\n/home"),
        programs("--ro-bind /usr/share /s --setenv HOME /s")
            .program(directory)
            .fact("said", "/s\n/s"),
        programs("--ro-bind /usr/share /s --setenv HOME /s/doc")
            .program(directory)
            .fact("said", "/s/doc\n/s/doc"),
        programs("--ro-bind /usr/share /s --setenv HOME /s/nosuch")
            .program(directory)
            .fact("said", "/\n/"),
        programs("--setenv HOME /bin/../lib").program(directory),
        programs("--symlink usr/share /x --setenv HOME /x/doc").program(directory),
        programs("--unshare-pid --setenv HOME /usr --info-fd 41")
            .descriptor(41, b"")
            .program(directory)
            .fact("said", "/usr\n/usr"),
        all("--args 40").descriptor(40, b"--setenv\0FOO\0bar\0--chdir\0/usr\0"),
        all("--args 40").descriptor(40, b""),
        all("--args 40")
            .descriptor(40, b"--args\x0041\0")
            .fails(1, "--args not supported in arguments file"),
        all("--argv0 other")
            .since("--argv0")
            .program(["sh", "-c", "echo $0"])
            .fact("said", "other"),
        all("--new-session"),
        all("--new-session --unshare-pid --proc /proc"),
        all("--die-with-parent"),
        all("--die-with-parent --unshare-pid --proc /proc"),
    ]
}

fn descriptors() -> Vec<Row> {
    vec![
        all("--info-fd 41").descriptor(41, b""),
        all("--info-fd 41 --unshare-all --proc /proc").descriptor(41, b""),
        all("--json-status-fd 41").descriptor(41, b"").fact(
            "fd 41",
            "{ \"child-pid\": N, \"mnt-namespace\": N }\n{ \"exit-code\": N }\n",
        ),
        all("--json-status-fd 41 --unshare-all --proc /proc").descriptor(41, b""),
        all("--json-status-fd 41 --info-fd 42 --unshare-uts")
            .descriptor(41, b"")
            .descriptor(42, b"")
            .program(["true"]),
        all("--json-status-fd 41")
            .descriptor(41, b"")
            .program(["sh", "-c", "kill -TERM $$"])
            .status(Status::Code(143)),
        all("--json-status-fd 41")
            .descriptor(41, b"")
            .program(["/nosuch"])
            .fails(1, "execvp /nosuch"),
        all("--block-fd 40").descriptor(40, b"x"),
        all("--block-fd 40 --unshare-pid --proc /proc").descriptor(40, b""),
        all("--sync-fd 5").descriptor(5, b""),
        all("--sync-fd 5 --unshare-pid --proc /proc").descriptor(5, b""),
        all("--lock-file /etc/passwd").program(["true"]),
        all("--lock-file /etc/passwd --unshare-pid").program(["true"]),
        all("--lock-file /nosuch").fails(
            1,
            "Unable to open lock file /nosuch: No such file or directory",
        ),
        all("")
            .descriptor(5, b"kept")
            .program(["cat", "/dev/fd/5"])
            .fact("said", "kept"),
    ]
}

fn endings() -> Vec<Row> {
    let signal = |line| {
        all(line)
            .program(["sh", "-c", "kill -TERM $$"])
            .status(Status::Code(143))
    };
    vec![
        signal(""),
        signal("--unshare-pid"),
        signal("--unshare-pid --die-with-parent"),
        all("")
            .program(["sh", "-c", "kill -KILL $$"])
            .status(Status::Code(137)),
        all("--unshare-pid")
            .program(["sh", "-c", "kill -KILL $$"])
            .status(Status::Code(137)),
        all("")
            .program(["sh", "-c", "exit 255"])
            .status(Status::Code(255)),
        all("--unshare-pid --as-pid-1")
            .program(["sh", "-c", "exit 3"])
            .status(Status::Code(3)),
        all("")
            .program(["nosuch"])
            .fails(1, "execvp nosuch: No such file or directory"),
        all("--unshare-all")
            .program(["/nosuch"])
            .fails(1, "execvp /nosuch: No such file or directory"),
        all("")
            .program(["/etc/passwd"])
            .fails(1, "execvp /etc/passwd: Permission denied"),
        bwrap("--ro-bind /nosuch /").fails(
            1,
            "Can't find source path /nosuch: No such file or directory",
        ),
        all("--bind /nosuch /tmp").fails(
            1,
            "Can't find source path /nosuch: No such file or directory",
        ),
        all("--dir /nosuch").fails(1, "Can't mkdir /nosuch: Read-only file system"),
        all("--tmpfs /nosuch").fails(1, "Can't mkdir /nosuch: Read-only file system"),
        all("--ro-bind /etc /nosuch").fails(1, "Can't mkdir /nosuch: Read-only file system"),
        all("--ro-bind /etc/passwd /nosuch")
            .fails(1, "Can't create file at /nosuch: Read-only file system"),
        all("--ro-bind /etc /etc/passwd").fails(1, "Can't mkdir /etc/passwd: Not a directory"),
        all("--ro-bind /etc/passwd /etc").fails(1, "Can't create file at /etc: Is a directory"),
        all("--dir /etc/passwd").fails(1, "Can't mkdir /etc/passwd: Not a directory"),
        all("--symlink a /etc").fails(1, "Can't make symlink at /etc: File exists"),
        all("--chdir /nosuch").fails(1, "Can't chdir to /nosuch: No such file or directory"),
        all("--chmod 0700 /nosuch").fails(1, "Can't chmod 0700 /nosuch: No such file or directory"),
        bwrap("")
            .program([])
            .fails(1, "usage: TOOL [OPTIONS...] [--] COMMAND [ARGS...]"),
        all("")
            .program([])
            .fails(1, "usage: TOOL [OPTIONS...] [--] COMMAND [ARGS...]"),
        bwrap("--foo").fails(1, "Unknown option --foo"),
        bwrap("-x").fails(1, "Unknown option -x"),
        bwrap("--uid=5").fails(1, "Unknown option --uid=5"),
        bwrap("--uid")
            .program([])
            .fails(1, "--uid takes an argument"),
        bwrap("--bind /")
            .program([])
            .fails(1, "--bind takes two arguments"),
        bwrap("--chdir")
            .program([])
            .fails(1, "--chdir takes one argument"),
        bwrap("--uid x").fails(1, "Invalid uid: x"),
        bwrap("--gid -1").fails(1, "Invalid gid: -1"),
        bwrap("--info-fd x").fails(1, "Invalid fd: x"),
        bwrap("--block-fd -1").fails(1, "Invalid fd: -1"),
        bwrap("--args 90").fails(1, "Can't read --args data: Bad file descriptor"),
        all("--cap-add CAP_FOO").fails(1, "unknown cap: CAP_FOO"),
        all("--perms 0999 --dir /x").fails(1, "--perms takes an octal argument <= 07777"),
        all("--perms 0700 --perms 0700 --dir /x")
            .fails(1, "--perms given twice for the same action"),
        all("--perms 0700 --bind / /").fails(
            1,
            "--perms must be followed by an option that creates a file",
        ),
        all("--size 5 --dir /x").fails(1, "--size must be followed by --tmpfs"),
        all("--size 0 --tmpfs /x").fails(1, "--size takes a non-zero number of bytes"),
        all("--hostname box").fails(1, "Specifying --hostname requires --unshare-uts"),
        all("--as-pid-1").fails(1, "Specifying --as-pid-1 requires --unshare-pid"),
        all("--as-pid-1 --unshare-pid --lock-file /x")
            .fails(1, "Specifying --as-pid-1 and --lock-file is not permitted"),
        all("--userns 26").fails(
            1,
            "Joining the specified user namespace failed, it might not be a descendant of the current user namespace.",
        ),
        all("--userns 26 --unshare-user").fails(1, "--userns not compatible --unshare-user"),
        all("--pidns 26").fails(1, "Setting pidns failed: Invalid argument"),
        all("--disable-userns").fails(1, "--disable-userns requires --unshare-user"),
        all("--userns2 26")
            .differs("its child waits for ever when this fails")
            .fails(1, "Setting userns2 failed: "),
        all("--userns2 40")
            .descriptor(40, b"")
            .differs("its child waits for ever when this fails")
            .fails(1, "Setting userns2 failed: "),
        all("--userns2 x").fails(1, "Invalid fd: x"),
        all("--userns-block-fd 40")
            .descriptor(40, b"")
            .fails(1, "--userns-block-fd requires --unshare-user"),
        all("--unshare-user --userns-block-fd 40")
            .descriptor(40, b"")
            .fails(1, "--userns-block-fd requires --info-fd"),
        all("--unshare-user --userns-block-fd 40 --info-fd 41 --disable-userns")
            .descriptor(40, b"")
            .descriptor(41, b"")
            .fails(1, "--disable-userns is not compatible with  --userns-block-fd"),
        all("--exec-label x").fails(1, "labeling not supported on this system"),
        all("--level-prefix --foo")
            .since("--level-prefix")
            .fails(1, "<3>bwrap: Unknown option --foo"),
    ]
}

fn for_anybody() -> Vec<Row> {
    let parts = [
        namespaces(),
        privileges(),
        mounts(),
        environment(),
        descriptors(),
        endings(),
    ];
    parts.into_iter().flatten().collect()
}

#[test]
fn as_root() {
    let pair = Pair::find("bwrap");
    isolated(|| {
        require!(root, program("bwrap"));
        adopt();
        let mut rows = for_anybody();
        rows.extend([
            all("--uid 5").fails(1, "Specifying --uid requires --unshare-user or --userns"),
            all("--gid 5").fails(1, "Specifying --gid requires --unshare-user or --userns"),
            all("--pidns 24").program(["readlink", "/proc/self/ns/pid"]),
            all("--pidns 24 --unshare-pid --proc /proc").program(["sh", "-c", "echo $$"]),
            all("").new_namespaces(&["mnt"]),
            all("--unshare-net").new_namespaces(&["mnt", "net"]),
            all("--unshare-user").new_namespaces(&["mnt", "user"]),
        ]);
        compare(&pair, rows);
    });
}

#[test]
fn as_user() {
    let pair = Pair::find("bwrap");
    isolated_as_user(|| {
        require!(userns, program("bwrap"));
        adopt();
        let mut rows = for_anybody();
        rows.extend([
            all("").new_namespaces(&["mnt", "user"]),
            all("--uid 5 --gid 6").fact("Uid", "5 5 5 5"),
            all("--uid 0 --cap-add ALL"),
            programs("--mqueue /t").fails(
                1,
                "Can't mount mqueue on /newroot/t: Operation not permitted",
            ),
        ]);
        compare(&pair, rows);
    });
}
