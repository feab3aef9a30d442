//! Routes, as messages.

use super::option::RouteOptions;
use super::{Route, RouteKind, RoutePreference};
use crate::error::{Result, Step};
use crate::net::address::Scope;
use crate::net::batch::Indexes;
use crate::net::entry::{Deletable, Entry, fits, fits_number};
use crate::net::ip::{AF_INET, AF_INET6, IpNet, family, from_octets, put};
use crate::net::link::LinkRef;
use crate::net::next_hop::{self, NextHop, ONLINK, RTA_VIA};
use crate::net::wire::{Attribute, Message, Received, array};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

// <linux/rtnetlink.h>; the libc crate has them for some C libraries only.
const RTA_PREF: u16 = 20;
const RTA_NH_ID: u16 = 30;
const RTM_F_LOOKUP_TABLE: u32 = 0x1000;
const RTM_F_FIB_MATCH: u32 = 0x2000;
/// `RT_TABLE_COMPAT`: the number is in `RTA_TABLE`.
const TABLE_COMPAT: u8 = 252;
/// What the kernel gives an IPv6 route that says nothing else.
const IP6_METRIC: u32 = 1024;

impl RoutePreference {
    fn number(self) -> u8 {
        match self {
            Self::Medium => 0,
            Self::High => 1,
            Self::Low => 3,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            1 => Self::High,
            3 => Self::Low,
            _ => Self::Medium,
        }
    }
}

impl Route {
    /// Asks for the one that leads to an address, as it is listed.
    pub(in crate::net) fn lookup(destination: IpAddr) -> Message {
        let mut fixed = [0; Self::FIXED];
        fixed[0] = family(&destination);
        fixed[1] = IpNet::from(destination).prefix();
        let flags = match destination {
            IpAddr::V4(_) => RTM_F_FIB_MATCH | RTM_F_LOOKUP_TABLE,
            // It says which table in any case, and refuses to be asked.
            IpAddr::V6(_) => RTM_F_FIB_MATCH,
        };
        fixed[8..].copy_from_slice(&flags.to_ne_bytes());
        let mut message = Message::new(libc::RTM_GETROUTE, 0, &fixed);
        put(&mut message, libc::RTA_DST, destination);
        message
    }

    fn is_ipv4(&self) -> bool {
        self.destination.address().is_ipv4()
    }

    /// The metric that the kernel gives it.
    fn metric_number(&self) -> u32 {
        match self.metric.unwrap_or(0) {
            0 if !self.is_ipv4() => IP6_METRIC,
            metric => metric,
        }
    }

    /// Only for packets from there, but for a network of 0 bits, which is no condition.
    fn source_net(&self) -> Option<IpNet> {
        self.from
            .map(|from| from.network())
            .filter(|from| from.prefix() > 0)
    }

    /// Where it leads, unless an object says so.
    fn put_way(&self, message: &mut Message, indexes: &mut Indexes<'_>) -> Result<()> {
        if let Some(id) = self.nhid {
            message.u32(RTA_NH_ID, id);
            return Ok(());
        }
        if let Some(via) = self.via {
            next_hop::put_gateway(message, via, self.is_ipv4());
        }
        if !self.next_hops.is_empty() {
            next_hop::put_all(message, &self.next_hops, self.is_ipv4(), indexes)?;
        }
        if let Some(dev) = &self.dev {
            message.u32(libc::RTA_OIF, indexes.get(dev)?);
        }
        Ok(())
    }

    fn take(&mut self, attribute: Attribute<'_>, fixed: &[u8]) -> Option<()> {
        let address = from_octets(attribute.value);
        match attribute.kind {
            libc::RTA_DST => self.destination = IpNet::new(address?, fixed[1])?,
            libc::RTA_SRC => self.from = Some(IpNet::new(address?, fixed[2])?),
            libc::RTA_MULTIPATH => self.next_hops = next_hop::parse(attribute.value),
            libc::RTA_OIF => self.dev = attribute.u32().map(LinkRef::Index),
            libc::RTA_PREFSRC => self.source = address,
            libc::RTA_PRIORITY => self.metric = attribute.u32(),
            libc::RTA_TABLE => self.table = attribute.u32()?,
            libc::RTA_METRICS => self.options = RouteOptions::parse(attribute.attributes()),
            RTA_NH_ID => self.nhid = attribute.u32(),
            RTA_PREF => self.preference = RoutePreference::of(attribute.u8()?),
            // Gateways are read together; the last changes by itself.
            libc::RTA_GATEWAY | RTA_VIA | libc::RTA_CACHEINFO => {}
            _ => self.others.keep(attribute),
        }
        Some(())
    }

    /// Where it leads, or where its next hops do.
    fn ways(&self) -> Vec<NextHop> {
        match self.next_hops.as_slice() {
            [] => vec![NextHop::new(self.via, self.dev.clone())],
            hops => hops.to_vec(),
        }
    }
}

impl Entry for Route {
    const STEP: Step = Step::Route;
    const NEW: u16 = libc::RTM_NEWROUTE;
    const FIXED: usize = 12;

