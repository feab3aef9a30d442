//! Joined and new namespaces at the same time.

use std::fs;
use std::io::{Read, Write};

use ringfence::ns::{Cgroup, Ipc, Mount, Namespace, Net, Pid, Time, User, Uts};
use ringfence::{AnyNamespace, IdMap, Kind, NamespaceSet, Sandbox, Stdio};

use super::{kinds, link, stage, target};
use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated, isolated_as_both, isolated_as_user, require};
use crate::support::{Waiting, is_privileged, sh, with_programs};

fn of<K: ringfence::ns::NamespaceKind>(pid: u32) -> Namespace<K> {
    Namespace::of_pid(pid).unwrap()
}

/// A new network belongs to the user namespace that was joined.
#[test]
fn a_new_network_in_joined_user_and_mount_namespaces() {
    isolated_as_both(|| {
        require!(userns, netns);
        stage!();
        let target = target();
        let user: Namespace<User> = of(target.id());
        let sandbox = Sandbox::new()
            .net()
            .join(of::<Mount>(target.id()))
            .join(&user);
        let joined = Waiting::start(&sandbox);
        for kind in [Kind::User, Kind::Mount] {
            assert_eq!(link(joined.id(), kind), link(target.id(), kind));
        }
        let net: Namespace<Net> = of(joined.id());
        assert!(!net.is_current().unwrap());
        assert_ne!(net, of(target.id()));
        assert_eq!(net.user_namespace().unwrap(), user);
        assert!(sh(&sandbox, "cat /proc/net/if_inet6 /proc/net/dev").contains("lo"));
    });
}

#[test]
fn everything_new_but_the_joined() {
    isolated_as_both(|| {
        require!(userns, netns);
        stage!();
        let target = target();
        let sandbox = Sandbox::new()
            .mount()
            .net()
            .uts()
            .ipc()
            .cgroup()
            .pid()
            .hostname("fresh")
            .domainname("example.test")
            .join(of::<User>(target.id()));
        let joined = Waiting::start(&sandbox);
        let user: Namespace<User> = of(target.id());
        for kind in kinds().filter(|kind| ![Kind::User, Kind::Time].contains(kind)) {
            let namespace = AnyNamespace::of_pid(kind, joined.id()).unwrap();
            assert!(!namespace.is_current().unwrap(), "{kind}");
            assert_ne!(link(joined.id(), kind), link(target.id(), kind), "{kind}");
            assert_eq!(namespace.user_namespace().unwrap(), user, "{kind}");
        }
        let names = "echo $$; uname -n; cat /proc/sys/kernel/domainname";
        assert_eq!(sh(&sandbox, names), "1\nfresh\nexample.test");
        // No mount of it shows up outside.
        let mounts = "grep -c -E ' (shared|master):' /proc/$$/mountinfo || true";
        let sandbox = Sandbox::new().mount().join(&user);
        assert_eq!(sh(&sandbox, mounts), "0");
    });
}

#[test]
fn process_1_of_a_new_pid_namespace_in_a_joined_user_namespace() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let sandbox = Sandbox::new().pid().init().join(of::<User>(target.id()));
        let command = sandbox.clone().command("/bin/sh");
        // The orphan is reaped by process 1, whose end ends it at the latest.
        let output = command
            .args(["-c", "(sleep 60 &) ; echo $$; exit 7"])
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"2\n");
        assert_eq!(output.status.code(), Some(7));
    });
}

/// Copies of what is joined: a change does not show there.
#[test]
fn copies_of_the_joined() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let sandbox = Sandbox::new()
            .user()
            .mount()
            .uts()
            .hostname("original")
            .user_map(IdMap::root());
        let target = Waiting::start(&sandbox);
        let copy = Sandbox::new()
            .mount()
            .uts()
            .join(of::<Uts>(target.id()))
            .join(of::<Mount>(target.id()))
            .join(of::<User>(target.id()));
        let seen = sh(
            &copy,
            "uname -n; hostname changed; mount -t tmpfs copy /mnt; uname -n",
        );
        assert_eq!(seen, "original\nchanged");
        let same = Sandbox::new().join_all(target.id());
        assert_eq!(sh(&same, "uname -n"), "original");
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", target.id())).unwrap();
        assert!(!mounts.contains("copy"), "{mounts}");
    });
}

