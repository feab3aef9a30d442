//! The kinds of interfaces, with what each of them can be told.

use super::super::batch::Indexes;
use super::super::bridge_vlan::{LACKING_FILTER, check_vid};
use super::super::wire::Message;
use super::vxlan::Vxlan;
use super::{LinkRef, Peer};
use crate::error::Result;
use std::time::Duration;

// <linux/veth.h> and <linux/if_link.h>
const VETH_INFO_PEER: u16 = 1;
pub(super) const IFLA_BR_FORWARD_DELAY: u16 = 1;
pub(super) const IFLA_BR_AGEING_TIME: u16 = 4;
pub(super) const IFLA_BR_STP_STATE: u16 = 5;
pub(super) const IFLA_BR_PRIORITY: u16 = 6;
pub(super) const IFLA_BR_VLAN_FILTERING: u16 = 7;
pub(super) const IFLA_BR_VLAN_DEFAULT_PVID: u16 = 39;
pub(super) const IFLA_MACVLAN_MODE: u16 = 1;
pub(super) const IFLA_IPVLAN_MODE: u16 = 1;
pub(super) const IFLA_VLAN_ID: u16 = 1;
pub(super) const IFLA_VLAN_PROTOCOL: u16 = 5;

/// What the kernel counts the times of a bridge in: `USER_HZ` is 100.
const TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
pub(in super::super) enum LinkKind<'a> {
    Veth(Peer<'a>),
    Bridge(Bridge),
    Macvlan { parent: LinkRef, mode: MacvlanMode },
    Ipvlan { parent: LinkRef, mode: IpvlanMode },
    Vlan { parent: LinkRef, vlan: Vlan },
    Vxlan(Vxlan),
    Dummy,
    Ifb,
}

impl LinkKind<'_> {
    /// The kernel's name of the kind.
    pub(in super::super) fn name(&self) -> &'static str {
        match self {
            Self::Veth(_) => "veth",
            Self::Bridge(_) => "bridge",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Vlan { .. } => "vlan",
            Self::Vxlan(_) => "vxlan",
            Self::Dummy => "dummy",
            Self::Ifb => "ifb",
        }
    }

    /// What the kernel lacks if it says that it does not support this; it has its own words for a
    /// kind that is missing as a whole.
    pub(in super::super) fn lacking(&self, text: Option<&str>) -> String {
        match self {
            Self::Bridge(bridge) if bridge.tells_vlans() && text.is_none() => {
                LACKING_FILTER.to_owned()
            }
            _ => format!(
                "this kernel has no interfaces of the kind {0}: it was built without, or the module {0} cannot be loaded",
                self.name()
            ),
        }
    }

    /// The interface that it stands on.
    pub(super) fn parent(&self) -> Option<&LinkRef> {
        match self {
            Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } => Some(parent),
            Self::Vlan { parent, .. } => Some(parent),
            _ => None,
        }
    }

    /// The interface whose number it needs.
    pub(super) fn needs(&self) -> Option<&LinkRef> {
        match self {
            Self::Vxlan(vxlan) => vxlan.dev.as_ref(),
            _ => self.parent(),
        }
    }

    pub(super) fn put(&self, message: &mut Message, indexes: &mut Indexes<'_>) -> Result<()> {
        let mut result = Ok(());
        message.nest(libc::IFLA_LINKINFO, |message| {
            message.text(libc::IFLA_INFO_KIND, self.name());
            message.nest(libc::IFLA_INFO_DATA, |data| {
                result = self.put_data(data, indexes);
            });
        });
        result
    }

    fn put_data(&self, data: &mut Message, indexes: &mut Indexes<'_>) -> Result<()> {
        match self {
            Self::Veth(peer) => peer.put(data, VETH_INFO_PEER, indexes)?,
            Self::Bridge(bridge) => bridge.put(data)?,
            Self::Macvlan { mode, .. } => {
                data.u32(IFLA_MACVLAN_MODE, *mode as u32);
            }
            Self::Ipvlan { mode, .. } => {
                data.u16(IFLA_IPVLAN_MODE, *mode as u16);
            }
            Self::Vlan { vlan, .. } => vlan.put(data),
            Self::Vxlan(vxlan) => vxlan.put(data, indexes)?,
            Self::Dummy | Self::Ifb => {}
        }
        Ok(())
    }
}

/// The settings of a [bridge](super::Link::bridge_with).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Bridge {
    vlan_filtering: bool,
    stp: bool,
    ageing_time: Option<Duration>,
    forward_delay: Option<Duration>,
    priority: Option<u16>,
    default_pvid: Option<u16>,
}

impl Bridge {
    /// Neither filters by VLAN nor takes part in a spanning tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes frames between ports of the same VLAN only: see [`BridgeVlan`](super::super::BridgeVlan).
    ///
    /// # Kernel
    /// `CONFIG_BRIDGE_VLAN_FILTERING`; without it, an error of
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    #[doc(alias = "IFLA_BR_VLAN_FILTERING")]
    pub fn vlan_filtering(mut self) -> Self {
        self.vlan_filtering = true;
        self
    }

    /// Takes part in the spanning tree protocol: a port that has come up first listens and learns, for
    /// [`forward_delay`](Self::forward_delay) each.
    #[doc(alias = "IFLA_BR_STP_STATE")]
    pub fn stp(mut self) -> Self {
        self.stp = true;
        self
    }

