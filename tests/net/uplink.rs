//! Uplinks by the helpers themselves, to servers on a loopback address of this machine.

use std::io::ErrorKind::NetworkUnreachable;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Instant;

use ringfence::net::{Address, Netlink, Network, Publish, Uplink, UplinkBuilder};
use ringfence::ns::{Namespace, Net};
use ringfence::{Bind, ErrorKind, IdMap, Sandbox, Step};

use super::network::enter;
use super::{PATIENCE, address, ip, names, net, tcp, udp, with_capabilities};
use crate::common::{isolated_as_both, require};
use crate::support::{is_privileged, sh, shell};

/// A port of 127.0.0.1 that answers a connection with a line, and a datagram with what it says.
fn serve() -> u16 {
    let (listener, socket) = loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // Somebody else may have this port of UDP.
        match UdpSocket::bind(listener.local_addr().unwrap()) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            socket => break (listener, socket.unwrap()),
        }
    };
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            client.unwrap().write_all(b"a line\n").unwrap();
        }
    });
    thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
            socket.send_to(&bytes[..length], peer).unwrap();
        }
    });
    port
}

/// What a program inside gets from a port of the uplink's gateway; nothing if there is no answer for so many
/// seconds.
fn ask(
    sandbox: &Sandbox,
    protocol: &str,
    uplink: &UplinkBuilder,
    port: u16,
    seconds: u32,
) -> String {
    let gateway = uplink.gateway().unwrap();
    let script = "exec 3<>/dev/$0/$1/$2 && echo 'a datagram' >&3 && head -n 1 <&3";
    let program = [
        "bash",
        "-c",
        script,
        protocol,
        &gateway.to_string(),
        &port.to_string(),
    ];
    let ask = sandbox.clone().command("timeout").arg(seconds.to_string());
    let output = ask.args(program).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn reaches_the_host_only_if_asked(sandbox: &Sandbox, uplink: &UplinkBuilder) {
    let port = serve();
    let open = uplink.clone().host_loopback();
    let inside = sandbox.clone().uplink(&open);
    assert_eq!(ask(&inside, "tcp", &open, port, 10), "a line\n");
    assert_eq!(ask(&inside, "udp", &open, port, 10), "a datagram\n");
    let inside = sandbox.clone().uplink(uplink);
    assert_eq!(ask(&inside, "tcp", uplink, port, 2), "");
    assert_eq!(ask(&inside, "udp", uplink, port, 1), "");
    let shown = sh(&inside, "cat /proc/net/dev /proc/net/route");
    assert!(shown.contains("tap0:"), "{shown}");
}

fn in_every_owner(uplink: &UplinkBuilder) {
    let in_a_user_namespace = Sandbox::new().user().net();
    reaches_the_host_only_if_asked(&in_a_user_namespace, uplink);
    let as_root_inside = in_a_user_namespace.user_map(IdMap::root());
    reaches_the_host_only_if_asked(&as_root_inside, uplink);
    if is_privileged() {
        reaches_the_host_only_if_asked(&Sandbox::new().net(), uplink);
    }
}

#[test]
fn a_sandbox_reaches_the_host_by_slirp4netns() {
    isolated_as_both(|| {
        require!(userns, netns, tun, program("bash"), program("slirp4netns"));
        in_every_owner(&Uplink::slirp4netns());
    });
}

#[test]
fn ipv6_leads_out_where_it_was_asked_for() {
    with_capabilities!({
        require!(netns, tun, program("ip"), program("slirp4netns"));
        enter();
        let inside = Namespace::<Net>::create().unwrap();
        let uplink = Uplink::slirp4netns().host_loopback();
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let to = SocketAddr::new(address("fd00::2"), listener.local_addr().unwrap().port());
        let connect = || {
            inside
                .run_in(|| TcpStream::connect_timeout(&to, PATIENCE))
                .unwrap()
        };
        let attached = uplink.clone().ipv6().attach(&inside).unwrap();
        until_addresses_are_sure(&inside);
        connect().unwrap();
        drop(attached);
        let attached = Uplink::slirp4netns().ipv6().attach(&inside).unwrap();
        until_addresses_are_sure(&inside);
        assert_eq!(connect().unwrap_err().kind(), NetworkUnreachable);
        drop(attached);
        let _attached = uplink.attach(&inside).unwrap();
        assert_eq!(connect().unwrap_err().kind(), NetworkUnreachable);
    });
}

/// The kernel uses none before it has asked whether somebody else has it.
fn until_addresses_are_sure(namespace: &Namespace<Net>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = &ip(namespace, "-6 addr show tap0")[0]["addr_info"];
        let addresses = shown.as_array().unwrap();
        let is_sure = |one: &serde_json::Value| one["tentative"] != true;
        let is_global = |one: &serde_json::Value| one["scope"] == "global";
        if addresses.iter().all(is_sure) && addresses.iter().any(is_global) {
            return;
        }
        assert!(Instant::now() < deadline, "{addresses:?}");
    }
}

#[test]
fn a_sandbox_reaches_the_host_by_pasta() {
    isolated_as_both(|| {
        require!(userns, netns, tun, program("bash"), program("pasta"));
        in_every_owner(&Uplink::pasta());
    });
}

