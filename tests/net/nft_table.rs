//! Tables of nf_tables: what nft(8) shows of them, what is installed as a whole, and what is refused.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ringfence::net::{Forward, Nft, Publish, Snat, Table, sysctl};
use ringfence::ns::{Namespace, Net};
use ringfence::{ErrorKind, Step};
use serde_json::Value;

use super::{address, at, create, net, run, with_capabilities};
use crate::common::require;
use crate::support::is_privileged;

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
            .publish(Publish::tcp(8081, at("10.9.0.2:8081")).iif("wan"))
            .snat(Snat::masquerade(net("fd00:9::/64")).oif("wan"))
            .snat(Snat::to(net("10.7.0.0/16"), [192, 0, 2, 7]))
            .snat(Snat::to(net("fd00:7::/64"), address("fd00:8::7")))
            .forward(Forward::accept().iif("lab"))
            .forward(Forward::accept().dnat().oif("lab"))
            .forward(
                Forward::drop()
                    .from(net("10.9.0.0/24"))
                    .to(address("192.0.2.9"))
                    .tcp(25),
            )
            .forward(Forward::accept().to(net("fd00:9::/64")).udp(50..=59))
            .forward(Forward::drop().iif("wan").oif("lab"))
            .guard_loopback("lab");
        Nft::open(&ours).unwrap().install(&table).unwrap();
        let dnat = "
            meta nfproto ipv4 fib daddr type local tcp dport 8080 dnat ip to 10.9.0.2:80 \
                comment \"tcp 8080 to 10.9.0.2:80\"
            ip daddr 192.0.2.1 udp dport 7000-7009 dnat ip to 10.9.0.2 \
                comment \"udp 192.0.2.1:7000-7009 to 10.9.0.2:7000\"
            meta nfproto ipv4 fib daddr type local tcp dport 8000-8001 dnat ip to 10.9.0.2:tcp dport map @ports2 \
                comment \"tcp 8000-8001 to 10.9.0.2:9000\"
            meta nfproto ipv6 fib daddr type local tcp dport 8080 dnat ip6 to [fd00:9::2]:80 \
                comment \"tcp 8080 to [fd00:9::2]:80\"
            iifname \"wan\" meta nfproto ipv4 fib daddr type local tcp dport 8081 dnat ip to 10.9.0.2 \
                comment \"tcp by wan 8081 to 10.9.0.2:8081\"";
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
                chain published {{
                    {dnat}
                }}
                chain prerouting {{
                    type nat hook prerouting priority -100; policy accept;
                    jump published
                }}
                chain output {{
                    type nat hook output priority -100; policy accept;
                    jump published
                }}
                chain postrouting {{
                    type nat hook postrouting priority 100; policy accept;
                    ip saddr 10.9.0.0/24 ip daddr != 10.9.0.0/24 masquerade
                    oifname \"wan\" ip6 saddr fd00:9::/64 ip6 daddr != fd00:9::/64 masquerade
                    ip saddr 10.7.0.0/16 ip daddr != 10.7.0.0/16 snat ip to 192.0.2.7
                    ip6 saddr fd00:7::/64 ip6 daddr != fd00:7::/64 snat ip6 to fd00:8::7
                    ip saddr 10.9.0.0/24 ip daddr 10.9.0.0/24 ct status dnat masquerade
                    ip saddr 127.0.0.0/8 ip daddr != 127.0.0.0/8 ct status dnat masquerade
                }}
                chain forward {{
                    type filter hook forward priority 0; policy accept;
                    ct state established,related accept
                    iifname \"lab\" accept
                    oifname \"lab\" ct status dnat accept
                    ip saddr 10.9.0.0/24 ip daddr 192.0.2.9 tcp dport 25 drop
                    ip6 daddr fd00:9::/64 udp dport 50-59 accept
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
        let inside = net("10.9.0.0/24");
        let other = address("fd00:8::7");
        for (table, setter) in [
            (Table::new("rf").snat(Snat::to(inside, other)), "snat"),
            (
                Table::new("rf").snat(Snat::masquerade(inside).oif("a/b")),
                "name",
            ),
            (
                Table::new("rf").forward(Forward::drop().from(inside).to(other)),
                "forward",
            ),
            (
                Table::new("rf").forward(Forward::drop().tcp(RangeInclusive::new(9, 8))),
                "forward",
            ),
        ] {
            let error = nft.install(&table).unwrap_err();
            assert_eq!(
                (error.kind(), error.setter()),
                (ErrorKind::InvalidInput, Some(setter))
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
        let table = (1..=600).fold(Table::new("lab"), |table, port| {
            table.publish(publish(port))
        });
        nft.install(&table).unwrap();
        assert!(shown().contains("tcp dport 600 dnat"));
        // Without the privilege the kernel does not let it grow at will.
        let large = Table::new("lab").publish(Publish::tcp(1..=20_000, at("10.9.0.2:20000")));
        match nft.install(&large) {
            Ok(()) => assert!(shown().contains("20000 : 39999")),
            Err(error) => {
                assert!(!is_privileged(), "{error:?}");
                assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
                assert!(error.hint().unwrap().contains("wmem_max"), "{error:?}");
                assert!(shown().contains("tcp dport 600 dnat"));
            }
        }
    });
}
