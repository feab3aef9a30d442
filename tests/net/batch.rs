//! All or nothing.

use std::net::Ipv4Addr;

use ringfence::net::{
    Address, Batch, Change, Family, Link, LinkChange, MacvlanMode, Neighbour, Netlink, Network,
    Peer, Route, Rule, Vxlan,
};
use ringfence::ns::{Namespace, Net};
use ringfence::{ErrorKind, Step};
use serde_json::Value;

use super::{MAC, create, everything, ip, names, net, with_capabilities};
use crate::common::faults::{Faults, syscalls, window};
use crate::common::require;

/// One change of every sort, those of an interface that was there before included.
fn changes<'a>() -> Vec<Change<'a>> {
    vec![
        Link::bridge("br0").up().into(),
        Link::veth("v0", Peer::new("v1")).master("br0").up().into(),
        LinkChange::of("v1").up().into(),
        LinkChange::of("old")
            .mtu(1300)
            .mac(MAC)
            .rename("new")
            .up()
            .into(),
        Address::new("br0", net("10.9.0.1/24")).into(),
        Address::new("br0", net("fd00:9::1/64")).nodad().into(),
        Address::new("new", net("10.8.0.1/24")).into(),
        Route::to(net("10.10.0.0/16"))
            .via(Ipv4Addr::new(10, 9, 0, 2))
            .into(),
        Route::to(net("fd00:10::/32")).dev("br0").into(),
        Neighbour::new("br0", Ipv4Addr::new(10, 9, 0, 9), MAC).into(),
        Rule::new(Family::V4)
            .from(net("10.9.0.0/24"))
            .priority(9)
            .into(),
    ]
}

fn batch<'a>(netlink: &'a Netlink, changes: Vec<Change<'a>>) -> Batch<'a> {
    let add = |batch: Batch<'a>, change| batch.add(change);
    changes.into_iter().fold(netlink.batch(), add)
}

#[test]
fn a_batch_is_made_and_undone_as_a_whole() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        netlink.add(Link::veth("old", Peer::new("other"))).unwrap();
        let before = everything(&namespace);
        let committed = batch(&netlink, changes()).commit().unwrap();
        let made = names(&netlink).unwrap();
        for name in ["br0", "v0", "v1", "new"] {
            assert!(made.iter().any(|made| made == name), "{made:?}");
        }
        assert_eq!(ip(&namespace, "route show 10.10.0.0/16")[0]["dev"], "br0");
        assert_eq!(ip(&namespace, "link show new")[0]["mtu"], 1300);
        assert_eq!(
            ip(&namespace, "addr show dev br0")[0]["addr_info"][0]["local"],
            "10.9.0.1"
        );
        committed.undo().unwrap();
        assert_eq!(everything(&namespace), before);
    });
}

#[test]
fn a_failure_at_any_change_leaves_nothing() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        netlink.add(Link::veth("old", Peer::new("other"))).unwrap();
        let before = everything(&namespace);
        for position in 0..=changes().len() {
            // The kernel refuses it, and goes on with what comes after it.
            let mut changes = changes();
            changes.insert(position, Link::bridge("bad").mtu(1).into());
            let error = batch(&netlink, changes).commit().unwrap_err();
            assert!(
                error.to_string().contains("add bridge bad"),
                "{position}: {error:?}"
            );
            assert_eq!(error.step(), Some(Step::Link));
            assert_eq!(error.hint(), None, "{position}");
            assert_eq!(everything(&namespace), before, "{position}");
        }
        // Nothing at all is sent if one cannot be expressed.
        let mut changes = changes();
        changes.push(Link::bridge("a/b").into());
        let error = batch(&netlink, changes).commit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(everything(&namespace), before);
    });
}

