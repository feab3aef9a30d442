//! Interfaces, as `ip -d link` sees them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use ringfence::net::{
    Bridge, IpvlanMode, Link, LinkChange, MacvlanMode, NAME_MAX, Netlink, Peer, TunTap, Vxlan,
};
use ringfence::{ErrorKind, Step};
use serde_json::{Value, json};

use super::{MAC, create, everything, ip, names, run, with_capabilities};
use crate::common::{isolated_as_user, require};

/// The interface of this name as ip(8) shows it.
#[track_caller]
fn shown(links: &[Value], name: &str) -> Value {
    let found = links.iter().find(|link| link["ifname"] == name);
    found
        .unwrap_or_else(|| panic!("{name} is not in {links:?}"))
        .clone()
}

fn is_up(link: &Value) -> bool {
    link["flags"].as_array().unwrap().contains(&json!("UP"))
}

#[test]
fn what_is_made_is_what_ip_shows() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        let tunnel = Vxlan::new(42)
            .local([192, 0, 2, 1])
            .remote([192, 0, 2, 2])
            .port(4790);
        netlink
            .add(Link::bridge_with("br0", Bridge::new().stp()).up())
            .unwrap();
        netlink.add(Link::bridge("br1").mac(MAC).mtu(1400)).unwrap();
        netlink
            .add(
                Link::veth("veth0", Peer::new("veth1").mtu(1300))
                    .master("br0")
                    .mtu(1300)
                    .up(),
            )
            .unwrap();
        netlink
            .add(Link::macvlan("m0", "veth1", MacvlanMode::Private))
            .unwrap();
        netlink.add(Link::vxlan("vx0", tunnel)).unwrap();
        netlink.add(Link::ifb("ifb7")).unwrap();

        let links = ip(&namespace, "link show");
        let link = |name| shown(&links, name);
        let kind = |name| link(name)["linkinfo"]["info_kind"].clone();
        let data = |name| link(name)["linkinfo"]["info_data"].clone();
        assert_eq!(
            ["br0", "br1", "veth0", "veth1", "m0", "vx0", "ifb7"].map(kind),
            [
                "bridge", "bridge", "veth", "veth", "macvlan", "vxlan", "ifb"
            ]
        );
        assert_eq!(data("br0")["stp_state"], 1);
        assert_eq!(data("br1")["stp_state"], 0);
        assert_eq!(
            (&link("br1")["address"], &link("br1")["mtu"]),
            (&json!(MAC.to_string()), &json!(1400))
        );
        assert_eq!(link("veth0")["master"], "br0");
        assert_eq!(link("veth0")["link"], "veth1");
        assert_eq!(
            (&link("veth0")["mtu"], &link("veth1")["mtu"]),
            (&json!(1300), &json!(1300))
        );
        assert!(is_up(&link("br0")) && is_up(&link("veth0")));
        assert!(!is_up(&link("br1")) && !is_up(&link("veth1")));
        assert_eq!(
            (&link("m0")["link"], &data("m0")["mode"]),
            (&json!("veth1"), &json!("private"))
        );
        let vxlan = data("vx0");
        assert_eq!((&vxlan["id"], &vxlan["port"]), (&json!(42), &json!(4790)));
        assert_eq!(
            (&vxlan["local"], &vxlan["remote"]),
            (&json!("192.0.2.1"), &json!("192.0.2.2"))
        );
    });
}

#[test]
fn what_ip_makes_is_listed() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        run(&namespace, "ip", "link add br0 type bridge");
        run(
            &namespace,
            "ip",
            "link add v0 address 02:00:00:00:00:07 mtu 1400 type veth peer name v1",
        );
        run(&namespace, "ip", "link set v0 master br0 up");
        run(&namespace, "ip", "link set v1 up");
        let theirs = ip(&namespace, "-s link show");
        let ours = netlink.links().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(theirs["ifname"], *ours.name);
            assert_eq!(theirs["ifindex"], ours.index);
            assert_eq!(theirs["mtu"], ours.mtu);
            let mac = ours.mac.unwrap().to_string();
            assert_eq!(theirs["address"], mac);
            assert_eq!(is_up(theirs), ours.up);
            let kind = ours.kind.as_deref();
            assert_eq!(theirs["linkinfo"]["info_kind"].as_str(), kind);
            let counted = &theirs["stats64"];
            assert!(ours.statistics.rx_bytes >= counted["rx"]["bytes"].as_u64().unwrap() / 2);
        }
        let (v0, v1) = (netlink.link("v0").unwrap(), netlink.link("v1").unwrap());
        assert_eq!(v0.master, Some(netlink.link("br0").unwrap().index));
        assert_eq!((v0.link, v1.link), (Some(v1.index), Some(v0.index)));
        assert!(v0.carrier && netlink.link("lo").unwrap().loopback);
        assert_eq!(netlink.link(v0.index).unwrap().name, "v0");
    });
}

