//! What links can be told besides, and what they tell of their kind, as `ip -d link` sees it.

use std::time::Duration;

use ringfence::ErrorKind;
use ringfence::net::{
    Bridge, Link, LinkChange, LinkData, LinkInfo, MacvlanMode, Netlink, Peer, Vlan, VlanProtocol,
    Vxlan, VxlanDf, VxlanFlag,
};
use ringfence::ns::{Namespace, Net};
use serde_json::{Value, json};

use super::{address, create, everything, ip, names, run, with_capabilities};
use crate::common::require;

/// What is listed of a link's kind, as ip(8) puts it.
fn told(netlink: &Netlink, link: &LinkInfo) -> Value {
    let name_of = |index: u32| netlink.link(index).unwrap().name;
    let hundredths = |time: Duration| time.as_millis() / 10;
    match link.data.as_ref().unwrap() {
        LinkData::Bridge {
            vlan_filtering,
            stp,
            ageing_time,
            forward_delay,
            priority,
            ..
        } => json!({
            "vlan_filtering": u8::from(*vlan_filtering),
            "stp_state": u8::from(*stp),
            "ageing_time": hundredths(*ageing_time),
            "forward_delay": hundredths(*forward_delay),
            "priority": priority,
        }),
        LinkData::Macvlan { mode, .. } => {
            json!({"mode": format!("{mode:?}").to_lowercase()})
        }
        LinkData::Vlan { id, protocol, .. } => json!({
            "id": id,
            "protocol": match protocol {
                VlanProtocol::Ieee8021Q => "802.1Q",
                VlanProtocol::Ieee8021Ad => "802.1ad",
                other => panic!("{other:?}"),
            },
        }),
        LinkData::Vxlan {
            id,
            local,
            remote,
            port,
            dev,
            learning,
            ttl,
            external,
            tos,
            df,
            flow_label,
            ageing,
            limit,
            source_ports,
            flags,
            ..
        } => {
            let (low, high) = source_ports.clone().unwrap_or(0..=0).into_inner();
            let mut all = json!({
                "id": id, "port": port, "learning": learning, "ageing": ageing.as_secs(),
                "df": format!("{df:?}").to_lowercase(), "port_range": {"low": low, "high": high},
            });
            let mut set = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    all[name] = value;
                }
            };
            let is_v6 = local.or(*remote).is_some_and(|address| address.is_ipv6());
            let [local_name, remote_name] = match is_v6 {
                true => ["local6", "remote6"],
                false => ["local", "remote"],
            };
            let group = remote.filter(|remote| remote.is_multicast());
            let remote = remote.filter(|remote| !remote.is_multicast());
            let has = |flag| flags.contains(&flag);
            // Without it there is none of these.
            let some = |flag| has(flag).then_some(json!(true));
            for (name, flag) in [
                ("proxy", VxlanFlag::Proxy),
                ("rsc", VxlanFlag::Rsc),
                ("l2miss", VxlanFlag::L2Miss),
                ("l3miss", VxlanFlag::L3Miss),
                ("gbp", VxlanFlag::Gbp),
                ("gpe", VxlanFlag::Gpe),
            ] {
                set(name, some(flag));
            }
            for (name, flag) in [
                ("udp_csum", VxlanFlag::UdpCsum),
                ("udp_zero_csum6_tx", VxlanFlag::UdpZeroCsum6Tx),
                ("udp_zero_csum6_rx", VxlanFlag::UdpZeroCsum6Rx),
            ] {
                set(name, Some(json!(has(flag))));
            }
            set("external", external.then_some(json!(true)));
            set("limit", (*limit > 0).then_some(json!(limit)));
            set(
                "label",
                (*flow_label > 0).then_some(json!(format!("{flow_label:#x}"))),
            );
            set("tos", (*tos > 0).then_some(json!(format!("{tos:#x}"))));
            // What is inherited is not in the JSON.
            set("ttl", (!has(VxlanFlag::TtlInherit)).then_some(json!(ttl)));
            set(local_name, local.map(|local| json!(local)));
            set(remote_name, remote.map(|remote| json!(remote)));
            set("group", group.map(|group| json!(group)));
            set("link", dev.map(|dev| json!(name_of(dev))));
            all
        }
        other => panic!("{other:?}"),
    }
}

