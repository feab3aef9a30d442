//! Packets cross.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};

use ringfence::net::{Address, Link, LinkChange, MacvlanMode, Netlink, Peer, Route, Vxlan, sysctl};
use ringfence::ns::{Namespace, Net};

use super::{PATIENCE, address, both_ways, connected, create, net, with_capabilities};
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

/// Brings up the `eth0` of a namespace, with addresses of this number.
fn bring_up(netlink: &Netlink, number: u8) {
    netlink
        .batch()
        .add(LinkChange::of("eth0").up())
        .add(Address::new("eth0", net(&format!("10.9.0.{number}/24"))))
        .add(Address::new("eth0", net(&format!("fd00:9::{number}/64"))).nodad())
        .commit()
        .unwrap();
}

/// A member of the bridge `br0`, with an `eth0`.
fn member(bridge: &Netlink, number: u8) -> (Namespace<Net>, Netlink) {
    let (namespace, netlink) = create();
    let peer = Peer::new("eth0").namespace(&namespace);
    bridge
        .add(Link::veth(format!("v{number}"), peer).master("br0").up())
        .unwrap();
    bring_up(&netlink, number);
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

struct Macvlans {
    ends: [Namespace<Net>; 2],
    outside: Namespace<Net>,
    /// Where the parent is, which goes with it.
    _wire: Namespace<Net>,
}

/// Two namespaces whose `eth0` are macvlans of this mode on one parent, and what is at the other end of its wire: a
/// switch `br0` that can be talked to, and sends back what is for others on the same wire if it is to.
fn macvlans(mode: MacvlanMode, sends_back: bool) -> Macvlans {
    let (wire, netlink) = create();
    let (outside, switch) = create();
    let peer = Peer::new("v1").namespace(&outside);
    netlink.add(Link::veth("v0", peer).up()).unwrap();
    let mut batch = switch
        .batch()
        .add(Link::bridge("br0").up())
        .add(LinkChange::of("v1").master("br0").up())
        .add(Address::new("br0", net("10.9.0.9/24")))
        .add(Address::new("br0", net("fd00:9::9/64")).nodad());
    if sends_back {
        batch = batch.add(LinkChange::of("v1").hairpin(true));
    }
    batch.commit().unwrap();
    let ends = [1, 2].map(|number| {
        let (namespace, inside) = create();
        netlink
            .add(Link::macvlan("eth0", "v0", mode).namespace(&namespace))
            .unwrap();
        bring_up(&inside, number);
        namespace
    });
    Macvlans {
        ends,
        outside,
        _wire: wire,
    }
}

/// That nobody answers for an address, though somebody listens.
#[track_caller]
fn no_way(from: &Namespace<Net>, to: &str, server: &Namespace<Net>) {
    let to = SocketAddr::new(address(to), 80);
    let family = if to.is_ipv4() { "ipv4" } else { "ipv6" };
    // It is given up sooner.
    sysctl::set(from, &format!("{family}/neigh/eth0/retrans_time_ms"), "100").unwrap();
    let listener = server.run_in(|| TcpListener::bind(to)).unwrap().unwrap();
    let connected = from
        .run_in(|| TcpStream::connect_timeout(&to, PATIENCE))
        .unwrap();
    let error = connected.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{to}: {error}");
    drop(listener);
}

#[test]
fn through_a_macvlan() {
    with_capabilities!({
        require!(netns);
        let others = ["10.9.0.2", "fd00:9::2"];
        // The mode, whether the switch sends frames back, and whether they reach each other.
        for (mode, sends_back, each_other) in [
            (MacvlanMode::Bridge, false, true),
            (MacvlanMode::Vepa, true, true),
            (MacvlanMode::Vepa, false, false),
            (MacvlanMode::Private, true, false),
        ] {
            let all = macvlans(mode, sends_back);
            let ([first, second], outside) = (&all.ends, &all.outside);
            for to in ["10.9.0.9", "fd00:9::9"] {
                both_ways(first, to, outside);
                both_ways(second, to, outside);
            }
            for to in others {
                match each_other {
                    true => both_ways(first, to, second),
                    false => no_way(first, to, second),
                }
            }
        }
    });
}

#[test]
fn through_a_macvlan_that_has_its_parent_for_itself() {
    with_capabilities!({
        require!(netns);
        let (_wire, netlink) = create();
        let (outside, _) = create_at_wire(&netlink);
        let (inside, own) = create();
        let link = Link::macvlan("eth0", "v0", MacvlanMode::Passthru).namespace(&inside);
        netlink.add(link).unwrap();
        let more = Link::macvlan("m1", "v0", MacvlanMode::Passthru);
        assert!(netlink.add(more).is_err(), "it is not alone");
        let mac = |netlink: &Netlink, name: &str| netlink.link(name).unwrap().mac;
        assert_eq!(mac(&own, "eth0"), mac(&netlink, "v0"));
        own.batch()
            .add(LinkChange::of("eth0").up())
            .add(Address::new("eth0", net("10.9.0.1/24")))
            .add(Address::new("eth0", net("fd00:9::1/64")).nodad())
            .commit()
            .unwrap();
        for to in ["10.9.0.9", "fd00:9::9"] {
            both_ways(&inside, to, &outside);
        }
        for to in ["10.9.0.1", "fd00:9::1"] {
            both_ways(&outside, to, &inside);
        }
    });
}

/// A namespace at the other end of `v0`, with addresses.
fn create_at_wire(netlink: &Netlink) -> (Namespace<Net>, Netlink) {
    let (outside, there) = create();
    let peer = Peer::new("eth0").namespace(&outside);
    netlink.add(Link::veth("v0", peer).up()).unwrap();
    there
        .batch()
        .add(LinkChange::of("eth0").up())
        .add(Address::new("eth0", net("10.9.0.9/24")))
        .add(Address::new("eth0", net("fd00:9::9/64")).nodad())
        .commit()
        .unwrap();
    (outside, there)
}

#[test]
fn through_a_vxlan() {
    with_capabilities!({
        require!(netns);
        // What it is led through: the network, without the number of an end.
        for (under, prefix) in [("192.0.2.", 24), ("fd00:2::", 64)] {
            let own = |number: usize| format!("{under}{number}");
            let ends = connected(
                &format!("{}/{prefix}", own(1)),
                &format!("{}/{prefix}", own(2)),
            );
            for (number, (_, netlink)) in [1, 2].into_iter().zip(&ends) {
                let [local, remote] = [number, 3 - number].map(|number| address(&own(number)));
                let tunnel = Vxlan::new(42).local(local).remote(remote).dev("eth0");
                netlink
                    .batch()
                    .add(Link::vxlan("vx", tunnel).up())
                    .add(Address::new("vx", net(&format!("10.9.0.{number}/24"))))
                    .add(Address::new("vx", net(&format!("fd00:9::{number}/64"))).nodad())
                    .commit()
                    .unwrap();
            }
            let [(left, in_left), (right, _)] = &ends;
            for inside in ["10.9.0.", "fd00:9::"] {
                both_ways(left, &format!("{inside}2"), right);
                both_ways(right, &format!("{inside}1"), left);
            }
            // They went through the tunnel.
            let counted = in_left.link("vx").unwrap().statistics;
            assert!(counted.rx_packets > 16, "{under}: {counted:?}");
        }
    });
}

#[test]
fn through_a_router() {
    with_capabilities!({
        require!(netns);
        for [near, far, all, forwarding] in [
            ["10.9.0.", "10.10.0.", "/24", "ipv4/ip_forward"],
            ["fd00:9::", "fd00:a::", "/64", "ipv6/conf/all/forwarding"],
        ] {
            let on = |network: &str, number: u8| net(&format!("{network}{number}{all}"));
            let own = |network: &str, number: u8| on(network, number).address();
            let [(left, in_left), (router, in_router)] =
                connected(&on(near, 2).to_string(), &on(near, 1).to_string());
            let (right, in_right) = create();
            in_router
                .batch()
                .add(Link::veth("eth1", Peer::new("eth0").namespace(&right)).up())
                .add(Address::new("eth1", on(far, 1)).nodad())
                .commit()
                .unwrap();
            in_right
                .batch()
                .add(LinkChange::of("eth0").up())
                .add(Address::new("eth0", on(far, 2)).nodad())
                .add(Route::default_via(own(far, 1)))
                .commit()
                .unwrap();
            in_left
                .add(Route::to(on(far, 0)).via(own(near, 1)))
                .unwrap();
            sysctl::set(&router, forwarding, "1").unwrap();
            both_ways(&left, &own(far, 2).to_string(), &right);
            both_ways(&right, &own(near, 2).to_string(), &left);
        }
    });
}
