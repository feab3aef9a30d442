//! Addresses, routes, neighbours and rules, as ip(8) sees them.

use std::net::Ipv4Addr;

use ringfence::ErrorKind;
use ringfence::net::{
    Address, Family, Link, Neighbour, NeighbourState, Netlink, NextHop, Peer, Route, RouteKind,
    Rule, RuleAction, Scope,
};
use ringfence::ns::{Namespace, Net};
use serde_json::{Value, json};

use super::{MAC, address, create, everything, ip, net, run, with_capabilities};
use crate::common::require;

/// With `v0` and `v1`, both up.
pub(super) fn with_veth() -> (Namespace<Net>, Netlink) {
    let (namespace, netlink) = create();
    netlink.add(Link::veth("v0", Peer::new("v1")).up()).unwrap();
    netlink
        .set(ringfence::net::LinkChange::of("v1").up())
        .unwrap();
    (namespace, netlink)
}

/// The addresses of `v0` as ip(8) shows them, but for those that the kernel makes itself.
fn shown(namespace: &Namespace<Net>) -> Vec<Value> {
    let links = ip(namespace, "addr show dev v0");
    let mut found = links[0]["addr_info"].as_array().unwrap().clone();
    found.retain(|address| address["scope"] != "link" || address["family"] == "inet");
    found
}

#[test]
fn addresses_are_what_ip_shows() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_veth();
        let before = everything(&namespace);
        let all = [
            Address::new("v0", net("10.9.0.1/24")).broadcast(Ipv4Addr::new(10, 9, 0, 255)),
            Address::new("v0", net("10.9.1.1/32"))
                .peer(Ipv4Addr::new(10, 9, 1, 2))
                .scope(Scope::LINK),
            Address::new("v0", net("fd00:9::1/64")).nodad(),
        ];
        for address in &all {
            netlink.add(address.clone()).unwrap();
        }
        let mut shown = shown(&namespace);
        assert_eq!(shown.len(), 3, "{shown:?}");
        shown.sort_by_key(|address| address["local"].to_string());
        assert_eq!(shown[0]["local"], "10.9.0.1");
        assert_eq!(
            (&shown[0]["prefixlen"], &shown[0]["broadcast"]),
            (&json!(24), &json!("10.9.0.255"))
        );
        assert_eq!(
            (&shown[1]["address"], &shown[1]["scope"]),
            (&json!("10.9.1.2"), &json!("link"))
        );
        assert_eq!(
            (&shown[2]["local"], &shown[2]["nodad"]),
            (&json!("fd00:9::1"), &json!(true))
        );
        assert!(shown[2]["tentative"].is_null());
        let index = netlink.link("v0").unwrap().index;
        let listed = netlink.addresses().unwrap();
        for address in &all {
            let mut expected = address.clone();
            expected.link = index.into();
            assert!(
                listed.contains(&expected),
                "{expected:?} is not in {listed:?}"
            );
            let again = netlink.add(address.clone()).unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::EEXIST), "{again:?}");
            netlink.delete_address(address).unwrap();
            let again = netlink.delete_address(address).unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::EADDRNOTAVAIL), "{again:?}");
        }
        assert_eq!(everything(&namespace), before);
        let error = netlink
            .add(Address::new("nothing", net("10.9.0.1/24")))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn routes_are_what_ip_shows() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_veth();
        netlink.add(Address::new("v0", net("10.9.0.1/24"))).unwrap();
        netlink
            .add(Address::new("v0", net("fd00:9::1/64")).nodad())
            .unwrap();
        let before = everything(&namespace);
        let all = [
            Route::default_via(Ipv4Addr::new(10, 9, 0, 254)),
            Route::to(net("10.10.0.0/16"))
                .via(Ipv4Addr::new(10, 9, 0, 2))
                .metric(50),
            Route::to(net("10.11.0.0/16"))
                .dev("v0")
                .source(Ipv4Addr::new(10, 9, 0, 1))
                .table(1000),
            Route::to(net("10.12.0.0/16"))
                .via(Ipv4Addr::new(192, 0, 2, 1))
                .dev("v0")
                .onlink(),
            Route::to(net("10.13.0.0/16")).kind(RouteKind::Blackhole),
            Route::to(net("10.14.0.0/16"))
                .via(address("fd00:9::2"))
                .dev("v0"),
            Route::default_via(address("fd00:9::2")).metric(3),
            Route::to(net("fd00:10::/32")).dev("v0"),
        ];
        for route in &all {
            netlink
                .add(route.clone())
                .unwrap_or_else(|error| panic!("{route:?}: {error:?}"));
        }
        let shown = |what: &str| ip(&namespace, &format!("route show {what}"));
        let default = &shown("default")[0];
        assert_eq!(
            (&default["gateway"], &default["dev"]),
            (&json!("10.9.0.254"), &json!("v0"))
        );
        assert_eq!(default["protocol"], "static");
        assert_eq!(shown("10.10.0.0/16")[0]["metric"], 50);
        let source = &shown("table 1000")[0];
        assert_eq!(
            (&source["prefsrc"], &source["scope"]),
            (&json!("10.9.0.1"), &json!("link"))
        );
        assert_eq!(shown("10.12.0.0/16")[0]["flags"], json!(["onlink"]));
        assert_eq!(shown("10.13.0.0/16")[0]["type"], "blackhole");
        assert_eq!(shown("10.14.0.0/16")[0]["via"]["host"], "fd00:9::2");
        assert_eq!(ip(&namespace, "-6 route show default")[0]["metric"], 3);
        let index = netlink.link("v0").unwrap().index;
        let listed = netlink.routes().unwrap();
        for route in &all {
            let is_it = |found: &&Route| {
                found.destination == route.destination
                    && found.table == route.table
                    && found.protocol == route.protocol
            };
            let found = listed.iter().find(is_it).unwrap();
            assert_eq!(
                (found.via, found.kind, found.onlink),
                (route.via, route.kind, route.onlink)
            );
            assert_eq!(found.source, route.source);
            if route.kind == RouteKind::Unicast {
                assert_eq!(found.dev, Some(index.into()));
            }
            let again = netlink.add(route.clone()).unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::EEXIST), "{again:?}");
            netlink.delete_route(route).unwrap();
            let again = netlink.delete_route(route).unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::ESRCH), "{again:?}");
        }
        assert_eq!(everything(&namespace), before);
        let unreachable = Route::default_via(Ipv4Addr::new(192, 0, 2, 1));
        let error = netlink.add(unreachable).unwrap_err();
        assert!(error.to_string().contains("invalid gateway"), "{error:?}");
    });
}