    fn message(&self, kind: u16, flags: u16, indexes: &mut Indexes<'_>) -> Result<Message> {
        self.check()?;
        let address = self.destination.address();
        let mut fixed = [0; Self::FIXED];
        fixed[0] = family(&address);
        fixed[1] = self.destination.prefix();
        fixed[2] = self.source_net().map_or(0, |from| from.prefix());
        fixed[3] = self.tos;
        fixed[4] = u8::try_from(self.table).unwrap_or(TABLE_COMPAT);
        fixed[5] = self.protocol;
        fixed[6] = self.scope_number();
        fixed[7] = self.kind.number();
        let is_onlink = self.onlink && self.nhid.is_none();
        let route_flags = if is_onlink { u32::from(ONLINK) } else { 0 };
        fixed[8..].copy_from_slice(&route_flags.to_ne_bytes());
        let mut message = Message::new(kind, flags, &fixed);
        if self.destination.prefix() > 0 {
            put(&mut message, libc::RTA_DST, address);
        }
        if let Some(from) = self.source_net() {
            put(&mut message, libc::RTA_SRC, from.address());
        }
        message.u32(libc::RTA_TABLE, self.table);
        self.put_way(&mut message, indexes)?;
        if let Some(source) = self.source {
            put(&mut message, libc::RTA_PREFSRC, source);
        }
        // Without it, a deletion takes the first that it finds.
        let of_deletion = (kind != Self::NEW).then(|| self.metric_number());
        let metric = self.metric.or(of_deletion).filter(|metric| *metric != 0);
        if let Some(metric) = metric {
            message.u32(libc::RTA_PRIORITY, metric);
        }
        self.options.put(&mut message);
        if self.preference != RoutePreference::Medium {
            message.u8(RTA_PREF, self.preference.number());
        }
        self.others.put(&mut message);
        Ok(message)
    }

    fn parse(message: &Received<'_>) -> Option<Self> {
        let (fixed, attributes) = message.split(Self::FIXED)?;
        let flags = u32::from_ne_bytes(array(fixed, 8)?);
        if flags & libc::RTM_F_CLONED != 0 {
            return None;
        }
        let any: IpAddr = match fixed[0] {
            AF_INET => Ipv4Addr::UNSPECIFIED.into(),
            AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let mut found = Self {
            tos: fixed[3],
            kind: RouteKind::of(fixed[7]),
            table: fixed[4].into(),
            onlink: flags & u32::from(ONLINK) != 0,
            via: next_hop::gateway(attributes),
            scope: Some(Scope(fixed[6])),
            protocol: fixed[5],
            ..Self::to(IpNet::new(any, fixed[1])?)
        };
        for attribute in attributes {
            found.take(attribute, fixed)?;
        }
        Some(found)
    }

    fn describe(&self) -> String {
        let mut text = self.destination.to_string();
        let mut say = |name: &str, what: Option<String>| {
            if let Some(what) = what {
                text += &format!(" {name} {what}");
            }
        };
        say("from", self.from.map(|from| from.to_string()));
        say("tos", (self.tos != 0).then(|| format!("{:#x}", self.tos)));
        say("nhid", self.nhid.map(|id| id.to_string()));
        say("via", self.via.map(|via| via.to_string()));
        say("dev", self.dev.as_ref().map(LinkRef::to_string));
        say("metric", self.metric.map(|metric| metric.to_string()));
        for hop in &self.next_hops {
            text += &format!(" {hop}");
        }
        if self.table != Self::MAIN {
            text += &format!(" table {}", self.table);
        }
        text
    }
}

impl Deletable for Route {
    fn dump_beside(&self) -> Message {
        let mut fixed = [0; Self::FIXED];
        fixed[0] = family(&self.destination.address());
        let mut message = Message::new(Self::NEW + 2, 0, &fixed);
        message.u32(libc::RTA_TABLE, self.table);
        message
    }

    fn as_listed(&self, indexes: &mut Indexes<'_>) -> Result<Self> {
        self.check()?;
        let mut listed = self.clone();
        listed.from = self.source_net();
        let hops = listed
            .next_hops
            .iter_mut()
            .filter_map(|hop| hop.dev.as_mut());
        for dev in listed.dev.iter_mut().chain(hops) {
            *dev = LinkRef::Index(indexes.get(dev)?);
        }
        Ok(listed)
    }

    fn means(&self, listed: &Self) -> bool {
        self.destination == listed.destination
            && self.from == listed.from
            && self.tos == listed.tos
            && self.kind == listed.kind
            && self.table == listed.table
            && self.metric_number() == listed.metric_number()
            && self.nhid == listed.nhid
            && fits(&self.via, &listed.via)
            && fits(&self.dev, &listed.dev)
            && next_hop::mean(&self.next_hops, &listed.next_hops)
            && fits(&self.source, &listed.source)
            && fits(&self.scope, &listed.scope)
            && fits_number(self.protocol, listed.protocol)
            && self.options.fits(&listed.options)
            && fits_number(self.others.clone(), listed.others.clone())
    }

    // What is compared differs between IPv4 and IPv6.
    fn takes(&self, listed: &Self) -> bool {
        let is_ipv4 = self.is_ipv4();
        let is_same_way = match (self.nhid, listed.nhid) {
            (Some(asked), listed) => Some(asked) == listed,
            (None, Some(_)) => !is_ipv4 || self.ways() == [NextHop::new(None, None)],
            (None, None) => {
                let takes = |asked: &NextHop| listed.ways().iter().any(|hop| asked.takes(hop));
                self.ways().iter().any(takes)
            }
        };
        let is_same_ipv4 = || {
            self.tos == listed.tos
                && self.kind == listed.kind
                && self.scope_number() == listed.scope_number()
                && fits(&self.source, &listed.source)
                && self.options.fits(&listed.options)
        };
        self.destination == listed.destination
            && self.from == listed.from
            && self.table == listed.table
            && fits_number(self.metric_number(), listed.metric_number())
            && fits_number(self.protocol, listed.protocol)
            && is_same_way
            && (!is_ipv4 || is_same_ipv4())
    }
}
