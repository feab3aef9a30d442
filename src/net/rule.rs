//! Routing rules: which table is asked for which packets.

mod message;

use super::entry::Others;
use super::ip::IpNet;
use super::route::Route;
use crate::error::{Error, Result};
use std::ops::RangeInclusive;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Family {
    V4,
    V6,
}

/// What a rule does with the packets that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RuleAction {
    /// Looks them up in this table; if there is no route, the next rule is asked.
    Lookup(u32),
    /// Looks them up in the table of the VRF that they came in or go out by.
    #[doc(alias = "FRA_L3MDEV")]
    L3mdev,
    /// Goes on with the first rule of this priority, which has to be a later one. It may be missing, and then nothing
    /// becomes of them here.
    #[doc(alias = "FR_ACT_GOTO")]
    Goto(u32),
    /// Nothing: the next rule is asked.
    #[doc(alias = "FR_ACT_NOP")]
    Nop,
    /// Drops them.
    Blackhole,
    /// Drops them, and tells the sender that the host cannot be reached.
    Unreachable,
    /// Drops them, and tells the sender that it is prohibited.
    Prohibit,
    /// Another of the kernel's `FR_ACT_*`.
    Other(u8),
}

/// A routing rule, to be added or as it is listed. Without conditions it is for all packets; with several, for those
/// that meet all of them.
///
/// What is listed says all that the kernel says: a condition for which there is no field here is kept
/// ([`unknown`](Self::unknown)), and belongs to the rule wherever it is added or deleted.
///
/// # Examples
/// ```no_run
/// use ringfence::net::{Family, Netlink, Rule};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let netlink = Netlink::current()?;
/// netlink.add(Rule::new(Family::V4).from("10.9.0.0/24".parse()?).lookup(100))?;
/// // The default route is not taken from the main table, but from another.
/// netlink.add(Rule::new(Family::V4).priority(10).suppress_prefix(0))?;
/// netlink.add(Rule::new(Family::V4).priority(11).not().mark(0x100).mask(0xff00).lookup(200))?;
/// # Ok(())
/// # }
/// ```
///
/// See [ip-rule(8)](https://man7.org/linux/man-pages/man8/ip-rule.8.html).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "nothing is added until it is given to a netlink socket"]
pub struct Rule {
    /// Of which packets.
    pub family: Family,
    /// Whether it is for the packets that do not meet the conditions.
    pub invert: bool,
    /// Rules are asked in the order of this number; if not set, before those that are there.
    pub priority: Option<u32>,
    /// Packets from this network.
    pub from: Option<IpNet>,
    /// Packets to this network.
    pub to: Option<IpNet>,
    /// Packets that came in by the interface of this name.
    pub iif: Option<String>,
    /// Packets of sockets that are bound to the interface of this name.
    pub oif: Option<String>,
    /// Packets with this mark, in the bits of the mask.
    pub mark: Option<u32>,
    /// The bits of the mark that count; all, if not set.
    pub mask: Option<u32>,
    /// Packets with this type of service, if it is not 0.
    pub tos: u8,
    /// Packets of sockets of these users.
    pub uids: Option<RangeInclusive<u32>>,
    /// Packets of this protocol, one of `IPPROTO_*`.
    pub ip_protocol: Option<u8>,
    /// Packets from these ports.
    pub source_ports: Option<RangeInclusive<u16>>,
    /// Packets to these ports.
    pub destination_ports: Option<RangeInclusive<u16>>,
    /// What the table says does not count where the prefix is not longer than this.
    pub suppress_prefix: Option<u32>,
    /// What the table says does not count where the interface is of this group.
    pub suppress_group: Option<u32>,
    /// Who has made it, one of the kernel's `RTPROT_*`; 0, if it is not said.
    pub protocol: u8,
    /// What becomes of them.
    pub action: RuleAction,
    others: Others,
}

