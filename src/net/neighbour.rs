//! Neighbours: which hardware address an IP address on a link has.

use super::batch::Indexes;
use super::entry::Entry;
use super::ip::{Mac, family, from_octets, put};
use super::link::LinkRef;
use super::wire::{Message, Received, array};
use crate::error::{Result, Step};
use std::net::IpAddr;

/// How sure the kernel is of a neighbour: `NUD_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighbourState(pub u16);

impl NeighbourState {
    /// It was reached a short while ago.
    pub const REACHABLE: Self = Self(libc::NUD_REACHABLE);
    /// It was reached some time ago.
    pub const STALE: Self = Self(libc::NUD_STALE);
    /// It has not answered.
    pub const FAILED: Self = Self(libc::NUD_FAILED);
    /// Nobody has to be asked.
    pub const NOARP: Self = Self(libc::NUD_NOARP);
    /// It was added, and is right until it is deleted.
    pub const PERMANENT: Self = Self(libc::NUD_PERMANENT);
}

/// A neighbour, to be added or as it is listed.
///
/// See [ip-neighbour(8)](https://man7.org/linux/man-pages/man8/ip-neighbour.8.html).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "nothing is added until it is given to a netlink socket"]
pub struct Neighbour {
    /// The interface; by index where it is listed.
    pub link: LinkRef,
    /// Its IP address.
    pub address: IpAddr,
    /// Its hardware address, if it is known.
    pub mac: Option<Mac>,
    /// How sure that is.
    pub state: NeighbourState,
}

impl Neighbour {
    /// A neighbour that nobody needs to be asked for.
    pub fn new(link: impl Into<LinkRef>, address: impl Into<IpAddr>, mac: Mac) -> Self {
        Self {
            link: link.into(),
            address: address.into(),
            mac: Some(mac),
            state: NeighbourState::PERMANENT,
        }
    }

    /// How sure that is.
    pub fn state(mut self, state: NeighbourState) -> Self {
        self.state = state;
        self
    }
}

impl Entry for Neighbour {
    const STEP: Step = Step::Neighbour;
    const NEW: u16 = libc::RTM_NEWNEIGH;
    const FIXED: usize = 12;

    fn message(&self, kind: u16, flags: u16, indexes: &mut Indexes<'_>) -> Result<Message> {
        let mut fixed = [0; Self::FIXED];
        fixed[0] = family(&self.address);
        fixed[4..8].copy_from_slice(&indexes.get(&self.link)?.to_ne_bytes());
        fixed[8..10].copy_from_slice(&self.state.0.to_ne_bytes());
        let mut message = Message::new(kind, flags, &fixed);
        put(&mut message, libc::NDA_DST, self.address);
        if let Some(Mac(mac)) = &self.mac {
            message.bytes(libc::NDA_LLADDR, mac);
        }
        Ok(message)
    }

    fn parse(message: &Received<'_>) -> Option<Self> {
        let (fixed, attributes) = message.split(Self::FIXED)?;
        let address = attributes.get(libc::NDA_DST)?;
        let mac = attributes.get(libc::NDA_LLADDR);
        Some(Self {
            link: LinkRef::Index(u32::from_ne_bytes(array(fixed, 4)?)),
            address: from_octets(address.value)?,
            mac: mac.and_then(|mac| mac.value.try_into().ok().map(Mac)),
            state: NeighbourState(u16::from_ne_bytes(array(fixed, 8)?)),
        })
    }

    fn describe(&self) -> String {
        format!("{} dev {}", self.address, self.link)
    }
}
