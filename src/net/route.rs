//! Routes.

use super::address::Scope;
use super::batch::Indexes;
use super::entry::Entry;
use super::ip::{AF_INET, IpNet, family, from_octets, put};
use super::link::LinkRef;
use super::next_hop::{self, NextHop, ONLINK};
use super::wire::{Message, Received, array};
use crate::error::{Error, Result, Step};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `RT_TABLE_COMPAT`: the number is in `RTA_TABLE`.
const TABLE_COMPAT: u8 = 252;
/// What the kernel gives an IPv6 route that says nothing else.
const IP6_METRIC: u32 = 1024;

/// What becomes of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RouteKind {
    /// They are sent on.
    Unicast,
    /// They are for this host.
    Local,
    /// They are for all on the link.
    Broadcast,
    /// They are for a group.
    Multicast,
    /// They are dropped.
    Blackhole,
    /// They are dropped, and the sender is told that the host cannot be reached.
    Unreachable,
    /// They are dropped, and the sender is told that it is prohibited.
    Prohibit,
    /// Another of the kernel's `RTN_*`.
    Other(u8),
}

impl RouteKind {
    const NAMED: [(Self, u8, &'static str); 7] = [
        (Self::Unicast, libc::RTN_UNICAST, "unicast"),
        (Self::Local, libc::RTN_LOCAL, "local"),
        (Self::Broadcast, libc::RTN_BROADCAST, "broadcast"),
        (Self::Multicast, libc::RTN_MULTICAST, "multicast"),
        (Self::Blackhole, libc::RTN_BLACKHOLE, "blackhole"),
        (Self::Unreachable, libc::RTN_UNREACHABLE, "unreachable"),
        (Self::Prohibit, libc::RTN_PROHIBIT, "prohibit"),
    ];

    fn number(self) -> u8 {
        match self {
            Self::Other(number) => number,
            named => {
                let found = Self::NAMED.iter().find(|(kind, ..)| *kind == named);
                found.map_or(0, |(_, number, _)| *number)
            }
        }
    }

    fn of(number: u8) -> Self {
        let found = Self::NAMED.iter().find(|(_, known, _)| *known == number);
        found.map_or(Self::Other(number), |(kind, ..)| *kind)
    }
}

/// A route, to be added or as it is listed.
///
/// # Examples
/// ```no_run
/// use ringfence::net::{Netlink, NextHop, Route};
/// use std::net::Ipv4Addr;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let netlink = Netlink::current()?;
/// netlink.add(Route::default_via(Ipv4Addr::new(10, 9, 0, 1)))?;
/// netlink.add(Route::to("10.10.0.0/16".parse()?).dev("eth1").metric(50).table(100))?;
/// // Two ways, of which the first is taken three times as often.
/// let first = NextHop::via(Ipv4Addr::new(10, 9, 0, 2)).weight(3);
/// let second = NextHop::via(Ipv4Addr::new(10, 9, 0, 3));
/// netlink.add(Route::to("10.11.0.0/16".parse()?).next_hop(first).next_hop(second))?;
/// # Ok(())
/// # }
/// ```
///
/// See [ip-route(8)](https://man7.org/linux/man-pages/man8/ip-route.8.html).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "nothing is added until it is given to a netlink socket"]
pub struct Route {
    /// Where the packets go. A prefix of 0 bits is the default route.
    pub destination: IpNet,
    /// What becomes of them.
    pub kind: RouteKind,
    /// The gateway. A route with several has [next hops](Self::next_hops) instead.
    pub via: Option<IpAddr>,
    /// The interface; by index where it is listed.
    pub dev: Option<LinkRef>,
    /// The ways that the route has, if it has several.
    pub next_hops: Vec<NextHop>,
    /// The address that packets are sent from, if the sender has not chosen one.
    pub source: Option<IpAddr>,
    /// Of two routes to the same destination the one with the lower number is taken.
    pub metric: Option<u32>,
    /// The table that it is in; [`MAIN`](Self::MAIN), if not set.
    pub table: u32,
    /// Whether the gateway is taken to be on the link, whatever the addresses say.
    pub onlink: bool,
    /// How far the destination is; if not set, as ip-route(8) does it.
    pub scope: Option<Scope>,
    /// Who has made it, one of the kernel's `RTPROT_*`.
    pub protocol: u8,
}

impl Route {
    /// The table that is used if no rule says otherwise.
    pub const MAIN: u32 = 254;
    /// The table that the kernel keeps for local addresses.
    pub const LOCAL: u32 = 255;

    /// To a network. Bits of its address behind the prefix do not count.
    pub fn to(destination: IpNet) -> Self {
        Self {
            destination: destination.network(),
            kind: RouteKind::Unicast,
            via: None,
            dev: None,
            next_hops: Vec::new(),
            source: None,
            metric: None,
            table: Self::MAIN,
            onlink: false,
            scope: None,
            protocol: libc::RTPROT_STATIC,
        }
    }

    /// To everywhere, through a gateway.
    pub fn default_via(gateway: impl Into<IpAddr>) -> Self {
        let gateway = gateway.into();
        let everywhere: IpAddr = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut all = IpNet::from(everywhere);
        if let Some(net) = IpNet::new(everywhere, 0) {
            all = net;
        }
        Self::to(all).via(gateway)
    }

    /// Through a gateway. It may be of IPv6 where the destination is of IPv4.
    pub fn via(mut self, gateway: impl Into<IpAddr>) -> Self {
        self.via = Some(gateway.into());
        self
    }

    /// By an interface.
    pub fn dev(mut self, link: impl Into<LinkRef>) -> Self {
        self.dev = Some(link.into());
        self
    }