impl Rule {
    /// For all packets, which are looked up in the main table.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            invert: false,
            priority: None,
            from: None,
            to: None,
            iif: None,
            oif: None,
            mark: None,
            mask: None,
            tos: 0,
            uids: None,
            ip_protocol: None,
            source_ports: None,
            destination_ports: None,
            suppress_prefix: None,
            suppress_group: None,
            protocol: libc::RTPROT_UNSPEC,
            action: RuleAction::Lookup(Route::MAIN),
            others: Others::default(),
        }
    }

    /// Rules are asked in the order of this number.
    pub fn priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// For packets from this network.
    pub fn from(mut self, net: IpNet) -> Self {
        self.from = Some(net);
        self
    }

    /// For packets to this network.
    pub fn to(mut self, net: IpNet) -> Self {
        self.to = Some(net);
        self
    }

    /// For packets that came in by the interface of this name, which need not exist yet.
    pub fn iif(mut self, name: impl Into<String>) -> Self {
        self.iif = Some(name.into());
        self
    }

    /// For packets of sockets that are bound to the interface of this name.
    pub fn oif(mut self, name: impl Into<String>) -> Self {
        self.oif = Some(name.into());
        self
    }

    /// For the packets that do not meet the conditions.
    ///
    /// The kernel takes a rule and its contrary for the same: of the two only one can be there at one priority.
    #[doc(alias = "FIB_RULE_INVERT")]
    #[expect(
        clippy::should_implement_trait,
        reason = "the name that ip-rule(8) has for it"
    )]
    pub fn not(mut self) -> Self {
        self.invert = true;
        self
    }

    /// For packets with this mark, in the bits of the [mask](Self::mask).
    #[doc(alias = "fwmark")]
    pub fn mark(mut self, mark: u32) -> Self {
        self.mark = Some(mark);
        self
    }

    /// The bits of the [mark](Self::mark) that count.
    #[doc(alias = "fwmask")]
    pub fn mask(mut self, mask: u32) -> Self {
        self.mask = Some(mask);
        self
    }

    /// For packets with this type of service, of which the kernel takes the bits `0x1c`.
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// For packets of sockets of these users, by their ids in the user namespace of the caller.
    #[doc(alias = "uidrange")]
    pub fn uids(mut self, uids: RangeInclusive<u32>) -> Self {
        self.uids = Some(uids);
        self
    }

    /// For packets of this protocol, one of `IPPROTO_*`.
    #[doc(alias = "ipproto")]
    pub fn ip_protocol(mut self, protocol: u8) -> Self {
        self.ip_protocol = Some(protocol);
        self
    }

    /// For packets from these ports. Fragments have none.
    #[doc(alias = "sport")]
    pub fn source_ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.source_ports = Some(ports);
        self
    }

    /// For packets to these ports. Fragments have none.
    #[doc(alias = "dport")]
    pub fn destination_ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.destination_ports = Some(ports);
        self
    }

    /// Takes no notice of what the table says where the prefix is not longer than this: 0 leaves out default routes.
    #[doc(alias = "FRA_SUPPRESS_PREFIXLEN")]
    pub fn suppress_prefix(mut self, length: u32) -> Self {
        self.suppress_prefix = Some(length);
        self
    }

    /// Takes no notice of what the table says where the interface is of this group.
    #[doc(alias = "FRA_SUPPRESS_IFGROUP")]
    pub fn suppress_group(mut self, group: u32) -> Self {
        self.suppress_group = Some(group);
        self
    }

    /// Who has made it, one of the kernel's `RTPROT_*`.
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = protocol;
        self
    }

    /// Looks them up in this table.
    pub fn lookup(mut self, table: u32) -> Self {
        self.action = RuleAction::Lookup(table);
        self
    }

    /// What becomes of them.
    pub fn action(mut self, action: RuleAction) -> Self {
        self.action = action;
        self
    }

    /// The numbers `FRA_*` of what the kernel has listed of it and there is no field for.
    #[must_use]
    pub fn unknown(&self) -> Vec<u16> {
        self.others.kinds()
    }

    fn check(&self) -> Result<()> {
        let is_other = |net: &&IpNet| net.address().is_ipv4() != (self.family == Family::V4);
        let what = match self.from.iter().chain(&self.to).find(is_other) {
            Some(net) => format!("{net} is not of the family {:?}", self.family),
            None if self.mask.is_some() && self.mark.is_none() => {
                "a mask without a mark".to_owned()
            }
            None => return Ok(()),
        };
        Err(Error::invalid("rule", what))
    }
}
