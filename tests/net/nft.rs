//! Address translation and filters: packets go where they should, and nft(8) shows the same.

use std::io::ErrorKind as IoErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::time::Duration;

use ringfence::net::{
    Address, Forward, Link, LinkChange, Netlink, Nft, Peer, Publish, Route, Table, sysctl,
};
use ringfence::ns::{Namespace, Net};
use ringfence::{ErrorKind, Step};
use serde_json::Value;

use super::{address, create, net, run, tcp, udp, with_capabilities};
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
        let [inside, outside] = [("lab", "10.9.0", "fd00:9:"), ("wan", "192.0.2", "fd00:8:")].map(
            |(name, four, six)| {
                let (namespace, netlink) = create();
                let peer = Peer::new("eth0").namespace(&namespace);
                in_router
                    .batch()
                    .add(Link::veth(name, peer).up())
                    .add(Address::new(name, net(&format!("{four}.1/24"))))
                    .add(Address::new(name, net(&format!("{six}:1/64"))).nodad())
                    .commit()
                    .unwrap();
                netlink
                    .batch()
                    .add(LinkChange::of("eth0").up())
                    .add(Address::new("eth0", net(&format!("{four}.2/24"))))
                    .add(Address::new("eth0", net(&format!("{six}:2/64"))).nodad())
                    .commit()
                    .unwrap();
                if name == "lab" {
                    netlink
                        .add(Route::default_via(address("10.9.0.1")))
                        .unwrap();
                    netlink
                        .add(Route::default_via(address("fd00:9::1")))
                        .unwrap();
                }
                namespace
            },
        );
        sysctl::set(&router, "ipv4/ip_forward", "1").unwrap();
        sysctl::set(&router, "ipv6/conf/all/forwarding", "1").unwrap();
        sysctl::set(&router, "ipv4/conf/lab/route_localnet", "1").unwrap();
        let nft = Nft::open(&router).unwrap();
        Self {
            inside,
            router,
            outside,
            in_router,
            nft,
        }
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// That a connection gets no further.
#[track_caller]
fn refused(from: &Namespace<Net>, to: &str) {
    let connect = || TcpStream::connect_timeout(&at(to), Duration::from_millis(200));
    let error = from.run_in(connect).unwrap().unwrap_err();
    let kinds = [
        IoErrorKind::TimedOut,
        IoErrorKind::ConnectionRefused,
        IoErrorKind::NetworkUnreachable,
    ];
    assert!(kinds.contains(&error.kind()), "{to}: {error}");
}

#[test]
fn a_masquerade_hides_the_inside() {
    with_capabilities!({
        require!(netns);
        let lab = Lab::new();
        let table = Table::new("lab")
            .masquerade(net("10.9.0.0/24"))
            .masquerade(net("fd00:9::/64"));
        refused(&lab.inside, "192.0.2.2:80");
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
        refused(&lab.inside, "192.0.2.2:81");
        assert_eq!(lab.nft.tables().unwrap(), [""; 0]);
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
        refused(&lab.outside, "192.0.2.1:8081");
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
            .publish(Publish::tcp(9000, at("10.9.0.2:90")).on([192, 0, 2, 7]));
        lab.nft.install(&table).unwrap();
        for (to, port) in [
            ("192.0.2.1:7002", 7002),
            ("192.0.2.1:8000", 18000),
            ("192.0.2.1:8042", 18042),
            ("192.0.2.1:8099", 18099),
            ("192.0.2.7:9000", 90),
        ] {
            tcp(
                &lab.outside,
                at(to),
                &lab.inside,
                SocketAddr::new(address("10.9.0.2"), port),
            );
        }
        for to in [
            "192.0.2.1:9000",
            "192.0.2.1:8100",
            "192.0.2.1:7003",
            "192.0.2.1:6999",
        ] {
            refused(&lab.outside, to);
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
        refused(&lab.outside, "10.9.0.2:80");
        // The first rule that fits decides.
        let table = Table::new("lab")
            .forward(Forward::accept().iif("wan"))
            .forward(Forward::drop());
        lab.nft.install(&table).unwrap();
        tcp(&lab.outside, back, &lab.inside, back);
        refused(&lab.inside, "192.0.2.2:81");
    });
}

/// What `nft -j list ruleset` shows, but for handles.
fn shown(namespace: &Namespace<Net>) -> Vec<Value> {
    let text = run(namespace, "nft", "-j list ruleset");
    let all: Value = serde_json::from_str(&text).unwrap();
    let mut all = all["nftables"].as_array().unwrap().clone();
    all.remove(0);
    for object in &mut all {
        for inner in object.as_object_mut().unwrap().values_mut() {
            inner.as_object_mut().unwrap().remove("handle");
        }
    }
    all
}

#[test]
fn nft_makes_the_same_of_its_own_text() {
    with_capabilities!({
        require!(netns, program("nft"));
        let (ours, _) = create();
        let (theirs, _) = create();
        let table = Table::new("lab")
            .masquerade(net("10.9.0.0/24"))
            .hairpin(net("10.9.0.0/24"))
            .publish(Publish::tcp(8080, at("10.9.0.2:80")))
            .publish(Publish::udp(7000..=7009, at("10.9.0.2:7000")).on([192, 0, 2, 1]))
            .publish(Publish::tcp(8000..=8001, at("10.9.0.2:9000")))
            .publish(Publish::tcp(8080, at("[fd00:9::2]:80")))
            .forward(Forward::accept().iif("lab"))
            .forward(Forward::drop().iif("wan").oif("lab"));
        Nft::open(&ours).unwrap().install(&table).unwrap();
        let dnat = "
            meta nfproto ipv4 fib daddr type local tcp dport 8080 dnat ip to 10.9.0.2:80
            ip daddr 192.0.2.1 udp dport 7000-7009 dnat ip to 10.9.0.2
            meta nfproto ipv4 fib daddr type local tcp dport 8000-8001 dnat ip to 10.9.0.2:tcp dport map @ports2
            meta nfproto ipv6 fib daddr type local tcp dport 8080 dnat ip6 to [fd00:9::2]:80";
        let text = format!(
            "table inet lab {{
                map ports2 {{
                    type inet_service : inet_service
                    flags constant
                    elements = {{ 8000 : 9000, 8001 : 9001 }}
                }}
                chain prerouting {{
                    type nat hook prerouting priority -100; policy accept;
                    {dnat}
                }}
                chain output {{
                    type nat hook output priority -100; policy accept;
                    {dnat}
                }}
                chain postrouting {{
                    type nat hook postrouting priority 100; policy accept;
                    ip saddr 10.9.0.0/24 ip daddr != 10.9.0.0/24 masquerade
                    ip saddr 10.9.0.0/24 ip daddr 10.9.0.0/24 ct status dnat masquerade
                    ip saddr 127.0.0.0/8 ip daddr != 127.0.0.0/8 ct status dnat masquerade
                }}
                chain forward {{
                    type filter hook forward priority 0; policy accept;
                    ct state established,related accept
                    iifname \"lab\" accept
                    iifname \"wan\" oifname \"lab\" drop
                }}
            }}"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules");
        std::fs::write(&file, text).unwrap();
        run(&theirs, "nft", &format!("-f {}", file.display()));
        let (ours, theirs) = (shown(&ours), shown(&theirs));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.len(), theirs.len());
    });
}

