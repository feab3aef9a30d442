//! Names as those of ip-netns(8).

use std::fs;
use std::process::Command;

use ringfence::net::named::{self, Event, Monitor};
use ringfence::net::{Link, Netlink, Peer};
use ringfence::ns::{Namespace, Net};
use ringfence::{ErrorKind, Sandbox};
use rustix::mount::{MountFlags, mount, mount_remount};

use super::{create, with_capabilities};
use crate::common::{isolated, probe, require};
use crate::support::Waiting;

/// An empty file system at a path that exists.
fn tmpfs(path: &str) {
    mount("scratch", path, "tmpfs", MountFlags::empty(), None).unwrap();
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn names_are_given_found_and_taken_away() {
    with_capabilities!({
        require!(netns);
        tmpfs("/run");
        assert_eq!(named::list().unwrap(), [""; 0]);
        assert_eq!(Monitor::new().unwrap_err().kind(), ErrorKind::NotFound);
        let blue = named::add("blue").unwrap();
        let mut monitor = Monitor::new().unwrap();
        assert!(Netlink::open(&blue).unwrap().link("lo").unwrap().up);
        assert_eq!(named::open("blue").unwrap(), blue);
        assert_eq!(
            named::add("blue").unwrap_err().raw_os_error(),
            Some(libc::EEXIST)
        );

        let child = Waiting::start(&Sandbox::new().net());
        let theirs = named::attach("red", child.id()).unwrap();
        assert_eq!(child.namespaces().unwrap().net.unwrap(), theirs);
        assert_eq!(named::list().unwrap(), ["blue", "red"]);
        assert_eq!(named::identify(child.id()).unwrap(), ["red"]);
        assert_eq!(named::identify(std::process::id()).unwrap(), [""; 0]);
        assert_eq!(named::pids("red").unwrap(), [child.id()]);
        assert_eq!(named::pids("blue").unwrap(), [0; 0]);

        named::delete("blue").unwrap();
        named::delete("red").unwrap();
        let events: Vec<_> = (0..3).map(|_| monitor.wait().unwrap()).collect();
        let [red, blue] = ["red", "blue"].map(str::to_owned);
        assert_eq!(
            events,
            [
                Event::Added(red.clone()),
                Event::Deleted(blue),
                Event::Deleted(red)
            ]
        );
        assert!(named::delete("red").is_err() && named::open("red").is_err());
        for bad in ["", "..", "a/b"] {
            assert_eq!(named::add(bad).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn a_program_sees_its_namespace_in_sys_and_its_files_in_etc() {
    with_capabilities!({
        require!(netns);
        tmpfs("/run");
        tmpfs("/etc");
        fs::create_dir_all("/etc/netns/blue").unwrap();
        fs::write("/etc/resolv.conf", "outside").unwrap();
        fs::write("/etc/netns/blue/resolv.conf", "inside").unwrap();
        fs::write("/etc/netns/blue/not-in-etc", "").unwrap();
        let blue = named::add("blue").unwrap();
        Netlink::open(&blue)
            .unwrap()
            .add(Link::veth("v0", Peer::new("v1")))
            .unwrap();
        let script = "cat /etc/resolv.conf; echo; ls /sys/class/net; readlink /proc/self/ns/net";
        let command = named::command("blue", "/bin/sh").unwrap();
        let output = command.args(["-c", script]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, format!("inside\nlo\nv0\nv1\n{blue}\n"));
        assert_eq!(fs::read_to_string("/etc/resolv.conf").unwrap(), "outside");
        assert!(named::command("red", "true").is_err());
    });
}

#[test]
fn a_program_may_write_to_sys_where_ip_lets_it() {
    with_capabilities!({
        require!(netns, program("ip"));
        // ip goes back to where it came from.
        crate::common::sys::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
        tmpfs("/run");
        named::add("blue").unwrap();
        let script =
            "grep ' /sys ' /proc/self/mounts | tail -n 1 | cut -d ' ' -f 3,4 | cut -d , -f 1
            echo 77 > /sys/class/net/lo/tx_queue_len || echo refused
            cat /sys/class/net/lo/tx_queue_len";
        for read_only in [false, true] {
            if read_only {
                let flags = MountFlags::BIND | MountFlags::RDONLY;
                mount_remount("/sys", flags, "").unwrap();
            }
            let theirs = ip(&["netns", "exec", "blue", "sh", "-c", script]);
            ip(&["-n", "blue", "link", "set", "lo", "txqueuelen", "1000"]);
            let command = named::command("blue", "sh").unwrap();
            let output = command.args(["-c", script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), theirs);
            ip(&["-n", "blue", "link", "set", "lo", "txqueuelen", "1000"]);
        }
    });
}

#[test]
fn namespaces_have_ids_for_each_other() {
    with_capabilities!({
        require!(netns);
        let (_here, netlink) = create();
        let (there, _) = create();
        let (third, _) = create();
        assert_eq!(netlink.nsids().unwrap(), [0; 0]);
        assert_eq!(netlink.nsid(&there).unwrap(), None);
        netlink.set_nsid(&there, Some(42)).unwrap();
        assert_eq!(netlink.nsid(&there).unwrap(), Some(42));
        assert_eq!(
            netlink
                .set_nsid(&there, Some(43))
                .unwrap_err()
                .raw_os_error(),
            Some(libc::EEXIST)
        );
        assert!(netlink.set_nsid(&third, Some(42)).is_err());
        netlink.set_nsid(&third, None).unwrap();
        let chosen = netlink.nsid(&third).unwrap().unwrap();
        assert_eq!(netlink.nsids().unwrap(), [chosen, 42]);
        netlink
            .add(Link::veth("v0", Peer::new("v0").namespace(&there)))
            .unwrap();
        assert_eq!(netlink.link("v0").unwrap().link_netnsid, Some(42));
    });
}

#[test]
fn ip_netns_and_these_are_the_same() {
    isolated(|| {
        // ip goes back to where it came from, which a user namespace does not own.
        require!(root, program("ip"));
        crate::common::sys::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
        tmpfs("/run");
        named::add("ours").unwrap();
        ip(&["netns", "add", "theirs"]);
        assert_eq!(named::list().unwrap(), ["ours", "theirs"]);
        let theirs: Namespace<Net> = named::open("theirs").unwrap();
        let netlink = Netlink::current().unwrap();
        assert_eq!(netlink.nsid(&theirs).unwrap(), None);
        ip(&["netns", "set", "theirs", "7"]);
        netlink
            .set_nsid(&named::open("ours").unwrap(), Some(9))
            .unwrap();
        assert_eq!(netlink.nsids().unwrap(), [7, 9]);
        let list = ip(&["netns", "list"]);
        assert!(
            list.contains("ours (id: 9)") && list.contains("theirs (id: 7)"),
            "{list}"
        );
        let child = Waiting::of(named::command("ours", "/bin/cat").unwrap());
        let pid = child.id().to_string();
        assert_eq!(ip(&["netns", "identify", &pid]).trim(), "ours");
        assert_eq!(ip(&["netns", "pids", "ours"]).trim(), pid);
        assert_eq!(named::identify(child.id()).unwrap(), ["ours"]);
        let seen = |program: &[&str]| {
            let script = "ls /sys/class/net; readlink /proc/self/ns/net";
            let text = match program {
                [] => {
                    let command = named::command("theirs", "sh").unwrap();
                    command.args(["-c", script]).output().unwrap().stdout
                }
                words => ip(&[words, &["sh", "-c", script]].concat()).into_bytes(),
            };
            String::from_utf8(text).unwrap()
        };
        assert_eq!(seen(&[]), seen(&["netns", "exec", "theirs"]));
        ip(&["netns", "delete", "ours"]);
        named::delete("theirs").unwrap();
        assert_eq!(ip(&["netns", "list"]), "");
        assert!(
            probe::namespace(&pid, "net").is_ok(),
            "processes are left alone"
        );
    });
}
