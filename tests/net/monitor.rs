//! What becomes of interfaces, addresses and routes, as it is told.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ringfence::ErrorKind;
use ringfence::net::{
    Address, Event, Link, LinkChange, Monitor, Peer, Route, Watch, wait_for_addresses,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::{MAC, PATIENCE, address, create, ip, net, run, with_capabilities};
use crate::common::require;

const ALL: [Watch; 3] = [Watch::Links, Watch::Addresses, Watch::Routes];

/// The first event that is this.
#[track_caller]
fn until<T>(monitor: &mut Monitor, is_it: impl Fn(Event) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let event = monitor.wait_timeout(left).unwrap();
        seen.extend(event.clone());
        if let Some(found) = event.and_then(&is_it) {
            return found;
        }
    }
    panic!("{seen:?}");
}

#[test]
fn what_ip_does_is_told() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        let mut monitor = Monitor::open(&namespace, &ALL).unwrap();
        run(&namespace, "ip", "link add v0 type veth peer name v1");
        run(&namespace, "ip", "link set v1 up");
        run(&namespace, "ip", "link set v0 up");
        let v0 = until(&mut monitor, |event| match event {
            Event::Link(link) if link.name == "v0" && link.carrier => Some(link),
            _ => None,
        });
        let shown = ip(&namespace, "link show dev v0").remove(0);
        assert_eq!(shown["ifindex"], v0.index);
        run(&namespace, "ip", "addr add 10.9.0.1/24 dev v0");
        let is_own = |found: &Address| found.net == net("10.9.0.1/24");
        let added = until(&mut monitor, |event| match event {
            Event::Address(found) if is_own(&found) => Some(found),
            _ => None,
        });
        assert!(netlink.addresses().unwrap().contains(&added));
        run(
            &namespace,
            "ip",
            "route add 10.10.0.0/16 via 10.9.0.2 mtu 1400",
        );
        let is_to = |found: &Route| found.destination == net("10.10.0.0/16");
        let added = until(&mut monitor, |event| match event {
            Event::Route(found) if is_to(&found) => Some(found),
            _ => None,
        });
        assert!(netlink.routes().unwrap().contains(&added));
        run(&namespace, "ip", "route del 10.10.0.0/16");
        until(&mut monitor, |event| match event {
            Event::RouteDeleted(found) => is_to(&found).then_some(()),
            _ => None,
        });
        run(&namespace, "ip", "addr del 10.9.0.1/24 dev v0");
        until(&mut monitor, |event| match event {
            Event::AddressDeleted(found) => is_own(&found).then_some(()),
            _ => None,
        });
        // A port that leaves its bridge is not gone.
        run(&namespace, "ip", "link add br0 type bridge");
        run(&namespace, "ip", "link set v0 master br0");
        run(&namespace, "ip", "link set v0 nomaster");
        run(&namespace, "ip", "link del br0");
        until(&mut monitor, |event| match event {
            Event::LinkDeleted(link) => {
                assert_eq!(link.name, "br0");
                Some(())
            }
            _ => None,
        });
    });
}

#[test]
fn a_monitor_tells_what_it_was_asked_for_and_waits_no_longer() {
    with_capabilities!({
        require!(netns);
        let (namespace, netlink) = create();
        let mut monitor = Monitor::open(&namespace, &[Watch::Addresses]).unwrap();
        let is_readable = |monitor: &Monitor| {
            let mut fds = [PollFd::new(monitor, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
        };
        netlink.add(Link::bridge("d0")).unwrap();
        assert!(!is_readable(&monitor) && monitor.try_next().unwrap().is_none());
        let limit = Duration::from_millis(20);
        let begun = Instant::now();
        assert_eq!(monitor.wait_timeout(limit).unwrap(), None);
        assert!(begun.elapsed() >= limit);
        let index = netlink.link("d0").unwrap().index;
        let own = Address::new(index, net("10.9.0.1/24"));
        netlink.add(own.clone()).unwrap();
        assert!(is_readable(&monitor));
        assert_eq!(monitor.wait().unwrap(), Event::Address(own));
        assert_eq!(monitor.try_next().unwrap(), None);
    });
}

#[test]
fn what_is_lost_is_told() {
    with_capabilities!({
        require!(netns);
        let (namespace, netlink) = create();
        let mut monitor = Monitor::open(&namespace, &ALL).unwrap();
        set_socket_recv_buffer_size(monitor.as_fd(), 1).unwrap();
        netlink.add(Link::bridge("d0")).unwrap();
        for number in 0..100 {
            let own = format!("10.9.0.{number}/32");
            netlink.add(Address::new("d0", net(&own))).unwrap();
        }
        let mut all = Vec::new();
        while let Some(event) = monitor.try_next().unwrap() {
            all.push(event);
        }
        assert_eq!(all.iter().filter(|event| **event == Event::Lost).count(), 1);
        assert!(all.len() < 100, "{all:?}");
        netlink.add(Address::new("d0", net("10.9.1.1/32"))).unwrap();
        assert!(matches!(monitor.wait().unwrap(), Event::Address(_)));
    });
}

#[test]
fn addresses_are_waited_for_until_they_are_usable() {
    with_capabilities!({
        require!(netns);
        let (left, right) = (create(), create());
        let peer = Peer::new("eth0").namespace(&right.0);
        left.1.add(Link::veth("eth0", peer).up()).unwrap();
        let wait = |limit| wait_for_addresses(&right.0, "eth0", limit);
        let [own, taken] = ["fd00:9::1/64", "fd00:9::2/64"].map(net);
        left.1.add(Address::new("eth0", taken).nodad()).unwrap();
        let index = right.1.link("eth0").unwrap().index;
        assert_eq!(wait(PATIENCE).unwrap(), []);
        for one in [own, taken] {
            right.1.add(Address::new("eth0", one)).unwrap();
        }
        // As long as it is down, nobody is asked.
        let error = wait(Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
        right.1.set(LinkChange::of("eth0").mac(MAC).up()).unwrap();
        let all = wait(PATIENCE).unwrap();
        let find = |one| all.iter().find(|found| found.net == one).unwrap();
        assert!(all.iter().all(|found| found.link == index.into()));
        assert!(!find(own).tentative && !find(own).dad_failed);
        assert!(find(taken).dad_failed);
        // It can be bound to, which the kernel refuses for one that cannot be used.
        let bind = |one: &str| {
            let to = (address(one), 0);
            right.0.run_in(|| std::net::UdpSocket::bind(to)).unwrap()
        };
        bind("fd00:9::1").unwrap();
        let refused = bind("fd00:9::2").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EADDRNOTAVAIL));
        let missing = wait_for_addresses(&right.0, "nothing", PATIENCE).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    });
}