    /// Adds one of several ways, in the place of [`via`](Self::via) and [`dev`](Self::dev).
    ///
    /// # Kernel
    /// `CONFIG_IP_ROUTE_MULTIPATH`, for IPv4.
    #[doc(alias = "RTA_MULTIPATH")]
    #[doc(alias = "nexthop")]
    pub fn next_hop(mut self, hop: NextHop) -> Self {
        self.next_hops.push(hop);
        self
    }

    /// The address that packets are sent from, if the sender has not chosen one.
    pub fn source(mut self, address: impl Into<IpAddr>) -> Self {
        self.source = Some(address.into());
        self
    }

    /// Of two routes to the same destination the one with the lower number is taken.
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }

    /// Puts it into this table.
    pub fn table(mut self, table: u32) -> Self {
        self.table = table;
        self
    }

    /// Takes the gateway to be on the link, whatever the addresses say. Needs [`dev`](Self::dev).
    pub fn onlink(mut self) -> Self {
        self.onlink = true;
        self
    }

    /// How far the destination is.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// What becomes of the packets.
    pub fn kind(mut self, kind: RouteKind) -> Self {
        self.kind = kind;
        self
    }

    /// Whether it is the one for all that no other is for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.destination.prefix() == 0
    }

    fn scope_number(&self) -> u8 {
        match self.scope {
            Some(scope) => scope.0,
            None if self.destination.address().is_ipv6() => Scope::GLOBAL.0,
            None if self.kind == RouteKind::Local => Scope::HOST.0,
            None if self.kind == RouteKind::Unicast && !self.has_gateways() => Scope::LINK.0,
            None => Scope::GLOBAL.0,
        }
    }

    /// Whether there is a gateway, or as ip-route(8) sees it, may be one.
    fn has_gateways(&self) -> bool {
        self.via.is_some() || !self.next_hops.is_empty()
    }

    /// The interfaces that it names.
    pub(super) fn links(&self) -> impl Iterator<Item = &LinkRef> {
        let of_hops = self.next_hops.iter().filter_map(|hop| hop.dev.as_ref());
        self.dev.iter().chain(of_hops)
    }

    fn check(&self) -> Result<()> {
        let is_ipv4 = self.destination.address().is_ipv4();
        let is_of_ipv4 = |address: &IpAddr| address.is_ipv4();
        let mut gateways = self
            .via
            .iter()
            .chain(self.next_hops.iter().flat_map(|hop| &hop.via));
        let what = if self
            .source
            .is_some_and(|source| source.is_ipv4() != is_ipv4)
        {
            "has a source of the other family"
        } else if !is_ipv4 && gateways.any(is_of_ipv4) {
            "is of IPv6, and its gateway of IPv4"
        } else if !self.next_hops.is_empty() && (self.via.is_some() || self.dev.is_some()) {
            "has next hops, and a gateway or an interface beside them"
        } else {
            return Ok(());
        };
        Err(Error::invalid(
            "route",
            format!("{} {what}", self.destination),
        ))
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
        fixed[4] = u8::try_from(self.table).unwrap_or(TABLE_COMPAT);
        fixed[5] = self.protocol;
        fixed[6] = self.scope_number();
        fixed[7] = self.kind.number();
        let route_flags = if self.onlink { u32::from(ONLINK) } else { 0 };
        fixed[8..].copy_from_slice(&route_flags.to_ne_bytes());
        let mut message = Message::new(kind, flags, &fixed);
        if self.destination.prefix() > 0 {
            put(&mut message, libc::RTA_DST, address);
        }
        message.u32(libc::RTA_TABLE, self.table);
        if let Some(via) = self.via {
            next_hop::put_gateway(&mut message, via, address.is_ipv4());
        }
        if !self.next_hops.is_empty() {
            next_hop::put_all(&mut message, &self.next_hops, address.is_ipv4(), indexes)?;
        }
        if let Some(dev) = &self.dev {
            message.u32(libc::RTA_OIF, indexes.get(dev)?);
        }
        if let Some(source) = self.source {
            put(&mut message, libc::RTA_PREFSRC, source);
        }
        // Without it, a deletion takes the first that it finds.
        let is_added = kind == Self::NEW;
        let metric = self
            .metric
            .or((address.is_ipv6() && !is_added).then_some(IP6_METRIC));
        if let Some(metric) = metric {
            message.u32(libc::RTA_PRIORITY, metric);
        }
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
            super::ip::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let mut found = Self {
            kind: RouteKind::of(fixed[7]),
            table: fixed[4].into(),
            onlink: flags & u32::from(ONLINK) != 0,
            via: next_hop::gateway(attributes),
            scope: Some(Scope(fixed[6])),
            protocol: fixed[5],
            ..Self::to(IpNet::new(any, fixed[1])?)
        };
        for attribute in attributes {
            let address = from_octets(attribute.value);
            match attribute.kind {
                libc::RTA_DST => found.destination = IpNet::new(address?, fixed[1])?,
                libc::RTA_MULTIPATH => found.next_hops = next_hop::parse(attribute.value),
                libc::RTA_OIF => found.dev = attribute.u32().map(LinkRef::Index),
                libc::RTA_PREFSRC => found.source = address,
                libc::RTA_PRIORITY => found.metric = attribute.u32(),
                libc::RTA_TABLE => found.table = attribute.u32()?,
                _ => {}
            }
        }
        Some(found)
    }

    fn describe(&self) -> String {
        let mut text = self.destination.to_string();
        if let Some(via) = self.via {
            text += &format!(" via {via}");
        }
        if let Some(dev) = &self.dev {
            text += &format!(" dev {dev}");
        }
        for hop in &self.next_hops {
            text += &format!(" {hop}");
        }
        if self.table != Self::MAIN {
            text += &format!(" table {}", self.table);
        }
        text
    }
}
