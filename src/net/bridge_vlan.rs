//! VLANs of a bridge: of which of them its ports are, and the bridge itself.

use super::batch::Indexes;
use super::link::{IFINFOMSG, LinkRef, ifinfomsg};
use super::wire::{Message, Received, array};
use crate::error::{Error, Result, Step};
use std::fmt;
use std::ops::RangeInclusive;

/// Neither 0 nor the last of the 12 bits is one.
const VIDS: RangeInclusive<u16> = 1..=4094;

// <linux/if_bridge.h>
const IFLA_BRIDGE_FLAGS: u16 = 0;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const BRIDGE_FLAGS_SELF: u16 = 2;
const BRIDGE_VLAN_INFO_PVID: u16 = 1 << 1;
const BRIDGE_VLAN_INFO_UNTAGGED: u16 = 1 << 2;
const BRIDGE_VLAN_INFO_RANGE_BEGIN: u16 = 1 << 3;
const BRIDGE_VLAN_INFO_RANGE_END: u16 = 1 << 4;

/// VLANs from a first to a last one, or one: 10, or 10..=20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vids {
    /// The first.
    pub first: u16,
    /// The last, which is among them.
    pub last: u16,
}

impl Vids {
    fn contain(self, vid: u16) -> bool {
        (self.first..=self.last).contains(&vid)
    }

    /// Those that are in both.
    fn and(self, other: Self) -> Option<Self> {
        let first = self.first.max(other.first);
        let last = self.last.min(other.last);
        (first <= last).then_some(Self { first, last })
    }
}

impl From<u16> for Vids {
    fn from(vid: u16) -> Self {
        Self {
            first: vid,
            last: vid,
        }
    }
}

impl From<RangeInclusive<u16>> for Vids {
    fn from(vids: RangeInclusive<u16>) -> Self {
        Self {
            first: *vids.start(),
            last: *vids.end(),
        }
    }
}

impl fmt::Display for Vids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// That a port of a bridge, or the bridge itself, is a member of VLANs, to be added or as it is listed: only frames of
/// these pass it, where the bridge [filters](super::Bridge::vlan_filtering).
///
/// What is added of a VLAN that the interface is a member of already replaces that, so that it is `pvid` and `untagged`
/// if this one is, and else is not. A new port is a member of the bridge's [default VLAN](super::Bridge::default_pvid). In a
/// [`Batch`](super::Batch) the memberships that there were are brought back if it fails.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for ids that are not from 1 to 4094, and for several of
/// which each is to be the [`pvid`](Self::pvid); `EOPNOTSUPP` if the interface is no port of a bridge, or no bridge.
///
/// # Privileges
/// `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
///
/// # Kernel
/// `CONFIG_BRIDGE_VLAN_FILTERING`; without it, an error of [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), and no
/// interface is listed as a member of any.
///
/// # Examples
/// Two ports that reach each other, and a third with what a router is sent, each frame with its tag:
/// ```no_run
/// use ringfence::net::{Bridge, BridgeVlan, Link, Netlink, Peer};
///
/// # fn main() -> ringfence::Result<()> {
/// let filtering = Bridge::new().vlan_filtering().default_pvid(0);
/// Netlink::current()?
///     .batch()
///     .add(Link::bridge_with("br0", filtering).up())
///     .add(Link::veth("p1", Peer::new("one")).master("br0").up())
///     .add(Link::veth("p2", Peer::new("two")).master("br0").up())
///     .add(Link::veth("p3", Peer::new("router")).master("br0").up())
///     .add(BridgeVlan::port("p1", 10).pvid().untagged())
///     .add(BridgeVlan::port("p2", 10).pvid().untagged())
///     .add(BridgeVlan::port("p3", 10..=19))
///     .commit()?;
/// # Ok(())
/// # }
/// ```
///
/// See [bridge(8)](https://man7.org/linux/man-pages/man8/bridge.8.html), `bridge vlan`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[must_use = "nothing is changed until it is given to a netlink socket"]
#[doc(alias = "IFLA_BRIDGE_VLAN_INFO")]
pub struct BridgeVlan {
    /// The port, or the bridge; by index where it is listed.
    pub link: LinkRef,
    /// The VLANs.
    pub vids: Vids,
    /// Whether what comes in without a tag is of this VLAN.
    pub pvid: bool,
    /// Whether what goes out is without its tag.
    pub untagged: bool,
    /// Whether the interface is the bridge itself, rather than a port of one.
    pub of_bridge: bool,
    leaves: bool,
}

