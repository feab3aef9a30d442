//! Who reaches whom by a network, and who does not.

use std::io::ErrorKind::TimedOut;
use std::net::SocketAddr;

use ringfence::ErrorKind;
use ringfence::net::{Netlink, Network, NetworkBuilder, Publish, Route, sysctl};
use ringfence::ns::{Namespace, Net};

use super::network::{enter, joined, lab};
use super::{address, at, behind, blocked, both_ways, net, run, tcp, udp, with_capabilities};
use crate::common::require;
use crate::common::seccomp::{Arg, Filter};

#[test]
fn members_do_not_reach_the_loopback_addresses_of_the_host() {
    with_capabilities!({
        require!(netns, program("ip"), program("nft"));
        let host = enter();
        let network = lab();
        let (web, member) = joined(&network, "web");
        let target = SocketAddr::new(member.addresses()[0], 80);
        network.publish(Publish::tcp(8080, target)).unwrap();
        // Root inside sends what is for a loopback address to the bridge.
        sysctl::set(&web, "ipv4/conf/eth0/route_localnet", "1").unwrap();
        for arguments in [
            "route add 127.0.0.1/32 via 10.9.0.1 dev eth0 src 10.9.0.2 table 100",
            "rule add pref 32000 lookup local",
            "rule del pref 0 lookup local",
            "rule add pref 0 to 127.0.0.0/8 lookup 100",
        ] {
            run(&web, "ip", arguments);
        }
        let secret = at("127.0.0.1:5432");
        blocked(&web, secret, &host, secret, TimedOut);
        // The host itself reaches the member by it, and is seen as the bridge.
        let seen = tcp(&host, at("127.0.0.1:8080"), &web, target);
        assert_eq!(seen, address("10.9.0.1"));
        drop(member);
        blocked(&web, secret, &host, secret, TimedOut);
        // It is the table that keeps them away.
        run(&host, "nft", "flush ruleset");
        tcp(&web, secret, &host, secret);
    });
}

fn two_nets(name: &str, number: u8) -> NetworkBuilder {
    Network::bridge(name, net(&format!("10.{number}.0.0/24")))
        .and(net(&format!("fd00:{number}::/64")))
}

/// Behind an interface of the bridge's namespace, and knows the way to all networks.
fn outside(router: &Namespace<Net>) -> Namespace<Net> {
    let router = Netlink::open(router).unwrap();
    let (outside, netlink) = behind(&router, "wan", "192.0.2", "fd00:99:");
    for gateway in ["192.0.2.1", "fd00:99::1"] {
        netlink.add(Route::default_via(address(gateway))).unwrap();
    }
    outside
}

#[test]
fn members_reach_the_outside_behind_the_address_of_the_host() {
    with_capabilities!({
        require!(netns);
        let host = enter();
        for own in [false, true] {
            let builder = two_nets("lab", 9).masquerade();
            let network = match own {
                true => builder.own_namespace().create().unwrap(),
                false => builder.create().unwrap(),
            };
            let router = network.namespace();
            assert_eq!(*router == host, !own);
            let outside = outside(router);
            let (web, _member) = joined(&network, "web");
            for (to, seen) in [
                ("192.0.2.2:80", "192.0.2.1"),
                ("[fd00:99::2]:80", "fd00:99::1"),
            ] {
                let (to, seen) = (at(to), address(seen));
                assert_eq!(tcp(&web, to, &outside, to), seen);
                assert_eq!(udp(&web, to, &outside, to), seen);
            }
            drop(network);
            Netlink::current().unwrap();
            if !own {
                Netlink::current().unwrap().delete_link("wan").unwrap();
            }
        }
    });
}

#[test]
fn nobody_reaches_members_from_elsewhere_but_by_published_ports() {
    with_capabilities!({
        require!(netns);
        let host = enter();
        let outside = outside(&host);
        let network = two_nets("lab", 9).masquerade().create().unwrap();
        // It forwards nothing by itself, but the host now does.
        let other = two_nets("other", 8).create().unwrap();
        let (web, _web) = joined(&network, "web");
        let (db, _db) = joined(&network, "db");
        let (far, _far) = joined(&other, "far");
        let (to_web, to_web6) = (at("10.9.0.2:80"), at("[fd00:9::2]:80"));
        let (to_far, to_far6) = (at("10.8.0.2:80"), at("[fd00:8::2]:80"));
        for (from, to, server) in [
            (&outside, to_web, &web),
            (&outside, to_web6, &web),
            (&outside, to_far, &far),
            (&outside, to_far6, &far),
            (&far, to_web, &web),
            (&far, to_web6, &web),
            (&web, to_far, &far),
            (&web, to_far6, &far),
        ] {
            blocked(from, to, server, to, TimedOut);
        }
        both_ways(&db, "10.9.0.2", &web);
        both_ways(&db, "fd00:9::2", &web);
        both_ways(&host, "10.9.0.2", &web);
        both_ways(&host, "fd00:8::2", &far);
        for target in [to_web, to_web6] {
            network.publish(Publish::tcp(8080, target)).unwrap();
            network.publish(Publish::udp(8080, target)).unwrap();
        }
        for (from, to, target) in [
            (&outside, "192.0.2.1:8080", to_web),
            (&outside, "[fd00:99::1]:8080", to_web6),
            (&far, "192.0.2.1:8080", to_web),
            (&far, "[fd00:8::1]:8080", to_web6),
            (&db, "10.9.0.1:8080", to_web),
            (&db, "[fd00:9::1]:8080", to_web6),
            (&host, "127.0.0.1:8080", to_web),
            (&host, "[fd00:9::1]:8080", to_web6),
        ] {
            tcp(from, at(to), &web, target);
            udp(from, at(to), &web, target);
        }
        blocked(&outside, to_web, &web, to_web, TimedOut);
        blocked(&web, to_far, &far, to_far, TimedOut);
    });
}

#[test]
fn a_routed_network_is_reached_from_everywhere() {
    with_capabilities!({
        require!(netns);
        let host = enter();
        let network = two_nets("lab", 9).own_namespace().routed();
        let network = network.masquerade().create().unwrap();
        assert_ne!(*network.namespace(), host);
        let outside = outside(network.namespace());
        let (web, _member) = joined(&network, "web");
        both_ways(&outside, "10.9.0.2", &web);
        both_ways(&outside, "fd00:9::2", &web);
    });
}

/// What keeps others away from members is not left out.
#[test]
fn without_nf_tables_a_network_is_routed_or_not_made() {
    with_capabilities!({
        require!(netns);
        const NETLINK_NETFILTER: u32 = 12;
        let _host = enter();
        Filter::new()
            .deny_if(
                libc::SYS_socket,
                Arg::Is(2, NETLINK_NETFILTER),
                libc::EPROTONOSUPPORT,
            )
            .install()
            .unwrap();
        let netlink = Netlink::current().unwrap();
        for network in [two_nets("lab", 9), two_nets("lab", 9).routed().masquerade()] {
            let error = network.create().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
            assert!(error.hint().unwrap().contains("routed()"), "{error:?}");
            assert_eq!(netlink.links().unwrap().len(), 1);
        }
        let network = two_nets("lab", 9).routed().create().unwrap();
        let (_web, member) = joined(&network, "web");
        let target = SocketAddr::new(member.addresses()[0], 80);
        let error = network.publish(Publish::tcp(8080, target)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    });
}
