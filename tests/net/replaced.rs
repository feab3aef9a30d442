//! What there is already becomes something else.

use std::time::Duration;

use ringfence::net::{
    Address, Link, LinkChange, Mac, Neighbour, NeighbourState, Netlink, Peer, Route, RouteOption,
};
use serde_json::json;

use super::entries::with_veth;
use super::{MAC, address, connected, create, ip, net, run, with_capabilities};
use crate::common::require;

#[test]
fn routes_are_replaced() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_veth();
        for own in ["10.9.0.1/24", "fd00:9::1/64"] {
            netlink.add(Address::new("v0", net(own)).nodad()).unwrap();
        }
        for (to, first, second) in [
            ("10.10.0.0/16", "10.9.0.2", "10.9.0.3"),
            ("fd00:10::/32", "fd00:9::2", "fd00:9::3"),
        ] {
            let shown = || {
                let family = if to.contains(':') { "-6" } else { "-4" };
                ip(&namespace, &format!("{family} route show {to}"))
            };
            let route = || Route::to(net(to)).metric(7);
            netlink.replace_route(&route().via(address(first))).unwrap();
            assert_eq!(shown()[0]["gateway"], first);
            let other = route()
                .via(address(second))
                .option(RouteOption::AdvMss, 1200);
            netlink.replace_route(&other).unwrap();
            let only = shown();
            assert_eq!(only.len(), 1, "{only:?}");
            assert_eq!(only[0]["gateway"], second);
            assert_eq!(only[0]["metrics"], json!([{"advmss": 1200}]));
            // One of another metric is another.
            netlink
                .replace_route(&route().via(address(first)).metric(8))
                .unwrap();
            assert_eq!(shown().len(), 2);
            netlink.delete_route(&other).unwrap();
            assert_eq!(shown()[0]["gateway"], first);
        }
    });
}

#[test]
fn a_neighbour_that_was_learned_is_replaced() {
    with_capabilities!({
        require!(netns, program("ip"));
        let [(left, in_left), (right, in_right)] = connected("10.9.0.1/24", "10.9.0.2/24");
        super::both_ways(&left, "10.9.0.2", &right);
        let shown = || ip(&left, "neigh show 10.9.0.2").remove(0)["lladdr"].clone();
        let learned = in_right.link("eth0").unwrap().mac.unwrap();
        assert_eq!(shown(), json!(learned.to_string()));
        let neighbour = |mac: Mac| Neighbour::new("eth0", address("10.9.0.2"), mac);
        let error = in_left.add(neighbour(MAC)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
        in_left.replace_neighbour(&neighbour(MAC)).unwrap();
        assert_eq!(shown(), json!(MAC.to_string()));
        in_left.replace_neighbour(&neighbour(learned)).unwrap();
        super::both_ways(&left, "10.9.0.2", &right);
        let found = in_left.neighbours().unwrap();
        let found = found
            .iter()
            .find(|found| found.address == address("10.9.0.2"));
        assert_eq!(found.unwrap().state, NeighbourState::PERMANENT);
    });
}

#[test]
fn addresses_have_lifetimes_and_routes_only_if_they_are_to() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_veth();
        let hour = Duration::from_secs(3600);
        for (own, family) in [("10.9.0.1/24", "-4"), ("fd00:9::1/64", "-6")] {
            let shown = || {
                let links = ip(&namespace, &format!("{family} addr show dev v0"));
                let all = links[0]["addr_info"].as_array().unwrap().clone();
                let own = own.split('/').next().unwrap();
                all.into_iter().find(|found| found["local"] == own).unwrap()
            };
            let listed = || {
                let all = netlink.addresses().unwrap();
                all.into_iter().find(|found| found.net == net(own)).unwrap()
            };
            // What passes meanwhile is less than a minute.
            let is_near = |seconds: &serde_json::Value, time: Duration| {
                let seconds = seconds.as_u64().unwrap();
                (time.as_secs() - 60..=time.as_secs()).contains(&seconds)
            };
            let one = || Address::new("v0", net(own)).nodad().noprefixroute();
            netlink.add(one().valid(hour * 2).preferred(hour)).unwrap();
            assert!(
                is_near(&shown()["valid_life_time"], hour * 2),
                "{:?}",
                shown()
            );
            assert!(
                is_near(&shown()["preferred_life_time"], hour),
                "{:?}",
                shown()
            );
            assert_eq!(shown()["noprefixroute"], json!(true));
            assert_eq!(
                ip(&namespace, &format!("{family} route show {own}")).len(),
                0
            );
            let found = listed();
            assert!(found.noprefixroute && !found.deprecated && !found.dad_failed);
            assert!(is_near(&json!(found.valid.unwrap().as_secs()), hour * 2));
            assert!(is_near(&json!(found.preferred.unwrap().as_secs()), hour));

            netlink
                .replace_address(&one().valid(hour).preferred(Duration::ZERO))
                .unwrap();
            assert!(is_near(&shown()["valid_life_time"], hour), "{:?}", shown());
            assert_eq!(shown()["deprecated"], json!(true));
            assert!(listed().deprecated && listed().preferred == Some(Duration::ZERO));
            netlink.replace_address(&one()).unwrap();
            assert_eq!((listed().valid, listed().preferred), (None, None));
            assert!(!listed().deprecated);
            assert!(shown()["deprecated"].is_null(), "{:?}", shown());
            netlink.delete_address(&listed()).unwrap();

            run(
                &namespace,
                "ip",
                &format!("addr add {own} dev v0 valid_lft 7200 preferred_lft 3600"),
            );
            assert!(is_near(&json!(listed().valid.unwrap().as_secs()), hour * 2));
            netlink.delete_address(&listed()).unwrap();
            for bad in [
                one().valid(Duration::from_millis(9)),
                one().valid(hour).preferred(hour * 2),
            ] {
                assert_eq!(netlink.add(bad).unwrap_err().setter(), Some("address"));
            }
        }
    });
}

/// With `eth0` up, which has this hardware address or any.
fn end(netlink: &Netlink, mac: Option<Mac>) {
    let change = LinkChange::of("eth0").up();
    netlink
        .set(mac.into_iter().fold(change, LinkChange::mac))
        .unwrap();
}

#[test]
fn an_address_that_somebody_else_has_is_told() {
    with_capabilities!({
        require!(netns);
        let (left, right) = (create(), create());
        let peer = Peer::new("eth0").namespace(&right.0);
        left.1.add(Link::veth("eth0", peer).up()).unwrap();
        end(&right.1, Some(MAC));
        let own = || Address::new("eth0", net("fd00:9::1/64"));
        left.1.add(own().nodad()).unwrap();
        right.1.add(own()).unwrap();
        let listed = || {
            let all = right.1.addresses().unwrap();
            all.into_iter()
                .find(|found| found.net == net("fd00:9::1/64"))
                .unwrap()
        };
        assert!(listed().tentative);
        let deadline = std::time::Instant::now() + super::PATIENCE;
        while !listed().dad_failed {
            assert!(std::time::Instant::now() < deadline, "{:?}", listed());
            std::thread::yield_now();
        }
    });
}
