//! Tunnels of Ethernet frames through UDP.

use super::super::batch::Indexes;
use super::super::ip::{from_octets, put};
use super::super::wire::{Attributes, Message, array};
use super::{LinkData, LinkRef};
use crate::error::{Error, Result};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

// <linux/if_link.h>
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_TTL: u16 = 5;
const IFLA_VXLAN_TOS: u16 = 6;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_AGEING: u16 = 8;
const IFLA_VXLAN_LIMIT: u16 = 9;
const IFLA_VXLAN_PORT_RANGE: u16 = 10;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
const IFLA_VXLAN_LABEL: u16 = 26;
const IFLA_VXLAN_DF: u16 = 29;

/// The settings of a [vxlan](super::Link::vxlan).
///
/// # Examples
/// ```
/// use ringfence::net::{Link, Vxlan};
///
/// let tunnel = Vxlan::new(42).local([192, 0, 2, 1]).remote([192, 0, 2, 2]);
/// let link = Link::vxlan("vx42", tunnel).up();
/// ```
///
/// See [ip-link(8)](https://man7.org/linux/man-pages/man8/ip-link.8.html), VXLAN.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Vxlan {
    /// None if it is external.
    id: Option<u32>,
    local: Option<IpAddr>,
    remote: Option<IpAddr>,
    port: u16,
    source_ports: Option<RangeInclusive<u16>>,
    pub(super) dev: Option<LinkRef>,
    learning: Option<bool>,
    ageing: Option<Duration>,
    limit: Option<u32>,
    ttl: Option<u8>,
    tos: Option<u8>,
    df: Option<VxlanDf>,
    flow_label: Option<u32>,
    flags: Vec<(VxlanFlag, bool)>,
}

impl Vxlan {
    /// The port that was assigned to the protocol.
    pub const PORT: u16 = 4789;

    /// Of the network with this number, of 24 bits.
    pub fn new(id: u32) -> Self {
        Self {
            id: Some(id),
            local: None,
            remote: None,
            port: Self::PORT,
            source_ports: None,
            dev: None,
            learning: None,
            ageing: None,
            limit: None,
            ttl: None,
            tos: None,
            df: None,
            flow_label: None,
            flags: Vec::new(),
        }
    }