#[test]
fn each_change_can_be_the_one_that_fails() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        netlink.add(Link::veth("old", Peer::new("other"))).unwrap();
        let before = everything(&namespace);
        for (position, change) in changes().into_iter().enumerate() {
            // Made twice, everything but a change of an interface is EEXIST.
            let mut changes = changes();
            let is_set = matches!(change, Change::Set(_));
            changes.push(change);
            let result = batch(&netlink, changes).commit();
            match result {
                Ok(committed) => {
                    assert!(is_set, "{position}");
                    committed.undo().unwrap();
                }
                Err(error) if is_set => assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}"),
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}"),
            }
            assert_eq!(everything(&namespace), before, "{position}");
        }
    });
}

/// The kernel makes the parts of a change one after the other, up to the one that it refuses.
#[test]
fn a_change_that_is_refused_half_way_leaves_nothing() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        netlink.add(Link::veth("old", Peer::new("other"))).unwrap();
        netlink.add(Link::bridge("br0").mac(MAC)).unwrap();
        let before = everything(&namespace);
        let change = || LinkChange::of("old").mtu(1300).mac(MAC).group(9);
        for (change, errno) in [
            (change().rename("other"), libc::EEXIST),
            (
                change().rename("new").txqueuelen(7).master("other"),
                libc::EOPNOTSUPP,
            ),
            (change().mtu(1), libc::EINVAL),
            (change().master("br0").master("old"), libc::EOPNOTSUPP),
        ] {
            for first in [None, Some(Link::bridge("br1"))] {
                let batch = first.into_iter().fold(netlink.batch(), Batch::add);
                let error = batch.add(change.clone()).commit().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(errno), "{error:?}");
                assert_eq!(error.hint(), None, "{error:?}");
                assert_eq!(everything(&namespace), before, "{error:?}");
            }
        }
    });
}

/// A bridge that is nobody's business.
fn with_stranger(name: &str) -> (Namespace<Net>, Netlink) {
    let (namespace, netlink) = create();
    let stranger = Link::bridge(name).index(STRANGER).mtu(1400).up();
    netlink.add(stranger).unwrap();
    (namespace, netlink)
}

const STRANGER: u32 = 77;

#[test]
fn a_link_that_is_there_already_is_left_alone() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_stranger("eth0");
        let before = everything(&namespace);
        let changes = || {
            LinkChange::of("eth0")
                .mtu(1300)
                .mac(MAC)
                .group(9)
                .down()
                .rename("eth1")
        };
        for link in [
            Link::bridge("eth0"),
            Link::veth("eth0", Peer::new("other")),
            Link::veth("other", Peer::new("eth0")),
            // A number that another has, or a name and a number.
            Link::bridge("eth0").index(STRANGER),
            Link::bridge("eth0").index(STRANGER + 1),
        ] {
            for add in [
                LinkChange::of("eth0").mtu(1300).mac(MAC).group(9).down(),
                changes(),
            ] {
                let batch = netlink.batch().add(link.clone()).add(add);
                let error = batch
                    .add(Address::new("lo", net("10.9.0.1/24")))
                    .commit()
                    .unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
                assert!(error.to_string().contains("add "), "{error:?}");
                assert_eq!(everything(&namespace), before, "{link:?}");
            }
        }
        // Another name, and the number of the stranger.
        let batch = netlink
            .batch()
            .add(Link::bridge("mine").index(STRANGER))
            .add(LinkChange::of("mine").mtu(1300).down());
        batch.commit().unwrap_err();
        assert_eq!(everything(&namespace), before);
        let batch = netlink
            .batch()
            .add(Link::bridge("mine").index(STRANGER))
            .add(LinkChange::of(STRANGER).mtu(1300).down());
        batch.commit().unwrap_err();
        assert_eq!(everything(&namespace), before);
    });
}

