//! What becomes of interfaces, addresses and routes, as it is told.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ringfence::net::{Address, Event, Link, Monitor, Route, Watch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::{PATIENCE, create, ip, net, run, with_capabilities};
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
