//! Address translation and filters: packets go where they should, and nft(8) shows the same.

use std::io::ErrorKind::{ConnectionRefused, TimedOut};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ringfence::net::{Address, Forward, Netlink, Nft, Publish, Route, Table, sysctl};
use ringfence::ns::{Namespace, Net};
use ringfence::{ErrorKind, Step};
use serde_json::Value;

use super::{address, at, behind, blocked, create, net, run, tcp, udp, with_capabilities};
use crate::common::require;
use crate::support::is_privileged;

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
            // None of these has a port of another.
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
fn a_table_may_be_larger_than_the_send_buffer() {
    with_capabilities!({
        require!(netns, program("nft"));
        let (namespace, _) = create();
        let nft = Nft::open(&namespace).unwrap();
        let shown = || run(&namespace, "nft", "list table inet lab");
        let publish = |port| Publish::tcp(port, SocketAddr::new(address("10.9.0.2"), port + 1));
        let table = (1..=250).fold(Table::new("lab"), |table, port| {
            table.publish(publish(port))
        });
        nft.install(&table).unwrap();
        assert_eq!(shown().matches("tcp dport 250 dnat").count(), 2);
        // Without the privilege the kernel does not let it grow at will.
        let large = Table::new("lab").publish(Publish::tcp(1..=20_000, at("10.9.0.2:20000")));
        match nft.install(&large) {
            Ok(()) => assert!(shown().contains("20000 : 39999")),
            Err(error) => {
                assert!(!is_privileged(), "{error:?}");
                assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
                assert!(error.hint().unwrap().contains("wmem_max"), "{error:?}");
                assert_eq!(shown().matches("tcp dport 250 dnat").count(), 2);
            }
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
        // The first rule that fits decides.
        let table = Table::new("lab")
            .forward(Forward::accept().iif("wan"))
            .forward(Forward::drop());
        lab.nft.install(&table).unwrap();
        tcp(&lab.outside, back, &lab.inside, back);
        blocked(&lab.inside, to, &lab.outside, to, TimedOut);
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
            .forward(Forward::accept().dnat().oif("lab"))
            .forward(Forward::drop().iif("wan").oif("lab"))
            .guard_loopback("lab");
        Nft::open(&ours).unwrap().install(&table).unwrap();
        let dnat = "
            meta nfproto ipv4 fib daddr type local tcp dport 8080 dnat ip to 10.9.0.2:80
            ip daddr 192.0.2.1 udp dport 7000-7009 dnat ip to 10.9.0.2
            meta nfproto ipv4 fib daddr type local tcp dport 8000-8001 dnat ip to 10.9.0.2:tcp dport map @ports2
            meta nfproto ipv6 fib daddr type local tcp dport 8080 dnat ip6 to [fd00:9::2]:80";
        let text = format!(
            "table inet lab {{
                chain raw {{
                    type filter hook prerouting priority -300; policy accept;
                    iifname \"lab\" ip daddr 127.0.0.0/8 drop
                }}
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
                    oifname \"lab\" ct status dnat accept
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

/// As many chains as the kernel has at one point of a packet's way (net/netfilter/core.c).
const MAX_HOOK_COUNT: u32 = 1024;

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
        // The last chain of this one is refused: there are as many as the kernel takes.
        let chains: String = (0..MAX_HOOK_COUNT)
            .map(|n| {
                format!("add chain inet theirs c{n} {{ type filter hook forward priority 9; }}\n")
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("chains");
        std::fs::write(&file, chains).unwrap();
        run(&namespace, "nft", &format!("-f {}", file.display()));
        let made = shown(&namespace);
        let error = nft.install(&first.clone().forward(Forward::drop()));
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::E2BIG));
        assert_eq!(shown(&namespace), made);
        let nameless = Table::new("a".repeat(300));
        assert_eq!(nft.install(&nameless).unwrap_err().setter(), Some("name"));
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
    with_capabilities!({
        require!(netns);
        let (namespace, _) = create();
        let nft = Nft::open(&namespace).unwrap();
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
        for twice in [
            [
                Publish::tcp(80, at("10.9.0.2:80")),
                Publish::tcp(80, at("10.9.0.3:80")),
            ],
            [
                Publish::udp(80..=90, at("10.9.0.2:80")),
                Publish::udp(90, at("10.9.0.3:80")).on([192, 0, 2, 1]),
            ],
            [
                Publish::udp(85, at("10.9.0.3:80")).on([192, 0, 2, 1]),
                Publish::udp(80..=90, at("10.9.0.2:80")).on([192, 0, 2, 1]),
            ],
        ] {
            let [first, second] = twice;
            let table = Table::new("rf").publish(first);
            let other = Publish::tcp(81, at("10.9.0.2:80"));
            let error = nft.install(&table.publish(other).publish(second));
            let error = error.unwrap_err();
            assert_eq!(
                (error.kind(), error.setter()),
                (ErrorKind::InvalidInput, Some("publish"))
            );
            assert!(error.to_string().contains("published already"), "{error}");
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
    });
}