#[test]
fn a_name_that_another_has_is_no_way_to_it() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_stranger("new");
        netlink.add(Link::bridge("old").up()).unwrap();
        let before = everything(&namespace);
        for first in [None, Some(Link::bridge("young"))] {
            let old = match first {
                Some(_) => "young",
                None => "old",
            };
            let batch = first
                .into_iter()
                .fold(netlink.batch(), |batch, link| batch.add(link));
            let error = batch
                .add(LinkChange::of(old).rename("new"))
                .add(LinkChange::of("new").mtu(1300).down())
                .commit()
                .unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
            assert_eq!(everything(&namespace), before, "{old}");
        }
    });
}

#[test]
fn a_new_link_is_undone_whatever_its_name_is_by_then() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        let before = everything(&namespace);
        let renamed = || {
            netlink
                .batch()
                .add(Link::bridge("a"))
                .add(LinkChange::of("a").rename("b").up())
                .add(LinkChange::of("b").rename("c"))
                .add(Address::new("c", net("10.9.0.1/24")))
                .add(Link::veth("v", Peer::new("w")))
                .add(LinkChange::of("v").rename("x").master("c"))
                .add(LinkChange::of("w").rename("v").up())
        };
        let done = renamed().commit().unwrap();
        assert_eq!(ip(&namespace, "link show x")[0]["master"], "c");
        assert_eq!(ip(&namespace, "link show x")[0]["link"], "v");
        let address = &ip(&namespace, "addr show c")[0]["addr_info"][0];
        assert_eq!(address["local"], "10.9.0.1");
        done.undo().unwrap();
        assert_eq!(everything(&namespace), before);
        for bad in [
            Link::bridge("bad").mtu(1),
            Link::bridge("c"),
            Link::bridge("v"),
        ] {
            renamed().add(bad).commit().unwrap_err();
            assert_eq!(everything(&namespace), before);
        }
        // Only the peer, whose other end is elsewhere.
        let (other, _) = create();
        let there = everything(&other);
        netlink
            .batch()
            .add(Link::veth("eth0", Peer::new("a")).namespace(&other))
            .add(LinkChange::of("a").rename("b"))
            .add(Link::bridge("b"))
            .commit()
            .unwrap_err();
        assert_eq!(
            [everything(&namespace), everything(&other)],
            [before, there]
        );
    });
}

#[test]
fn what_undoing_does_not_bring_back_is_said() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        let bridge = |name: &str| Link::bridge(name).mac(MAC).up();
        let set_up = || {
            netlink
                .batch()
                .add(bridge("br0"))
                .add(bridge("br1"))
                .add(Link::veth("x", Peer::new("y")).up())
                .add(LinkChange::of("y").up().master("br0"))
                .add(Address::new("x", net("10.1.0.1/24")))
                .add(Address::new("x", net("fd00::1/64")).nodad())
                .add(
                    Route::to(net("10.2.0.0/16"))
                        .via(Ipv4Addr::new(10, 1, 0, 2))
                        .dev("x"),
                )
                .add(Route::to(net("fd00:2::/32")).dev("x"))
                .commit()
                .unwrap()
        };
        let routes = || {
            let of = |family| {
                ip(
                    &namespace,
                    &format!("{family} route show dev x proto static"),
                )
                .len()
            };
            [of("-4"), of("-6")]
        };
        let settings = || {
            let of = |link: &Value| {
                let is_up = link["flags"].as_array().unwrap().contains(&"UP".into());
                (
                    link["ifname"].clone(),
                    link["mtu"].clone(),
                    link["master"].clone(),
                    is_up,
                )
            };
            ip(&namespace, "link show")
                .iter()
                .map(of)
                .collect::<Vec<_>>()
        };
        let bad = || Link::bridge("bad").mtu(1);
        for (change, lost, left) in [
            (LinkChange::of("x").down(), "routes", [0, 0]),
            (LinkChange::of("x").mtu(1279), "IPv6", [1, 0]),
            (LinkChange::of("y").no_master(), "forwarding", [1, 1]),
            (LinkChange::of("y").master("br1"), "forwarding", [1, 1]),
        ] {
            let made = set_up();
            let before = settings();
            let everything_before = everything(&namespace);
            // What fails before it keeps it from being made at all.
            let batch = netlink.batch().add(bad()).add(change.clone());
            let error = batch.commit().unwrap_err();
            assert_eq!(error.hint(), None, "{error:?}");
            assert_eq!(everything(&namespace), everything_before, "{change:?}");
            assert_eq!(routes(), [1, 1]);

            let batch = netlink.batch().add(change.clone()).add(bad());
            let error = batch.commit().unwrap_err();
            let hint = error.hint().unwrap();
            assert!(
                hint.contains(lost) && hint.contains("not brought back"),
                "{hint}"
            );
            assert_eq!(settings(), before, "{change:?}");
            assert_eq!(routes(), left, "{change:?}");
            made.undo().unwrap();
        }
        // What is down already, or stays large enough, loses nothing.
        let _ = set_up();
        let batch = netlink.batch().add(LinkChange::of("x").mtu(1280));
        let error = batch.add(bad()).commit().unwrap_err();
        assert_eq!((error.hint(), routes()), (None, [1, 1]));
        netlink.set(LinkChange::of("x").down()).unwrap();
        let batch = netlink.batch().add(LinkChange::of("x").down());
        assert_eq!(batch.add(bad()).commit().unwrap_err().hint(), None);
    });
}

