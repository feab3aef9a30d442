//! The messages, read and written by another implementation.

mod exact;
mod vlans;

use super::address::{Address, Scope};
use super::batch::Indexes;
use super::entry::Entry;
use super::fdb::FdbEntry;
use super::ip::{IpNet, Mac};
use super::link::{
    Bridge, IpvlanMode, Link, LinkChange, LinkInfo, LinkRef, MacvlanMode, Peer, Vlan, VlanProtocol,
    Vxlan, VxlanDf, VxlanFlag,
};
use super::neighbour::Neighbour;
use super::netlink::Netlink;
use super::next_hop::NextHop;
use super::route::{Route, RouteKind};
use super::rule::{Family, Rule, RuleAction};
use super::wire::{Attributes, Message, Messages};
use crate::error::Result;
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Attributes as (type, value), and what is in those that are nested.
fn flat(attributes: Attributes<'_>) -> Vec<(u16, Vec<u8>)> {
    let pair = |attribute: super::wire::Attribute<'_>| (attribute.kind, attribute.value.to_vec());
    attributes.map(pair).collect()
}

/// Checks that the other implementation understands all of a message, that it finds these words in it, and that
/// it would write the same.
#[track_caller]
fn check(mut message: Message, fixed: usize, words: &[&str]) {
    let bytes = message.finish(7).unwrap();
    let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).unwrap();
    let NetlinkPayload::InnerMessage(inner) = &parsed.payload else {
        panic!("{parsed:?}");
    };
    let text = format!("{inner:?}");
    for word in words {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    assert!(!text.contains("Other(DefaultNla"), "{text}");
    let mut written = vec![0; parsed.buffer_len()];
    parsed.serialize(&mut written);
    let (ours, theirs) = (
        Messages(bytes).next().unwrap(),
        Messages(&written).next().unwrap(),
    );
    assert_eq!(
        (ours.kind, ours.flags, ours.sequence),
        (theirs.kind, theirs.flags, 7)
    );
    let (ours, theirs) = (ours.split(fixed).unwrap(), theirs.split(fixed).unwrap());
    assert_eq!(ours.0, theirs.0, "{text}");
    // What is nested may be flagged as such or not, which is told by its values only.
    for (ours, theirs) in flat(ours.1).iter().zip(flat(theirs.1)) {
        assert_eq!(ours.0, theirs.0);
        let is_nested = ours.0 == libc::IFLA_LINKINFO && fixed == 16;
        if !is_nested {
            assert_eq!(ours.1, theirs.1, "{text}");
        }
    }
}

