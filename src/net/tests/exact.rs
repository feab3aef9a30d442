//! Rules and routes with all that they may have, and with more than is understood here.

use super::super::address::Address;
use super::super::entry::{Deletable, Entry};
use super::super::ip::AF_INET;
use super::super::next_hop::NextHop;
use super::super::route::{Route, RouteOption, RoutePreference};
use super::super::rule::{Family, Rule, RuleAction};
use super::super::wire::{Message, Messages};
use super::{check, net, with_indexes};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

fn added(entry: &impl Entry) -> Message {
    with_indexes(|indexes| entry.add(indexes)).unwrap()
}

fn read<T: Entry>(mut message: Message) -> T {
    let bytes = message.finish(1).unwrap();
    T::parse(&Messages(bytes).next().unwrap()).unwrap()
}

/// With all that there is a field for.
fn rule() -> Rule {
    Rule::new(Family::V4)
        .not()
        .priority(100)
        .from(net("10.9.0.0/24"))
        .iif("eth0")
        .mark(0)
        .mask(0xff)
        .tos(0x10)
        .uids(5..=9)
        .ip_protocol(6)
        .source_ports(80..=80)
        .destination_ports(100..=200)
        .suppress_prefix(0)
        .suppress_group(4)
        .protocol(99)
        .lookup(300)
}

fn route() -> Route {
    Route::to(net("fd00:10::/32"))
        .from(net("fd00:9::/64"))
        .via(Ipv6Addr::LOCALHOST)
        .dev(3)
        .metric(7)
        .mtu(1300)
        .option(RouteOption::Lock, 4)
        .option(RouteOption::AdvMss, 1200)
        .preference(RoutePreference::High)
        .protocol(99)
        .scope(super::Scope::GLOBAL)
}

#[test]
fn all_of_a_rule_is_what_others_read() {
    let words = [
        "flags: RuleFlags(Invert)",
        "FwMark(0)",
        "FwMask(255)",
        "tos: 16",
        "RuleUidRange { start: 5, end: 9 }",
        "IpProtocol(Tcp)",
        "SourcePortRange(RulePortRange { start: 80, end: 80 })",
        "DestinationPortRange(RulePortRange { start: 100, end: 200 })",
        "SuppressPrefixLen(0)",
        "SuppressIfGroup(4)",
        "Protocol(Other(99))",
    ];
    check(added(&rule()), 12, &words);
    let goto = Rule::new(Family::V6).action(RuleAction::Goto(200));
    check(added(&goto), 12, &["action: Goto", "Goto(200)"]);
    let vrf = Rule::new(Family::V6).action(RuleAction::L3mdev);
    check(added(&vrf), 12, &["action: ToTable", "L3MDev(true)"]);
}

#[test]
fn all_of_a_route_is_what_others_read() {
    let words = [
        "source_prefix_length: 64",
        "Source(Inet6(fd00:9::))",
        "Mtu(1300)",
        "Advmss(1200)",
        "Preference(High)",
    ];
    check(added(&route()), 12, &words);
    let route = Route::to(net("10.0.0.0/8")).tos(16);
    check(added(&route), 12, &["tos: 16"]);
    // What leads there is not said twice.
    let by_object = route.nhid(5).via(Ipv4Addr::LOCALHOST).dev(3).onlink();
    let bytes = added(&by_object).finish(1).unwrap().to_vec();
    let (_, attributes) = Messages(&bytes).next().unwrap().split(12).unwrap();
    let kinds: Vec<u16> = attributes.map(|attribute| attribute.kind).collect();
    assert_eq!(kinds, [libc::RTA_DST, libc::RTA_TABLE, 30]);
}

#[test]
fn all_of_an_address_is_what_others_read() {
    let address = Address::new(3, net("10.9.0.1/24"))
        .noprefixroute()
        .valid(Duration::from_secs(7200))
        .preferred(Duration::from_millis(60_900));
    let words = ["Noprefixroute", "ifa_preferred: 60,", "ifa_valid: 7200,"];
    check(added(&address), 8, &words);
    let read = read::<Address>(added(&address));
    assert_eq!(read.preferred, Some(Duration::from_secs(60)));
    assert_eq!(read, address.preferred(Duration::from_secs(60)));
}

