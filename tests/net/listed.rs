//! What is listed is what there is, and is deleted and added as that.

use ringfence::ErrorKind;
use ringfence::net::{
    Family, Netlink, Route, RouteKind, RouteOption, RoutePreference, Rule, RuleAction,
};
use ringfence::ns::{Namespace, Net};

use super::entries::with_veth;
use super::{address, create, everything, ip, net, run, with_capabilities};
use crate::common::require;

/// What `ip` takes for a rule of IPv4, and the same in our words.
fn rules() -> Vec<(&'static str, Rule)> {
    let rule = || Rule::new(Family::V4).priority(100).lookup(7);
    let tcp = u8::try_from(libc::IPPROTO_TCP).unwrap();
    vec![
        ("from 10.0.0.0/8 lookup 7", rule().from(net("10.0.0.0/8"))),
        (
            "not from 10.0.0.0/8 lookup 7",
            rule().not().from(net("10.0.0.0/8")),
        ),
        ("fwmark 0x1 lookup 7", rule().mark(1)),
        ("fwmark 0x1/0xff lookup 7", rule().mark(1).mask(0xff)),
        ("fwmark 0/0xff lookup 7", rule().mark(0).mask(0xff)),
        ("iif v0 oif v1 lookup 7", rule().iif("v0").oif("v1")),
        ("tos 0x10 lookup 7", rule().tos(0x10)),
        ("uidrange 0-0 lookup 7", rule().uids(0..=0)),
        (
            "ipproto tcp sport 80 lookup 7",
            rule().ip_protocol(tcp).source_ports(80..=80),
        ),
        (
            "ipproto tcp dport 80-90 lookup 7",
            rule().ip_protocol(tcp).destination_ports(80..=90),
        ),
        (
            "lookup 7 suppress_prefixlength 0",
            rule().suppress_prefix(0),
        ),
        ("lookup 7 suppress_ifgroup 5", rule().suppress_group(5)),
        ("protocol 99 lookup 7", rule().protocol(99)),
        ("goto 200", rule().action(RuleAction::Goto(200))),
        ("nop", rule().action(RuleAction::Nop)),
        ("prohibit", rule().action(RuleAction::Prohibit)),
        ("unreachable", rule().action(RuleAction::Unreachable)),
        ("blackhole", rule().action(RuleAction::Blackhole)),
        ("l3mdev", rule().action(RuleAction::L3mdev)),
    ]
}

fn find_rule(netlink: &Netlink) -> Rule {
    let is_it = |rule: &Rule| rule.priority == Some(100) && rule.family == Family::V4;
    netlink.rules().unwrap().into_iter().find(is_it).unwrap()
}

#[test]
fn rules_are_listed_deleted_and_added_as_they_are() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_veth();
        let before = everything(&namespace);
        let mut all: Vec<_> = rules()
            .into_iter()
            .map(|(words, rule)| (words, Some(rule)))
            .collect();
        // There is no field for this.
        all.push(("realms 3/4 lookup 7", None));
        for (words, same) in all {
            run(&namespace, "ip", &format!("rule add priority 100 {words}"));
            let shown = ip(&namespace, "rule show");
            let listed = find_rule(&netlink);
            assert_eq!(
                listed.unknown().is_empty(),
                same.is_some(),
                "{words}: {listed:?}"
            );
            if let Some(same) = &same {
                assert_eq!(&listed, same, "{words}");
                netlink
                    .delete_rule(same)
                    .unwrap_or_else(|error| panic!("{words}: {error:?}"));
                assert_eq!(everything(&namespace), before, "{words}");
                netlink.add(same.clone()).unwrap();
                assert_eq!(ip(&namespace, "rule show"), shown, "{words}");
            }
            netlink
                .delete_rule(&listed)
                .unwrap_or_else(|error| panic!("{words}: {error:?}"));
            assert_eq!(everything(&namespace), before, "{words}");
            netlink.add(listed.clone()).unwrap();
            assert_eq!(ip(&namespace, "rule show"), shown, "{words}");
            netlink.delete_rule(&listed).unwrap();
            let again = netlink.delete_rule(&listed).unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::ENOENT), "{again:?}");
        }
        assert_eq!(everything(&namespace), before);
    });
}