#[test]
fn routes_of_several_ways_are_what_ip_shows() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_veth();
        for (link, own) in [
            ("v0", "10.9.0.1/24"),
            ("v1", "10.8.0.1/24"),
            ("v0", "fd00:9::1/64"),
        ] {
            let address = Address::new(link, net(own)).nodad();
            netlink.add(address).unwrap();
        }
        run(
            &namespace,
            "ip",
            "route add 10.11.0.0/16 nexthop via 10.9.0.2 nexthop dev v1 weight 9",
        );
        let [v0, v1] = ["v0", "v1"].map(|name| netlink.link(name).unwrap().index);
        let before = everything(&namespace);
        let four = Route::to(net("10.10.0.0/16"))
            .next_hop(NextHop::via(address("10.9.0.2")).weight(256))
            .next_hop(NextHop::via(address("192.0.2.1")).dev("v1").onlink())
            .next_hop(NextHop::via(address("fd00:9::2")).dev("v0").weight(2))
            .next_hop(NextHop::link("v1"));
        let six = Route::to(net("fd00:10::/32"))
            .next_hop(NextHop::via(address("fd00:9::2")).weight(2))
            .next_hop(NextHop::via(address("fd00:9::3")).dev("v0"));
        netlink
            .batch()
            .add(four.clone())
            .add(six.clone())
            .commit()
            .unwrap();

        let shown = &ip(&namespace, "route show 10.10.0.0/16")[0]["nexthops"];
        let said = |hop: usize, what: &str| shown[hop][what].clone();
        assert_eq!(
            (said(0, "gateway"), said(0, "weight")),
            (json!("10.9.0.2"), json!(256))
        );
        assert_eq!((said(0, "dev"), said(3, "dev")), (json!("v0"), json!("v1")));
        assert_eq!(
            (said(1, "gateway"), said(1, "flags")),
            (json!("192.0.2.1"), json!(["onlink"]))
        );
        assert_eq!(
            (said(2, "via"), said(2, "weight")),
            (json!({"family": "inet6", "host": "fd00:9::2"}), json!(2))
        );
        assert_eq!(shown.as_array().unwrap().len(), 4);
        let shown = &ip(&namespace, "-6 route show fd00:10::/32")[0]["nexthops"];
        assert_eq!(
            (&shown[0]["gateway"], &shown[0]["weight"]),
            (&json!("fd00:9::2"), &json!(2))
        );
        assert_eq!(
            (&shown[1]["gateway"], &shown[1]["dev"]),
            (&json!("fd00:9::3"), &json!("v0"))
        );

        let listed = netlink.routes().unwrap();
        let hops_of = |destination: &str| {
            let is_it = |route: &&Route| route.destination == net(destination);
            listed.iter().find(is_it).unwrap().next_hops.clone()
        };
        let mut expected = four.next_hops.clone();
        for (hop, index) in expected.iter_mut().zip([v0, v1, v0, v1]) {
            hop.dev = Some(index.into());
        }
        assert_eq!(hops_of("10.10.0.0/16"), expected);
        let mut expected = six.next_hops.clone();
        expected
            .iter_mut()
            .for_each(|hop| hop.dev = Some(v0.into()));
        assert_eq!(hops_of("fd00:10::/32"), expected);
        let expected = [
            NextHop::via(address("10.9.0.2")).dev(v0),
            NextHop::link(v1).weight(9),
        ];
        assert_eq!(hops_of("10.11.0.0/16"), expected);

        for route in [&four, &six] {
            let again = netlink.add(route.clone()).unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::EEXIST), "{again:?}");
            netlink.delete_route(route).unwrap();
        }
        assert_eq!(everything(&namespace), before);
        netlink
            .batch()
            .add(four)
            .add(six)
            .commit()
            .unwrap()
            .undo()
            .unwrap();
        assert_eq!(everything(&namespace), before);
    });
}