    /// Of all networks: each packet brings the number of its network and the other end with it, as routes with `encap`,
    /// filters of tc(8) and programs of eBPF give them, and a bridge with a VLAN for each network. It has no
    /// [`remote`](Self::remote) of its own, which is an error of
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), and learns nothing unless it is told to.
    #[doc(alias = "IFLA_VXLAN_COLLECT_METADATA")]
    pub fn external() -> Self {
        Self {
            id: None,
            learning: Some(false),
            ..Self::new(0)
        }
    }

    /// The address that packets are sent from.
    pub fn local(mut self, address: impl Into<IpAddr>) -> Self {
        self.local = Some(address.into());
        self
    }

    /// The other end of the tunnel, or a multicast group, for which [`dev`](Self::dev) is needed.
    pub fn remote(mut self, address: impl Into<IpAddr>) -> Self {
        self.remote = Some(address.into());
        self
    }

    /// The UDP port at both ends; [`PORT`](Self::PORT) if not set.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The UDP ports that packets are sent from, each flow from one of them; those of `net.ipv4.ip_local_port_range` if
    /// not set.
    #[doc(alias = "IFLA_VXLAN_PORT_RANGE")]
    pub fn source_ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.source_ports = Some(ports);
        self
    }

    /// The interface that packets are sent by.
    pub fn dev(mut self, link: impl Into<LinkRef>) -> Self {
        self.dev = Some(link.into());
        self
    }

    /// Whether it learns from what comes in behind which other end an address is; on if not set. It is off where all are told
    /// by [`FdbEntry`](super::super::FdbEntry).
    #[doc(alias = "IFLA_VXLAN_LEARNING")]
    pub fn learning(mut self, on: bool) -> Self {
        self.learning = Some(on);
        self
    }

    /// How long it remembers what it has learned, in seconds; five minutes if not set, and for ever with zero.
    #[doc(alias = "IFLA_VXLAN_AGEING")]
    pub fn ageing(mut self, time: Duration) -> Self {
        self.ageing = Some(time);
        self
    }

    /// How many addresses it remembers at most; any number if not set or 0.
    #[doc(alias("IFLA_VXLAN_LIMIT", "maxaddress"))]
    pub fn limit(mut self, addresses: u32) -> Self {
        self.limit = Some(addresses);
        self
    }

    /// The time to live of packets, in hops; if not set or 0, the kernel's default, and 1 for a multicast group.
    #[doc(alias = "IFLA_VXLAN_TTL")]
    pub fn ttl(mut self, hops: u8) -> Self {
        self.ttl = Some(hops);
        self
    }

    /// The type of service of packets; 1 for that of what is in them.
    #[doc(alias = "IFLA_VXLAN_TOS")]
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = Some(tos);
        self
    }

    /// Whether packets may be taken apart on their way, with IPv4; they may if not set.
    #[doc(alias = "IFLA_VXLAN_DF")]
    pub fn df(mut self, df: VxlanDf) -> Self {
        self.df = Some(df);
        self
    }

    /// The flow label of packets, of 20 bits, for IPv6 alone.
    #[doc(alias = "IFLA_VXLAN_LABEL")]
    pub fn flow_label(mut self, label: u32) -> Self {
        self.flow_label = Some(label);
        self
    }

    /// Switches something on, or off. What is said last holds.
    pub fn flag(mut self, flag: VxlanFlag, on: bool) -> Self {
        self.flags.retain(|(other, _)| *other != flag);
        self.flags.push((flag, on));
        self
    }

    fn check(&self) -> Result<()> {
        let what = match (self.id, self.local, self.remote, &self.source_ports) {
            (None, _, Some(remote), _) => {
                format!("one that is external has no remote of its own, such as {remote}")
            }
            (_, Some(local), Some(remote), _) if local.is_ipv4() != remote.is_ipv4() => {
                format!("{local} and {remote} are of different families")
            }
            (.., Some(ports)) if ports.is_empty() => format!("{ports:?} are no ports"),
            _ => return Ok(()),
        };
        Err(Error::invalid("vxlan", what))
    }

    pub(super) fn put(&self, data: &mut Message, indexes: &mut Indexes<'_>) -> Result<()> {
        self.check()?;
        match self.id {
            Some(id) => data.u32(IFLA_VXLAN_ID, id),
            None => data.u8(IFLA_VXLAN_COLLECT_METADATA, 1),
        };
        if let Some(remote) = self.remote {
            let kinds = [IFLA_VXLAN_GROUP, IFLA_VXLAN_GROUP6];
            put(data, kinds[usize::from(remote.is_ipv6())], remote);
        }
        if let Some(local) = self.local {
            let kinds = [IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6];
            put(data, kinds[usize::from(local.is_ipv6())], local);
        }
        if let Some(dev) = &self.dev {
            data.u32(IFLA_VXLAN_LINK, indexes.get(dev)?);
        }
        let learning = self.learning.map(u8::from);
        let df = self.df.map(|df| df as u8);
        for (kind, value) in [
            (IFLA_VXLAN_TTL, self.ttl),
            (IFLA_VXLAN_TOS, self.tos),
            (IFLA_VXLAN_LEARNING, learning),
            (IFLA_VXLAN_DF, df),
        ] {
            value.map(|value| data.u8(kind, value));
        }
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        for (kind, value) in [
            (IFLA_VXLAN_AGEING, self.ageing.map(seconds)),
            (IFLA_VXLAN_LIMIT, self.limit),
        ] {
            value.map(|value| data.u32(kind, value));
        }
        if let Some(label) = self.flow_label {
            data.be32(IFLA_VXLAN_LABEL, label);
        }
        if let Some(ports) = &self.source_ports {
            let ends = [ports.start(), ports.end()].map(|port| port.to_be_bytes());
            data.bytes(IFLA_VXLAN_PORT_RANGE, &ends.concat());
        }
        for (flag, on) in &self.flags {
            flag.put(*on, data);
        }
        data.be16(IFLA_VXLAN_PORT, self.port);
        Ok(())
    }
}

/// Whether packets of a vxlan may be taken apart on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VxlanDf {
    /// They may.
    Unset = 0,
    /// They may not: where one is too large, the sender is told.
    Set = 1,
    /// As what is in them may.
    Inherit = 2,
}

impl VxlanDf {
    fn of(number: u8) -> Option<Self> {
        [Self::Unset, Self::Set, Self::Inherit]
            .into_iter()
            .find(|df| *df as u8 == number)
    }
}

