//! Address translation and filters: packets go where they should.

use std::io::ErrorKind::{ConnectionRefused, TimedOut};
use std::net::SocketAddr;

use ringfence::net::{Address, Forward, Netlink, Nft, Publish, Route, Snat, Table, sysctl};
use ringfence::ns::{Namespace, Net};

use super::{address, at, behind, blocked, create, net, tcp, udp, with_capabilities};
use crate::common::require;

/// `inside` - `eth0`, `lab` of `router`, `wan` - `eth0` of `outside`. The outside knows no way to the inside.
struct Lab {
    inside: Namespace<Net>,
    router: Namespace<Net>,
    outside: Namespace<Net>,
    in_router: Netlink,
    nft: Nft,
}

impl Lab {
    fn new() -> Self {
        let (router, in_router) = create();
        let [inside, outside] = [("lab", "10.9.0", "fd00:9:"), ("wan", "192.0.2", "fd00:8:")]
            .map(|(name, four, six)| behind(&in_router, name, four, six));
        for gateway in ["10.9.0.1", "fd00:9::1"] {
            let default = Route::default_via(address(gateway));
            inside.1.add(default).unwrap();
        }
        sysctl::set(&router, "ipv4/ip_forward", "1").unwrap();
        sysctl::set(&router, "ipv6/conf/all/forwarding", "1").unwrap();
        sysctl::set(&router, "ipv4/conf/lab/route_localnet", "1").unwrap();
        let nft = Nft::open(&router).unwrap();
        Self {
            inside: inside.0,
            router,
            outside: outside.0,
            in_router,
            nft,
        }
    }
}

#[test]
fn a_masquerade_hides_the_inside() {
    with_capabilities!({
        require!(netns);
        let lab = Lab::new();
        let table = Table::new("lab")
            .masquerade(net("10.9.0.0/24"))
            .masquerade(net("fd00:9::/64"));
        let out = at("192.0.2.2:80");
        let no_answer = || blocked(&lab.inside, out, &lab.outside, out, TimedOut);
        no_answer();
        lab.nft.install(&table).unwrap();
        for (to, seen) in [
            ("192.0.2.2:80", "192.0.2.1"),
            ("[fd00:8::2]:80", "fd00:8::1"),
        ] {
            assert_eq!(
                tcp(&lab.inside, at(to), &lab.outside, at(to)),
                address(seen)
            );
            assert_eq!(
                udp(&lab.inside, at(to), &lab.outside, at(to)),
                address(seen)
            );
        }
        // The router itself is not hidden from, or behind, itself.
        let seen = tcp(
            &lab.inside,
            at("10.9.0.1:80"),
            &lab.router,
            at("10.9.0.1:80"),
        );
        assert_eq!(seen, address("10.9.0.2"));
        lab.nft.remove("lab").unwrap();
        no_answer();
        assert_eq!(lab.nft.tables().unwrap(), [""; 0]);
    });
}

#[test]
fn a_network_is_hidden_behind_a_fixed_address_and_by_one_interface() {
    with_capabilities!({
        require!(netns);
        let lab = Lab::new();
        for own in ["192.0.2.7/24", "fd00:8::7/64"] {
            let address = Address::new("wan", net(own)).nodad();
            lab.in_router.add(address).unwrap();
        }
        let (inside, inside6) = (net("10.9.0.0/24"), net("fd00:9::/64"));
        let (to, to6) = (at("192.0.2.2:80"), at("[fd00:8::2]:80"));
        let table = Table::new("lab")
            .snat(Snat::masquerade(inside).oif("lab"))
            .snat(Snat::to(inside, [192, 0, 2, 7]).oif("wan"))
            .snat(Snat::to(inside6, address("fd00:8::7")));
        lab.nft.install(&table).unwrap();
        for (to, seen) in [(to, "192.0.2.7"), (to6, "fd00:8::7")] {
            assert_eq!(tcp(&lab.inside, to, &lab.outside, to), address(seen));
            assert_eq!(udp(&lab.inside, to, &lab.outside, to), address(seen));
        }
        let table = Table::new("lab").snat(Snat::masquerade(inside).oif("lab"));
        lab.nft.install(&table).unwrap();
        blocked(&lab.inside, to, &lab.outside, to, TimedOut);
    });
}

