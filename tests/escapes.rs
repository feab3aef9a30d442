//! Known escapes by processes, ids and privilege, each tried against this crate: as root and in a user
//! namespace. Those by mounts are in `escapes_mount`, those by processes that are joined in `join`.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails by a panic")]

mod common;
#[path = "mounts/inside.rs"]
mod inside;

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use common::user::UID;
use common::{in_forked_child, isolated, isolated_as_both, require, seccomp};
use inside::{namespaces, programs, sh, texts, try_sh};
use ringfence::lockdown::Capabilities;
use ringfence::{ErrorKind, IdMap, Namespaces, Rootfs, Sandbox};
use rustix::thread::CapabilitySet;
use tempfile::TempDir;

/// The kinds of sandbox that the caller may have, in this root, with a process 1 of each form.
fn on_each(rootfs: impl Fn() -> Rootfs, body: impl Fn(Sandbox)) {
    let mut kinds = vec![("user namespace", namespaces())];
    if require::root().is_ok() {
        kinds.push(("root", Sandbox::new().mount().pid().net().ipc().cgroup()));
    }
    for (kind, base) in kinds {
        for forked in [false, true] {
            let status = in_forked_child(|| {
                if forked {
                    seccomp::deny(&[(libc::SYS_execveat, libc::EPERM)]).unwrap();
                }
                let sandbox = programs(base.clone().rootfs(rootfs()));
                body(sandbox.proc("/proc").dev("/dev"));
                0
            });
            assert!(status.success(), "{kind}, forked {forked}: {status}");
        }
    }
}