#[test]
fn a_bridge_filters_by_vlan_where_the_kernel_does() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        let theirs = "ip link add theirs type bridge vlan_filtering 1";
        let can = namespace.run_in(|| Command::new("sh").args(["-c", theirs]).output());
        let can = can.unwrap().unwrap().status.success();
        let before = everything(&namespace);
        match netlink.add(Link::bridge_with("ours", Bridge::new().vlan_filtering())) {
            Ok(()) => {
                assert!(can);
                let link = shown(&ip(&namespace, "link show"), "ours");
                assert_eq!(link["linkinfo"]["info_data"]["vlan_filtering"], 1);
            }
            Err(error) => {
                assert!(!can, "{error:?}");
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(error.hint().unwrap().contains("VLAN filtering"));
                assert_eq!(everything(&namespace), before);
            }
        }
    });
}

#[test]
fn both_ends_of_a_veth_may_be_elsewhere() {
    with_capabilities!({
        require!(netns);
        let (_here, netlink) = create();
        let (left, in_left) = create();
        let (right, in_right) = create();
        let peer = Peer::new("eth1").namespace(&right).mac(MAC).index(77);
        netlink
            .add(Link::veth("eth0", peer).namespace(&left).index(88))
            .unwrap();
        assert_eq!(names(&netlink).unwrap(), ["lo"]);
        let (eth0, eth1) = (
            in_left.link("eth0").unwrap(),
            in_right.link("eth1").unwrap(),
        );
        assert_eq!((eth0.index, eth1.index), (88, 77));
        assert_eq!((eth0.link, eth1.link), (Some(77), Some(88)));
        assert_eq!(eth1.mac, Some(MAC));
        assert!(eth0.link_netnsid.is_some());
        in_right.delete_link("eth1").unwrap();
        assert_eq!(names(&in_left).unwrap(), ["lo"]);
    });
}

#[test]
fn the_master_is_one_of_where_the_link_is_to_be() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (_here, netlink) = create();
        let (there, in_there) = create();
        // The same number is another's there.
        netlink.add(Link::bridge("br0").index(77)).unwrap();
        in_there.add(Link::bridge("wrong").index(77)).unwrap();
        let port = |master: &str| {
            Link::veth("x", Peer::new("y"))
                .namespace(&there)
                .master(master)
        };
        let before = everything(&there);
        let error = netlink.add(port("br0")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert!(error.to_string().contains(&there.to_string()), "{error:?}");
        assert_eq!(names(&netlink).unwrap(), ["lo", "br0"]);
        assert_eq!(everything(&there), before);

        in_there.add(Link::bridge("br0")).unwrap();
        netlink.add(port("br0")).unwrap();
        let master = || shown(&ip(&there, "link show"), "x")["master"].clone();
        assert_eq!(master(), "br0");
        in_there.delete_link("x").unwrap();
        let by_number = Link::veth("x", Peer::new("y")).master(77);
        netlink.add(by_number.namespace(&there)).unwrap();
        assert_eq!(master(), "wrong");
    });
}