/// Checks that what is listed of a link's kind is what ip(8) shows, and that this is in it.
#[track_caller]
fn check(namespace: &Namespace<Net>, netlink: &Netlink, name: &str, expected: Value) {
    let shown = &ip(namespace, &format!("link show {name}"))[0];
    let shown = &shown["linkinfo"]["info_data"];
    let told = told(netlink, &netlink.link(name).unwrap());
    for of in [&told, &expected] {
        for (key, value) in of.as_object().unwrap() {
            assert_eq!(shown[key], *value, "{key} of {name}: {shown}");
        }
    }
    let listed = netlink.links().unwrap();
    let listed = listed.iter().find(|link| link.name == name).unwrap();
    assert_eq!(listed.data, netlink.link(name).unwrap().data);
    for optional in [
        "local", "local6", "remote", "remote6", "group", "link", "external", "limit", "label",
        "tos", "ttl", "proxy", "rsc", "l2miss", "l3miss", "gbp", "gpe",
    ] {
        assert_eq!(shown.get(optional), told.get(optional), "{name}: {shown}");
    }
}

#[test]
fn kinds_have_the_settings_they_are_made_with() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        let make = |link| netlink.add(link).unwrap();
        let check = |name, expected| check(&namespace, &netlink, name, expected);
        make(Link::veth("v0", Peer::new("v1")));
        make(Link::bridge("plain"));
        check("plain", json!({"ageing_time": 30000, "stp_state": 0}));
        let bridge = Bridge::new()
            .stp()
            .ageing_time(Duration::from_millis(12_009))
            .forward_delay(Duration::from_secs(3))
            .priority(7);
        make(Link::bridge_with("br0", bridge));
        let expected = json!({
            "stp_state": 1, "ageing_time": 1200, "forward_delay": 300, "priority": 7,
        });
        check("br0", expected);
        let forgetful = Bridge::new().ageing_time(Duration::ZERO);
        make(Link::bridge_with("br1", forgetful));
        check("br1", json!({"ageing_time": 0}));
        for (name, mode) in [
            ("private", MacvlanMode::Private),
            ("vepa", MacvlanMode::Vepa),
        ] {
            make(Link::macvlan(name, "v0", mode));
            check(name, json!({"mode": name}));
        }

        let vxlan = Vxlan::new(42).local([192, 0, 2, 1]).remote([192, 0, 2, 2]);
        make(Link::vxlan("vx0", vxlan.clone()));
        check("vx0", json!({"learning": true, "ttl": 0}));
        let told = vxlan.clone().port(4790).learning(false).ttl(9);
        make(Link::vxlan("vx1", told));
        let expected = json!({"id": 42, "port": 4790, "learning": false, "ttl": 9});
        check("vx1", expected);
        let v6 = Vxlan::new(43)
            .local(address("::1"))
            .learning(true)
            .dev("v0");
        make(Link::vxlan("vx2", v6));
        let expected = json!({"id": 43, "local6": "::1", "link": "v0", "learning": true});
        check("vx2", expected);
        assert_eq!(netlink.link("v0").unwrap().data, None);

        let all = Vxlan::new(44)
            .port(4791)
            .tos(0x10)
            .df(VxlanDf::Set)
            .ageing(Duration::from_secs(77))
            .limit(9)
            .source_ports(100..=200)
            .flag(VxlanFlag::Rsc, true)
            .flag(VxlanFlag::L2Miss, true)
            .flag(VxlanFlag::UdpCsum, false)
            .flag(VxlanFlag::Gbp, true)
            .flag(VxlanFlag::TtlInherit, true);
        make(Link::vxlan("vx3", all));
        let expected = json!({
            "tos": "0x10", "df": "set", "ageing": 77, "limit": 9, "rsc": true, "l2miss": true,
            "port_range": {"low": 100, "high": 200}, "udp_csum": false, "gbp": true,
        });
        check("vx3", expected);
        let v6 = Vxlan::new(45).port(4792).local(address("::1"));
        let v6 = v6.flow_label(77).flag(VxlanFlag::UdpZeroCsum6Rx, true);
        make(Link::vxlan("vx4", v6));
        check("vx4", json!({"label": "0x4d", "udp_zero_csum6_rx": true}));
    });
}

