//! What the kernel tells of an interface that is particular to its kind.

use super::super::wire::Attributes;
use super::kind::{
    IFLA_BR_AGEING_TIME, IFLA_BR_FORWARD_DELAY, IFLA_BR_PRIORITY, IFLA_BR_STP_STATE,
    IFLA_BR_VLAN_DEFAULT_PVID, IFLA_BR_VLAN_FILTERING, IFLA_IPVLAN_MODE, IFLA_MACVLAN_MODE,
    IFLA_VLAN_ID, IFLA_VLAN_PROTOCOL, IpvlanMode, MacvlanMode, VlanProtocol, duration,
};
use super::vxlan::{self, VxlanDf, VxlanFlag};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The settings of an interface that others of its kind may have otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "IFLA_INFO_DATA")]
pub enum LinkData {
    /// Of a [bridge](super::Link::bridge_with).
    #[non_exhaustive]
    Bridge {
        /// Whether it passes frames between ports of the same VLAN only.
        vlan_filtering: bool,
        /// Whether it takes part in a spanning tree.
        stp: bool,
        /// How long it remembers where an address is.
        ageing_time: Duration,
        /// How long a port listens and how long it learns before it forwards, with a spanning tree.
        forward_delay: Duration,
        /// Its priority in the spanning tree.
        priority: u16,
        /// The VLAN of a new port; 0 for none, and `None` if the kernel does not know of VLANs of bridges.
        default_pvid: Option<u16>,
    },
    /// Of a [macvlan](super::Link::macvlan).
    #[non_exhaustive]
    Macvlan {
        /// To whom it can talk.
        mode: MacvlanMode,
    },
    /// Of an [ipvlan](super::Link::ipvlan).
    #[non_exhaustive]
    Ipvlan {
        /// Where it takes packets apart.
        mode: IpvlanMode,
    },
    /// Of a [vlan](super::Link::vlan).
    #[non_exhaustive]
    Vlan {
        /// The tag.
        id: u16,
        /// The sort of the tag.
        protocol: VlanProtocol,
    },
    /// Of a [vxlan](super::Link::vxlan).
    #[non_exhaustive]
    Vxlan {
        /// The number of the network; 0 if it is [external](super::Vxlan::external).
        id: u32,
        /// Whether each packet brings its own number of the network and other end.
        external: bool,
        /// The address that packets are sent from.
        local: Option<IpAddr>,
        /// The other end of the tunnel, or a multicast group.
        remote: Option<IpAddr>,
        /// The UDP port.
        port: u16,
        /// The interface that packets are sent by.
        dev: Option<u32>,
        /// Whether it learns from what comes in behind which other end addresses are.
        learning: bool,
        /// The time to live of packets; 0 for what the kernel chooses.
        ttl: u8,
        /// The type of service of packets; 1 for that of what is in them.
        tos: u8,
        /// Whether packets may be taken apart on their way.
        df: VxlanDf,
        /// The flow label of packets, with IPv6.
        flow_label: u32,
        /// How long it remembers where an address is.
        ageing: Duration,
        /// How many addresses it remembers at most; 0 for any number.
        limit: u32,
        /// The ports that packets are sent from, if they were set.
        source_ports: Option<RangeInclusive<u16>>,
        /// What is on.
        flags: Vec<VxlanFlag>,
    },
}

impl LinkData {
    /// `None` for other kinds, and for what is not known here.
    pub(super) fn parse(info: Attributes<'_>) -> Option<Self> {
        let kind = info.get(libc::IFLA_INFO_KIND)?.str()?;
        let data = info.get(libc::IFLA_INFO_DATA)?.attributes();
        let u8 = |attribute| data.get(attribute)?.u8();
        let u16 = |attribute| data.get(attribute)?.u16();
        let u32 = |attribute| data.get(attribute)?.u32();
        let be16 = |attribute| data.get(attribute)?.be16();
        Some(match kind {
            "bridge" => Self::Bridge {
                vlan_filtering: u8(IFLA_BR_VLAN_FILTERING).is_some_and(|on| on != 0),
                stp: u32(IFLA_BR_STP_STATE)? != 0,
                ageing_time: duration(u32(IFLA_BR_AGEING_TIME)?),
                forward_delay: duration(u32(IFLA_BR_FORWARD_DELAY)?),
                priority: u16(IFLA_BR_PRIORITY)?,
                default_pvid: u16(IFLA_BR_VLAN_DEFAULT_PVID),
            },
            "macvlan" => Self::Macvlan {
                mode: MacvlanMode::of(u32(IFLA_MACVLAN_MODE)?)?,
            },
            "ipvlan" => Self::Ipvlan {
                mode: IpvlanMode::of(u16(IFLA_IPVLAN_MODE)?)?,
            },
            "vlan" => Self::Vlan {
                id: u16(IFLA_VLAN_ID)?,
                protocol: VlanProtocol::of(be16(IFLA_VLAN_PROTOCOL)?)?,
            },
            "vxlan" => vxlan::parse(data)?,
            _ => return None,
        })
    }
}