#[test]
fn links_are_changed_moved_and_deleted() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (here, netlink) = create();
        let (there, in_there) = create();
        netlink.add(Link::bridge("br0")).unwrap();
        netlink.add(Link::veth("a", Peer::new("b"))).unwrap();
        let change = LinkChange::of("a")
            .rename("c")
            .mac(MAC)
            .mtu(1000)
            .master("br0")
            .up();
        netlink.set(change).unwrap();
        let link = shown(&ip(&here, "link show"), "c");
        assert_eq!(
            (&link["address"], &link["mtu"]),
            (&json!(MAC.to_string()), &json!(1000))
        );
        assert!(is_up(&link) && link["master"] == "br0");
        netlink
            .set(LinkChange::of("c").hairpin(true).group(9))
            .unwrap();
        let link = shown(&ip(&here, "link show"), "c");
        assert_eq!(link["linkinfo"]["info_slave_data"]["hairpin"], true);
        assert_eq!(link["group"], "9");
        let listed = netlink.link("c").unwrap();
        assert!(listed.port.unwrap().hairpin && listed.group == 9);
        netlink
            .set(LinkChange::of("c").down().no_master().group(0))
            .unwrap();
        let link = shown(&ip(&here, "link show"), "c");
        assert!(!is_up(&link) && link["master"].is_null());

        netlink.move_link("c", &there).unwrap();
        assert_eq!(names(&netlink).unwrap(), ["lo", "br0", "b"]);
        assert_eq!(in_there.link("c").unwrap().mac, Some(MAC));
        in_there.delete_link("c").unwrap();
        assert_eq!(names(&netlink).unwrap(), ["lo", "br0"]);
        assert!(netlink.move_link("lo", &there).is_err());
        for missing in ["c", "nothing"] {
            let error = netlink.delete_link(missing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
            assert_eq!(
                netlink.link(missing).unwrap_err().kind(),
                ErrorKind::NotFound
            );
            let error = netlink.set(LinkChange::of(missing).up()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        }
        assert_eq!(netlink.link(4321).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn ports_are_told_what_they_are_to_do() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        // Without an address of its own a bridge takes that of a port.
        netlink.add(Link::bridge("br0").mac(MAC)).unwrap();
        netlink.add(Link::bridge("br1").mac(MAC)).unwrap();
        netlink.add(Link::veth("a", Peer::new("b"))).unwrap();
        let apart = everything(&namespace);
        let settings = ["hairpin", "learning", "isolated"];
        let port = || {
            let link = shown(&ip(&namespace, "link show"), "a");
            let data = &link["linkinfo"]["info_slave_data"];
            let all = settings.map(|name| data[name].as_bool().unwrap());
            let listed = netlink.link("a").unwrap().port.unwrap();
            assert_eq!([listed.hairpin, listed.learning, listed.isolated], all);
            (link["master"].as_str().unwrap().to_owned(), all)
        };
        let error = netlink.set(LinkChange::of("a").isolated(true)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        assert!(error.hint().unwrap().contains("port"), "{error:?}");
        assert!(error.to_string().contains("isolated on"), "{error:?}");

        let all = |on| LinkChange::of("a").hairpin(on).learning(!on).isolated(on);
        let batch = netlink.batch().add(all(true).master("br0"));
        let committed = batch.commit().unwrap();
        let changed = ("br0".to_owned(), [true, false, true]);
        assert_eq!(port(), changed);
        // Undone, also where it is in another bridge by then, and has new settings there.
        for change in [
            all(false),
            LinkChange::of("a").learning(true),
            LinkChange::of("a").no_master(),
            LinkChange::of("a").master("br1"),
            all(false).master("br1"),
        ] {
            let batch = netlink.batch().add(change.clone());
            batch.commit().unwrap().undo().unwrap();
            assert_eq!(port(), changed, "{change:?}");
            let batch = netlink.batch().add(change.clone());
            batch.add(Link::bridge("bad").mtu(1)).commit().unwrap_err();
            assert_eq!(port(), changed, "{change:?}");
        }
        committed.undo().unwrap();
        assert_eq!(everything(&namespace), apart);
        assert_eq!(netlink.link("a").unwrap().port, None);
    });
}

#[test]
fn names_have_up_to_15_bytes() {
    with_capabilities!({
        require!(netns);
        let (_namespace, netlink) = create();
        let (fifteen, sixteen) = ("a".repeat(NAME_MAX), "a".repeat(NAME_MAX + 1));
        netlink.add(Link::bridge(&fifteen)).unwrap();
        assert_eq!(names(&netlink).unwrap(), ["lo", &fifteen]);
        for bad in [&sixteen, "", "a/b", "a b", "a:b", "eth%d", ".", ".."] {
            let error = netlink.add(Link::bridge(bad)).unwrap_err();
            assert_eq!(
                (error.kind(), error.setter()),
                (ErrorKind::InvalidInput, Some("name"))
            );
            assert!(netlink.add(Link::veth("v", Peer::new(bad))).is_err());
            assert!(netlink.set(LinkChange::of(&*fifteen).rename(bad)).is_err());
            assert!(TunTap::tap(bad).open(&_namespace).is_err());
        }
        assert_eq!(names(&netlink).unwrap(), ["lo", &fifteen]);
        netlink
            .set(LinkChange::of(&*fifteen).rename("b".repeat(NAME_MAX)))
            .unwrap();
        netlink.delete_link("b".repeat(NAME_MAX)).unwrap();
    });
}

#[test]
fn names_may_be_any_bytes() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        let raw = OsStr::from_bytes(b"eth\xff\xfe");
        let of_ip = |arguments: &[&OsStr]| {
            let run = || Command::new("ip").args(arguments).output();
            let output = namespace.run_in(run).unwrap().unwrap();
            assert!(output.status.success(), "{output:?}");
            output.stdout
        };
        let [link, add, kind, bridge] = ["link", "add", "type", "bridge"].map(OsStr::new);
        of_ip(&[link, add, raw, kind, bridge]);
        assert_eq!(names(&netlink).unwrap(), ["lo", "eth\u{fffd}\u{fffd}"]);
        let listed = netlink.links().unwrap().pop().unwrap();
        assert_eq!(listed.os_name(), raw);
        assert_eq!(netlink.link(&listed).unwrap().os_name(), raw);
        let text = netlink.link("lo").unwrap();
        assert_eq!(text.os_name(), "lo");

        // It gets its name back.
        let batch = netlink.batch().add(LinkChange::of(&listed).rename("eth0"));
        batch.add(Link::bridge("bad").mtu(1)).commit().unwrap_err();
        let shown = of_ip(&["-o", "link"].map(OsStr::new));
        assert!(
            shown
                .windows(raw.len())
                .any(|found| found == raw.as_bytes())
        );
        netlink.delete_link(&listed).unwrap();
        assert_eq!(names(&netlink).unwrap(), ["lo"]);
    });
}