#[test]
fn the_interface_is_as_it_was_asked_for_and_goes_with_its_uplink() {
    with_capabilities!({
        require!(netns, tun, program("ip"), program("slirp4netns"));
        let namespace = Namespace::<Net>::create().unwrap();
        let inside = Netlink::open(&namespace).unwrap();
        let uplink = Uplink::slirp4netns()
            .interface("wan")
            .net(net("10.7.0.0/22"))
            .mtu(1400);
        for _ in 0..3 {
            let attached = uplink.attach(&namespace).unwrap();
            let shown = &ip(&namespace, "addr show wan")[0];
            assert_eq!(shown["mtu"], 1400);
            let addresses = shown["addr_info"].as_array().unwrap();
            let is_own =
                |one: &serde_json::Value| one["local"] == "10.7.0.100" && one["prefixlen"] == 22;
            assert!(addresses.iter().any(is_own), "{addresses:?}");
            let route = &ip(&namespace, "route show default")[0];
            assert_eq!(
                (&route["gateway"], &route["dev"]),
                (&"10.7.0.2".into(), &"wan".into())
            );
            // The name is taken.
            let error = uplink.attach(&namespace).unwrap_err();
            assert_eq!(
                (error.kind(), error.step()),
                (ErrorKind::System, Some(Step::Uplink))
            );
            assert!(error.to_string().contains("busy"), "{error}");
            drop(attached);
            assert_eq!(names(&inside).unwrap(), ["lo"]);
        }
    });
}

/// By all addresses of the host: its own here, for slirp4netns lets no answer by UDP to a loopback address.
fn publishes(uplink: UplinkBuilder) {
    let host = enter();
    let address = Address::new("lo", net("198.51.100.1/32"));
    Netlink::current().unwrap().add(address).unwrap();
    let inside = Namespace::<Net>::create().unwrap();
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080);
    let uplink = uplink.publish_tcp(any, 80).publish_udp(any, 80);
    let attached = uplink.attach(&inside).unwrap();
    let outside = "198.51.100.1:8080".parse().unwrap();
    let bound = (Ipv4Addr::UNSPECIFIED, 80).into();
    tcp(&host, (Ipv4Addr::LOCALHOST, 8080).into(), &inside, bound);
    tcp(&host, outside, &inside, bound);
    udp(&host, outside, &inside, bound);
    // The ports are taken.
    let other = Namespace::<Net>::create().unwrap();
    let error = uplink.attach(&other).unwrap_err();
    assert_eq!(
        (error.kind(), error.step()),
        (ErrorKind::System, Some(Step::Uplink))
    );
    assert_eq!(names(&Netlink::open(&other).unwrap()).unwrap(), ["lo"]);
    drop(attached);
    drop(uplink.attach(&other).unwrap());
}

#[test]
fn slirp4netns_publishes_ports() {
    with_capabilities!({
        require!(netns, tun, program("slirp4netns"));
        publishes(Uplink::slirp4netns());
    });
}

#[test]
fn pasta_publishes_ports() {
    with_capabilities!({
        require!(netns, tun, program("pasta"));
        publishes(Uplink::pasta());
    });
}

#[test]
fn members_of_a_network_reach_the_outside_through_it() {
    with_capabilities!({
        require!(netns, tun, program("bash"), program("slirp4netns"));
        let port = serve();
        let uplink = Uplink::slirp4netns().host_loopback();
        let overlapping = Network::bridge("lab", net("10.0.0.0/8")).uplink(&uplink);
        assert_eq!(
            overlapping.create().unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        let network = Network::bridge("lab", net("10.9.0.0/24")).uplink(&uplink);
        let network = network.create().unwrap();
        let member = Sandbox::new().net().network(&network);
        assert_eq!(ask(&member, "tcp", &uplink, port, 10), "a line\n");
        assert_eq!(ask(&member, "udp", &uplink, port, 10), "a datagram\n");
    });
}

#[test]
fn a_published_port_leads_on_to_a_member() {
    with_capabilities!({
        require!(netns, tun, program("nft"), program("slirp4netns"));
        let host = enter();
        let outside = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080);
        let uplink = Uplink::slirp4netns().publish_tcp(outside, 8000);
        let network = Network::bridge("lab", net("10.9.0.0/24")).uplink(&uplink);
        let network = network.create().unwrap();
        let web = Namespace::<Net>::create().unwrap();
        let _member = network.connect(&web, Some("web")).unwrap();
        let served = (network.address_of("web").unwrap(), 80).into();
        network.publish(Publish::tcp(8000, served)).unwrap();
        let seen = tcp(&host, outside.into(), &web, served);
        assert_eq!(Some(seen), uplink.gateway());
    });
}

#[test]
fn the_name_server_is_known_before_it_is_there() {
    isolated_as_both(|| {
        require!(userns);
        let uplink = Uplink::slirp4netns();
        let bound = Sandbox::new().user().mount().user_map(IdMap::root());
        let bound = bound.bind_data(uplink.resolv_conf(), "/etc/resolv.conf", 0o644, Bind::new());
        let text = crate::support::stdout(&shell(&bound, "cat /etc/resolv.conf"));
        assert_eq!(text, "nameserver 10.0.2.3");
    });
}