#[test]
fn a_vxlan_may_be_of_all_networks() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        let before = everything(&namespace);
        let remote = Vxlan::external().remote([192, 0, 2, 2]);
        let batch = netlink.batch().add(Link::bridge("br0"));
        let error = batch.add(Link::vxlan("vx0", remote)).commit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert!(error.to_string().contains("192.0.2.2"), "{error:?}");
        assert_eq!(everything(&namespace), before);

        let external = || Vxlan::external().local([192, 0, 2, 1]);
        netlink.add(Link::vxlan("vx0", external())).unwrap();
        let expected = json!({"external": true, "id": 0, "learning": false});
        check(&namespace, &netlink, "vx0", expected);
        let packets = external().port(4790).flag(VxlanFlag::Gpe, true);
        netlink.add(Link::vxlan("vx1", packets)).unwrap();
        check(
            &namespace,
            &netlink,
            "vx1",
            json!({"external": true, "gpe": true}),
        );
        let learning = external().port(4791).learning(true);
        netlink.add(Link::vxlan("vx2", learning)).unwrap();
        check(&namespace, &netlink, "vx2", json!({"learning": true}));
        // What is said last holds.
        let twice = Vxlan::new(9).port(4792).flag(VxlanFlag::Gbp, true);
        let twice = twice.flag(VxlanFlag::Gbp, false);
        netlink.add(Link::vxlan("vx3", twice)).unwrap();
        let shown = &ip(&namespace, "link show vx3")[0]["linkinfo"]["info_data"];
        assert_eq!(shown.get("gbp"), None, "{shown}");
    });
}

#[test]
fn tags_are_of_two_sorts() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        netlink.add(Link::veth("v0", Peer::new("v1"))).unwrap();
        let outer = Vlan::new(100).protocol(VlanProtocol::Ieee8021Ad);
        match netlink.add(Link::vlan("outer", "v0", outer)) {
            Ok(()) => {
                let expected = json!({"id": 100, "protocol": "802.1ad"});
                check(&namespace, &netlink, "outer", expected);
                netlink.add(Link::vlan("inner", "outer", 5)).unwrap();
                let expected = json!({"id": 5, "protocol": "802.1Q"});
                check(&namespace, &netlink, "inner", expected);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}"),
        }
    });
}

#[test]
fn kinds_that_ip_makes_tell_their_settings() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        let make = |what: &str| run(&namespace, "ip", &format!("link add name {what}"));
        make("v0 type veth peer name v1");
        make("br0 type bridge stp_state 1 ageing_time 1000 forward_delay 400 priority 9");
        make("br1 type bridge");
        make("m0 link v0 type macvlan mode bridge");
        make("vx0 type vxlan id 1 dstport 4789 local 192.0.2.1 remote 192.0.2.2 ttl 8");
        make("vx1 type vxlan id 2 dstport 4789 nolearning local fd00::1 remote fd00::2 dev v0");
        make("vx2 type vxlan id 3 dstport 4789 group 239.0.0.1 dev v0");
        make("vx3 type vxlan external dstport 4795");
        let told = "tos 0x10 df set srcport 100 200 ageing 77 maxaddress 9 proxy rsc l2miss l3miss noudpcsum";
        make(&format!(
            "vx4 type vxlan id 4 dstport 4796 {told} udp6zerocsumtx gbp ttl inherit"
        ));
        make("vx5 type vxlan id 5 dstport 4797 local fd00::1 flowlabel 77 tos inherit df inherit");
        for name in ["br0", "br1", "m0", "vx0", "vx1", "vx2", "vx3", "vx4", "vx5"] {
            check(&namespace, &netlink, name, json!({}));
        }
    });
}