/// What can be switched on or off of a [vxlan](Vxlan::flag).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VxlanFlag {
    /// Answers who asks for the hardware address of a [neighbour](super::super::Neighbour) that it has been told, rather than
    /// asking the other ends. Off if not set.
    #[doc(alias = "IFLA_VXLAN_PROXY")]
    Proxy = 11,
    /// Sends what is for a router straight to where it leads, if that is known. Off if not set.
    #[doc(alias = "IFLA_VXLAN_RSC")]
    Rsc = 12,
    /// Tells programs of hardware addresses that it has no entry for. Off if not set.
    #[doc(alias = "IFLA_VXLAN_L2MISS")]
    L2Miss = 13,
    /// Tells programs of IP addresses that it knows no neighbour for. Off if not set.
    #[doc(alias = "IFLA_VXLAN_L3MISS")]
    L3Miss = 14,
    /// Sends UDP checksums over IPv4. On if not set.
    #[doc(alias = "IFLA_VXLAN_UDP_CSUM")]
    UdpCsum = 18,
    /// Sends none over IPv6. Off if not set.
    #[doc(alias = "IFLA_VXLAN_UDP_ZERO_CSUM6_TX")]
    UdpZeroCsum6Tx = 19,
    /// Takes packets that have none, over IPv6. Off if not set.
    #[doc(alias = "IFLA_VXLAN_UDP_ZERO_CSUM6_RX")]
    UdpZeroCsum6Rx = 20,
    /// Carries the mark of a packet to the other end (group based policy). Off if not set.
    #[doc(alias = "IFLA_VXLAN_GBP")]
    Gbp = 23,
    /// Carries packets rather than frames (generic protocol extension); needs one that is
    /// [external](Vxlan::external). Off if not set.
    #[doc(alias = "IFLA_VXLAN_GPE")]
    Gpe = 27,
    /// Packets have the time to live of what is in them. Off if not set.
    #[doc(alias = "IFLA_VXLAN_TTL_INHERIT")]
    TtlInherit = 28,
}

impl VxlanFlag {
    const ALL: [Self; 10] = [
        Self::Proxy,
        Self::Rsc,
        Self::L2Miss,
        Self::L3Miss,
        Self::UdpCsum,
        Self::UdpZeroCsum6Tx,
        Self::UdpZeroCsum6Rx,
        Self::Gbp,
        Self::Gpe,
        Self::TtlInherit,
    ];

    fn put(self, on: bool, data: &mut Message) {
        match (self, on) {
            // These are on if they are there.
            (Self::Gbp | Self::Gpe | Self::TtlInherit, false) => {}
            (Self::Gbp | Self::Gpe | Self::TtlInherit, true) => {
                data.bytes(self as u16, &[]);
            }
            _ => {
                data.u8(self as u16, on.into());
            }
        }
    }

    fn is_on(self, data: Attributes<'_>) -> bool {
        let attribute = data.get(self as u16);
        attribute.is_some_and(|attribute| attribute.u8() != Some(0))
    }
}

pub(super) fn parse(data: Attributes<'_>) -> Option<LinkData> {
    let u8 = |attribute| data.get(attribute)?.u8();
    let u32 = |attribute| data.get(attribute)?.u32();
    let be16 = |at| array(data.get(IFLA_VXLAN_PORT_RANGE)?.value, at).map(u16::from_be_bytes);
    let address = |attribute| from_octets(data.get(attribute)?.value);
    let source_ports = be16(0)?..=be16(2)?;
    let label = data.get(IFLA_VXLAN_LABEL).and_then(|label| label.be32());
    Some(LinkData::Vxlan {
        id: u32(IFLA_VXLAN_ID)?,
        external: u8(IFLA_VXLAN_COLLECT_METADATA).is_some_and(|on| on != 0),
        local: address(IFLA_VXLAN_LOCAL).or_else(|| address(IFLA_VXLAN_LOCAL6)),
        remote: address(IFLA_VXLAN_GROUP).or_else(|| address(IFLA_VXLAN_GROUP6)),
        port: data.get(IFLA_VXLAN_PORT)?.be16()?,
        dev: u32(IFLA_VXLAN_LINK).filter(|index| *index != 0),
        learning: u8(IFLA_VXLAN_LEARNING)? != 0,
        ttl: u8(IFLA_VXLAN_TTL)?,
        tos: u8(IFLA_VXLAN_TOS)?,
        df: VxlanDf::of(u8(IFLA_VXLAN_DF)?)?,
        flow_label: label.unwrap_or(0),
        ageing: Duration::from_secs(u32(IFLA_VXLAN_AGEING)?.into()),
        limit: u32(IFLA_VXLAN_LIMIT)?,
        source_ports: Some(source_ports).filter(|ports| *ports != (0..=0)),
        flags: VxlanFlag::ALL
            .into_iter()
            .filter(|flag| flag.is_on(data))
            .collect(),
    })
}
