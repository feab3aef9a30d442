//! Forwarding entries: where frames for a hardware address go.

use super::batch::Indexes;
use super::bridge_vlan::check_vid;
use super::entry::Entry;
use super::ip::{Mac, from_octets, put};
use super::link::LinkRef;
use super::neighbour::NeighbourState;
use super::wire::{Message, Received, array};
use crate::error::{Result, Step};
use std::net::IpAddr;

const AF_BRIDGE: u8 = libc::AF_BRIDGE as u8;

/// Whose table a forwarding entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FdbTable {
    /// The bridge's whose port the interface is, or which it is.
    #[doc(alias = "NTF_MASTER")]
    Bridge,
    /// The interface's own: of a vxlan, or the addresses that it listens to.
    #[doc(alias = "NTF_SELF")]
    Device,
}

/// A forwarding entry, to be added or as it is listed: by which port of a bridge, or to which other end of a vxlan,
/// frames for a hardware address go.
///
/// # Examples
/// ```no_run
/// use ringfence::net::{FdbEntry, Mac, Netlink};
/// use std::net::Ipv4Addr;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mac = Mac([2, 0, 0, 0, 0, 7]);
/// let netlink = Netlink::current()?;
/// netlink.add(FdbEntry::port("v1", mac))?;
/// netlink.add(FdbEntry::tunnel("vx0", mac, Ipv4Addr::new(192, 0, 2, 7)))?;
/// // What is for nobody in particular goes there as well.
/// netlink.add(FdbEntry::tunnel("vx0", FdbEntry::EVERYBODY, Ipv4Addr::new(192, 0, 2, 8)))?;
/// # Ok(())
/// # }
/// ```
///
/// See [bridge(8)](https://man7.org/linux/man-pages/man8/bridge.8.html), `bridge fdb`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "nothing is added until it is given to a netlink socket"]
#[doc(alias = "RTM_NEWNEIGH")]
pub struct FdbEntry {
    /// The interface; by index where it is listed.
    pub link: LinkRef,
    /// Where the frames are for.
    pub mac: Mac,
    /// Whose table it is in.
    pub table: FdbTable,
    /// The other end of a vxlan.
    pub destination: Option<IpAddr>,
    /// The vlan that it is for, from 1 to 4094, where the bridge tells them apart.
    pub vlan: Option<u16>,
    /// [`NOARP`](NeighbourState::NOARP) for one that was added, [`PERMANENT`](NeighbourState::PERMANENT) for one's own
    /// address and in a [`Device`](FdbTable::Device)'s table.
    pub state: NeighbourState,
}

impl FdbEntry {
    /// The address of a vxlan's entries for frames that no other is for. There may be several of it, and each gets
    /// a copy. Adding one that is there already is no error, and changes nothing.
    pub const EVERYBODY: Mac = Mac([0; 6]);

    /// Frames for this address leave a bridge by this port.
    pub fn port(port: impl Into<LinkRef>, mac: Mac) -> Self {
        Self {
            link: port.into(),
            mac,
            table: FdbTable::Bridge,
            destination: None,
            vlan: None,
            state: NeighbourState::NOARP,
        }
    }

    /// Frames for this address leave a vxlan for this host.
    pub fn tunnel(vxlan: impl Into<LinkRef>, mac: Mac, host: impl Into<IpAddr>) -> Self {
        Self {
            table: FdbTable::Device,
            destination: Some(host.into()),
            state: NeighbourState::PERMANENT,
            ..Self::port(vxlan, mac)
        }
    }

    /// Only frames of this vlan.
    pub fn vlan(mut self, vlan: u16) -> Self {
        self.vlan = Some(vlan);
        self
    }

    /// How sure it is.
    pub fn state(mut self, state: NeighbourState) -> Self {
        self.state = state;
        self
    }

    /// Whether there may be several for its address, so that one more is not refused.
    pub(super) fn is_one_of_many(&self) -> bool {
        self.mac == Self::EVERYBODY
    }

    /// Whether it leads where a listed one does, on the interface with this index.
    pub(super) fn is(&self, listed: &Self, index: u32) -> bool {
        let of = |entry: &Self| (entry.mac, entry.table, entry.destination, entry.vlan);
        listed.link == LinkRef::Index(index) && of(listed) == of(self)
    }
}

impl Entry for FdbEntry {
    const STEP: Step = Step::Neighbour;
    const NEW: u16 = libc::RTM_NEWNEIGH;
    const FIXED: usize = 12;

    fn message(&self, kind: u16, flags: u16, indexes: &mut Indexes<'_>) -> Result<Message> {
        self.vlan.map_or(Ok(()), |vlan| check_vid("vlan", vlan))?;
        let mut fixed = [0; Self::FIXED];
        fixed[0] = AF_BRIDGE;
        fixed[4..8].copy_from_slice(&indexes.get(&self.link)?.to_ne_bytes());
        fixed[8..10].copy_from_slice(&self.state.0.to_ne_bytes());
        fixed[10] = match self.table {
            FdbTable::Bridge => libc::NTF_MASTER,
            FdbTable::Device => libc::NTF_SELF,
        };
        let mut message = Message::new(kind, flags, &fixed);
        message.bytes(libc::NDA_LLADDR, &self.mac.0);
        if let Some(destination) = self.destination {
            put(&mut message, libc::NDA_DST, destination);
        }
        if let Some(vlan) = self.vlan {
            message.u16(libc::NDA_VLAN, vlan);
        }
        Ok(message)
    }

    fn add(&self, indexes: &mut Indexes<'_>) -> Result<Message> {
        let more = match self.is_one_of_many() {
            true => libc::NLM_F_APPEND,
            false => libc::NLM_F_EXCL,
        };
        let flags = libc::NLM_F_CREATE | more;
        self.message(Self::NEW, flags as u16, indexes)
    }

    fn parse(message: &Received<'_>) -> Option<Self> {
        let (fixed, attributes) = message.split(Self::FIXED)?;
        if fixed[0] != AF_BRIDGE {
            return None;
        }
        let destination = attributes.get(libc::NDA_DST);
        let vlan = attributes.get(libc::NDA_VLAN);
        Some(Self {
            link: LinkRef::Index(u32::from_ne_bytes(array(fixed, 4)?)),
            mac: Mac(array(attributes.get(libc::NDA_LLADDR)?.value, 0)?),
            // A bridge does not say so.
            table: match fixed[10] & libc::NTF_SELF {
                0 => FdbTable::Bridge,
                _ => FdbTable::Device,
            },
            destination: destination.and_then(|found| from_octets(found.value)),
            vlan: vlan.and_then(|vlan| vlan.u16()),
            state: NeighbourState(u16::from_ne_bytes(array(fixed, 8)?)),
        })
    }

    fn describe(&self) -> String {
        let mut text = format!("{} dev {}", self.mac, self.link);
        if let Some(destination) = self.destination {
            text += &format!(" dst {destination}");
        }
        if let Some(vlan) = self.vlan {
            text += &format!(" vlan {vlan}");
        }
        text += match self.table {
            FdbTable::Bridge => " master",
            FdbTable::Device => " self",
        };
        text
    }

    fn dump() -> Message {
        let mut fixed = [0; Self::FIXED];
        fixed[0] = AF_BRIDGE;
        Message::new(Self::NEW + 2, 0, &fixed)
    }
}