impl BridgeVlan {
    /// Of a port of a bridge. Frames come in and go out with their tags, unless it is told otherwise.
    pub fn port(port: impl Into<LinkRef>, vids: impl Into<Vids>) -> Self {
        Self {
            link: port.into(),
            vids: vids.into(),
            pvid: false,
            untagged: false,
            of_bridge: false,
            leaves: false,
        }
    }

    /// Of the bridge itself, for what the host sends and receives by the interface that it is.
    #[doc(alias = "BRIDGE_FLAGS_SELF")]
    pub fn bridge(bridge: impl Into<LinkRef>, vids: impl Into<Vids>) -> Self {
        Self {
            of_bridge: true,
            ..Self::port(bridge, vids)
        }
    }

    /// What comes in without a tag is of this VLAN, rather than of the one that was so before.
    #[doc(alias = "BRIDGE_VLAN_INFO_PVID")]
    pub fn pvid(mut self) -> Self {
        self.pvid = true;
        self
    }

    /// What goes out is without its tag.
    #[doc(alias = "BRIDGE_VLAN_INFO_UNTAGGED")]
    pub fn untagged(mut self) -> Self {
        self.untagged = true;
        self
    }

    /// Takes it out of the VLANs, in a [`Batch`](super::Batch), rather than into them.
    /// [`Netlink::delete_bridge_vlan`](super::Netlink::delete_bridge_vlan) does so alone.
    pub fn leave(mut self) -> Self {
        self.leaves = true;
        self
    }

    pub(super) const STEP: Step = Step::Link;

    pub(super) fn message(&self, indexes: &mut Indexes<'_>) -> Result<Message> {
        let Vids { first, last } = self.vids;
        check_vid("vlan", first).and(check_vid("vlan", last))?;
        let what = match first.cmp(&last) {
            std::cmp::Ordering::Greater => "is no range",
            std::cmp::Ordering::Less if self.pvid && !self.leaves => {
                "are several, of which only one can be the pvid"
            }
            _ => return Ok(self.message_of(self.vids, indexes.get(&self.link)?)),
        };
        Err(Error::invalid("vlan", format!("{first}-{last} {what}")))
    }

    /// The message for some of its VLANs.
    fn message_of(&self, vids: Vids, index: u32) -> Message {
        let kind = if self.leaves {
            libc::RTM_DELLINK
        } else {
            libc::RTM_SETLINK
        };
        let mut message = Message::new(kind, 0, &of_bridges(index));
        message.nest(libc::IFLA_AF_SPEC, |spec| {
            if self.of_bridge {
                spec.u16(IFLA_BRIDGE_FLAGS, BRIDGE_FLAGS_SELF);
            }
            let mut flags = 0;
            for (flag, on) in [
                (BRIDGE_VLAN_INFO_PVID, self.pvid),
                (BRIDGE_VLAN_INFO_UNTAGGED, self.untagged),
            ] {
                flags |= if on && !self.leaves { flag } else { 0 };
            }
            if vids.first == vids.last {
                put(spec, flags, vids.first);
            } else {
                put(spec, flags | BRIDGE_VLAN_INFO_RANGE_BEGIN, vids.first);
                put(spec, flags | BRIDGE_VLAN_INFO_RANGE_END, vids.last);
            }
        });
        message
    }

    /// The messages that bring back what this one changes of an interface of which these are all memberships.
    pub(super) fn reverse(&self, index: u32, now: &[Self]) -> Vec<Message> {
        let of_link = now.iter().filter(|vlan| vlan.link == LinkRef::Index(index));
        let mut changed: Vec<(Vids, &Self)> = of_link
            .filter_map(|vlan| match vlan.vids.and(self.vids) {
                Some(both) => Some((both, vlan)),
                // There is one pvid, which another takes the place of.
                None => (self.pvid && vlan.pvid).then_some((vlan.vids, vlan)),
            })
            .collect();
        changed.sort_by_key(|(vids, _)| vids.first);
        let mut messages = Vec::new();
        if !self.leaves {
            let new = self.clone().leave();
            let gaps = gaps(self.vids, changed.iter().map(|(vids, _)| *vids));
            messages.extend(gaps.map(|vids| new.message_of(vids, index)));
        }
        // The last, for others might take its place.
        changed.sort_by_key(|(_, vlan)| vlan.pvid);
        let back = changed
            .iter()
            .map(|(vids, vlan)| vlan.message_of(*vids, index));
        messages.extend(back);
        messages
    }

