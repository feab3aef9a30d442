//! The next hops of a route that has several.

use super::batch::Indexes;
use super::entry::{Others, fits};
use super::ip::{from_octets, put};
use super::link::LinkRef;
use super::wire::{Attributes, Hop, Hops, Message};
use crate::error::{Error, Result};
use std::fmt;
use std::net::IpAddr;

/// Of <linux/rtnetlink.h>; the libc crate has it for some C libraries only.
pub(super) const RTA_VIA: u16 = 18;
/// `RTNH_F_ONLINK` of <linux/rtnetlink.h>, of a route as well.
pub(super) const ONLINK: u8 = 4;
/// Their number less one has a byte.
const MAX_WEIGHT: u16 = 256;

/// One of the ways of a [`Route`](super::Route) that has several. Each packet, or each connection, takes one of
/// them, in proportion to their weights.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[must_use = "nothing is added until its route is given to a netlink socket"]
pub struct NextHop {
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The interface; by index where it is listed.
    pub dev: Option<LinkRef>,
    /// Its share: from 1 to 256.
    pub weight: u16,
    /// Whether the gateway is taken to be on the link, whatever the addresses say.
    pub onlink: bool,
    others: Others,
}

impl NextHop {
    pub(super) fn new(via: Option<IpAddr>, dev: Option<LinkRef>) -> Self {
        Self {
            via,
            dev,
            weight: 1,
            onlink: false,
            others: Others::default(),
        }
    }

    /// Through a gateway. It may be of IPv6 where the destination is of IPv4.
    pub fn via(gateway: impl Into<IpAddr>) -> Self {
        Self::new(Some(gateway.into()), None)
    }

    /// To whoever is on the link of an interface.
    pub fn link(link: impl Into<LinkRef>) -> Self {
        Self::new(None, Some(link.into()))
    }

    /// By an interface.
    pub fn dev(mut self, link: impl Into<LinkRef>) -> Self {
        self.dev = Some(link.into());
        self
    }

    /// Its share, from 1 to 256; 1, if not set.
    pub fn weight(mut self, weight: u16) -> Self {
        self.weight = weight;
        self
    }

    /// Takes the gateway to be on the link, whatever the addresses say. Needs [`dev`](Self::dev).
    pub fn onlink(mut self) -> Self {
        self.onlink = true;
        self
    }

    /// The numbers `RTA_*` of what the kernel has listed of it and there is no field for.
    #[must_use]
    pub fn unknown(&self) -> Vec<u16> {
        self.others.kinds()
    }

    /// Whether the kernel may take a listed one for this one.
    pub(super) fn takes(&self, listed: &Self) -> bool {
        fits(&self.via, &listed.via) && fits(&self.dev, &listed.dev)
    }
}

impl fmt::Display for NextHop {
    /// As ip-route(8) takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nexthop")?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(dev) = &self.dev {
            write!(f, " dev {dev}")?;
        }
        write!(f, " weight {}", self.weight)
    }
}

/// Writes all of them, as those of a route to an address of this family.
pub(super) fn put_all(
    message: &mut Message,
    hops: &[NextHop],
    is_ipv4: bool,
    indexes: &mut Indexes<'_>,
) -> Result<()> {
    let mut written = Vec::with_capacity(hops.len());
    for hop in hops {
        let share = hop.weight.checked_sub(1).map(u8::try_from);
        let Some(Ok(share)) = share else {
            let what = format!(
                "a next hop of weight {}, not from 1 to {MAX_WEIGHT}",
                hop.weight
            );
            return Err(Error::invalid("route", what));
        };
        let index = hop.dev.as_ref().map_or(Ok(0), |dev| indexes.get(dev))?;
        written.push((hop, share, index));
    }
    // Not flagged as nested, as what is inside it are no attributes.
    message.nest_after(libc::RTA_MULTIPATH, &[], |message| {
        for (hop, share, index) in written {
            let flags = if hop.onlink { ONLINK } else { 0 };
            message.hop(flags, share, index, |message| {
                if let Some(via) = hop.via {
                    put_gateway(message, via, is_ipv4);
                }
                hop.others.put(message);
            });
        }
    });
    Ok(())
}

/// A gateway for a destination of this family.
pub(super) fn put_gateway(message: &mut Message, via: IpAddr, is_ipv4: bool) {
    match via {
        IpAddr::V6(via) if is_ipv4 => {
            let mut value = [0; 18];
            value[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            value[2..].copy_from_slice(&via.octets());
            message.bytes(RTA_VIA, &value);
        }
        via => {
            put(message, libc::RTA_GATEWAY, via);
        }
    }
}

/// The gateway among the attributes of a route, or of one of its next hops.
pub(super) fn gateway(attributes: Attributes<'_>) -> Option<IpAddr> {
    let direct = attributes.get(libc::RTA_GATEWAY);
    let direct = direct.and_then(|attribute| from_octets(attribute.value));
    direct.or_else(|| from_octets(attributes.get(RTA_VIA)?.value.get(2..)?))
}

pub(super) fn parse(value: &[u8]) -> Vec<NextHop> {
    let hop = |hop: Hop<'_>| {
        let mut others = Others::default();
        for attribute in hop.attributes {
            if ![libc::RTA_GATEWAY, RTA_VIA].contains(&attribute.kind) {
                others.keep(attribute);
            }
        }
        NextHop {
            via: gateway(hop.attributes),
            dev: (hop.index != 0).then_some(LinkRef::Index(hop.index)),
            weight: u16::from(hop.share) + 1,
            onlink: hop.flags & ONLINK != 0,
            others,
        }
    };
    Hops(value).map(hop).collect()
}

/// Whether listed next hops, in whatever order, are those that are asked for, if any are.
pub(super) fn mean(asked: &[NextHop], listed: &[NextHop]) -> bool {
    let means = |asked: &NextHop| {
        let is_it = |hop: &&NextHop| asked.takes(hop) && asked.weight == hop.weight;
        listed.iter().any(|hop| is_it(&hop))
    };
    asked.is_empty() || asked.len() == listed.len() && asked.iter().all(means)
}