    /// How long it remembers behind which port an address is, in hundredths of a second; five minutes if not set. With
    /// zero it remembers nothing, and sends every frame to all ports.
    #[doc(alias = "IFLA_BR_AGEING_TIME")]
    pub fn ageing_time(mut self, time: Duration) -> Self {
        self.ageing_time = Some(time);
        self
    }

    /// How long a port listens, and how long it learns, before it forwards, in hundredths of a second; fifteen seconds if
    /// not set. With [`stp`](Self::stp) it is 2 to 30 seconds: the kernel puts what is beyond at the limit.
    #[doc(alias = "IFLA_BR_FORWARD_DELAY")]
    pub fn forward_delay(mut self, time: Duration) -> Self {
        self.forward_delay = Some(time);
        self
    }

    /// Its priority in the spanning tree, of which that with the lowest becomes the root; 32768 if not set.
    #[doc(alias = "IFLA_BR_PRIORITY")]
    pub fn priority(mut self, priority: u16) -> Self {
        self.priority = Some(priority);
        self
    }

    /// The VLAN that it, and each new port, is a member of, with frames that have no tag; 1 if not set, and with 0 there is
    /// none.
    ///
    /// # Kernel
    /// As [`vlan_filtering`](Self::vlan_filtering).
    #[doc(alias = "IFLA_BR_VLAN_DEFAULT_PVID")]
    pub fn default_pvid(mut self, vid: u16) -> Self {
        self.default_pvid = Some(vid);
        self
    }

    fn tells_vlans(&self) -> bool {
        self.vlan_filtering || self.default_pvid.is_some()
    }

    fn put(&self, data: &mut Message) -> Result<()> {
        if let Some(time) = self.forward_delay {
            data.u32(IFLA_BR_FORWARD_DELAY, ticks(time));
        }
        if let Some(time) = self.ageing_time {
            data.u32(IFLA_BR_AGEING_TIME, ticks(time));
        }
        // A kernel without an option refuses it even as 0.
        if self.stp {
            data.u32(IFLA_BR_STP_STATE, 1);
        }
        if let Some(priority) = self.priority {
            data.u16(IFLA_BR_PRIORITY, priority);
        }
        // One that does not filter passes over the default VLAN.
        if self.tells_vlans() {
            data.u8(IFLA_BR_VLAN_FILTERING, self.vlan_filtering.into());
        }
        if let Some(vid) = self.default_pvid {
            if vid != 0 {
                check_vid("default_pvid", vid)?;
            }
            data.u16(IFLA_BR_VLAN_DEFAULT_PVID, vid);
        }
        Ok(())
    }
}

fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
}

pub(super) fn duration(ticks: u32) -> Duration {
    TICK.saturating_mul(ticks)
}

/// The tag of a [vlan](super::Link::vlan): a number from 1 to 4094 alone is one of 802.1Q.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Vlan {
    id: u16,
    protocol: VlanProtocol,
}

impl Vlan {
    /// The 802.1Q tag with this number.
    pub fn new(id: u16) -> Self {
        Self {
            id,
            protocol: VlanProtocol::Ieee8021Q,
        }
    }

    /// Of another sort.
    #[doc(alias = "IFLA_VLAN_PROTOCOL")]
    pub fn protocol(mut self, protocol: VlanProtocol) -> Self {
        self.protocol = protocol;
        self
    }

    fn put(self, data: &mut Message) {
        data.u16(IFLA_VLAN_ID, self.id);
        if self.protocol != VlanProtocol::Ieee8021Q {
            data.be16(IFLA_VLAN_PROTOCOL, self.protocol as u16);
        }
    }
}

impl From<u16> for Vlan {
    fn from(id: u16) -> Self {
        Self::new(id)
    }
}

/// Sorts of VLAN tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VlanProtocol {
    /// The usual one, of a customer.
    #[doc(alias = "ETH_P_8021Q")]
    Ieee8021Q = 0x8100,
    /// Of a provider, around those of customers.
    #[doc(alias = "ETH_P_8021AD")]
    Ieee8021Ad = 0x88a8,
}

impl VlanProtocol {
    pub(super) fn of(number: u16) -> Option<Self> {
        [Self::Ieee8021Q, Self::Ieee8021Ad]
            .into_iter()
            .find(|protocol| *protocol as u16 == number)
    }
}

/// To whom a macvlan can talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MacvlanMode {
    /// To nobody on the same parent.
    Private = 1,
    /// To others on the same parent if a switch outside sends the frames back.
    Vepa = 2,
    /// To the others on the same parent. None of the modes lets it talk to the parent itself.
    Bridge = 4,
    /// It has the parent for itself.
    Passthru = 8,
}

impl MacvlanMode {
    pub(super) fn of(number: u32) -> Option<Self> {
        [Self::Private, Self::Vepa, Self::Bridge, Self::Passthru]
            .into_iter()
            .find(|mode| *mode as u32 == number)
    }
}

/// Where an ipvlan takes packets apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IpvlanMode {
    /// As an Ethernet interface would.
    L2 = 0,
    /// By IP address; no broadcasts, no neighbours.
    L3 = 1,
    /// As `L3`, past the packet filter of the parent's namespace.
    L3s = 2,
}

impl IpvlanMode {
    pub(super) fn of(number: u16) -> Option<Self> {
        [Self::L2, Self::L3, Self::L3s]
            .into_iter()
            .find(|mode| *mode as u16 == number)
    }
}
