//! Until what has been set can be used.

use std::time::Duration;

use ringfence::ErrorKind;
use ringfence::net::{
    Address, IpNet, Link, LinkChange, OperState, Peer, Route, RouteKind, wait_for_addresses,
    wait_for_link,
};

use super::{MAC, PATIENCE, address, create, ip, net, with_capabilities};
use crate::common::require;

#[test]
fn addresses_are_waited_for_until_they_are_usable() {
    with_capabilities!({
        require!(netns);
        let (left, right) = (create(), create());
        let peer = Peer::new("eth0").namespace(&right.0);
        left.1.add(Link::veth("eth0", peer).up()).unwrap();
        let wait = |limit| wait_for_addresses(&right.0, "eth0", limit);
        let [own, taken] = ["fd00:9::1/64", "fd00:9::2/64"].map(net);
        left.1.add(Address::new("eth0", taken).nodad()).unwrap();
        let index = right.1.link("eth0").unwrap().index;
        assert_eq!(wait(PATIENCE).unwrap(), []);
        for one in [own, taken] {
            right.1.add(Address::new("eth0", one)).unwrap();
        }
        // As long as it is down, nobody is asked.
        let error = wait(Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
        right.1.set(LinkChange::of("eth0").mac(MAC).up()).unwrap();
        let all = wait(PATIENCE).unwrap();
        let find = |one| all.iter().find(|found| found.net == one).unwrap();
        assert!(all.iter().all(|found| found.link == index.into()));
        assert!(!find(own).tentative && !find(own).dad_failed);
        assert!(find(taken).dad_failed);
        // It can be bound to, which the kernel refuses for one that cannot be used.
        let bind = |one: &str| {
            let to = (address(one), 0);
            right.0.run_in(|| std::net::UdpSocket::bind(to)).unwrap()
        };
        bind("fd00:9::1").unwrap();
        let refused = bind("fd00:9::2").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EADDRNOTAVAIL));
        let missing = wait_for_addresses(&right.0, "nothing", PATIENCE).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_link_is_waited_for_until_it_sends() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (left, right) = (create(), create());
        let peer = Peer::new("eth0").namespace(&right.0);
        left.1.add(Link::veth("v0", peer).up()).unwrap();
        let wait = |limit| wait_for_link(&left.0, "v0", limit);
        let error = wait(Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
        // While this one waits.
        let ready = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(PATIENCE));
            right.1.set(LinkChange::of("eth0").up()).unwrap();
            waiting.join().unwrap().unwrap()
        });
        assert_eq!(
            (&*ready.name, ready.carrier, ready.operstate),
            ("v0", true, OperState::Up)
        );
        let shown = &ip(&left.0, "link show")[1];
        assert_eq!(shown["operstate"], "UP");
        assert_ne!(shown["qdisc"], "noop");

        right.1.set(LinkChange::of("eth0").down()).unwrap();
        let state = |name: &str| left.1.link(name).unwrap().operstate;
        assert_ne!(state("v0"), OperState::Up);
        left.1.set(LinkChange::of("v0").down()).unwrap();
        assert_eq!(state("v0"), OperState::Down);
        assert_eq!(ip(&left.0, "link show v0")[0]["operstate"], "DOWN");
        // It has none to speak of.
        left.1.set(LinkChange::of("lo").up()).unwrap();
        let lo = wait_for_link(&left.0, "lo", PATIENCE).unwrap();
        assert_eq!(lo.operstate, OperState::Unknown);
        let missing = wait_for_link(&left.0, "nothing", PATIENCE).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn the_way_of_a_packet_is_that_of_ip_route_get() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        let unreachable = |to: &str| netlink.route_to(address(to)).unwrap_err().raw_os_error();
        assert_eq!(unreachable("10.9.0.7"), Some(libc::ENETUNREACH));
        assert_eq!(unreachable("fd00:9::7"), Some(libc::ENETUNREACH));
        let at = |own: &str| Address::new("d0", net(own)).nodad();
        netlink
            .batch()
            .add(LinkChange::of("lo").up())
            .add(Link::ifb("d0").up())
            .add(at("10.9.0.1/24"))
            .add(at("fd00:9::1/64"))
            .add(
                Route::to(net("10.10.0.0/16"))
                    .via(address("10.9.0.2"))
                    .table(Route::MAIN)
                    .metric(7),
            )
            .add(
                Route::to(net("fd00:10::/32"))
                    .via(address("fd00:9::2"))
                    .metric(7),
            )
            .add(Route::to(net("10.11.0.0/16")).kind(RouteKind::Prohibit))
            .commit()
            .unwrap();
        let index = netlink.link("d0").unwrap().index;
        for (to, through, gateway) in [
            ("10.9.0.7", "10.9.0.0/24", None),
            ("10.10.1.1", "10.10.0.0/16", Some("10.9.0.2")),
            ("fd00:9::7", "fd00:9::/64", None),
            ("fd00:10::1", "fd00:10::/32", Some("fd00:9::2")),
        ] {
            let route = netlink.route_to(address(to)).unwrap();
            assert_eq!(
                (route.destination, route.via, &route.dev),
                (net(through), gateway.map(address), &Some(index.into())),
                "{to}"
            );
            let shown = &ip(&namespace, &format!("route get fibmatch {to}"))[0];
            assert_eq!(shown["dst"], through, "{shown}");
            assert_eq!(shown["gateway"].as_str(), gateway, "{shown}");
            assert!(netlink.routes().unwrap().contains(&route), "{route:?}");
        }
        let own = netlink.route_to(address("10.9.0.1")).unwrap();
        assert_eq!(
            (own.kind, own.destination),
            (RouteKind::Local, IpNet::from(address("10.9.0.1")))
        );
        assert_eq!(unreachable("10.11.0.1"), Some(libc::EACCES));
    });
}
