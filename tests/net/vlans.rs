//! VLANs of a bridge, as bridge(8) sees them, and the packets that pass.

use std::io::ErrorKind::TimedOut;

use ringfence::ErrorKind;
use ringfence::net::{
    Address, Bridge, BridgeVlan, Link, LinkChange, LinkData, Netlink, Peer, Vids,
};
use ringfence::ns::{Namespace, Net};
use serde_json::{Value, json};

use super::{at, blocked, both_ways, create, everything, net, run, tcp, with_capabilities};
use crate::common::require;

/// With a bridge whose port is `v0`.
fn with_bridge(bridge: Bridge) -> (Namespace<Net>, Netlink) {
    let (namespace, netlink) = create();
    netlink
        .batch()
        .add(Link::bridge_with("br0", bridge).mac(super::MAC))
        .add(Link::veth("v0", Peer::new("v1")).master("br0"))
        .commit()
        .unwrap();
    (namespace, netlink)
}

fn filtering() -> (Namespace<Net>, Netlink) {
    with_bridge(Bridge::new().vlan_filtering())
}

/// What `bridge -j vlan` shows of an interface: each VLAN with its flags.
fn shown(namespace: &Namespace<Net>, name: &str) -> Vec<(u64, Vec<String>)> {
    let text = run(namespace, "bridge", "-j vlan show");
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    let of_link = all.iter().find(|link| link["ifname"] == name);
    let vlans = of_link.map_or(&[][..], |link| link["vlans"].as_array().unwrap());
    let flags = |vlan: &Value| {
        let flags = vlan["flags"].as_array().cloned().unwrap_or_default();
        flags
            .iter()
            .map(|flag| flag.as_str().unwrap().to_owned())
            .collect()
    };
    vlans
        .iter()
        .map(|vlan| (vlan["vlan"].as_u64().unwrap(), flags(vlan)))
        .collect()
}

/// What is listed of an interface, in the same form.
fn told(netlink: &Netlink, name: &str) -> Vec<(u64, Vec<String>)> {
    let index = netlink.link(name).unwrap().index;
    let mut all = netlink.bridge_vlans().unwrap();
    all.retain(|vlan| vlan.link == index.into());
    let one = |vlan: &BridgeVlan| {
        assert_eq!(vlan.of_bridge, name == "br0");
        let flags = [("PVID", vlan.pvid), ("Egress Untagged", vlan.untagged)];
        let flags = flags.into_iter().filter(|(_, on)| *on);
        let flags: Vec<_> = flags.map(|(flag, _)| flag.to_owned()).collect();
        let vids = vlan.vids.first..=vlan.vids.last;
        vids.map(move |vid| (u64::from(vid), flags.clone()))
            .collect::<Vec<_>>()
    };
    all.iter().flat_map(one).collect()
}

#[test]
fn a_kernel_that_does_not_filter_says_so() {
    with_capabilities!({
        require!(netns, program("ip"));
        if crate::common::require::vlan_filtering().is_ok() {
            return;
        }
        let (namespace, netlink) = with_bridge(Bridge::new());
        let before = everything(&namespace);
        for vlan in [
            BridgeVlan::port("v0", 10).pvid(),
            BridgeVlan::port("v0", 10..=20),
            BridgeVlan::bridge("br0", 10),
        ] {
            let batch = netlink.batch().add(Link::bridge("br1")).add(vlan.clone());
            for error in [
                netlink.add(vlan.clone()).unwrap_err(),
                batch.commit().unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
                assert!(
                    error.hint().unwrap().contains("VLAN filtering"),
                    "{error:?}"
                );
                assert!(error.to_string().contains("add vlan 10"), "{error:?}");
                assert_eq!(everything(&namespace), before);
            }
            // There is none to be taken away.
            netlink.delete_bridge_vlan(&vlan).unwrap();
        }
        assert_eq!(netlink.bridge_vlans().unwrap(), []);
        // Of a port that is made in the same batch.
        let batch = netlink.batch();
        let batch = batch.add(Link::veth("v2", Peer::new("v3")).master("br0"));
        let error = batch.add(BridgeVlan::port("v2", 7)).commit().unwrap_err();
        assert!(
            error.hint().unwrap().contains("VLAN filtering"),
            "{error:?}"
        );
        assert_eq!(everything(&namespace), before);

        let bridge = Link::bridge_with("br1", Bridge::new().default_pvid(0));
        let error = netlink.add(bridge).unwrap_err();
        assert!(
            error.hint().unwrap().contains("VLAN filtering"),
            "{error:?}"
        );
        assert_eq!(everything(&namespace), before);
    });
}

