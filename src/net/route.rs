//! Routes.

mod message;
mod option;

use super::address::Scope;
use super::entry::Others;
use super::ip::IpNet;
use super::link::LinkRef;
use super::next_hop::NextHop;
use crate::error::{Error, Result};
pub use option::RouteOption;
use option::RouteOptions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// Which of several IPv6 routers is taken, if all else is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "RTA_PREF")]
#[expect(missing_docs, reason = "the names say it")]
pub enum RoutePreference {
    Low,
    #[default]
    Medium,
    High,
}

/// A route, to be added or as it is listed.
///
/// What is listed says all that the kernel says, but for what changes by itself, such as a lifetime: what there is no
/// field for here is kept ([`unknown`](Self::unknown)), and belongs to the route wherever it is added or deleted.
///
/// # Examples
/// ```no_run
/// use ringfence::net::{Netlink, NextHop, Route, RouteOption};
/// use std::net::Ipv4Addr;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let netlink = Netlink::current()?;
/// netlink.add(Route::default_via(Ipv4Addr::new(10, 9, 0, 1)))?;
/// netlink.add(Route::to("10.10.0.0/16".parse()?).dev("eth1").metric(50).table(100))?;
/// // With segments that fit through a tunnel, whatever the interface could take.
/// netlink.add(Route::to("10.12.0.0/16".parse()?).dev("eth1").mtu(1280).option(RouteOption::AdvMss, 1240))?;
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
    /// Only for packets from this network, for IPv6.
    pub from: Option<IpNet>,
    /// Only for packets with this type of service, if it is not 0, for IPv4.
    pub tos: u8,
    /// What becomes of them.
    pub kind: RouteKind,
    /// The gateway. A route with several has [next hops](Self::next_hops) instead.
    pub via: Option<IpAddr>,
    /// The interface; by index where it is listed.
    pub dev: Option<LinkRef>,
    /// The ways that the route has, if it has several.
    pub next_hops: Vec<NextHop>,
    /// The next hop object that says where they go; a listed route has its gateways and interfaces beside it.
    pub nhid: Option<u32>,
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
    /// Which router is taken, for IPv6.
    pub preference: RoutePreference,
    options: RouteOptions,
    others: Others,
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
            from: None,
            tos: 0,
            kind: RouteKind::Unicast,
            via: None,
            dev: None,
            next_hops: Vec::new(),
            nhid: None,
            source: None,
            metric: None,
            table: Self::MAIN,
            onlink: false,
            scope: None,
            protocol: libc::RTPROT_STATIC,
            preference: RoutePreference::default(),
            options: RouteOptions::default(),
            others: Others::default(),
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

    /// By the next hop object of this number, in the place of what else says the way. It goes with the object.
    ///
    /// # Kernel
    /// Linux 5.3.
    #[doc(alias = "RTA_NH_ID")]
    pub fn nhid(mut self, id: u32) -> Self {
        self.nhid = Some(id);
        self
    }

    /// Only for packets from this network, for IPv6.
    ///
    /// # Kernel
    /// `CONFIG_IPV6_SUBTREES`.
    #[doc(alias = "RTA_SRC")]
    pub fn from(mut self, net: IpNet) -> Self {
        self.from = Some(net);
        self
    }

    /// Only for packets with this type of service, for IPv4. The kernel takes the bits `0x1c`.
    #[doc(alias = "dsfield")]
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
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

    /// The largest packet that goes this way, in bytes, where it is less than the interface takes.
    pub fn mtu(self, mtu: u32) -> Self {
        self.option(RouteOption::Mtu, mtu)
    }

    /// What connections that go this way start from.
    #[doc(alias = "RTA_METRICS")]
    pub fn option(mut self, option: RouteOption, value: u32) -> Self {
        self.options.set(option, value);
        self
    }

    /// What connections that go this way start from, if it has been set.
    #[must_use]
    pub fn option_value(&self, option: RouteOption) -> Option<u32> {
        self.options.get(option)
    }

    /// Which router is taken, for IPv6.
    pub fn preference(mut self, preference: RoutePreference) -> Self {
        self.preference = preference;
        self
    }

    /// Who has made it, one of the kernel's `RTPROT_*`.
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = protocol;
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

    /// The numbers `RTA_*` of what the kernel has listed of it and there is no field for.
    #[must_use]
    pub fn unknown(&self) -> Vec<u16> {
        let of_hops = self.next_hops.iter().flat_map(NextHop::unknown);
        self.others.kinds().into_iter().chain(of_hops).collect()
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
        self.via.is_some() || !self.next_hops.is_empty() || self.nhid.is_some()
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
        } else if self
            .from
            .is_some_and(|from| from.address().is_ipv4() != is_ipv4)
        {
            "is for packets from a network of the other family"
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
