//! Connecting to a network in ways of one's own.

use std::io::ErrorKind::ConnectionRefused;
use std::net::{IpAddr, SocketAddr};

use ringfence::net::{Membership, Netlink, Network, Publish, Uplink};
use ringfence::ns::Namespace;
use ringfence::{ErrorKind, Sandbox, Stdio};

use super::network::{enter, joined, lab};
use super::{
    MAC, address, at, blocked, both_ways, everything, ip, names, net, tcp, udp, with_capabilities,
};
use crate::common::require;

fn second() -> Membership {
    Membership::new().interface("eth1").no_default_route()
}

#[test]
fn a_sandbox_is_in_two_networks() {
    with_capabilities!({
        require!(netns, program("ip"));
        enter();
        let front = lab();
        let back = Network::bridge("back", net("10.8.0.0/24"))
            .create()
            .unwrap();
        let sandbox = Sandbox::new().net().uts().hostname("box");
        let sandbox = sandbox
            .network(&front)
            .network_with(&back, second().name("other"));
        let waits = sandbox.command("cat").stdin(Stdio::piped());
        let mut child = waits.spawn().unwrap();
        let inside = child.namespaces().unwrap().net.unwrap();
        let defaults = ip(&inside, "route show default");
        assert_eq!(defaults.len(), 1, "{defaults:?}");
        assert_eq!(defaults[0]["dev"], "eth0");
        for (network, own, other) in [
            (&front, "10.9.0.2", "10.9.0.3"),
            (&back, "10.8.0.2", "10.8.0.3"),
        ] {
            let (namespace, member) = joined(network, "peer");
            assert_eq!(member.addresses()[0], address(other));
            both_ways(&namespace, own, &inside);
            both_ways(&inside, other, &namespace);
        }
        assert_eq!(front.address_of("box"), Some(address("10.9.0.2")));
        assert_eq!(back.address_of("other"), Some(address("10.8.0.2")));
        assert_eq!(back.address_of("box"), None);
        child.wait().unwrap();
    });
}

#[test]
fn what_cannot_be_together_is_refused_before_there_is_a_process() {
    with_capabilities!({
        require!(netns);
        enter();
        let (front, back) = (
            lab(),
            Network::bridge("back", net("10.8.0.0/24"))
                .create()
                .unwrap(),
        );
        let sandbox = Sandbox::new().net().network(&front);
        let uplink = Uplink::slirp4netns();
        for (sandbox, setter) in [
            (sandbox.clone().network(&back), "network"),
            (
                sandbox
                    .clone()
                    .network_with(&back, Membership::new().interface("eth1")),
                "network_with",
            ),
            (
                sandbox
                    .clone()
                    .network_with(&back, Membership::new().no_default_route()),
                "network_with",
            ),
            (
                sandbox
                    .clone()
                    .network_with(&back, second().interface("a/b")),
                "interface",
            ),
            (sandbox.clone().uplink(&uplink), "uplink"),
        ] {
            let error = sandbox.command("true").compile().unwrap_err();
            assert_eq!(
                (error.kind(), error.setter()),
                (ErrorKind::InvalidInput, Some(setter)),
                "{error:?}"
            );
        }
        let inside_only = Sandbox::new().net().uplink(&uplink);
        let inside_only = inside_only.network_with(&back, second());
        inside_only.command("true").compile().unwrap();
    });
}

#[test]
fn an_interface_is_as_it_was_asked_for() {
    with_capabilities!({
        require!(netns, program("ip"));
        let host = enter();
        let network = Network::bridge("lab", net("10.9.0.0/24"))
            .and(net("fd00:9::/64"))
            .mtu(1400)
            .create()
            .unwrap();
        let (other, _other) = joined(&network, "other");
        let inside = Namespace::create().unwrap();
        let fixed = second().name("web").address([10, 9, 0, 80]).mac(MAC);
        let member = network.connect_with(&inside, &fixed).unwrap();
        assert_eq!(
            member.addresses(),
            [address("10.9.0.80"), address("fd00:9::50")]
        );
        let shown = &ip(&inside, "addr show eth1")[0];
        assert_eq!(shown["address"], MAC.to_string());
        assert_eq!(shown["mtu"], 1400);
        let of = |one: &serde_json::Value| one["local"].as_str().unwrap().to_owned();
        let addresses = shown["addr_info"].as_array().unwrap().iter().map(of);
        let addresses: Vec<_> = addresses.filter(|it| !it.starts_with("fe80")).collect();
        assert_eq!(addresses, ["10.9.0.80", "fd00:9::50"]);
        for link in ["lab", &member.port()] {
            let shown = &ip(&host, &format!("link show {link}"))[0];
            assert_eq!(shown["mtu"], 1400, "{link}");
        }
        assert!(ip(&inside, "route show default").is_empty());
        both_ways(&other, "10.9.0.80", &inside);
        both_ways(&other, "fd00:9::50", &inside);

        let before = everything(&inside);
        let refused: [(IpAddr, &str); 7] = [
            (address("10.9.0.0"), "none that the network has"),
            (address("10.9.0.1"), "none that the network has"),
            (address("10.9.0.255"), "none that the network has"),
            (address("10.8.0.2"), "none that the network has"),
            (address("fd00:9::1:0:0"), "none that the network has"),
            (address("10.9.0.80"), "another member's"),
            (address("fd00:9::2"), "another member's"),
        ];
        for (address, why) in refused {
            let membership = Membership::new().address(address);
            let error = network.connect_with(&inside, &membership).unwrap_err();
            assert_eq!(
                (error.kind(), error.setter()),
                (ErrorKind::InvalidInput, Some("address")),
                "{error:?}"
            );
            assert!(error.to_string().contains(why), "{error}");
        }
        // The interface is there already.
        let error = network.connect_with(&inside, &second()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
        // The namespace still uses the address.
        drop(member);
        let spare = Namespace::create().unwrap();
        let error = network.connect_with(&spare, &fixed).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
        assert_eq!(everything(&inside), before);
        assert_eq!(names(&Netlink::open(&spare).unwrap()).unwrap(), ["lo"]);
    });
}

#[test]
fn what_is_published_can_be_taken_back() {
    with_capabilities!({
        require!(netns);
        let host = enter();
        let network = lab();
        let (web, member) = joined(&network, "web");
        let target = SocketAddr::new(member.addresses()[0], 80);
        let (by_tcp, by_udp) = (Publish::tcp(8080, target), Publish::udp(8080, target));
        network.publish(by_tcp.clone()).unwrap();
        network.publish(by_udp.clone()).unwrap();
        let to = at("10.9.0.1:8080");
        tcp(&host, to, &web, target);
        let again = network.publish(by_tcp.clone()).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::InvalidInput, "{again:?}");
        network.unpublish(&by_tcp).unwrap();
        blocked(&host, to, &web, target, ConnectionRefused);
        udp(&host, to, &web, target);
        let error = network.unpublish(&by_tcp).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        network.publish(by_tcp.clone()).unwrap();
        tcp(&host, to, &web, target);
        drop(member);
        let error = network.unpublish(&by_tcp).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    });
}