#[test]
fn published_ports_lead_inside_from_everywhere() {
    with_capabilities!({
        require!(netns);
        let lab = Lab::new();
        let table = Table::new("lab")
            .masquerade(net("10.9.0.0/24"))
            .hairpin(net("10.9.0.0/24"))
            .publish(Publish::tcp(8080, at("10.9.0.2:80")))
            .publish(Publish::udp(8080, at("10.9.0.2:80")))
            .publish(Publish::tcp(8080, at("[fd00:9::2]:80")));
        lab.nft.install(&table).unwrap();
        let inside = at("10.9.0.2:80");
        let seen = tcp(&lab.outside, at("192.0.2.1:8080"), &lab.inside, inside);
        assert_eq!(seen, address("192.0.2.2"), "the client is not hidden");
        udp(&lab.outside, at("192.0.2.1:8080"), &lab.inside, inside);
        tcp(
            &lab.outside,
            at("[fd00:8::1]:8080"),
            &lab.inside,
            at("[fd00:9::2]:80"),
        );
        // The host itself, by any of its addresses, and the inside itself.
        for to in ["192.0.2.1:8080", "10.9.0.1:8080", "127.0.0.1:8080"] {
            tcp(&lab.router, at(to), &lab.inside, inside);
            udp(&lab.router, at(to), &lab.inside, inside);
        }
        tcp(&lab.inside, at("192.0.2.1:8080"), &lab.inside, inside);
        tcp(&lab.inside, at("10.9.0.1:8080"), &lab.inside, inside);
        blocked(
            &lab.outside,
            at("192.0.2.1:8081"),
            &lab.inside,
            inside,
            ConnectionRefused,
        );
    });
}

#[test]
fn ports_come_in_ranges_and_on_one_address() {
    with_capabilities!({
        require!(netns);
        let lab = Lab::new();
        lab.in_router
            .add(Address::new("wan", net("192.0.2.7/24")))
            .unwrap();
        let table = Table::new("lab")
            .publish(Publish::tcp(7000..=7002, at("10.9.0.2:7000")))
            .publish(Publish::tcp(8000..=8099, at("10.9.0.2:18000")))
            .publish(Publish::tcp(9000, at("10.9.0.2:90")).on([192, 0, 2, 7]))
            .publish(Publish::tcp(9100, at("10.9.0.2:90")).iif("wan"))
            // None of these has a port of another.
            .publish(Publish::tcp(9100, at("10.9.0.2:91")).iif("lab"))
            .publish(Publish::tcp(9000, at("10.9.0.2:91")).on([192, 0, 2, 8]))
            .publish(Publish::udp(9000, at("10.9.0.2:90")))
            .publish(Publish::tcp(9000, at("[fd00:9::2]:90")));
        lab.nft.install(&table).unwrap();
        for (to, port) in [
            ("192.0.2.1:7002", 7002),
            ("192.0.2.1:8000", 18000),
            ("192.0.2.1:8042", 18042),
            ("192.0.2.1:8099", 18099),
            ("192.0.2.7:9000", 90),
            ("192.0.2.1:9100", 90),
        ] {
            tcp(
                &lab.outside,
                at(to),
                &lab.inside,
                SocketAddr::new(address("10.9.0.2"), port),
            );
        }
        for (to, port) in [
            ("192.0.2.1:9000", 90),
            ("192.0.2.1:8100", 18100),
            ("192.0.2.1:7003", 7003),
            ("192.0.2.1:6999", 6999),
        ] {
            let bound = SocketAddr::new(address("10.9.0.2"), port);
            blocked(&lab.outside, at(to), &lab.inside, bound, ConnectionRefused);
        }
    });
}

#[test]
fn packets_are_let_through_or_dropped_between_interfaces() {
    with_capabilities!({
        require!(netns);
        let lab = Lab::new();
        let outside = Netlink::open(&lab.outside).unwrap();
        outside
            .add(Route::default_via(address("192.0.2.1")))
            .unwrap();
        let (to, back) = (at("192.0.2.2:80"), at("10.9.0.2:80"));
        tcp(&lab.inside, to, &lab.outside, to);
        tcp(&lab.outside, back, &lab.inside, back);
        // Replies pass, so one direction can be closed.
        let table = Table::new("lab").forward(Forward::drop().iif("wan").oif("lab"));
        lab.nft.install(&table).unwrap();
        tcp(&lab.inside, to, &lab.outside, to);
        blocked(&lab.outside, back, &lab.inside, back, TimedOut);
        let table = Table::new("lab")
            .forward(Forward::accept().to(address("10.9.0.2")).tcp(80..=81))
            .forward(Forward::accept().from(net("192.0.2.0/24")).udp(90))
            .forward(Forward::drop().from(address("192.0.2.2")))
            .forward(Forward::drop().udp(80));
        lab.nft.install(&table).unwrap();
        tcp(&lab.outside, back, &lab.inside, back);
        let by_udp = at("10.9.0.2:90");
        udp(&lab.outside, by_udp, &lab.inside, by_udp);
        tcp(&lab.inside, to, &lab.outside, to);
        for closed in [at("10.9.0.2:79"), by_udp] {
            blocked(&lab.outside, closed, &lab.inside, closed, TimedOut);
        }
        // The first rule that fits decides.
        let table = Table::new("lab")
            .forward(Forward::accept().iif("wan"))
            .forward(Forward::drop());
        lab.nft.install(&table).unwrap();
        tcp(&lab.outside, back, &lab.inside, back);
        blocked(&lab.inside, to, &lab.outside, to, TimedOut);
    });
}
