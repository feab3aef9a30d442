//! Rules, as messages.

use super::{Family, Rule, RuleAction};
use crate::error::{Result, Step};
use crate::net::batch::Indexes;
use crate::net::entry::{Deletable, Entry, fits, fits_number};
use crate::net::ip::{AF_INET, AF_INET6, IpNet, from_octets, put};
use crate::net::link::check_name;
use crate::net::wire::{Attribute, Message, Received, array};
use std::ops::RangeInclusive;

// <linux/fib_rules.h>
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_PAD: u16 = 18;
const FRA_L3MDEV: u16 = 19;
const FRA_UID_RANGE: u16 = 20;
const FRA_PROTOCOL: u16 = 21;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
const FRA_SPORT_MASK: u16 = 28;
const FRA_DPORT_MASK: u16 = 29;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_GOTO: u8 = 2;
const FR_ACT_NOP: u8 = 3;
const FR_ACT_BLACKHOLE: u8 = 6;
const FR_ACT_UNREACHABLE: u8 = 7;
const FR_ACT_PROHIBIT: u8 = 8;
const FIB_RULE_INVERT: u32 = 2;
/// What the kernel lists where nothing is suppressed.
const NOTHING: u32 = u32::MAX;

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        }
    }
}

impl RuleAction {
    fn number(self) -> u8 {
        match self {
            Self::Lookup(_) | Self::L3mdev => FR_ACT_TO_TBL,
            Self::Goto(_) => FR_ACT_GOTO,
            Self::Nop => FR_ACT_NOP,
            Self::Blackhole => FR_ACT_BLACKHOLE,
            Self::Unreachable => FR_ACT_UNREACHABLE,
            Self::Prohibit => FR_ACT_PROHIBIT,
            Self::Other(number) => number,
        }
    }

    /// Without what is said by attributes.
    fn of(number: u8, table: u8) -> Self {
        match number {
            FR_ACT_TO_TBL => Self::Lookup(table.into()),
            FR_ACT_GOTO => Self::Goto(0),
            FR_ACT_NOP => Self::Nop,
            FR_ACT_BLACKHOLE => Self::Blackhole,
            FR_ACT_UNREACHABLE => Self::Unreachable,
            FR_ACT_PROHIBIT => Self::Prohibit,
            other => Self::Other(other),
        }
    }

    fn put(self, message: &mut Message) {
        match self {
            Self::Lookup(table) => message.u32(FRA_TABLE, table),
            Self::L3mdev => message.u8(FRA_L3MDEV, 1),
            Self::Goto(priority) => message.u32(FRA_GOTO, priority),
            _ => message,
        };
    }
}

impl Rule {
    /// The network, but for one of 0 bits, which is no condition.
    fn condition(net: Option<IpNet>) -> Option<IpNet> {
        net.map(|net| net.network()).filter(|net| net.prefix() > 0)
    }

    /// The mark and its mask, as the kernel keeps them.
    fn mark_and_mask(&self) -> (u32, u32) {
        let mask = self.mark.map(|_| self.mask.unwrap_or(u32::MAX));
        (self.mark.unwrap_or(0), mask.unwrap_or(0))
    }

    fn put_conditions(&self, message: &mut Message) -> Result<()> {
        for (attribute, net) in [(FRA_DST, self.to), (FRA_SRC, self.from)] {
            if let Some(net) = Self::condition(net) {
                put(message, attribute, net.address());
            }
        }
        for (attribute, name) in [(FRA_IIFNAME, &self.iif), (FRA_OIFNAME, &self.oif)] {
            if let Some(name) = name {
                check_name(name)?;
                message.text(attribute, name);
            }
        }
        if self.mark.is_some() {
            // Without a mask the mark 0 would be no condition.
            let (mark, mask) = self.mark_and_mask();
            message.u32(FRA_FWMARK, mark).u32(FRA_FWMASK, mask);
        }
        if let Some(uids) = &self.uids {
            let ends = [uids.start(), uids.end()].map(|end| end.to_ne_bytes());
            message.bytes(FRA_UID_RANGE, ends.as_flattened());
        }
        if let Some(protocol) = self.ip_protocol {
            message.u8(FRA_IP_PROTO, protocol);
        }
        let ports = [
            (FRA_SPORT_RANGE, &self.source_ports),
            (FRA_DPORT_RANGE, &self.destination_ports),
        ];
        for (attribute, ports) in ports {
            if let Some(ports) = ports {
                let ends = [ports.start(), ports.end()].map(|end| end.to_ne_bytes());
                message.bytes(attribute, ends.as_flattened());
            }
        }
        Ok(())
    }