#[test]
fn links_are_told_what_only_changes_tell() {
    with_capabilities!({
        require!(netns, program("ip"));
        let (namespace, netlink) = create();
        netlink.add(Link::bridge("br0").mac(super::MAC)).unwrap();
        let plain = everything(&namespace);
        let shown = || {
            let link = &ip(&namespace, "link show br0")[0];
            let listed = netlink.link("br0").unwrap();
            let flags = link["flags"].as_array().unwrap();
            let is_promisc = flags.contains(&json!("PROMISC"));
            let alias = link["ifalias"].as_str().map(str::to_owned);
            let length = link["txqlen"].as_u64().unwrap();
            assert_eq!(listed.promisc, is_promisc);
            assert_eq!(listed.alias, alias.clone().map(Into::into));
            assert_eq!(u64::from(listed.txqueuelen), length);
            (is_promisc, alias, length)
        };
        assert_eq!(shown(), (false, None, 1000));
        let change = LinkChange::of("br0")
            .promisc(true)
            .alias("of the lab")
            .txqueuelen(77);
        let batch = netlink.batch().add(change.clone());
        let error = batch.add(Link::bridge("bad").mtu(1)).commit().unwrap_err();
        assert!(error.to_string().contains("add bridge bad"), "{error:?}");
        assert_eq!(everything(&namespace), plain);

        let done = netlink.batch().add(change).commit().unwrap();
        let changed = (true, Some("of the lab".to_owned()), 77);
        assert_eq!(shown(), changed);
        // One thing, and nothing else.
        netlink.set(LinkChange::of("br0").up()).unwrap();
        assert_eq!(shown(), changed);
        netlink.set(LinkChange::of("br0").down()).unwrap();
        let back = LinkChange::of("br0").promisc(false).alias("");
        let batch = netlink.batch().add(back.txqueuelen(5));
        let undone = batch.commit().unwrap();
        assert_eq!(shown(), (false, None, 5));
        undone.undo().unwrap();
        assert_eq!(shown(), changed);
        done.undo().unwrap();
        assert_eq!(everything(&namespace), plain);
        let long = LinkChange::of("br0").alias("a".repeat(256));
        let error = netlink.set(long).unwrap_err();
        assert!(error.to_string().contains("IFLA_IFALIAS"), "{error:?}");
        netlink
            .set(LinkChange::of("br0").alias("a".repeat(255)))
            .unwrap();
    });
}

#[test]
fn a_link_moves_with_a_new_name() {
    with_capabilities!({
        require!(netns);
        let (_here, netlink) = create();
        let (there, in_there) = create();
        netlink.add(Link::veth("eth0", Peer::new("v0"))).unwrap();
        in_there.add(Link::bridge("eth0")).unwrap();
        in_there.add(Link::bridge("taken")).unwrap();
        // Whether or not the old name is free there.
        for link in ["eth0", "v0"] {
            let error = netlink.move_link_as(link, &there, "taken").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("move") && text.contains("taken"), "{text}");
        }
        assert_eq!(names(&netlink).unwrap(), ["lo", "v0", "eth0"]);
        assert_eq!(names(&in_there).unwrap(), ["lo", "eth0", "taken"]);
        let bad = netlink.move_link_as("eth0", &there, "eth%d").unwrap_err();
        assert_eq!(bad.kind(), ErrorKind::InvalidInput);
        let gone = netlink.move_link_as("gone", &there, "eth1").unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);

        let of = |netlink: &Netlink, name: &str| netlink.link(name).unwrap().mac;
        let [eth0, v0] = ["eth0", "v0"].map(|name| of(&netlink, name));
        netlink.move_link_as("eth0", &there, "eth1").unwrap();
        netlink.move_link_as("v0", &there, "eth2").unwrap();
        assert_eq!([of(&in_there, "eth1"), of(&in_there, "eth2")], [eth0, v0]);
        assert_eq!(names(&netlink).unwrap(), ["lo"]);
    });
}