    /// The request for all of them, with ranges in two attributes: of four thousand single ones a message has no room.
    pub(super) fn dump() -> Message {
        let mut request = Message::new(libc::RTM_GETLINK, 0, &of_bridges(0));
        let filter = libc::RTEXT_FILTER_BRVLAN_COMPRESSED;
        request.u32(libc::IFLA_EXT_MASK, filter.cast_unsigned());
        request
    }

    /// All of one interface.
    pub(super) fn parse(message: &Received<'_>) -> Vec<Self> {
        let mut found = Vec::new();
        let listed = message.split(IFINFOMSG);
        let Some((fixed, attributes)) = listed.filter(|_| message.kind == libc::RTM_NEWLINK) else {
            return found;
        };
        let index = array(fixed, 4).map(u32::from_ne_bytes);
        let (Some(index), Some(spec)) = (index, attributes.get(libc::IFLA_AF_SPEC)) else {
            return found;
        };
        let master = attributes.get(libc::IFLA_MASTER);
        let of_bridge = master.and_then(|master| master.u32()) == Some(index);
        // With flags it is what hardware that is a switch of its own tells.
        if fixed[0] != libc::AF_BRIDGE as u8 || spec.attributes().get(IFLA_BRIDGE_FLAGS).is_some() {
            return found;
        }
        let mut begin = None;
        for attribute in spec
            .attributes()
            .filter(|one| one.kind == IFLA_BRIDGE_VLAN_INFO)
        {
            let numbers = [0, 2].map(|at| array(attribute.value, at).map(u16::from_ne_bytes));
            let [Some(flags), Some(vid)] = numbers else {
                continue;
            };
            if flags & BRIDGE_VLAN_INFO_RANGE_BEGIN != 0 {
                begin = Some(vid);
                continue;
            }
            let first = begin.take().unwrap_or(vid);
            found.push(Self {
                pvid: flags & BRIDGE_VLAN_INFO_PVID != 0,
                untagged: flags & BRIDGE_VLAN_INFO_UNTAGGED != 0,
                of_bridge,
                ..Self::port(index, first..=vid)
            });
        }
        found
    }

    /// What the kernel lacks, or the interface, if it says that it does not support this.
    pub(super) fn lacking(&self, is_of_bridge: bool) -> &'static str {
        match is_of_bridge {
            true => LACKING_FILTER,
            false if self.of_bridge => "VLANs of a bridge itself need an interface that is one",
            false => "VLANs of a port need an interface that is one of a bridge",
        }
    }

    /// As bridge(8) would take it.
    pub(super) fn describe(&self) -> String {
        let verb = if self.leaves { "delete" } else { "add" };
        let mut text = format!("{verb} vlan {} dev {}", self.vids, self.link);
        for (word, on) in [
            (" pvid", self.pvid && !self.leaves),
            (" untagged", self.untagged && !self.leaves),
            (" self", self.of_bridge),
        ] {
            text += if on { word } else { "" };
        }
        text
    }
}

/// Why VLANs are refused.
pub(super) const LACKING_FILTER: &str = "this kernel was built without VLAN filtering for bridges";

pub(super) fn check_vid(setter: &'static str, vid: u16) -> Result<()> {
    if VIDS.contains(&vid) {
        return Ok(());
    }
    let (first, last) = (VIDS.start(), VIDS.end());
    let what = format!("{vid} is not from {first} to {last}");
    Err(Error::invalid(setter, what))
}

/// `struct ifinfomsg` of the family of bridges.
fn of_bridges(index: u32) -> [u8; IFINFOMSG] {
    let mut fixed = ifinfomsg(index, 0, 0);
    fixed[0] = libc::AF_BRIDGE as u8;
    fixed
}

/// `struct bridge_vlan_info`.
fn put(spec: &mut Message, flags: u16, vid: u16) {
    let [flags, vid] = [flags, vid].map(u16::to_ne_bytes);
    spec.bytes(IFLA_BRIDGE_VLAN_INFO, &[flags, vid].concat());
}

/// What is in none of these, which are sorted.
fn gaps(all: Vids, those: impl Iterator<Item = Vids>) -> impl Iterator<Item = Vids> {
    let mut next = all.first;
    let mut gaps = Vec::new();
    for vids in those.filter_map(|vids| vids.and(all)) {
        if next < vids.first {
            gaps.push(Vids::from(next..=vids.first - 1));
        }
        next = vids.last + 1;
    }
    if all.contain(next) {
        gaps.push(Vids::from(next..=all.last));
    }
    gaps.into_iter()
}
