//! Routing rules: which table is asked for which packets.

use super::batch::Indexes;
use super::entry::Entry;
use super::ip::{AF_INET, AF_INET6, IpNet, from_octets, put};
use super::route::Route;
use super::wire::{Message, Received};
use crate::error::{Error, Result, Step};

// <linux/fib_rules.h>
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_OIFNAME: u16 = 17;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_BLACKHOLE: u8 = 6;
const FR_ACT_UNREACHABLE: u8 = 7;
const FR_ACT_PROHIBIT: u8 = 8;

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
    /// Drops them.
    Blackhole,
    /// Drops them, and tells the sender that the host cannot be reached.
    Unreachable,
    /// Drops them, and tells the sender that it is prohibited.
    Prohibit,
    /// Another of the kernel's `FR_ACT_*`.
    Other(u8),
}

/// A routing rule, to be added or as it is listed. Without conditions it is for all packets.
///
/// # Examples
/// ```no_run
/// use ringfence::net::{Family, Netlink, Rule};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// Netlink::current()?.add(Rule::new(Family::V4).from("10.9.0.0/24".parse()?).lookup(100))?;
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
    /// Packets with this mark.
    pub mark: Option<u32>,
    /// What becomes of them.
    pub action: RuleAction,
}

impl Rule {
    /// For all packets, which are looked up in the main table.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            priority: None,
            from: None,
            to: None,
            iif: None,
            oif: None,
            mark: None,
            action: RuleAction::Lookup(Route::MAIN),
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

    /// For packets with this mark.
    pub fn mark(mut self, mark: u32) -> Self {
        self.mark = Some(mark);
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

    fn check(&self) -> Result<()> {
        let is_other = |net: &&IpNet| net.address().is_ipv4() != (self.family == Family::V4);
        match self.from.iter().chain(&self.to).find(is_other) {
            Some(net) => {
                let what = format!("{net} is not of the family {:?}", self.family);
                Err(Error::invalid("rule", what))
            }
            None => Ok(()),
        }
    }
}

impl Entry for Rule {
    const STEP: Step = Step::RoutingRule;
    const NEW: u16 = libc::RTM_NEWRULE;
    const FIXED: usize = 12;

    fn message(&self, kind: u16, flags: u16, _: &mut Indexes<'_>) -> Result<Message> {
        self.check()?;
        let prefix = |net: Option<IpNet>| net.map_or(0, |net| net.prefix());
        let mut fixed = [0; Self::FIXED];
        fixed[0] = match self.family {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        };
        fixed[1] = prefix(self.to);
        fixed[2] = prefix(self.from);
        fixed[7] = match self.action {
            RuleAction::Lookup(_) => FR_ACT_TO_TBL,
            RuleAction::Blackhole => FR_ACT_BLACKHOLE,
            RuleAction::Unreachable => FR_ACT_UNREACHABLE,
            RuleAction::Prohibit => FR_ACT_PROHIBIT,
            RuleAction::Other(number) => number,
        };
        let mut message = Message::new(kind, flags, &fixed);
        for (attribute, net) in [(FRA_DST, self.to), (FRA_SRC, self.from)] {
            if let Some(net) = net.filter(|net| net.prefix() > 0) {
                put(&mut message, attribute, net.network().address());
            }
        }
        for (attribute, name) in [(FRA_IIFNAME, &self.iif), (FRA_OIFNAME, &self.oif)] {
            if let Some(name) = name {
                super::link::check_name(name)?;
                message.text(attribute, name);
            }
        }
        if let Some(priority) = self.priority {
            message.u32(FRA_PRIORITY, priority);
        }
        if let Some(mark) = self.mark {
            message.u32(FRA_FWMARK, mark);
        }
        if let RuleAction::Lookup(table) = self.action {
            message.u32(FRA_TABLE, table);
        }
        Ok(message)
    }

    fn parse(message: &Received<'_>) -> Option<Self> {
        let (fixed, attributes) = message.split(Self::FIXED)?;
        let mut found = Self::new(match fixed[0] {
            AF_INET => Family::V4,
            AF_INET6 => Family::V6,
            _ => return None,
        });
        found.action = match fixed[7] {
            FR_ACT_TO_TBL => RuleAction::Lookup(fixed[4].into()),
            FR_ACT_BLACKHOLE => RuleAction::Blackhole,
            FR_ACT_UNREACHABLE => RuleAction::Unreachable,
            FR_ACT_PROHIBIT => RuleAction::Prohibit,
            other => RuleAction::Other(other),
        };
        for attribute in attributes {
            let net = |prefix| IpNet::new(from_octets(attribute.value)?, prefix);
            match attribute.kind {
                FRA_DST => found.to = net(fixed[1]),
                FRA_SRC => found.from = net(fixed[2]),
                FRA_IIFNAME => found.iif = attribute.str().map(str::to_owned),
                FRA_OIFNAME => found.oif = attribute.str().map(str::to_owned),
                FRA_PRIORITY => found.priority = attribute.u32(),
                FRA_FWMARK => found.mark = attribute.u32().filter(|mark| *mark != 0),
                FRA_TABLE if fixed[7] == FR_ACT_TO_TBL => {
                    found.action = RuleAction::Lookup(attribute.u32()?);
                }
                _ => {}
            }
        }
        // The kernel leaves out the number 0.
        found.priority = found.priority.or(Some(0));
        Some(found)
    }

    fn describe(&self) -> String {
        let mut text = format!("{:?}", self.family);
        if let Some(priority) = self.priority {
            text += &format!(" priority {priority}");
        }
        if let Some(from) = self.from {
            text += &format!(" from {from}");
        }
        if let Some(to) = self.to {
            text += &format!(" to {to}");
        }
        text
    }
}
