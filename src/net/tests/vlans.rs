//! VLANs of a bridge: the messages, and how they are undone.

use super::super::bridge_vlan::{BridgeVlan, Vids};
use super::super::link::{Bridge, Link};
use super::super::wire::{Message, Messages};
use super::{check, link, try_link, with_indexes};
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::BTreeMap;

fn message(vlan: &BridgeVlan) -> Message {
    with_indexes(|indexes| vlan.message(indexes)).unwrap()
}

#[test]
fn memberships_are_what_others_read() {
    let words = [
        "SetLink",
        "interface_family: Bridge",
        "index: 3",
        "VlanInfo(BridgeVlanInfo { flags: BridgeVlanInfoFlags(Pvid | Untagged), vid: 10 })",
    ];
    let one = BridgeVlan::port(3, 10).pvid().untagged();
    check(message(&one), 16, &words);
    let words = [
        "SetLink",
        "Flags(LowerDev)",
        "BridgeVlanInfoFlags(RangeBegin), vid: 1 }",
        "BridgeVlanInfoFlags(RangeEnd), vid: 4094 }",
    ];
    check(message(&BridgeVlan::bridge(3, 1..=4094)), 16, &words);
    let words = ["DelLink", "BridgeVlanInfoFlags(0x0), vid: 10 }"];
    check(message(&one.leave()), 16, &words);
    let bridge = Bridge::new().vlan_filtering().default_pvid(9);
    let words = ["VlanFiltering(true)", "VlanDefaultPvid(9)"];
    check(link(&Link::bridge_with("br0", bridge)), 16, &words);
}

/// As iproute2 6.1 sends `bridge vlan add vid 10-20 dev v0 untagged`, but for the flag that `IFLA_AF_SPEC` is nested.
#[test]
fn memberships_are_what_bridge_sends() {
    let mut message = message(&BridgeVlan::port(3, 10..=20).untagged());
    let words: [u16; 26] = [
        52,
        0,
        19,
        0,
        1,
        0,
        0,
        0, // nlmsghdr
        7,
        0,
        3,
        0,
        0,
        0,
        0,
        0, // ifinfomsg
        20,
        26 | 1 << 15, // IFLA_AF_SPEC
        8,
        2,
        0x04 | 0x08,
        10, // IFLA_BRIDGE_VLAN_INFO
        8,
        2,
        0x04 | 0x10,
        20,
    ];
    let expected: Vec<_> = words.into_iter().flat_map(u16::to_ne_bytes).collect();
    assert_eq!(message.finish(1).unwrap(), expected);
}

/// What is listed of an interface, as another implementation writes it.
fn listed(index: u32, infos: &[(BridgeVlanInfoFlags, u16)]) -> Vec<BridgeVlan> {
    let infos = infos.iter();
    let infos = infos.map(|(flags, vid)| {
        AfSpecBridge::VlanInfo(BridgeVlanInfo {
            flags: *flags,
            vid: *vid,
        })
    });
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    message.attributes = vec![
        LinkAttribute::Controller(5),
        LinkAttribute::AfSpecBridge(infos.collect()),
    ];
    let payload = NetlinkPayload::from(RouteNetlinkMessage::NewLink(message));
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    BridgeVlan::parse(&Messages(&bytes).next().unwrap())
}

#[test]
fn what_others_write_is_read() {
    use BridgeVlanInfoFlags as Flags;
    let found = listed(
        3,
        &[
            (Flags::Pvid | Flags::Untagged, 1),
            (Flags::Untagged | Flags::RangeBegin, 10),
            (Flags::Untagged | Flags::RangeEnd, 20),
            (Flags::empty(), 4094),
        ],
    );
    let expected = [
        BridgeVlan::port(3, 1).pvid().untagged(),
        BridgeVlan::port(3, 10..=20).untagged(),
        BridgeVlan::port(3, 4094),
    ];
    assert_eq!(found, expected);
    let of_itself = listed(5, &[(Flags::empty(), 7)]);
    assert_eq!(of_itself, [BridgeVlan::bridge(5, 7)]);
}