    fn take(&mut self, attribute: Attribute<'_>, fixed: &[u8]) -> Option<()> {
        let net = |prefix| IpNet::new(from_octets(attribute.value)?, prefix);
        let number = || attribute.u32().filter(|number| *number != NOTHING);
        match attribute.kind {
            FRA_DST => self.to = net(fixed[1]),
            FRA_SRC => self.from = net(fixed[2]),
            FRA_IIFNAME if attribute.str().is_some() => self.iif = attribute.str().map(Into::into),
            FRA_OIFNAME if attribute.str().is_some() => self.oif = attribute.str().map(Into::into),
            FRA_PRIORITY => self.priority = attribute.u32(),
            FRA_FWMARK => self.mark = attribute.u32(),
            FRA_FWMASK => self.mask = attribute.u32(),
            FRA_TABLE => {
                if let RuleAction::Lookup(table) = &mut self.action {
                    *table = attribute.u32()?;
                }
            }
            FRA_GOTO if fixed[7] == FR_ACT_GOTO => {
                self.action = RuleAction::Goto(attribute.u32()?);
            }
            FRA_L3MDEV if fixed[7] == FR_ACT_TO_TBL => {
                if attribute.u8()? != 0 {
                    self.action = RuleAction::L3mdev;
                }
            }
            FRA_SUPPRESS_PREFIXLEN => self.suppress_prefix = number(),
            FRA_SUPPRESS_IFGROUP => self.suppress_group = number(),
            FRA_UID_RANGE => self.uids = Some(range(attribute.value, u32::from_ne_bytes)?),
            FRA_PROTOCOL => self.protocol = attribute.u8()?,
            FRA_IP_PROTO => self.ip_protocol = attribute.u8(),
            FRA_SPORT_RANGE => {
                self.source_ports = Some(range(attribute.value, u16::from_ne_bytes)?)
            }
            FRA_DPORT_RANGE => {
                self.destination_ports = Some(range(attribute.value, u16::from_ne_bytes)?);
            }
            // The kernel says of one port that all its bits count.
            FRA_SPORT_MASK | FRA_DPORT_MASK if attribute.value == [0xff; 2] => {}
            FRA_PAD => {}
            _ => self.others.keep(attribute),
        }
        Some(())
    }
}

/// The two ends of a range, one after the other.
fn range<T, const N: usize>(value: &[u8], number: fn([u8; N]) -> T) -> Option<RangeInclusive<T>> {
    Some(number(array(value, 0)?)..=number(array(value, N)?))
}

impl Entry for Rule {
    const STEP: Step = Step::RoutingRule;
    const NEW: u16 = libc::RTM_NEWRULE;
    const FIXED: usize = 12;

    fn message(&self, kind: u16, flags: u16, _: &mut Indexes<'_>) -> Result<Message> {
        self.check()?;
        let prefix = |net| Self::condition(net).map_or(0, |net| net.prefix());
        let mut fixed = [0; Self::FIXED];
        fixed[0] = self.family.number();
        fixed[1] = prefix(self.to);
        fixed[2] = prefix(self.from);
        fixed[3] = self.tos;
        fixed[7] = self.action.number();
        let rule_flags = if self.invert { FIB_RULE_INVERT } else { 0 };
        fixed[8..].copy_from_slice(&rule_flags.to_ne_bytes());
        let mut message = Message::new(kind, flags, &fixed);
        self.put_conditions(&mut message)?;
        if let Some(priority) = self.priority {
            message.u32(FRA_PRIORITY, priority);
        }
        self.action.put(&mut message);
        let suppressed = [
            (FRA_SUPPRESS_PREFIXLEN, self.suppress_prefix),
            (FRA_SUPPRESS_IFGROUP, self.suppress_group),
        ];
        for (attribute, number) in suppressed {
            if let Some(number) = number {
                message.u32(attribute, number);
            }
        }
        if self.protocol != libc::RTPROT_UNSPEC {
            message.u8(FRA_PROTOCOL, self.protocol);
        }
        self.others.put(&mut message);
        Ok(message)
    }