/// runc CVE-2016-9962: a process inside attaches to one that still holds what is the host's. Here that is
/// process 1, with a socket to the caller.
#[test]
fn process_1_cannot_be_looked_into() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        on_each(Rootfs::tmpfs, |sandbox| {
            let script = "
                for file in mem environ maps auxv; do
                    head -c1 /proc/1/$file 2> /dev/null | grep -q . && echo read: $file
                done
                (: >> /proc/1/mem) 2> /dev/null && echo opened
                for link in /proc/1/fd/* /proc/1/cwd /proc/1/root; do
                    readlink $link && echo seen: $link
                done
                kill -0 1; cat /proc/1/comm";
            // Root in the first user namespace may look into anything, dumpable or not.
            let powerless = sandbox.init().capabilities(Capabilities::CONTAINER);
            let output = try_sh(&powerless, &format!("set +e; {script}")).unwrap();
            let (said, _) = texts(&output);
            assert_eq!(said, "ringfence-init\n");
        });
    });
}

/// runc CVE-2019-5736: the program in the image is a link to, or a script run by, `/proc/self/exe`, which is
/// the host's own binary as long as nothing has been executed.
#[test]
fn the_hosts_binary_is_out_of_reach() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let root = TempDir::new().unwrap();
        for name in ["usr", "proc", "dev", "evil"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let evil = |name: &str| root.path().join("evil").join(name);
        symlink("/proc/self/exe", evil("link")).unwrap();
        symlink("/proc/1/exe", evil("first")).unwrap();
        fs::write(evil("script"), "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(evil("script"), fs::Permissions::from_mode(0o755)).unwrap();
        let host = fs::read("/proc/self/exe").unwrap();
        on_each(
            || Rootfs::dir(root.path()),
            |sandbox| {
                let stage = !is_forked(&sandbox);
                for name in ["link", "first", "script"] {
                    // What is executed, if anything, is no program of the host's.
                    let command = sandbox.clone().init().command(format!("/evil/{name}"));
                    let list = command.arg("--list").output();
                    let text = list.map_or(String::new(), |output| texts(&output).0);
                    assert!(
                        !text.contains("the_hosts_binary") || !stage,
                        "{name}: {text}"
                    );
                }
                let written = "
                    for pid in 1 self $$; do (: >> /proc/$pid/exe) && echo written: $pid; done
                    for pid in 1 self $$; do echo evil > /proc/$pid/exe && echo written: $pid; done
                    true";
                let output = try_sh(&sandbox.init(), &format!("set +e; {written}")).unwrap();
                assert_eq!(texts(&output).0, "");
            },
        );
        assert_eq!(fs::read("/proc/self/exe").unwrap(), host);
    });
}

fn is_forked(sandbox: &Sandbox) -> bool {
    let plan = sandbox.clone().init().command("true").compile().unwrap();
    plan.to_string().contains("a copy of the caller")
}

/// Linux CVE-2014-8989: whoever may drop a group gets around a file that denies something to it.
#[test]
fn no_group_is_dropped_in_a_user_namespace() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        let sandbox = inside::in_tmpfs();
        assert_eq!(sh(&sandbox, "cat /proc/self/setgroups"), "deny\n");
        let script = "
            refused() { if \"$@\" 2> /dev/null; then echo \"not refused: $*\"; fi; }
            refused setpriv --clear-groups true
            refused setpriv --groups 0 true
            (echo allow > /proc/self/setgroups) 2> /dev/null && echo allowed
            echo done";
        require!(program("setpriv"));
        assert_eq!(sh(&sandbox, script), "done\n");
        let command = sandbox.command("/bin/true").groups([0]);
        assert_eq!(command.compile().unwrap_err().setter(), Some("groups"));
    });
}

/// runc CVE-2022-29162: inheritable capabilities that nobody asked for are gained by a file that has them.
#[test]
fn no_capability_is_inheritable() {
    isolated_as_both(|| {
        require!(userns, new_proc);
        on_each(Rootfs::tmpfs, |sandbox| {
            let inheritable = |sandbox: &Sandbox| {
                let said = sh(sandbox, "grep CapInh /proc/self/status");
                u64::from_str_radix(said.trim_start_matches("CapInh:").trim(), 16).unwrap()
            };
            // A caller that has some itself, as all that it starts would have.
            let mut own = rustix::thread::capabilities(None).unwrap();
            own.inheritable = own.permitted;
            rustix::thread::set_capabilities(None, own).unwrap();
            let plan = sandbox.clone().command("true").compile().unwrap();
            let in_userns = plan.namespaces().contains(Namespaces::USER);
            for sandbox in [sandbox.clone(), sandbox.init()] {
                let expected = if in_userns { 0 } else { own.inheritable.bits() };
                assert_eq!(inheritable(&sandbox), expected);
                let kept = sandbox.capabilities(Capabilities::KILL);
                assert_eq!(inheritable(&kept), 0);
            }
        });
    });
}

/// In the program that is started with more privilege than its caller: what it is, and what it is told.
#[test]
fn probe_of_a_privileged_program() {
    if env::var_os("RINGFENCE_ESCAPES_PROBE").is_none() {
        return;
    }
    let (real, effective) = (rustix::process::getuid(), rustix::process::geteuid());
    let has = rustix::thread::capabilities(None).unwrap().effective;
    let gained = real != effective || has.contains(CapabilitySet::NET_BIND_SERVICE);
    match Sandbox::new().command("/bin/true").compile() {
        Ok(_) => println!("gained {gained}: compiled"),
        Err(error) => println!("gained {gained}: {:?}: {error}", error.kind()),
    }
}

/// `security.capability` of version 2: CAP_NET_BIND_SERVICE, permitted and effective.
const FILE_CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// bubblewrap CVE-2016-8659, CVE-2020-5291: a program that makes sandboxes is installed with privilege, which
/// its caller directs.
#[test]
fn a_program_with_more_privilege_than_its_caller_is_refused() {
    isolated(|| {
        require!(root);
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let plain = copy_of_this_program(dir.path(), "plain", 0o755);
        let setuid = copy_of_this_program(dir.path(), "setuid", 0o4755);
        let capable = copy_of_this_program(dir.path(), "capable", 0o755);
        let flags = rustix::fs::XattrFlags::empty();
        let name = "security.capability";
        rustix::fs::setxattr(&capable, name, &FILE_CAPABILITY, flags).unwrap();
        assert_eq!(probed(&plain), "gained false: compiled");
        for program in [setuid, capable] {
            let said = probed(&program);
            let told = said.strip_prefix("gained true: ").unwrap_or_else(|| {
                panic!("the file system gives no privilege: {said}");
            });
            let kind = format!("{:?}: ", ErrorKind::PermissionDenied);
            assert!(
                told.starts_with(&kind) && told.contains("AT_SECURE"),
                "{told}"
            );
        }
    });
}

fn copy_of_this_program(dir: &Path, name: &str, mode: u32) -> std::path::PathBuf {
    let path = dir.join(name);
    fs::copy("/proc/self/exe", &path).unwrap();
    chown(&path, Some(0), Some(0)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// What the program says when a plain user starts it.
fn probed(program: &Path) -> String {
    let output = Command::new(program)
        .args(["probe_of_a_privileged_program", "--exact", "--nocapture"])
        .env("RINGFENCE_ESCAPES_PROBE", "1")
        .uid(UID)
        .gid(UID)
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().find(|line| line.contains("gained"));
    line.unwrap_or_else(|| panic!("{said}")).trim().to_owned()
}

/// A user namespace is a way back to all capabilities over a part of the kernel; the map of the caller's id
/// alone is not.
#[test]
fn a_container_makes_no_user_namespace() {
    isolated_as_both(|| {
        require!(userns, new_proc, program("unshare"));
        let sandbox = Sandbox::new().user().pid().mount().user_map(IdMap::root());
        let sandbox = programs(sandbox.rootfs(Rootfs::tmpfs()))
            .proc("/proc")
            .dev("/dev");
        let script = "unshare -Ur true 2> /dev/null && echo made; echo done";
        assert_eq!(sh(&sandbox, script), "made\ndone\n");
        assert_eq!(sh(&sandbox.disable_userns(), script), "done\n");
    });
}