#[test]
fn a_link_may_stand_on_one_of_the_same_batch() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        let tunnel = Vxlan::new(42).remote([239, 0, 0, 1]).dev("v");
        netlink
            .batch()
            .add(Link::veth("v", Peer::new("w")))
            .add(Link::vxlan("vx", tunnel))
            .add(Link::macvlan("m", "v", MacvlanMode::Bridge))
            .commit()
            .unwrap();
        let vxlan = &ip(&namespace, "link show vx")[0];
        assert_eq!(vxlan["linkinfo"]["info_data"]["link"], "v");
        assert_eq!(ip(&namespace, "link show m")[0]["link"], "v");
    });
}

#[test]
fn a_failed_link_may_have_any_change_after_it() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = with_stranger("there");
        let before = everything(&namespace);
        let afterwards: [fn() -> Change<'static>; 7] = [
            || LinkChange::of("bad").up().into(),
            || LinkChange::of("bad").rename("there").into(),
            || LinkChange::of("there").master("bad").into(),
            || Address::new("bad", net("10.9.0.1/24")).into(),
            || Route::to(net("10.9.0.0/16")).dev("bad").into(),
            || Neighbour::new("bad", Ipv4Addr::new(10, 9, 0, 2), MAC).into(),
            || Link::veth("v", Peer::new("w")).master("bad").into(),
        ];
        for after in afterwards {
            let batch = netlink.batch().add(Link::bridge("bad").mtu(1));
            let error = batch.add(after()).commit().unwrap_err();
            assert!(error.to_string().contains("add bridge bad"), "{error:?}");
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error:?}");
            assert_eq!(everything(&namespace), before, "{:?}", after());
        }
    });
}

#[test]
fn what_was_made_in_another_namespace_goes_as_well() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (here, netlink) = create();
        let (left, in_left) = create();
        let (right, in_right) = create();
        let before = [&here, &left, &right].map(everything);
        let result = netlink
            .batch()
            .add(Link::veth("eth0", Peer::new("eth0").namespace(&right)).namespace(&left))
            .add(Link::veth("v0", Peer::new("eth1").namespace(&right)))
            .add(Link::bridge("bad").mtu(1))
            .commit();
        assert!(result.is_err());
        assert_eq!([&here, &left, &right].map(everything), before);
        let committed = netlink
            .batch()
            .add(Link::veth("eth0", Peer::new("eth0").namespace(&right)).namespace(&left))
            .commit()
            .unwrap();
        assert_eq!(names(&in_left).unwrap(), ["lo", "eth0"]);
        assert_eq!(names(&in_right).unwrap(), ["lo", "eth0"]);
        committed.undo().unwrap();
        assert_eq!([&here, &left, &right].map(everything), before);
    });
}