#[test]
fn a_table_is_replaced_and_removed_as_a_whole() {
    with_capabilities!({
        require!(netns, program("nft"));
        let (namespace, _) = create();
        let nft = Nft::open(&namespace).unwrap();
        run(&namespace, "nft", "add table inet theirs");
        let first = Table::new("lab").masquerade(net("10.9.0.0/24"));
        let second = Table::new("lab").forward(Forward::drop());
        nft.install(&first).unwrap();
        let made = shown(&namespace);
        nft.install(&second).unwrap();
        nft.install(&first).unwrap();
        assert_eq!(shown(&namespace), made);
        let mut tables = nft.tables().unwrap();
        tables.sort();
        assert_eq!(tables, ["lab", "theirs"]);
        // What the kernel refuses in the midst of it leaves the table as it was.
        let bad = Table::new("lab").publish(Publish::tcp(1, at("[ff02::1]:2")).on(address("::1")));
        let worse = Table::new("a".repeat(300));
        assert_eq!(nft.install(&worse).unwrap_err().setter(), Some("name"));
        if nft.install(&bad).is_ok() {
            nft.install(&first).unwrap();
        }
        assert_eq!(shown(&namespace), made);
        nft.remove("lab").unwrap();
        let again = nft.remove("lab").unwrap_err();
        assert_eq!(
            (again.kind(), again.step()),
            (ErrorKind::NotFound, Some(Step::Nftables))
        );
        assert_eq!(nft.tables().unwrap(), ["theirs"]);
    });
}

#[test]
fn what_cannot_be_published_is_refused() {
    let (namespace, nft) = match Nft::current() {
        Ok(nft) => (Namespace::<Net>::current().unwrap(), nft),
        Err(error) => panic!("{error:?}"),
    };
    for publish in [
        Publish::tcp(0, at("10.9.0.2:80")),
        Publish::tcp(80, at("10.9.0.2:0")),
        Publish::tcp(RangeInclusive::new(9, 8), at("10.9.0.2:80")),
        Publish::tcp(1..=100, at("10.9.0.2:65500")),
        Publish::tcp(80, at("10.9.0.2:80")).on(address("::1")),
    ] {
        let error = nft.install(&Table::new("rf").publish(publish)).unwrap_err();
        assert_eq!(
            (error.kind(), error.setter()),
            (ErrorKind::InvalidInput, Some("publish"))
        );
    }
    for bad in ["", "/etc/passwd", "../kernel/hostname", "ipv4/../../x"] {
        assert_eq!(
            sysctl::get(&namespace, bad).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
    let error = sysctl::get(&namespace, "ipv4/nothing").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(sysctl::get(&namespace, "ipv4/ip_forward").unwrap().len(), 1);
}