#[test]
fn no_rule_is_deleted_for_another() {
    with_capabilities!({
        require!(netns, program("ip"));
        // What there is, and what is to be deleted.
        let pairs = [
            (
                "from 10.0.0.0/8 iif v0 lookup 7",
                "from 10.0.0.0/8 lookup 7",
            ),
            ("fwmark 0x1 lookup 7", "lookup 7"),
            ("lookup 7 suppress_prefixlength 0", "lookup 7"),
            ("uidrange 0-0 lookup 7", "lookup 7"),
        ];
        for (first, second) in pairs {
            let (namespace, netlink) = create();
            run(&namespace, "ip", &format!("rule add priority 100 {second}"));
            let meant = find_rule(&netlink);
            netlink.delete_rule(&meant).unwrap();
            run(&namespace, "ip", &format!("rule add priority 100 {first}"));
            let only = everything(&namespace);
            let error = netlink.delete_rule(&meant).unwrap_err();
            assert_eq!(
                error.raw_os_error(),
                Some(libc::ENOENT),
                "{first}: {error:?}"
            );
            assert_eq!(everything(&namespace), only, "{first}");
            run(&namespace, "ip", &format!("rule add priority 100 {second}"));
            let both = everything(&namespace);
            match netlink.delete_rule(&meant) {
                Ok(()) => assert_eq!(everything(&namespace), only, "{first}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{first}: {error:?}");
                    assert_eq!(everything(&namespace), both, "{first}");
                    // The kernel does what was feared.
                    run(&namespace, "ip", &format!("rule del priority 100 {second}"));
                    assert_eq!(find_rule(&netlink), meant, "{first}");
                }
            }
        }
        // Of these two the kernel has only one at a time.
        let (namespace, netlink) = create();
        run(
            &namespace,
            "ip",
            "rule add priority 100 not from 10.0.0.0/8 lookup 7",
        );
        let rule = Rule::new(Family::V4)
            .priority(100)
            .from(net("10.0.0.0/8"))
            .lookup(7);
        let before = everything(&namespace);
        assert!(netlink.delete_rule(&rule).is_err());
        assert_eq!(everything(&namespace), before);
        netlink.delete_rule(&rule.not()).unwrap();
    });
}

