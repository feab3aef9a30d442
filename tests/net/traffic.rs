//! Packets cross.

use ringfence::net::{Address, Link, LinkChange, MacvlanMode, Netlink, Peer, Route, Vxlan};
use ringfence::ns::{Namespace, Net};

use super::{address, both_ways, connected, create, net, with_capabilities};
use crate::common::require;

#[test]
fn through_a_veth() {
    with_capabilities!({
        require!(netns);
        let [(left, _), (right, netlink)] = connected("10.9.0.1/24", "10.9.0.2/24");
        both_ways(&left, "10.9.0.2", &right);
        both_ways(&right, "10.9.0.1", &left);
        let counted = netlink.link("eth0").unwrap().statistics;
        assert!(
            counted.rx_packets > 8 && counted.tx_bytes > 100,
            "{counted:?}"
        );
        let [(left, _), (right, _)] = connected("fd00:9::1/64", "fd00:9::2/64");
        both_ways(&left, "fd00:9::2", &right);
    });
}

/// A member of the bridge `br0`, with an `eth0`.
fn member(bridge: &Netlink, number: u8) -> (Namespace<Net>, Netlink) {
    let (namespace, netlink) = create();
    let peer = Peer::new("eth0").namespace(&namespace);
    bridge
        .add(Link::veth(format!("v{number}"), peer).master("br0").up())
        .unwrap();
    netlink
        .batch()
        .add(LinkChange::of("eth0").up())
        .add(Address::new("eth0", net(&format!("10.9.0.{number}/24"))))
        .add(Address::new("eth0", net(&format!("fd00:9::{number}/64"))).nodad())
        .commit()
        .unwrap();
    (namespace, netlink)
}

#[test]
fn through_a_bridge() {
    with_capabilities!({
        require!(netns);
        let (switch, netlink) = create();
        netlink
            .batch()
            .add(Link::bridge("br0").up())
            .add(Address::new("br0", net("10.9.0.1/24")))
            .add(Address::new("br0", net("fd00:9::1/64")).nodad())
            .commit()
            .unwrap();
        let (first, second) = (member(&netlink, 2), member(&netlink, 3));
        both_ways(&first.0, "10.9.0.3", &second.0);
        both_ways(&second.0, "fd00:9::2", &first.0);
        both_ways(&first.0, "10.9.0.1", &switch);
    });
}

#[test]
fn through_a_macvlan() {
    with_capabilities!({
        require!(netns);
        let (_wire, netlink) = create();
        netlink.add(Link::veth("v0", Peer::new("v1")).up()).unwrap();
        netlink.set(LinkChange::of("v1").up()).unwrap();
        let ends = ["10.9.0.1/24", "10.9.0.2/24"].map(|text| {
            let (namespace, inside) = create();
            let link = Link::macvlan("eth0", "v0", MacvlanMode::Bridge).namespace(&namespace);
            netlink.add(link).unwrap();
            inside
                .batch()
                .add(LinkChange::of("eth0").up())
                .add(Address::new("eth0", net(text)))
                .commit()
                .unwrap();
            namespace
        });
        both_ways(&ends[0], "10.9.0.2", &ends[1]);
    });
}

#[test]
fn through_a_vxlan() {
    with_capabilities!({
        require!(netns);
        let ends = connected("192.0.2.1/24", "192.0.2.2/24");
        for (number, (_, netlink)) in ends.iter().enumerate() {
            let [local, remote] =
                [number, 1 - number].map(|n| address(&format!("192.0.2.{}", n + 1)));
            netlink
                .batch()
                .add(Link::vxlan("vx", Vxlan::new(42).local(local).remote(remote).dev("eth0")).up())
                .add(Address::new(
                    "vx",
                    net(&format!("10.9.0.{}/24", number + 1)),
                ))
                .commit()
                .unwrap();
        }
        both_ways(&ends[0].0, "10.9.0.2", &ends[1].0);
    });
}

#[test]
fn through_a_router() {
    with_capabilities!({
        require!(netns);
        let [(left, in_left), (router, in_router)] = connected("10.9.0.2/24", "10.9.0.1/24");
        let (right, in_right) = create();
        in_router
            .batch()
            .add(Link::veth("eth1", Peer::new("eth0").namespace(&right)).up())
            .add(Address::new("eth1", net("10.10.0.1/24")))
            .commit()
            .unwrap();
        in_right
            .batch()
            .add(LinkChange::of("eth0").up())
            .add(Address::new("eth0", net("10.10.0.2/24")))
            .add(Route::default_via(address("10.10.0.1")))
            .commit()
            .unwrap();
        in_left
            .add(Route::to(net("10.10.0.0/24")).via(address("10.9.0.1")))
            .unwrap();
        let forward = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        router.run_in(forward).unwrap().unwrap();
        both_ways(&left, "10.10.0.2", &right);
    });
}
