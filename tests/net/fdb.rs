//! Forwarding entries, as bridge(8) sees them.

use ringfence::net::{FdbEntry, FdbTable, Link, Mac, NeighbourState, Netlink, Peer, Vxlan};
use ringfence::ns::{Namespace, Net};
use serde_json::{Value, json};

use super::{MAC, address, create, run, with_capabilities};
use crate::common::require;

/// With a bridge whose port is `v0`, and a vxlan.
fn with_bridge() -> (Namespace<Net>, Netlink) {
    let (namespace, netlink) = create();
    netlink
        .batch()
        .add(Link::bridge("br0").up())
        .add(Link::veth("v0", Peer::new("v1")).master("br0").up())
        .add(Link::vxlan("vx0", Vxlan::new(42).local(address("192.0.2.1"))).up())
        .commit()
        .unwrap();
    (namespace, netlink)
}

/// What `bridge -j fdb` shows of an address.
fn shown(namespace: &Namespace<Net>, mac: Mac) -> Vec<Value> {
    let text = run(namespace, "bridge", "-j fdb show");
    let mut all: Vec<Value> = serde_json::from_str(&text).unwrap();
    all.retain(|entry| entry["mac"] == mac.to_string());
    all
}

/// All that it shows but for groups, which an interface joins when it has come up.
fn steady(namespace: &Namespace<Net>) -> Vec<String> {
    let text = run(namespace, "bridge", "fdb show");
    let is_group = |line: &&str| {
        ["33:33:", "01:00:5e:"]
            .iter()
            .any(|group| line.starts_with(group))
    };
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| !is_group(line))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

#[test]
fn entries_are_what_bridge_shows() {
    with_capabilities!({
        require!(netns, program("bridge"));
        let (namespace, netlink) = with_bridge();
        let before = steady(&namespace);
        let hosts = ["192.0.2.7", "192.0.2.8", "192.0.2.9"];
        let [one, two, three] = hosts.map(address);
        let port = FdbEntry::port("v0", MAC);
        let all = [
            port.clone(),
            FdbEntry::tunnel("vx0", MAC, one),
            FdbEntry::tunnel("vx0", FdbEntry::EVERYBODY, two),
            FdbEntry::tunnel("vx0", FdbEntry::EVERYBODY, three),
        ];
        let commit = || {
            let batch = netlink.batch();
            let batch = all
                .iter()
                .fold(batch, |batch, entry| batch.add(entry.clone()));
            batch.commit().unwrap()
        };
        let done = commit();

        let of = |name: &str, mac| {
            let mut found = shown(&namespace, mac);
            found.retain(|entry| entry["ifname"] == name);
            found
        };
        let by_port = &of("v0", MAC)[0];
        assert_eq!(by_port["state"], "static");
        assert_eq!(by_port["master"], "br0");
        let by_tunnel = &of("vx0", MAC)[0];
        assert_eq!(by_tunnel["dst"], hosts[0]);
        assert_eq!(by_tunnel["flags"], json!(["self"]));
        let everybody = of("vx0", FdbEntry::EVERYBODY);
        let mut destinations: Vec<_> = everybody.iter().map(|entry| &entry["dst"]).collect();
        destinations.sort_by_key(|dst| dst.to_string());
        assert_eq!(destinations, [hosts[1], hosts[2]]);

        let listed = netlink.fdb().unwrap();
        let index = |name: &str| netlink.link(name).unwrap().index;
        for entry in &all {
            let mut expected = entry.clone();
            expected.link = match entry.table {
                FdbTable::Bridge => index("v0").into(),
                FdbTable::Device => index("vx0").into(),
            };
            assert!(
                listed.contains(&expected),
                "{expected:?} is not in {listed:?}"
            );
        }
        done.undo().unwrap();
        assert_eq!(steady(&namespace), before);

        let _ = commit();
        let again = netlink.add(port.clone()).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EEXIST), "{again:?}");
        for entry in &all {
            netlink.delete_fdb(entry).unwrap();
        }
        let again = netlink.delete_fdb(&port).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::ENOENT), "{again:?}");
        assert_eq!(steady(&namespace), before);
    });
}

#[test]
fn a_failing_batch_leaves_what_was_there_for_everybody() {
    with_capabilities!({
        require!(netns, program("bridge"));
        let (namespace, netlink) = with_bridge();
        let [old, new] = ["192.0.2.7", "192.0.2.8"].map(address);
        let to = |host| FdbEntry::tunnel("vx0", FdbEntry::EVERYBODY, host);
        netlink.add(to(old)).unwrap();
        let before = steady(&namespace);
        let batch = netlink.batch().add(to(old)).add(to(new));
        batch.add(Link::bridge("br0")).commit().unwrap_err();
        assert_eq!(steady(&namespace), before);
        netlink
            .batch()
            .add(to(old))
            .commit()
            .unwrap()
            .undo()
            .unwrap();
        assert_eq!(steady(&namespace), before);
    });
}

#[test]
fn what_bridge_adds_is_listed() {
    with_capabilities!({
        require!(netns, program("bridge"));
        let (namespace, netlink) = with_bridge();
        let add = format!("fdb add {MAC} dev v0 master permanent");
        run(&namespace, "bridge", &add);
        let add = format!("fdb add {MAC} dev vx0 self permanent dst 192.0.2.7");
        run(&namespace, "bridge", &add);
        let mut listed = netlink.fdb().unwrap();
        listed.retain(|entry| entry.mac.0[0] & 1 == 0);
        assert_eq!(listed.len(), steady(&namespace).len(), "{listed:?}");
        let index = |name: &str| netlink.link(name).unwrap().index;
        // What a vxlan is told is permanent is both.
        let own = NeighbourState(NeighbourState::PERMANENT.0 | NeighbourState::NOARP.0);
        let by_port = FdbEntry::port(index("v0"), MAC).state(NeighbourState::PERMANENT);
        let by_tunnel = FdbEntry::tunnel(index("vx0"), MAC, address("192.0.2.7")).state(own);
        for expected in [by_port, by_tunnel] {
            assert!(
                listed.contains(&expected),
                "{expected:?} is not in {listed:?}"
            );
        }
    });
}