/// What `ip` takes for a route, and the same in our words.
fn routes(own: u32) -> Vec<(&'static str, Route)> {
    let via = |to: &str| {
        let gateway = if to.contains(':') {
            "fd00:9::2"
        } else {
            "10.9.0.2"
        };
        Route::to(net(to)).via(address(gateway)).dev(own)
    };
    let four = || via("10.10.0.0/16");
    let six = || via("fd00:10::/32");
    vec![
        ("10.10.0.0/16 via 10.9.0.2", four()),
        ("10.10.0.0/16 via 10.9.0.2 tos 0x10", four().tos(0x10)),
        (
            "10.10.0.0/16 via 10.9.0.2 metric 7 table 99",
            four().metric(7).table(99),
        ),
        ("10.10.0.0/16 via 10.9.0.2 mtu 1400", four().mtu(1400)),
        (
            "10.10.0.0/16 via 10.9.0.2 mtu lock 1400 advmss 1200 window 1000 hoplimit 9 initcwnd 5 quickack 1",
            four()
                .option(RouteOption::Lock, 1 << 2)
                .mtu(1400)
                .option(RouteOption::AdvMss, 1200)
                .option(RouteOption::Window, 1000)
                .option(RouteOption::HopLimit, 9)
                .option(RouteOption::InitCwnd, 5)
                .option(RouteOption::QuickAck, 1),
        ),
        (
            "10.10.0.0/16 via 192.0.2.1 dev v0 onlink",
            four().via(address("192.0.2.1")).onlink(),
        ),
        (
            "10.10.0.0/16 via 10.9.0.2 src 10.9.0.1",
            four().source(address("10.9.0.1")),
        ),
        ("10.10.0.0/16 via 10.9.0.2 proto 99", four().protocol(99)),
        (
            "prohibit 10.10.0.0/16",
            Route::to(net("10.10.0.0/16")).kind(RouteKind::Prohibit),
        ),
        ("fd00:10::/32 via fd00:9::2", six().metric(1024)),
        ("fd00:10::/32 via fd00:9::2 metric 5", six().metric(5)),
        (
            "fd00:10::/32 via fd00:9::2 mtu 1300",
            six().metric(1024).mtu(1300),
        ),
        (
            "fd00:10::/32 via fd00:9::2 pref high",
            six().metric(1024).preference(RoutePreference::High),
        ),
        (
            "fd00:10::/32 via fd00:9::2 pref low",
            six().metric(1024).preference(RoutePreference::Low),
        ),
        (
            "fd00:10::/32 from fd00:9::/64 via fd00:9::2",
            six().metric(1024).from(net("fd00:9::/64")),
        ),
        ("10.10.0.0/16 nhid 5", four().nhid(5)),
        ("fd00:10::/32 nhid 6", six().metric(1024).nhid(6)),
    ]
}

/// Where there is no field for what they have.
const MORE_ROUTES: [&str; 4] = [
    "10.10.0.0/16 via 10.9.0.2 realms 3/4",
    "10.10.0.0/16 encap ip id 3 dst 10.9.0.9 dev v0",
    "10.10.0.0/16 nexthop via 10.9.0.2 realms 3/4 nexthop via 10.9.0.3 weight 3",
    "10.10.0.0/16 via 10.9.0.2 congctl reno",
];

fn with_addresses() -> (Namespace<Net>, Netlink) {
    let (namespace, netlink) = with_veth();
    run(&namespace, "ip", "addr add 10.9.0.1/24 dev v0");
    run(&namespace, "ip", "addr add fd00:9::1/64 dev v0 nodad");
    run(&namespace, "ip", "nexthop add id 5 via 10.9.0.2 dev v0");
    run(&namespace, "ip", "nexthop add id 6 via fd00:9::2 dev v0");
    (namespace, netlink)
}

fn shown_routes(namespace: &Namespace<Net>) -> Vec<String> {
    ["-4", "-6"]
        .map(|family| {
            run(
                namespace,
                "ip",
                &format!("-d {family} route show table all"),
            )
        })
        .iter()
        .flat_map(|text| text.lines().map(str::to_owned))
        .filter(|line| {
            line.contains("10.10.") || line.contains("fd00:10:") || line.contains("nexthop")
        })
        .collect()
}

fn find_route(netlink: &Netlink) -> Vec<Route> {
    let nets = [net("10.10.0.0/16"), net("fd00:10::/32")];
    let mut found = netlink.routes().unwrap();
    found.retain(|route| nets.contains(&route.destination));
    found
}