#[test]
fn a_kind_that_the_kernel_lacks_is_named() {
    with_capabilities!({
        require!(netns);
        let (namespace, netlink) = create();
        netlink.add(Link::veth("v0", Peer::new("v1"))).unwrap();
        let before = everything(&namespace);
        for (link, kind) in [
            (Link::dummy("x"), "dummy"),
            (Link::ipvlan("x", "v0", IpvlanMode::L2), "ipvlan"),
            (Link::vlan("x", "v0", 5), "vlan"),
        ] {
            match netlink.add(link) {
                Ok(()) => {
                    let made = netlink.link("x").unwrap();
                    assert_eq!(made.kind.as_deref(), Some(kind));
                    netlink.delete_link("x").unwrap();
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
                    assert!(error.hint().unwrap().contains(kind), "{error:?}");
                }
            }
        }
        assert_eq!(everything(&namespace), before);
    });
}

#[test]
fn refusals_have_the_kernels_own_words() {
    with_capabilities!({
        require!(netns);
        let (namespace, netlink) = create();
        let error = netlink.add(Link::bridge("br0").mtu(1)).unwrap_err();
        assert_eq!(error.step(), Some(Step::Link));
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        let text = error.to_string();
        assert!(
            text.contains("add bridge br0") && text.contains("mtu"),
            "{text}"
        );
        assert!(text.contains(&namespace.to_string()), "{text}");
        let error = netlink
            .add(Link::veth("v", Peer::new("w")).master(1))
            .unwrap_err();
        assert!(error.to_string().contains("add veth v"), "{error:?}");
        // A tag that does not fit in its 12 bits.
        if let Err(error) = netlink.add(Link::vxlan("vx", Vxlan::new(1 << 24))) {
            assert!(error.to_string().contains("IFLA_LINKINFO"), "{error:?}");
        }
        netlink.add(Link::bridge("br0")).unwrap();
        let error = netlink.add(Link::bridge("br0")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    });
}

#[test]
fn without_privilege_one_may_look_only() {
    isolated_as_user(|| {
        let netlink = Netlink::current().unwrap();
        assert!(netlink.link("lo").unwrap().loopback);
        let error = netlink.add(Link::bridge("rf-test")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        assert!(error.hint().unwrap().contains("CAP_NET_ADMIN"));
        assert!(!names(&netlink).unwrap().contains(&"rf-test".to_owned()));
    });
}
