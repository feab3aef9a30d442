//! What it costs to connect a namespace, beside the bare calls and the `ip` commands; to take one from a pool
//! rather than make one; and a network of a hundred members.
//!
//! Needs root. All of it is in a network and a mount namespace of the bench's own.

#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to report to but its user"
)]

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ringfence::net::named;
use ringfence::net::{Address, IpNet, Link, LinkChange, NetPool, Netlink, Network, Peer, Route};
use ringfence::ns::{Namespace, Net};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

#[path = "floor/compare.rs"]
#[allow(dead_code, reason = "a part is for other benches")]
mod compare;
#[path = "net/raw.rs"]
mod raw;
#[allow(dead_code, reason = "a part of the file is for reading")]
#[path = "../src/net/wire.rs"]
mod wire;

use compare::{interleave, report};

const ROUNDS: usize = 200;
const COMMANDS: usize = 15;
const MEMBERS: usize = 100;

const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

fn net(address: Ipv4Addr) -> IpNet {
    IpNet::new(address, 24).expect("24 bits")
}

fn create() -> Namespace<Net> {
    Namespace::create().expect("root")
}

/// By the crate: the socket of the namespace is opened each time, as its user has to.
fn connect(host: &Netlink, namespace: &Namespace<Net>, name: &str) -> ringfence::Result<()> {
    let inside = Netlink::open(namespace)?;
    host.batch()
        .add(Link::veth(name, Peer::new("eth0").namespace(namespace)).up())
        .add(Address::new(name, net(HOST)))
        .commit()?;
    inside
        .batch()
        .add(LinkChange::of("lo").up())
        .add(LinkChange::of("eth0").up())
        .add(Address::new("eth0", net(INSIDE)))
        .add(Route::default_via(HOST).dev("eth0"))
        .commit()
        .map(drop)
}

fn against_the_floor() {
    let host = Netlink::current().expect("a socket");
    let mut floor = raw::Floor::new();
    let mut ours: Vec<_> = (0..ROUNDS).map(|_| create()).collect();
    let mut theirs: Vec<_> = (0..ROUNDS).map(|_| create()).collect();
    // They live until the end: what the kernel takes down would disturb.
    let mut used = Vec::new();
    let mut kept = Vec::new();
    let [ours, floor] = interleave(
        ROUNDS,
        [
            &mut || {
                let namespace = ours.pop().expect("enough");
                connect(&host, &namespace, &format!("o{}", ours.len())).expect("root");
                used.push(namespace);
            },
            &mut || {
                let namespace = theirs.pop().expect("enough");
                floor.connect(&namespace, &format!("f{}", theirs.len()), HOST, INSIDE);
                kept.push(namespace);
            },
        ],
    );
    let contenders = [("ringfence", &ours), ("floor", &floor)];
    report("network", "veth pair, addresses, route", &contenders);
}

/// As many as the bridge has addresses for.
fn as_members() {
    let bridge = |name, net: &str| {
        let net: IpNet = net.parse().expect("a net");
        Network::bridge(name, net).create().expect("root")
    };
    let (network, other) = (
        bridge("ours", "10.9.1.0/24"),
        bridge("theirs", "10.9.2.0/24"),
    );
    let bridge = Netlink::current().expect("a socket").link("theirs");
    let bridge = bridge.expect("was made").index;
    let mut floor = raw::Floor::new();
    let mut ours: Vec<_> = (0..ROUNDS).map(|_| create()).collect();
    let mut theirs: Vec<_> = (0..ROUNDS).map(|_| create()).collect();
    let mut used = Vec::new();
    let mut kept = Vec::new();
    let [ours, floor] = interleave(
        ROUNDS,
        [
            &mut || {
                let namespace = ours.pop().expect("enough");
                let member = network.connect(&namespace, None).expect("root");
                used.push((namespace, member));
            },
            &mut || {
                let namespace = theirs.pop().expect("enough");
                let name = format!("m{}", theirs.len());
                let number = u8::try_from(theirs.len()).expect("fewer") + 2;
                let [host, inside] = [1, number].map(|last| Ipv4Addr::new(10, 9, 2, last));
                floor.plug(&namespace, &name, bridge, [host, inside]);
                kept.push(namespace);
            },
        ],
    );
    drop(other);
    let contenders = [("ringfence", &ours), ("floor", &floor)];
    report("network", "member of a bridge", &contenders);
}

fn against_ip() {
    let host = Netlink::current().expect("a socket");
    let mut namespaces: Vec<_> = (0..COMMANDS).map(|_| create()).collect();
    let names: Vec<_> = (0..COMMANDS).map(|n| format!("b{n}")).collect();
    names
        .iter()
        .for_each(|name| drop(named::add(name).expect("root")));
    let mut left = names.clone();
    let mut used = Vec::new();
    let [ours, ip] = interleave(
        COMMANDS,
        [
            &mut || {
                let namespace = namespaces.pop().expect("enough");
                connect(&host, &namespace, &format!("p{}", namespaces.len())).expect("root");
                used.push(namespace);
            },
            &mut || {
                let name = left.pop().expect("enough");
                for arguments in [
                    format!("link add {name} type veth peer name eth0 netns {name}"),
                    format!("addr add {HOST}/24 dev {name}"),
                    format!("link set {name} up"),
                    format!("-n {name} link set lo up"),
                    format!("-n {name} addr add {INSIDE}/24 dev eth0"),
                    format!("-n {name} link set eth0 up"),
                    format!("-n {name} route add default via {HOST}"),
                ] {
                    let status = Command::new("ip").args(arguments.split(' ')).status();
                    assert!(status.expect("iproute2").success(), "{arguments}");
                }
            },
        ],
    );
    let contenders = [("ringfence", &ours), ("seven ip commands", &ip)];
    report("network by ip", "veth pair, addresses, route", &contenders);
    names
        .iter()
        .for_each(|name| named::delete(name).expect("root"));
}

fn pool() {
    let pool = NetPool::new(ROUNDS).expect("a thread");
    pool.fill().expect("root");
    // While it is refilled, taking from it would be measured beside that.
    let mut taken = Vec::new();
    let [take, make] = interleave(
        ROUNDS / 4,
        [&mut || taken.push(pool.take().expect("root")), &mut || {
            drop(create())
        }],
    );
    let contenders = [("taken from a pool", &take), ("made", &make)];
    report("pool", "network namespace", &contenders);
}

fn members() {
    let namespaces: Vec<_> = (0..MEMBERS).map(|_| create()).collect();
    let start = Instant::now();
    let network = Network::bridge("lab", "10.10.0.0/16".parse().expect("a net"))
        .create()
        .expect("root");
    let connect = |namespace| network.connect(namespace, None).expect("root");
    let members: Vec<_> = namespaces.iter().map(connect).collect();
    let connected = start.elapsed();
    let start = Instant::now();
    drop(members);
    drop(network);
    println!(
        "network of {MEMBERS} members: connected in {connected:?}, removed in {:?}",
        start.elapsed()
    );
}

fn all(criterion: &mut Criterion) {
    raw::unshare();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("root");
    mount("scratch", "/run", "tmpfs", MountFlags::empty(), None).expect("root");
    against_the_floor();
    as_members();
    against_ip();
    pool();
    members();
    let netlink = Netlink::current().expect("a socket");
    criterion.bench_function("links", |b| b.iter(|| netlink.links().expect("a list")));
    let namespace = create();
    criterion.bench_function("open", |b| {
        b.iter(|| Netlink::open(&namespace).expect("root"))
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .without_plots();
    targets = all
}
criterion_main!(benches);