#[test]
fn routes_are_listed_deleted_and_added_as_they_are() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_addresses();
        let own = netlink.link("v0").unwrap().index;
        let before = everything(&namespace);
        let own_words = routes(own)
            .into_iter()
            .map(|(words, route)| (words, Some(route)));
        let more = MORE_ROUTES.into_iter().map(|words| (words, None));
        for (words, same) in own_words.chain(more) {
            let mut words = words.to_owned();
            if !words.contains("proto") {
                words.insert_str(
                    words.find("/16").or(words.find("/32")).unwrap() + 3,
                    " proto static",
                );
            }
            run(&namespace, "ip", &format!("route add {words}"));
            let shown = shown_routes(&namespace);
            let [listed] = &find_route(&netlink)[..] else {
                panic!("{words}: {shown:?}");
            };
            let delete = |route: &Route| {
                let deleted = netlink.delete_route(route);
                deleted.unwrap_or_else(|error| panic!("{words}: {error:?}"));
                assert_eq!(everything(&namespace), before, "{words}");
            };
            if let Some(same) = &same {
                assert_eq!(listed.unknown(), [0; 0], "{words}");
                let mut like = same.clone();
                like.scope = listed.scope;
                assert_eq!(listed, &like, "{words}");
                delete(same);
                netlink.add(same.clone()).unwrap();
                assert_eq!(shown_routes(&namespace), shown, "{words}");
            } else if !words.contains("congctl") {
                assert_ne!(listed.unknown(), [0; 0], "{words}");
            }
            delete(listed);
            netlink
                .add(listed.clone())
                .unwrap_or_else(|error| panic!("{words}: {error:?}"));
            assert_eq!(shown_routes(&namespace), shown, "{words}");
            delete(listed);
            let again = netlink.delete_route(listed).unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::ESRCH), "{again:?}");
        }
    });
}

#[test]
fn no_route_is_deleted_for_another() {
    with_capabilities!({
        require!(netns, program("ip"));
        // To the same destination, one after the other.
        let all = [
            "10.10.0.0/16 via 10.9.0.2",
            "10.10.0.0/16 via 10.9.0.2 tos 0x10",
            "10.10.0.0/16 via 10.9.0.2 metric 5",
            "10.10.0.0/16 via 10.9.0.2 metric 5 tos 0x10",
            "10.10.0.0/16 nhid 5 metric 6",
            "10.10.0.0/16 dev v0 metric 7",
            "unreachable 10.10.0.0/16 metric 8",
            "10.10.0.0/16 via 10.9.0.2 table 99",
            "fd00:10::/32 via fd00:9::2 metric 5",
            "fd00:10::/32 via fd00:9::2 metric 6",
            "fd00:10::/32 from fd00:9::/64 via fd00:9::2 metric 5",
            "fd00:10::/32 nhid 6 metric 7",
        ];
        let (namespace, netlink) = with_addresses();
        for words in all {
            run(&namespace, "ip", &format!("route add {words}"));
        }
        let listed = find_route(&netlink);
        assert_eq!(listed.len(), all.len(), "{listed:?}");
        for route in &listed {
            let with = shown_routes(&namespace);
            netlink
                .delete_route(route)
                .unwrap_or_else(|error| panic!("{route:?}: {error:?}"));
            let mut left = find_route(&netlink);
            assert_eq!(shown_routes(&namespace).len(), with.len() - 1, "{route:?}");
            assert!(!left.contains(route), "{route:?}");
            let again = netlink.delete_route(route).unwrap_err();
            assert_eq!(
                again.raw_os_error(),
                Some(libc::ESRCH),
                "{route:?}: {again:?}"
            );
            netlink
                .add(route.clone())
                .unwrap_or_else(|error| panic!("{route:?}: {error:?}"));
            assert_eq!(find_route(&netlink).len(), listed.len());
            left.push(route.clone());
            assert!(
                find_route(&netlink)
                    .iter()
                    .all(|found| left.contains(found))
            );
        }
        // The first is found for the second, whatever it is told.
        let (namespace, netlink) = with_addresses();
        run(
            &namespace,
            "ip",
            "route add 10.10.0.0/16 via 10.9.0.2 advmss 1200",
        );
        run(&namespace, "ip", "route append 10.10.0.0/16 via 10.9.0.2");
        let listed = find_route(&netlink);
        let plain = |route: &&Route| route.option_value(RouteOption::AdvMss).is_none();
        let meant = listed.iter().rfind(plain).unwrap();
        let before = shown_routes(&namespace);
        let error = netlink.delete_route(meant).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert_eq!(shown_routes(&namespace), before);
    });
}