    fn parse(message: &Received<'_>) -> Option<Self> {
        let (fixed, attributes) = message.split(Self::FIXED)?;
        let mut found = Self::new(match fixed[0] {
            AF_INET => Family::V4,
            AF_INET6 => Family::V6,
            _ => return None,
        });
        found.action = RuleAction::of(fixed[7], fixed[4]);
        found.tos = fixed[3];
        found.invert = u32::from_ne_bytes(array(fixed, 8)?) & FIB_RULE_INVERT != 0;
        for attribute in attributes {
            found.take(attribute, fixed)?;
        }
        // The kernel leaves out the priority 0, and the mark 0 even if there is a mask.
        found.priority = found.priority.or(Some(0));
        if found.mask.is_some_and(|mask| mask != 0) {
            found.mark = found.mark.or(Some(0));
        }
        found.mask = found
            .mask
            .filter(|mask| found.mark.is_some() && *mask != u32::MAX);
        Some(found)
    }

    fn describe(&self) -> String {
        let mut text = format!("{:?}", self.family);
        let mut say = |name: &str, what: Option<String>| {
            if let Some(what) = what {
                text += &format!(" {name} {what}");
            }
        };
        let ends = |ports: &RangeInclusive<u16>| format!("{}-{}", ports.start(), ports.end());
        say("priority", self.priority.map(|number| number.to_string()));
        say("not", self.invert.then(String::new));
        say("from", self.from.map(|net| net.to_string()));
        say("to", self.to.map(|net| net.to_string()));
        say("iif", self.iif.clone());
        say("oif", self.oif.clone());
        let (mark, mask) = self.mark_and_mask();
        say("fwmark", self.mark.map(|_| format!("{mark:#x}/{mask:#x}")));
        say("sport", self.source_ports.as_ref().map(ends));
        say("dport", self.destination_ports.as_ref().map(ends));
        say("to", Some(format!("{:?}", self.action)));
        text
    }
}

impl Deletable for Rule {
    fn dump_beside(&self) -> Message {
        let mut fixed = [0; Self::FIXED];
        fixed[0] = self.family.number();
        Message::new(Self::NEW + 2, 0, &fixed)
    }

    fn as_listed(&self, _: &mut Indexes<'_>) -> Result<Self> {
        self.check()?;
        let mut listed = self.clone();
        listed.from = Self::condition(self.from);
        listed.to = Self::condition(self.to);
        listed.mask = self.mask.filter(|mask| *mask != u32::MAX);
        Ok(listed)
    }

    fn means(&self, listed: &Self) -> bool {
        let mut meant = self.clone();
        meant.priority = meant.priority.or(listed.priority);
        if meant.protocol == libc::RTPROT_UNSPEC {
            meant.protocol = listed.protocol;
        }
        meant == *listed
    }

    // Neither whether it is inverted nor where it goes to is compared, and nothing that is not said.
    fn takes(&self, listed: &Self) -> bool {
        let (mark, mask) = self.mark_and_mask();
        let (listed_mark, listed_mask) = listed.mark_and_mask();
        let is_same_action = match (self.action, listed.action) {
            (RuleAction::Goto(_), RuleAction::Goto(_)) => true,
            (asked, listed) => asked == listed,
        };
        self.family == listed.family
            && is_same_action
            && fits(&self.priority, &listed.priority)
            && fits(&self.from, &listed.from)
            && fits(&self.to, &listed.to)
            && fits(&self.iif, &listed.iif)
            && fits(&self.oif, &listed.oif)
            && fits_number(mark, listed_mark)
            && fits_number(mask, listed_mask)
            && fits_number(self.tos, listed.tos)
            && fits(&self.uids, &listed.uids)
            && fits(&self.ip_protocol, &listed.ip_protocol)
            && fits(&self.source_ports, &listed.source_ports)
            && fits(&self.destination_ports, &listed.destination_ports)
            && fits(&self.suppress_prefix, &listed.suppress_prefix)
            && fits(&self.suppress_group, &listed.suppress_group)
            && fits_number(self.protocol, listed.protocol)
    }
}
