//! Interfaces whose packets a program reads and writes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use ringfence::net::{Address, LinkChange, TunTap};
use serde_json::json;

use super::{address, create, ip, names, net, with_capabilities};
use crate::common::require;

#[test]
fn a_tap_hands_out_frames() {
    with_capabilities!({
        require!(netns, tun);
        let (namespace, netlink) = create();
        let device = TunTap::tap("tap0").open(&namespace).unwrap();
        let other = TunTap::tap("tap0").open(&namespace).unwrap_err();
        assert_eq!(other.raw_os_error(), Some(libc::EBUSY), "{other:?}");
        netlink.set(LinkChange::of(device.name()).up()).unwrap();
        netlink
            .add(Address::new("tap0", net("10.9.0.1/24")))
            .unwrap();
        let mut file = File::from(OwnedFd::from(device));
        let socket = namespace
            .run_in(|| std::net::UdpSocket::bind("10.9.0.1:0"))
            .unwrap()
            .unwrap();
        socket.send_to(b"x", (address("10.9.0.2"), 9)).unwrap();
        // Besides what IPv6 says by itself, the kernel asks who has the address.
        let mut frame = [0; 2048];
        loop {
            let length = file.read(&mut frame).unwrap();
            if frame[12..14] == [8, 6] {
                assert!(length >= 42 && frame[38..42] == [10, 9, 0, 2]);
                break;
            }
        }
        file.write_all(&frame[..42]).unwrap();
        drop(file);
        assert_eq!(names(&netlink).unwrap(), ["lo"]);

        drop(TunTap::tun("tun0").persist().open(&namespace).unwrap());
        assert_eq!(netlink.link("tun0").unwrap().kind.as_deref(), Some("tun"));
        let index = netlink.link("tun0").unwrap().index;
        drop(TunTap::tun("tun0").persist().open(&namespace).unwrap());
        assert_eq!(netlink.link("tun0").unwrap().index, index);
        netlink.delete_link("tun0").unwrap();
    });
}

/// The number of users that the caller's user namespace has.
fn mapped() -> u64 {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let counts = map
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2));
    counts.map(|count| count.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_tap_may_be_of_a_user_and_have_headers_and_queues() {
    with_capabilities!({
        require!(netns, tun, program("ip"));
        let (namespace, netlink) = create();
        let data = |name: &str| {
            let link = &ip(&namespace, &format!("link show {name}"))[0];
            link["linkinfo"]["info_data"].clone()
        };
        let plain = TunTap::tap("plain").open(&namespace).unwrap();
        let shown = data("plain");
        for flag in ["vnet_hdr", "multi_queue", "persist", "pi"] {
            assert_eq!(shown[flag], false, "{shown}");
        }
        assert!(
            shown["user"].is_null() && shown["group"].is_null(),
            "{shown}"
        );
        let many = TunTap::tap("plain").multi_queue().open(&namespace);
        assert_eq!(many.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        drop(plain);

        let tap = TunTap::tap("tap0").vnet_hdr().multi_queue();
        let queues = [0; 3].map(|_| tap.open(&namespace).unwrap());
        let shown = data("tap0");
        assert_eq!(
            (&shown["vnet_hdr"], &shown["multi_queue"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(shown["numqueues"], 3);
        drop(queues);
        assert_eq!(names(&netlink).unwrap(), ["lo"]);

        let of = |uid, gid| TunTap::tun("tun0").owner(uid).group(gid).persist();
        if mapped() > 54322 {
            drop(of(54321, 54322).open(&namespace).unwrap());
            let shown = data("tun0");
            let [user, group] = ["user", "group"].map(|of| shown[of].to_string());
            assert!(user.contains("54321") && group.contains("54322"), "{shown}");
        } else {
            // Nothing stays of one whose owner is nobody.
            let error = of(54321, 0).open(&namespace).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error:?}");
            assert_eq!(names(&netlink).unwrap(), ["lo"]);
            drop(of(0, 0).open(&namespace).unwrap());
            assert!(data("tun0")["user"] == "root");
        }
        assert_eq!(data("tun0")["persist"], true);
        netlink.delete_link("tun0").unwrap();
    });
}

#[test]
fn a_header_stands_before_each_frame() {
    with_capabilities!({
        require!(netns, tun);
        const HEADER: usize = 10;
        let (namespace, netlink) = create();
        let device = TunTap::tap("tap0").vnet_hdr().open(&namespace).unwrap();
        netlink.set(LinkChange::of("tap0").up()).unwrap();
        let add = Address::new("tap0", net("10.9.0.1/24"));
        netlink.add(add).unwrap();
        let socket = namespace.run_in(|| std::net::UdpSocket::bind("10.9.0.1:0"));
        let socket = socket.unwrap().unwrap();
        socket.send_to(b"x", (address("10.9.0.2"), 9)).unwrap();
        let mut file = File::from(OwnedFd::from(device));
        let mut frame = [0; 2048];
        loop {
            let length = file.read(&mut frame).unwrap();
            // Who has the address.
            if frame[HEADER + 12..HEADER + 14] == [8, 6] {
                assert!(length >= HEADER + 42 && frame[HEADER + 38..HEADER + 42] == [10, 9, 0, 2]);
                break;
            }
        }
        file.write_all(&frame[..HEADER + 42]).unwrap();
        let short = file.write(&frame[..HEADER - 1]).unwrap_err();
        assert_eq!(short.raw_os_error(), Some(libc::EINVAL));
    });
}