/// What a thread can enter goes together with everything that is new.
#[test]
fn a_joined_network_and_a_new_root() {
    isolated(|| {
        require!(root, netns, new_proc);
        let net = Namespace::<Net>::create().unwrap();
        let uts = Namespace::<Uts>::create().unwrap();
        let (ipc, cgroup) = (
            Namespace::<Ipc>::create().unwrap(),
            Namespace::<Cgroup>::create().unwrap(),
        );
        let sandbox = with_programs(Sandbox::new())
            .user()
            .pid()
            .user_map(IdMap::root())
            .proc("/proc")
            .join(&net)
            .join(&uts)
            .join(&ipc)
            .join(&cgroup);
        let names = ["net", "uts", "ipc", "cgroup"].map(|name| format!("/proc/self/ns/{name}"));
        let seen = sh(&sandbox, &format!("readlink {}; ls /", names.join(" ")));
        let mut lines = seen.lines();
        for namespace in [&*net, &*uts, &*ipc, &*cgroup] {
            assert_eq!(lines.next(), Some(namespace.to_string().as_str()));
        }
        assert!(lines.all(|line| line != "home"), "{seen}");
        assert!(net.is_current().is_ok_and(|is| !is), "the caller has moved");
        let before = Census::take().without(&["maps"]);
        drop(Waiting::start(&sandbox));
        let dies = sandbox.clone().command("/bin/true").die_with_parent();
        assert!(dies.status().unwrap().success());
        crate::join::await_single_thread();
        assert_same(&before, &Census::take().without(&["maps"]));
    });
}

/// A user namespace made by others: its own network can be made in it afterwards.
#[test]
fn namespaces_are_created_in_a_joined_user_namespace() {
    isolated_as_both(|| {
        require!(userns, netns);
        stage!();
        let user = Namespace::<User>::create_with_map(IdMap::root()).unwrap();
        let sandbox = Sandbox::new().net().uts().pid().join(&user);
        let before = Census::take().without(&["maps"]);
        let set = match NamespaceSet::create(&sandbox) {
            Err(error) if !is_privileged() => {
                assert!(error.hint().unwrap().contains("CAP_SYS_PTRACE"));
                return assert_same(&before, &Census::take().without(&["maps"]));
            }
            other => other.unwrap(),
        };
        for kind in [Kind::Net, Kind::Uts, Kind::Pid] {
            let namespace = set.get(kind).unwrap();
            assert_eq!(namespace.user_namespace().unwrap(), user);
        }
        drop(set);
        assert_same(&before, &Census::take().without(&["maps"]));
    });
}

/// The clocks are those of the namespace, from the first instruction on.
#[test]
fn a_joined_clock() {
    isolated_as_both(|| {
        require!(userns, timens);
        stage!();
        let offset = std::time::Duration::from_secs(1_000_000);
        let sandbox = Sandbox::new().user().user_map(IdMap::root()).time();
        let target = Waiting::start(&sandbox.boottime_offset(offset));
        let joined = Sandbox::new()
            .join(of::<Time>(target.id()))
            .join(of::<User>(target.id()));
        let uptime = sh(&joined, "cat /proc/uptime");
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!(seconds > 1_000_000.0, "{uptime}");
    });
}

#[test]
fn where_the_caller_is_there_is_nothing_to_join() {
    isolated_as_user(|| {
        require!(userns);
        stage!();
        // None of these could be entered without privilege.
        let own = Sandbox::new().join_all(std::process::id());
        let joined = Waiting::start(&own);
        for kind in kinds() {
            assert_eq!(link(joined.id(), kind), link("self", kind));
        }
        let cwd = |pid: &str| fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
        std::env::set_current_dir("/tmp").unwrap();
        let joined = Waiting::start(&own);
        assert_eq!(cwd(&joined.id().to_string()), cwd("self"));
        // A process that shares all but its user namespace.
        let target = Waiting::start(&Sandbox::new().user().user_map(IdMap::root()));
        let joined = Waiting::start(&Sandbox::new().join_all(target.id()));
        for kind in kinds() {
            assert_eq!(link(joined.id(), kind), link(target.id(), kind));
        }
        assert_eq!(cwd(&joined.id().to_string()), cwd("self"));
    });
}

/// The gate is in the joined namespaces, and streams and descriptors get there.
#[test]
fn streams_and_the_gate() {
    isolated_as_both(|| {
        require!(userns);
        stage!();
        let target = target();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut child = Sandbox::new()
            .join_all(target.id())
            .command("/bin/sh")
            .args(["-c", "cat; echo seven >&7; ls /proc/self/fd >&2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .descriptor(std::os::fd::OwnedFd::from(writer), 7)
            .gate()
            .spawn()
            .unwrap();
        // Held, it may not be looked into by others; its pid namespace is told by its numbers, if the kernel
        // does (Linux 6.11).
        if is_privileged() || require::kernel(6, 11).is_ok() {
            let pid: Namespace<Pid> = of(target.id());
            assert!(pid.pid_inside(child.id()).unwrap().is_some());
        }
        child.stdin.take().unwrap().write_all(b"hello").unwrap();
        child.release().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"hello");
        assert_eq!(output.status.code(), Some(0));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "seven\n");
        // The directory itself is the one more.
        let open = String::from_utf8(output.stderr).unwrap();
        assert_eq!(open.split_whitespace().count(), 5, "{open}");
    });
}