#[test]
fn they_are_read_as_they_were_written() {
    assert_eq!(read::<Rule>(added(&rule())), rule());
    assert_eq!(read::<Route>(added(&route())), route());
    let by_object = Route::to(net("10.0.0.0/8"))
        .nhid(5)
        .scope(super::Scope::GLOBAL);
    assert_eq!(read::<Route>(added(&by_object)), by_object);
}

#[test]
fn what_is_not_understood_is_kept() {
    let mut fixed = [0; 12];
    fixed[0] = AF_INET;
    fixed[7] = 1;
    let mut message = Message::new(libc::RTM_NEWRULE, 0, &fixed);
    message.u32(6, 100).u32(11, 0x0003_0004).text(3, "eth0");
    message.nest(77, |message| {
        message.u8(1, 9);
    });
    let found: Rule = read(message);
    assert_eq!(found.unknown(), [11, 77]);
    assert_ne!(
        found,
        Rule::new(Family::V4).priority(100).iif("eth0").lookup(0)
    );
    assert_eq!(read::<Rule>(added(&found)), found);

    let mut message = Message::new(libc::RTM_NEWROUTE, 0, &fixed);
    message.u16(21, 2).u32(11, 5);
    message.nest_after(libc::RTA_MULTIPATH, &[], |message| {
        message.hop(0, 0, 3, |message| {
            message.u32(11, 7);
        });
    });
    let found: Route = read(message);
    assert_eq!(found.unknown(), [21, 11, 11]);
    assert_ne!(found.next_hops, [NextHop::link(3)]);
    assert_eq!(read::<Route>(added(&found)), found);
}

/// What is found among what there is, and what would be deleted in its place.
#[track_caller]
fn find<'a, T: Deletable>(asked: &T, all: &'a [T]) -> Option<(&'a T, Option<&'a T>)> {
    let asked = with_indexes(|indexes| asked.as_listed(indexes)).unwrap();
    asked.find(all)
}

#[test]
fn what_the_kernel_would_take_for_another_is_known() {
    let plain = Rule::new(Family::V4).priority(100).lookup(7);
    let of_some = plain.clone().iif("v0");
    let later = Rule::new(Family::V4).priority(200).lookup(7);
    let all = [of_some.clone(), plain.clone(), later.clone()];
    assert_eq!(find(&plain, &all), Some((&all[1], Some(&all[0]))));
    assert_eq!(find(&of_some, &all), Some((&all[0], None)));
    assert_eq!(find(&later, &all), Some((&all[2], None)));
    // At any priority it is the first, which can be told from the one before by nothing.
    let anywhere = Rule::new(Family::V4).lookup(7);
    assert_eq!(find(&anywhere, &all), Some((&all[1], Some(&all[0]))));
    assert_eq!(find(&plain.clone().not(), &all), None);
    assert_eq!(find(&plain.clone().mark(1), &all), None);
    assert_eq!(find(&plain.lookup(8), &all), None);

    let route = Route::to(net("10.0.0.0/8")).dev(3);
    let as_listed = |route: &Route| route.clone().scope(super::Scope::LINK);
    let all = [
        as_listed(&route.clone().option(RouteOption::AdvMss, 9)),
        as_listed(&route),
        as_listed(&route.clone().metric(5)),
        as_listed(&route.clone().tos(8)),
    ];
    assert_eq!(find(&all[1], &all), Some((&all[1], Some(&all[0]))));
    assert_eq!(find(&route.clone().metric(5), &all), Some((&all[2], None)));
    assert_eq!(find(&route.clone().tos(8), &all), Some((&all[3], None)));
    assert_eq!(find(&route.clone().metric(6), &all), None);
    assert_eq!(find(&route.clone().nhid(6), &all), None);
    assert_eq!(find(&route.table(9), &all), None);
}
