mod abandoned;
mod alt_names;
mod batch;
mod entries;
mod fdb;
mod links;
mod listed;
mod membership;
mod monitor;
mod named;
mod network;
mod nft;
mod nft_table;
mod pool;
mod published;
mod reach;
mod ready;
mod replaced;
mod settings;
mod taps;
mod traffic;
mod uplink;
mod uplink_contract;
mod vlans;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use ringfence::Result;
use ringfence::net::{
    Address, IpNet, Link, LinkChange, Mac, Netlink, OperState, Peer, wait_for_link,
};
use ringfence::ns::{Namespace, Net};
use serde_json::Value;

use crate::support::with_capabilities;

/// A namespace, and a socket of it.
fn create() -> (Namespace<Net>, Netlink) {
    let namespace = Namespace::<Net>::create().unwrap();
    let netlink = Netlink::open(&namespace).unwrap();
    (namespace, netlink)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

/// Runs a program in a namespace; what it writes.
#[track_caller]
fn run(namespace: &Namespace<Net>, program: &str, arguments: &str) -> String {
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    let run = || Command::new(program).args(&arguments).output();
    let output = namespace.run_in(run).unwrap().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `ip -j -d` says in a namespace.
#[track_caller]
fn ip(namespace: &Namespace<Net>, arguments: &str) -> Vec<Value> {
    let text = run(namespace, "ip", &format!("-j -d {arguments}"));
    if text.trim().is_empty() {
        return Vec::new();
    }
    match serde_json::from_str(&text).unwrap() {
        Value::Array(all) => all,
        other => panic!("{other}"),
    }
}

/// Everything ip(8) shows of a namespace but for counters and what comes and goes by itself: whether there
/// is a carrier, the IPv6 addresses that the kernel makes when there is one, and the queue that an interface
/// gets when it comes up.
fn everything(namespace: &Namespace<Net>) -> Vec<String> {
    let mut text = run(namespace, "ip", "-d link show");
    for what in [
        "addr show",
        "route show table all",
        "-6 route show table all",
        "rule",
        "neigh",
    ] {
        text += &run(namespace, "ip", what);
    }
    let moving = [
        "valid_lft",
        "_timer",
        "fe80:",
        "ff00::/8",
        "local proto kernel metric 0",
    ];
    let is_steady = |line: &&str| !moving.iter().any(|word| line.contains(word));
    let text = text.replace("NO-CARRIER,", "").replace(",LOWER_UP", "");
    let mut steady = Vec::new();
    for line in text.lines().filter(is_steady) {
        let mut words: Vec<_> = line.split(' ').filter(|word| *word != "linkdown").collect();
        for changing in ["state", "qdisc"] {
            if let Some(at) = words.iter().position(|word| *word == changing) {
                words.drain(at..at + 2);
            }
        }
        steady.push(words.join(" "));
    }
    steady
}

/// Two namespaces with an `eth0` each that lead to each other, with these addresses.
fn connected(here: &str, there: &str) -> [(Namespace<Net>, Netlink); 2] {
    let (left, right) = (create(), create());
    left.1
        .batch()
        .add(Link::veth("eth0", Peer::new("eth0").namespace(&right.0)).up())
        .add(Address::new("eth0", net(here)).nodad())
        .commit()
        .unwrap();
    right
        .1
        .batch()
        .add(LinkChange::of("eth0").up())
        .add(Address::new("eth0", net(there)).nodad())
        .commit()
        .unwrap();
    wait_for_link(&left.0, "eth0", PATIENCE).unwrap();
    [left, right]
}

/// A namespace behind an interface of another: `four.2` and `six:2` of its `eth0` are connected with `four.1` and
/// `six:1` of that interface.
fn behind(router: &Netlink, name: &str, four: &str, six: &str) -> (Namespace<Net>, Netlink) {
    let (namespace, netlink) = create();
    router
        .batch()
        .add(Link::veth(name, Peer::new("eth0").namespace(&namespace)).up())
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
    while router.link(name).unwrap().operstate != OperState::Up {
        std::thread::yield_now();
    }
    (namespace, netlink)
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const PATIENCE: Duration = Duration::from_secs(10);

/// A connection from one namespace to a port of another's, and back. Returns the address that the server saw.
#[track_caller]
fn tcp(
    from: &Namespace<Net>,
    to: SocketAddr,
    server: &Namespace<Net>,
    bound: SocketAddr,
) -> IpAddr {
    let listener = server.run_in(|| TcpListener::bind(bound)).unwrap().unwrap();
    let mut client = from.run_in(|| connect(to)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut served, peer) = listener.accept().unwrap();
    served.write_all(b"hello").unwrap();
    drop(served);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    peer.ip()
}

/// That a connection fails in this way, though there is a server where it would be led to.
#[track_caller]
fn blocked(
    from: &Namespace<Net>,
    to: SocketAddr,
    server: &Namespace<Net>,
    bound: SocketAddr,
    how: ErrorKind,
) {
    let listener = server.run_in(|| TcpListener::bind(bound)).unwrap().unwrap();
    // What is refused is so at once, and what is dropped never.
    let patience = match how {
        ErrorKind::TimedOut => Duration::from_millis(300),
        _ => PATIENCE,
    };
    let connect = || TcpStream::connect_timeout(&to, patience);
    let error = from.run_in(connect).unwrap().expect_err("is connected");
    assert_eq!(error.kind(), how, "{to}: {error}");
    listener.set_nonblocking(true).unwrap();
    let accepted = listener.accept().expect_err("is connected");
    assert_eq!(accepted.kind(), ErrorKind::WouldBlock, "{accepted}");
}

/// A moment after an interface has come up: only then the kernel sends by it, and makes the routes of an address of IPv6.
#[track_caller]
fn connect(to: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect_timeout(&to, PATIENCE) {
            Err(error) if Instant::now() < deadline => {
                let not_yet = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable];
                assert!(not_yet.contains(&error.kind()), "{to}: {error}");
                std::thread::yield_now();
            }
            other => return other.unwrap_or_else(|error| panic!("{to}: {error}")),
        }
    }
}

/// A datagram, and its answer. Returns the address that the server saw.
#[track_caller]
fn udp(
    from: &Namespace<Net>,
    to: SocketAddr,
    server: &Namespace<Net>,
    bound: SocketAddr,
) -> IpAddr {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
        .parse()
        .unwrap();
    let service = server.run_in(|| UdpSocket::bind(bound)).unwrap().unwrap();
    let client = from.run_in(|| UdpSocket::bind(any)).unwrap().unwrap();
    for socket in [&service, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    client.connect(to).unwrap();
    client.send(b"hello").unwrap();
    let mut bytes = [0; 16];
    let (_, peer) = service.recv_from(&mut bytes).unwrap();
    service.send_to(b"there", peer).unwrap();
    let length = client.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"there");
    peer.ip()
}

/// TCP and UDP from one to the other.
#[track_caller]
fn both_ways(from: &Namespace<Net>, to: &str, server: &Namespace<Net>) {
    let to = SocketAddr::new(address(to), 80);
    tcp(from, to, server, to);
    udp(from, to, server, to);
}

fn names(netlink: &Netlink) -> Result<Vec<String>> {
    Ok(netlink.links()?.into_iter().map(|link| link.name).collect())
}