#[test]
fn what_cannot_be_is_refused() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_bridge(Bridge::new());
        let before = everything(&namespace);
        for bad in [
            BridgeVlan::port("v0", 0),
            BridgeVlan::port("v0", 4095),
            BridgeVlan::port("v0", 1..=4095),
            BridgeVlan::bridge("br0", Vids { first: 9, last: 8 }),
            BridgeVlan::port("v0", 8..=9).pvid(),
        ] {
            let batch = netlink.batch().add(Link::bridge("br1"));
            let error = batch.add(bad).commit().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
            assert_eq!(everything(&namespace), before);
        }
        for (not, word) in [
            (BridgeVlan::port("v1", 10), "port"),
            (BridgeVlan::bridge("v0", 10), "bridge itself"),
        ] {
            for error in [
                netlink.add(not.clone()).unwrap_err(),
                netlink.delete_bridge_vlan(&not).unwrap_err(),
            ] {
                assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "{error:?}");
                assert!(error.hint().unwrap().contains(word), "{error:?}");
            }
        }
        let error = netlink.add(BridgeVlan::port("none", 10)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        let error = netlink.add(BridgeVlan::port(4321, 10)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert_eq!(everything(&namespace), before);
    });
}

#[test]
fn memberships_are_what_bridge_shows() {
    with_capabilities!({
        require!(netns, program("bridge"), vlan_filtering);
        let (namespace, netlink) = filtering();
        let of = |name: &str| {
            assert_eq!(told(&netlink, name), shown(&namespace, name));
            shown(&namespace, name)
        };
        let first = of("v0");
        assert_eq!(
            first,
            [(1, vec!["PVID".to_owned(), "Egress Untagged".to_owned()])]
        );
        netlink.add(BridgeVlan::port("v0", 10..=12)).unwrap();
        netlink
            .add(BridgeVlan::port("v0", 20).pvid().untagged())
            .unwrap();
        netlink.add(BridgeVlan::port("v0", 11).untagged()).unwrap();
        netlink.add(BridgeVlan::bridge("br0", 4090..=4094)).unwrap();
        let flags: Vec<_> = of("v0")
            .into_iter()
            .map(|(vid, flags)| (vid, flags.len()))
            .collect();
        assert_eq!(flags, [(1, 1), (10, 0), (11, 1), (12, 0), (20, 2)]);
        assert_eq!(of("br0").len(), 6);
        let batch = netlink.batch().add(BridgeVlan::port("v0", 1..=11).leave());
        let batch = batch.add(BridgeVlan::port("v0", 12).pvid());
        let before = of("v0");
        let done = batch.commit().unwrap();
        assert_eq!(of("v0").len(), 2);
        done.undo().unwrap();
        assert_eq!(of("v0"), before);
        let batch = netlink.batch().add(BridgeVlan::port("v0", 1..=4094));
        let error = batch.add(Link::bridge("bad").mtu(1)).commit().unwrap_err();
        assert_eq!(error.hint(), None, "{error:?}");
        assert_eq!(of("v0"), before);
        // More than a message has room for one by one.
        for vid in (2..=4094).step_by(2) {
            run(&namespace, "bridge", &format!("vlan add vid {vid} dev v0"));
        }
        assert!(of("v0").len() > 2000);
        netlink
            .delete_bridge_vlan(&BridgeVlan::port("v0", 1..=4094))
            .unwrap();
        assert_eq!(of("v0"), []);
    });
}

#[test]
fn packets_pass_within_a_vlan_only() {
    with_capabilities!({
        require!(netns, vlan_filtering);
        let (_namespace, netlink) = create();
        let bridge = Bridge::new().vlan_filtering().default_pvid(0);
        netlink.add(Link::bridge_with("br0", bridge).up()).unwrap();
        let LinkData::Bridge { default_pvid, .. } = netlink.link("br0").unwrap().data.unwrap()
        else {
            panic!("is no bridge");
        };
        assert_eq!(default_pvid, Some(0));
        let member = |port: &str, own: &str, vid| {
            let (inside, in_inside) = create();
            let veth = Link::veth(port, Peer::new("eth0").namespace(&inside));
            let batch = netlink.batch().add(veth.master("br0").up());
            let vlan = BridgeVlan::port(port, vid).pvid().untagged();
            let _ = batch.add(vlan).commit().unwrap();
            let batch = in_inside.batch().add(LinkChange::of("eth0").up());
            let _ = batch.add(Address::new("eth0", net(own))).commit().unwrap();
            inside
        };
        let one = member("p1", "10.9.0.1/24", 10);
        let two = member("p2", "10.9.0.2/24", 10);
        let three = member("p3", "10.9.0.3/24", 20);
        both_ways(&one, "10.9.0.2", &two);
        let to = at("10.9.0.3:80");
        blocked(&one, to, &three, to, TimedOut);
        netlink
            .add(BridgeVlan::port("p3", 10).pvid().untagged())
            .unwrap();
        tcp(&one, to, &three, to);
    });
}

#[test]
fn the_default_vlan_is_what_ip_shows() {
    with_capabilities!({
        require!(netns, program("ip"), vlan_filtering);
        let (namespace, _netlink) = with_bridge(Bridge::new().default_pvid(9));
        let shown = &super::ip(&namespace, "link show br0")[0]["linkinfo"]["info_data"];
        assert_eq!(shown["vlan_default_pvid"], json!(9));
        assert_eq!(shown["vlan_filtering"], json!(0));
    });
}
