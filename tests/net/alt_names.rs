//! Names that interfaces have besides their own, as ip(8) sees them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use ringfence::ErrorKind;
use ringfence::net::{Address, Link, LinkChange, MacvlanMode, Netlink, Peer};
use ringfence::ns::{Namespace, Net};
use serde_json::Value;

use super::{create, everything, ip, net, run, with_capabilities};
use crate::common::require;

const LONG: &str = "the-interface-that-leads-to-the-laboratory";

/// With `v0` and its other end `v1`.
fn with_veth() -> (Namespace<Net>, Netlink) {
    let (namespace, netlink) = create();
    netlink.add(Link::veth("v0", Peer::new("v1"))).unwrap();
    (namespace, netlink)
}

/// What ip(8) shows, which is what is listed.
#[track_caller]
fn shown(namespace: &Namespace<Net>, netlink: &Netlink, name: &str) -> Vec<String> {
    let link = &ip(namespace, &format!("link show {name}"))[0];
    let names = link["altnames"].as_array().cloned().unwrap_or_default();
    let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
    let listed = netlink.links().unwrap();
    let listed = listed.iter().find(|link| link.name == name).unwrap();
    assert_eq!(listed.alt_names, names);
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_link_is_found_by_each_of_its_names() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_veth();
        let longest = "a".repeat(127);
        let change = LinkChange::of("v0").alt_name(LONG).alt_name("pci:0");
        netlink.set(change.alt_name(&longest)).unwrap();
        let names = shown(&namespace, &netlink, "v0");
        assert_eq!(names, [LONG, "pci:0", &longest]);
        let index = netlink.link("v0").unwrap().index;
        for name in [LONG, "pci:0", &longest] {
            assert_eq!(netlink.link(name).unwrap().index, index);
            netlink.set(LinkChange::of(name).mtu(1400)).unwrap();
            let address = Address::new(name, net("10.9.0.1/24"));
            netlink.add(address.clone()).unwrap();
            netlink.delete_address(&address).unwrap();
        }
        let macvlan = Link::macvlan("m0", LONG, MacvlanMode::Bridge);
        netlink.add(macvlan).unwrap();
        assert_eq!(netlink.link("m0").unwrap().link, Some(index));

        netlink
            .set(LinkChange::of(LONG).no_alt_name("pci:0"))
            .unwrap();
        netlink.set(LinkChange::of(LONG).rename("v2")).unwrap();
        assert_eq!(shown(&namespace, &netlink, "v2"), [LONG, &longest]);
        let (there, in_there) = create();
        netlink.move_link(LONG, &there).unwrap();
        assert_eq!(shown(&there, &in_there, "v2"), [LONG, &longest]);
        in_there.delete_link(LONG).unwrap();
        let gone = in_there.link("v2").unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn what_ip_gives_is_listed() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_veth();
        let add = format!("link property add dev v1 altname {LONG} altname short");
        run(&namespace, "ip", &add);
        assert_eq!(shown(&namespace, &netlink, "v1"), [LONG, "short"]);
        assert_eq!(netlink.link("short").unwrap().name, "v1");
        let raw = OsStr::from_bytes(b"eth\xff");
        let words = ["link", "property", "add", "dev", "v1", "altname"];
        let run = || Command::new("ip").args(words).arg(raw).status();
        assert!(namespace.run_in(run).unwrap().unwrap().success());
        let listed = netlink.link("v1").unwrap().alt_names;
        assert_eq!(listed.last().unwrap(), raw);
        netlink.set(LinkChange::of("v1").no_alt_name(raw)).unwrap();
        assert_eq!(shown(&namespace, &netlink, "v1"), [LONG, "short"]);
    });
}

#[test]
fn what_cannot_be_is_refused() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_veth();
        netlink.set(LinkChange::of("v1").alt_name(LONG)).unwrap();
        let before = everything(&namespace);
        for bad in ["", "a/b", "a b", "a\n", "a\0b", &"a".repeat(128)] {
            let error = netlink.set(LinkChange::of("v0").alt_name(bad)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
            let error = netlink.link(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        }
        // Names of its own, and of others.
        for taken in ["v0", "v1", LONG] {
            let change = LinkChange::of("v0").alt_name("first").alt_name(taken);
            let error = netlink.set(change.mtu(1300)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
            assert!(error.to_string().contains(taken), "{error:?}");
            assert_eq!(error.hint(), None, "{error:?}");
            assert_eq!(everything(&namespace), before, "{taken}");
        }
        for (name, errno) in [
            ("none", libc::ENOENT),
            (LONG, libc::EINVAL),
            ("v0", libc::EINVAL),
        ] {
            let error = netlink.set(LinkChange::of("v0").no_alt_name(name));
            assert_eq!(error.unwrap_err().raw_os_error(), Some(errno), "{name}");
        }
        assert_eq!(everything(&namespace), before);
    });
}

#[test]
fn a_batch_gives_them_and_takes_them_back() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_veth();
        netlink.set(LinkChange::of("v0").alt_name("old")).unwrap();
        let before = everything(&namespace);
        let batch = || {
            netlink
                .batch()
                .add(LinkChange::of("v0").alt_name(LONG).no_alt_name("old"))
                .add(LinkChange::of(LONG).alt_name("second"))
                .add(Address::new("second", net("10.9.0.1/24")))
                .add(
                    LinkChange::of("second")
                        .no_alt_name("second")
                        .alt_name("old"),
                )
                .add(Link::bridge("br0"))
                .add(LinkChange::of("br0").alt_name("of-the-bridge"))
                .add(Address::new("of-the-bridge", net("10.8.0.1/24")))
        };
        let done = batch().commit().unwrap();
        assert_eq!(shown(&namespace, &netlink, "v0"), [LONG, "old"]);
        assert_eq!(shown(&namespace, &netlink, "br0"), ["of-the-bridge"]);
        let address = &ip(&namespace, "addr show br0")[0]["addr_info"][0]["local"];
        assert_eq!(*address, "10.8.0.1");
        done.undo().unwrap();
        assert_eq!(everything(&namespace), before);
        let failing = batch().add(Link::bridge("bad").mtu(1));
        let error = failing.commit().unwrap_err();
        assert_eq!(error.hint(), None, "{error:?}");
        assert_eq!(everything(&namespace), before);
    });
}