#[test]
fn neighbours_and_rules_are_what_ip_shows() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_veth();
        let before = everything(&namespace);
        for text in ["10.9.0.2", "fd00:9::2"] {
            let neighbour = Neighbour::new("v0", address(text), MAC);
            netlink.add(neighbour.clone()).unwrap();
            let shown = &ip(&namespace, &format!("neigh show {text}"))[0];
            assert_eq!(
                (&shown["lladdr"], &shown["state"]),
                (&json!(MAC.to_string()), &json!(["PERMANENT"]))
            );
            let listed = netlink.neighbours().unwrap();
            let found = listed
                .iter()
                .find(|found| found.address == address(text))
                .unwrap();
            assert_eq!(
                (found.mac, found.state),
                (Some(MAC), NeighbourState::PERMANENT)
            );
            assert!(netlink.add(neighbour.clone()).is_err());
            netlink.delete_neighbour(&neighbour).unwrap();
        }
        let rules = [
            Rule::new(Family::V4)
                .from(net("10.9.0.0/24"))
                .iif("v0")
                .priority(100)
                .lookup(1000),
            Rule::new(Family::V4)
                .to(net("10.8.0.0/16"))
                .mark(7)
                .priority(101)
                .action(RuleAction::Prohibit),
            Rule::new(Family::V6).oif("v1").priority(102),
        ];
        for rule in &rules {
            netlink.add(rule.clone()).unwrap();
        }
        let shown = ip(&namespace, "rule show");
        let of = |priority| {
            shown
                .iter()
                .find(|rule| rule["priority"] == priority)
                .unwrap()
        };
        assert_eq!(
            (&of(100)["src"], &of(100)["iif"]),
            (&json!("10.9.0.0"), &json!("v0"))
        );
        assert_eq!(of(100)["table"], "1000");
        assert_eq!(
            (&of(101)["fwmark"], &of(101)["action"]),
            (&json!("0x7"), &json!("prohibit"))
        );
        assert_eq!(ip(&namespace, "-6 rule show")[1]["oif"], "v1");
        let listed = netlink.rules().unwrap();
        for rule in &rules {
            assert!(listed.contains(rule), "{rule:?} is not in {listed:?}");
            let again = netlink.add(rule.clone()).unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::EEXIST), "{again:?}");
            netlink.delete_rule(rule).unwrap();
        }
        assert_eq!(everything(&namespace), before);
    });
}

#[test]
fn what_ip_adds_is_listed() {
    with_capabilities!({
        require!(netns, program("ip"));
        // The other end stays down, so that nothing comes by itself, nor is an address sure by and by.
        let (namespace, netlink) = create();
        netlink.add(Link::veth("v0", Peer::new("v1")).up()).unwrap();
        run(&namespace, "ip", "addr add 10.9.0.1/24 brd + dev v0");
        run(&namespace, "ip", "addr add fd00:9::1/64 dev v0");
        run(
            &namespace,
            "ip",
            "route add 10.10.0.0/16 via 10.9.0.2 metric 7",
        );
        run(&namespace, "ip", "route add default dev v0 table 77");
        run(
            &namespace,
            "ip",
            "neigh add 10.9.0.3 lladdr 02:00:00:00:00:07 dev v0",
        );
        run(
            &namespace,
            "ip",
            "rule add from 10.9.0.0/24 lookup 77 priority 9",
        );
        let v0 = netlink.link("v0").unwrap().index;
        let addresses = netlink.addresses().unwrap();
        let expected = Address::new(v0, net("10.9.0.1/24")).broadcast(Ipv4Addr::new(10, 9, 0, 255));
        assert!(addresses.contains(&expected), "{addresses:?}");
        let six = addresses
            .iter()
            .find(|found| found.net == net("fd00:9::1/64"))
            .unwrap();
        assert!(six.tentative && !six.nodad);
        let routes = netlink.routes().unwrap();
        let shown = ip(&namespace, "-4 route show table all").len()
            + ip(&namespace, "-6 route show table all").len();
        assert_eq!(routes.len(), shown, "{routes:?}");
        assert!(
            routes
                .iter()
                .any(|route| route.metric == Some(7) && route.via == Some(address("10.9.0.2")))
        );
        assert!(
            routes
                .iter()
                .any(|route| route.table == 77 && route.is_default())
        );
        let neighbours = netlink.neighbours().unwrap();
        assert!(
            neighbours
                .iter()
                .any(|found| found.address == address("10.9.0.3") && found.mac == Some(MAC))
        );
        let rules = netlink.rules().unwrap();
        assert!(
            rules.contains(
                &Rule::new(Family::V4)
                    .from(net("10.9.0.0/24"))
                    .priority(9)
                    .lookup(77)
            )
        );
        let count = ip(&namespace, "rule show").len() + ip(&namespace, "-6 rule show").len();
        assert_eq!(rules.len(), count);
    });
}