#[test]
fn only_what_can_be_is_sent() {
    let refused = |vlan: BridgeVlan| {
        let error = with_indexes(|indexes| vlan.message(indexes)).unwrap_err();
        assert_eq!(error.setter(), Some("vlan"), "{error:?}");
        error.to_string()
    };
    for bad in [0, 4095, u16::MAX] {
        assert!(refused(BridgeVlan::port(3, bad)).contains("from 1 to 4094"));
        refused(BridgeVlan::bridge(3, 1..=bad));
    }
    assert!(refused(BridgeVlan::port(3, Vids { first: 9, last: 8 })).contains("no range"));
    assert!(refused(BridgeVlan::port(3, 8..=9).pvid()).contains("pvid"));
    message(&BridgeVlan::port(3, 8..=8).pvid());
    message(&BridgeVlan::port(3, 8..=9).pvid().leave());
    let bridge = Bridge::new().default_pvid(4095);
    let error = try_link(&Link::bridge_with("br0", bridge)).unwrap_err();
    assert_eq!(error.setter(), Some("default_pvid"));
}

/// One interface's memberships, which the kernel has in two places: whether each is without tags, and the pvid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    untagged: BTreeMap<u16, bool>,
    pvid: Option<u16>,
}

impl Model {
    const INDEX: u32 = 3;

    /// In which each VLAN up to this one is there or not, without tags or with, and one or none is the pvid.
    fn all(last: u16) -> Vec<Self> {
        let mut all = vec![Self::default()];
        for vid in 1..=last {
            for one in all.clone() {
                for untagged in [false, true] {
                    let mut more = one.clone();
                    more.untagged.insert(vid, untagged);
                    all.push(more.clone());
                    more.pvid = Some(vid);
                    all.push(more);
                }
            }
        }
        all
    }

    /// As br_process_vlan_info() does.
    fn apply(&mut self, message: &mut Message) {
        let kind = message.kind();
        let bytes = message.finish(1).unwrap();
        let mut received = Messages(bytes).next().unwrap();
        received.kind = libc::RTM_NEWLINK;
        for vlan in BridgeVlan::parse(&received) {
            for vid in vlan.vids.first..=vlan.vids.last {
                if kind == libc::RTM_DELLINK {
                    self.untagged.remove(&vid);
                } else {
                    self.untagged.insert(vid, vlan.untagged);
                }
                if self.pvid == Some(vid) {
                    self.pvid = None;
                }
                if vlan.pvid {
                    self.pvid = Some(vid);
                }
            }
        }
    }

    fn listed(&self) -> Vec<BridgeVlan> {
        let mut all: Vec<BridgeVlan> = Vec::new();
        for (vid, untagged) in &self.untagged {
            let mut one = BridgeVlan::port(Self::INDEX, *vid);
            one.untagged = *untagged;
            one.pvid = self.pvid == Some(*vid);
            match all.last_mut() {
                Some(last)
                    if last.vids.last + 1 == *vid
                        && (last.untagged, last.pvid) == (one.untagged, one.pvid) =>
                {
                    last.vids.last = *vid;
                }
                _ => all.push(one),
            }
        }
        all
    }
}

/// All states of four VLANs, each changed in every way.
#[test]
fn what_was_there_before_is_brought_back() {
    const LAST: u16 = 4;
    let ranges = (1..=LAST).flat_map(|first| (first..=LAST).map(move |last| first..=last));
    let plain = |range| BridgeVlan::port(Model::INDEX, range);
    let changes = ranges.map(plain).flat_map(|vlan| {
        let pvid = vlan.clone().pvid();
        let is_one = vlan.vids.first == vlan.vids.last;
        let all = [vlan.clone(), vlan.clone().untagged(), vlan.leave()];
        all.into_iter().chain(is_one.then_some(pvid))
    });
    let changes: Vec<_> = changes.map(|change| (message(&change), change)).collect();
    for before in Model::all(LAST) {
        for (made, change) in &changes {
            let mut model = before.clone();
            model.apply(&mut made.clone());
            for mut message in change.reverse(Model::INDEX, &before.listed()) {
                model.apply(&mut message);
            }
            assert_eq!(model, before, "{}", change.describe());
        }
    }
    let others = [BridgeVlan::port(4, 1).pvid()];
    let change = BridgeVlan::port(3, 1).leave();
    assert_eq!(change.reverse(3, &others).len(), 0);
}