fn with_indexes<T>(run: impl FnOnce(&mut Indexes<'_>) -> T) -> T {
    run(&mut Indexes::new(&Netlink::current().unwrap()))
}

fn try_link(link: &Link<'_>) -> Result<Message> {
    with_indexes(|indexes| link.message(link.number(indexes), indexes))
}

fn link(link: &Link<'_>) -> Message {
    try_link(link).unwrap()
}

/// The same about a link itself: the other implementation does not read `RTM_NEWLINKPROP`, whose body is the same.
fn of_link(mut message: Message) -> Message {
    let bytes = message.finish(1).unwrap();
    let received = Messages(bytes).next().unwrap();
    let (fixed, attributes) = received.split(16).unwrap();
    let mut message = Message::new(libc::RTM_NEWLINK, 0, fixed);
    for attribute in attributes {
        message.copy(attribute);
    }
    message
}

fn changes(change: &LinkChange) -> Vec<Message> {
    let mut messages = Vec::new();
    with_indexes(|indexes| change.put(indexes, &mut messages)).unwrap();
    messages
}

const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

#[test]
fn links_are_what_others_read() {
    let peer = Peer::new("peer0").mac(MAC).mtu(1400).index(12);
    let veth = Link::veth("veth0", peer).mtu(1300).up().index(11).master(5);
    let words = [
        "NewLink",
        "IfName(\"veth0\")",
        "Mtu(1300)",
        "index: 11",
        "LinkFlags(Up)",
        "Controller(5)",
        "Kind(Veth)",
        "Peer(LinkMessage",
        "index: 12",
        "IfName(\"peer0\")",
        "Mtu(1400)",
        "Address([2, 0, 0, 0, 0, 7])",
    ];
    check(link(&veth), 16, &words);
    let bridge = Bridge::new()
        .vlan_filtering()
        .stp()
        .ageing_time(Duration::from_secs(1))
        .forward_delay(Duration::from_secs(2))
        .priority(3);
    let bridge = Link::bridge_with("br0", bridge).mac(MAC);
    let words = [
        "Kind(Bridge)",
        "AgeingTime(100)",
        "ForwardDelay(200)",
        "Priority(3)",
        "StpState(KernelStp)",
        "VlanFiltering(true)",
        "Address([2, 0",
    ];
    check(link(&bridge), 16, &words);
    let macvlan = Link::macvlan("m0", 3, MacvlanMode::Bridge);
    check(
        link(&macvlan),
        16,
        &["Kind(MacVlan)", "Mode(Bridge)", "Link(3)"],
    );
    let ipvlan = Link::ipvlan("i0", 3, IpvlanMode::L3);
    check(link(&ipvlan), 16, &["Kind(IpVlan)", "Mode(L3)"]);
    check(
        link(&Link::vlan("v5", 3, 5)),
        16,
        &["Kind(Vlan)", "Id(5)", "Link(3)"],
    );
    let outer = Vlan::new(5).protocol(VlanProtocol::Ieee8021Ad);
    let words = ["Id(5)", "Protocol(Ieee8021Ad)"];
    check(link(&Link::vlan("v5", 3, outer)), 16, &words);
    let v4 = Vxlan::new(42)
        .local([192, 0, 2, 1])
        .remote([192, 0, 2, 2])
        .port(4790)
        .learning(false)
        .ttl(9)
        .dev(3);
    let words = [
        "Learning(false)",
        "Ttl(9)",
        "Kind(Vxlan)",
        "Id(42)",
        "Port(4790)",
        "Link(3)",
        "192, 0, 2, 1",
        "192, 0, 2, 2",
    ];
    let text = link(&Link::vxlan("vx", v4));
    check(text, 16, &words[..6]);
    let v6 = Vxlan::new(42)
        .local(Ipv6Addr::LOCALHOST)
        .remote(Ipv6Addr::LOCALHOST);
    check(
        link(&Link::vxlan("vx", v6)),
        16,
        &["Local6", "Group6", "Port(4789)"],
    );
    let external = Vxlan::external()
        .tos(1)
        .df(VxlanDf::Inherit)
        .flow_label(0x1_2345)
        .ageing(Duration::from_secs(7))
        .limit(9)
        .source_ports(100..=200)
        .flag(VxlanFlag::Proxy, true)
        .flag(VxlanFlag::UdpCsum, false)
        .flag(VxlanFlag::UdpZeroCsum6Tx, true)
        .flag(VxlanFlag::Gbp, true)
        .flag(VxlanFlag::Gpe, false)
        .flag(VxlanFlag::TtlInherit, true);
    let words = [
        "Info([Kind(Vxlan), Data(Vxlan([CollectMetadata(true), Tos(1), Learning(false), Df(Inherit)",
        "Ageing(7)",
        "Limit(9)",
        "Label(74565)",
        "PortRange((100, 200))",
        "Proxy(true)",
        "UDPCsum(false)",
        "UDPZeroCsumTX(true), Gbp, TtlInheritFlag, Port(4789)",
    ];
    check(link(&Link::vxlan("vx", external)), 16, &words);
    check(link(&Link::dummy("d0")), 16, &["Kind(Dummy)"]);
    check(link(&Link::ifb("i0")), 16, &["Kind(Ifb)"]);
    let change = LinkChange::of(4)
        .rename("new0")
        .mtu(900)
        .mac(MAC)
        .down()
        .promisc(true)
        .txqueuelen(77)
        .no_master();
    let words = [
        "Promisc",
        "TxQueueLen(77)",
        "NewLink",
        "index: 4",
        "IfName(\"new0\")",
        "Mtu(900)",
        "Controller(0)",
    ];
    let [message] = changes(&change).try_into().unwrap();
    check(message, 16, &words);
    let change = LinkChange::of(4).alt_name("one").no_alt_name("two");
    let [_, delete, add] = changes(&change).try_into().unwrap();
    assert_eq!([add.kind(), delete.kind()], [108, 109]);
    check(of_link(add), 16, &["index: 4", "AltIfName(\"one\")"]);
    check(of_link(delete), 16, &["index: 4", "AltIfName(\"two\")"]);
    let change = LinkChange::of(4)
        .master(5)
        .hairpin(true)
        .learning(false)
        .isolated(true);
    let [master, port] = changes(&change).try_into().unwrap();
    check(master, 16, &["index: 4", "Controller(5)"]);
    let words = [
        "index: 4",
        "HairpinMode(true)",
        "Learning(false)",
        "Isolated(true)",
    ];
    check(port, 16, &words);
}

#[test]
fn entries_are_what_others_read() {
    let add = |entry: &dyn Fn(&mut Indexes<'_>) -> Message| with_indexes(|indexes| entry(indexes));
    let address = Address::new(3, net("10.9.0.1/24"))
        .broadcast(Ipv4Addr::new(10, 9, 0, 255))
        .scope(Scope::LINK);
    let words = [
        "NewAddress",
        "prefix_len: 24",
        "index: 3",
        "Local(10.9.0.1)",
        "Broadcast(10.9.0.255)",
    ];
    check(add(&|indexes| address.add(indexes).unwrap()), 8, &words);
    let address = Address::new(3, net("fd00::1/64"))
        .nodad()
        .peer(Ipv6Addr::LOCALHOST);
    let words = ["Local(fd00::1)", "Address(::1)", "Nodad"];
    check(add(&|indexes| address.add(indexes).unwrap()), 8, &words);

    let route = Route::default_via(Ipv4Addr::new(10, 9, 0, 1))
        .dev(3)
        .metric(50)
        .onlink();
    let words = [
        "NewRoute",
        "Gateway(Inet(10.9.0.1))",
        "Oif(3)",
        "Priority(50)",
        "Table(254)",
        "Onlink",
    ];
    check(add(&|indexes| route.add(indexes).unwrap()), 12, &words);
    let route = Route::to(net("10.10.0.0/16"))
        .via(Ipv6Addr::LOCALHOST)
        .dev(3)
        .table(1000);
    let words = [
        "Destination(Inet(10.10.0.0))",
        "Via(Inet6(::1))",
        "Table(1000)",
    ];
    check(add(&|indexes| route.add(indexes).unwrap()), 12, &words);
    let route = Route::to(net("10.10.0.0/16"))
        .next_hop(NextHop::via(Ipv4Addr::new(10, 9, 0, 1)).dev(3).weight(256))
        .next_hop(NextHop::via(Ipv6Addr::LOCALHOST).dev(4).onlink())
        .next_hop(NextHop::link(5).weight(2));
    let words = [
        "MultiPath([",
        "interface_index: 3",
        "hops: 255",
        "Gateway(Inet(10.9.0.1))",
        "Via(Inet6(::1))",
        "interface_index: 5",
    ];
    check(add(&|indexes| route.add(indexes).unwrap()), 12, &words);
    let route = Route::to(net("fd00::/8")).kind(RouteKind::Unreachable);
    check(
        add(&|indexes| route.delete(indexes).unwrap()),
        12,
        &["DelRoute", "Unreachable", "Priority(1024)"],
    );

    let neighbour = Neighbour::new(3, Ipv4Addr::new(10, 9, 0, 2), MAC);
    let words = [
        "NewNeighbour",
        "Permanent",
        "LinkLayerAddress([2, 0, 0, 0, 0, 7])",
        "10.9.0.2",
    ];
    check(add(&|indexes| neighbour.add(indexes).unwrap()), 12, &words);

    let port = FdbEntry::port(3, MAC).vlan(7);
    let words = [
        "NewNeighbour",
        "family: Bridge",
        "ifindex: 3",
        "state: Noarp",
        "NeighbourFlags(Controller)",
        "Vlan(7)",
    ];
    check(add(&|indexes| port.add(indexes).unwrap()), 12, &words);
    let host = Ipv4Addr::new(192, 0, 2, 1);
    let tunnel = FdbEntry::tunnel(3, MAC, host);
    let words = ["DelNeighbour", "NeighbourFlags(Own)", "state: Permanent"];
    // It takes the destination of what is of the bridge family for bytes.
    check(add(&|indexes| tunnel.delete(indexes).unwrap()), 12, &words);

    let rule = Rule::new(Family::V4)
        .from(net("10.9.0.0/24"))
        .iif("eth0")
        .mark(7)
        .priority(100)
        .lookup(300);
    let words = [
        "NewRule",
        "Source(10.9.0.0)",
        "src_len: 24",
        "Iifname(\"eth0\")",
        "FwMark(7)",
        "Priority(100)",
        "Table(300)",
    ];
    check(add(&|indexes| rule.add(indexes).unwrap()), 12, &words);
    let rule = Rule::new(Family::V6)
        .to(net("fd00::/8"))
        .action(RuleAction::Blackhole);
    check(
        add(&|indexes| rule.delete(indexes).unwrap()),
        12,
        &["DelRule", "Blackhole", "dst_len: 8"],
    );
}

#[test]
fn what_others_write_is_read() {
    let mut message = LinkMessage::default();
    message.header.index = 9;
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
    message.attributes = vec![
        LinkAttribute::IfName("eth0".to_owned()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Controller(4),
        LinkAttribute::Link(2),
        LinkAttribute::LinkNetNsId(0),
        LinkAttribute::Address(MAC.0.to_vec()),
    ];
    let payload = NetlinkPayload::from(RouteNetlinkMessage::NewLink(message));
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let found = LinkInfo::parse(&Messages(&bytes).next().unwrap()).unwrap();
    assert_eq!(
        (found.index, found.name.as_str(), found.mtu),
        (9, "eth0", 1500)
    );
    assert_eq!(
        (found.master, found.link, found.link_netnsid),
        (Some(4), Some(2), Some(0))
    );
    assert_eq!(found.mac, Some(MAC));
    assert!(found.up && found.carrier && !found.loopback);
}

/// What is added is what would be listed.
#[test]
fn entries_are_read_as_they_were_written() {
    fn check<T: Entry + PartialEq + std::fmt::Debug>(entry: T) {
        let mut message = with_indexes(|indexes| entry.add(indexes)).unwrap();
        let bytes = message.finish(1).unwrap();
        assert_eq!(T::parse(&Messages(bytes).next().unwrap()), Some(entry));
    }
    check(
        Address::new(3, net("10.9.0.1/24"))
            .broadcast(Ipv4Addr::BROADCAST)
            .scope(Scope::HOST),
    );
    check(Address::new(3, net("10.9.0.1/32")).peer(Ipv4Addr::new(10, 9, 0, 2)));
    check(Address::new(3, net("fd00::1/64")).nodad());
    check(
        Route::to(net("10.0.0.0/8"))
            .dev(3)
            .source(Ipv4Addr::LOCALHOST)
            .scope(Scope::LINK),
    );
    check(
        Route::default_via(Ipv6Addr::LOCALHOST)
            .dev(3)
            .metric(3)
            .scope(Scope::GLOBAL),
    );
    check(
        Route::to(net("fd00:10::/32"))
            .next_hop(NextHop::via(Ipv6Addr::LOCALHOST).dev(3).weight(200))
            .next_hop(NextHop::link(4).weight(256))
            .scope(Scope::GLOBAL),
    );
    check(Neighbour::new(LinkRef::Index(3), Ipv6Addr::LOCALHOST, MAC));
    check(FdbEntry::port(3, MAC).vlan(4094));
    check(FdbEntry::tunnel(
        3,
        FdbEntry::EVERYBODY,
        Ipv4Addr::LOCALHOST,
    ));
    check(
        Rule::new(Family::V6)
            .from(net("fd00::/8"))
            .oif("eth0")
            .priority(5)
            .lookup(1000),
    );
}

#[test]
fn contradictions_are_refused() {
    let refused = |link: &Link<'_>| try_link(link).unwrap_err();
    let mixed = Vxlan::new(1)
        .local(Ipv4Addr::LOCALHOST)
        .remote(Ipv6Addr::LOCALHOST);
    let remote = Vxlan::external().remote(Ipv4Addr::LOCALHOST);
    let empty = RangeInclusive::new(9, 8);
    for vxlan in [mixed, remote, Vxlan::new(1).source_ports(empty)] {
        assert_eq!(refused(&Link::vxlan("vx", vxlan)).setter(), Some("vxlan"));
    }
    assert_eq!(
        refused(&Link::veth("v", Peer::new("sixteen-bytes-xy"))).setter(),
        Some("name")
    );
    with_indexes(|indexes| {
        let peer = Address::new(3, net("10.0.0.1/32")).peer(Ipv6Addr::LOCALHOST);
        assert_eq!(peer.add(indexes).unwrap_err().setter(), Some("address"));
        let broadcast = Address::new(3, net("::1")).broadcast(Ipv4Addr::BROADCAST);
        assert_eq!(
            broadcast.add(indexes).unwrap_err().setter(),
            Some("address")
        );
        let via = Route::to(net("fd00::/8")).via(Ipv4Addr::LOCALHOST);
        assert_eq!(via.add(indexes).unwrap_err().setter(), Some("route"));
        let all = [
            Route::to(net("fd00::/8")).next_hop(NextHop::via(Ipv4Addr::LOCALHOST)),
            Route::to(net("10.0.0.0/8"))
                .dev(3)
                .next_hop(NextHop::link(4)),
            Route::to(net("10.0.0.0/8")).next_hop(NextHop::link(4).weight(0)),
            Route::to(net("10.0.0.0/8")).next_hop(NextHop::link(4).weight(257)),
        ];
        for route in all {
            assert_eq!(route.add(indexes).unwrap_err().setter(), Some("route"));
        }
        let entry = FdbEntry::port(3, MAC).vlan(4095);
        assert_eq!(entry.add(indexes).unwrap_err().setter(), Some("vlan"));
        let rule = Rule::new(Family::V6).from(net("10.0.0.0/8"));
        assert_eq!(rule.add(indexes).unwrap_err().setter(), Some("rule"));
    });
}