#[test]
fn a_thousand_changes_fit_and_the_last_may_fail() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        netlink.add(Link::bridge("br0").up()).unwrap();
        let before = everything(&namespace);
        let address = |n: u32| {
            let host = Ipv4Addr::from(0x0a09_0000 + n);
            Address::new("br0", ringfence::net::IpNet::new(host, 16).unwrap())
        };
        let all = |count| {
            (1..=count)
                .map(|n| address(n).into())
                .collect::<Vec<Change<'_>>>()
        };
        let committed = batch(&netlink, all(1000)).commit().unwrap();
        let count = || {
            netlink
                .addresses()
                .unwrap()
                .iter()
                .filter(|found| found.net.prefix() == 16)
                .count()
        };
        assert_eq!(count(), 1000);
        committed.undo().unwrap();
        assert_eq!(everything(&namespace), before);
        let mut changes = all(500);
        changes.push(address(1).into());
        let error = batch(&netlink, changes).commit().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
        assert_eq!(everything(&namespace), before);
    });
}

#[test]
fn a_socket_serves_many_threads() {
    with_capabilities!({
        require!(netns);
        let (_namespace, netlink) = create();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let netlink = &netlink;
                scope.spawn(move || {
                    for round in 0..10 {
                        let name = format!("b{thread}-{round}");
                        netlink.add(Link::bridge(&name)).unwrap();
                        assert!(names(netlink).unwrap().contains(&name));
                        netlink.delete_link(name).unwrap();
                    }
                });
            }
        });
        assert_eq!(names(&netlink).unwrap(), ["lo"]);
    });
}

#[test]
fn a_call_that_fails_leaves_nothing() {
    const INJECTED: i32 = libc::EXDEV;
    with_capabilities!({
        require!(netns, seccomp_notify, program("ip"));
        // Without answers nobody knows what was done, so those are let through.
        let faults = Faults::new(syscalls![SYS_sendto, SYS_socket, SYS_connect, SYS_setns]);
        let many = || {
            let (namespace, netlink) = create();
            netlink.add(Link::bridge("br0").up()).unwrap();
            let before = everything(&namespace);
            let addresses = (1..=250).map(|n: u8| {
                let net = ringfence::net::IpNet::new([10, 9, 0, n], 24);
                Address::new("br0", net.unwrap()).into()
            });
            let result = window(|| batch(&netlink, addresses.collect()).commit().map(drop));
            match result {
                Ok(()) => {
                    let listed = netlink.addresses().unwrap();
                    let ours = listed.iter().filter(|address| address.net.prefix() == 24);
                    assert_eq!(ours.count(), 250);
                }
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(INJECTED), "{error:?}");
                    assert_eq!(everything(&namespace), before);
                }
            }
        };
        // One to look the bridge up, and three for the addresses.
        let calls = faults.sweep(INJECTED, many, |k, run| {
            assert!(run.succeeded(), "{k}: {run}")
        });
        assert_eq!(calls, 4);
        let member = || {
            crate::common::sys::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
            let network = Network::bridge("lab", net("10.9.0.0/24")).create().unwrap();
            let host = network.namespace().try_clone().unwrap();
            let namespace = ringfence::ns::Namespace::create().unwrap();
            let before = [&host, &namespace].map(everything);
            match window(|| network.connect(&namespace, Some("web"))) {
                Ok(_member) => assert!(network.address_of("web").is_some()),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(INJECTED), "{error:?}");
                    assert_eq!([&host, &namespace].map(everything), before);
                    assert_eq!(network.address_of("web"), None);
                }
            }
        };
        faults.sweep(INJECTED, member, |k, run| {
            assert!(run.succeeded(), "{k}: {run}")
        });
    });
}
