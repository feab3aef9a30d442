//! Ports that lead elsewhere.

use super::expr::{Expressions, Side};
use crate::error::{Error, Result};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

pub(super) const TAKEN: &str = "each port of an address leads to one target: take another port, or an address of its own for each";

/// A range of ports, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    pub(super) first: u16,
    pub(super) last: u16,
}

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }
}

impl From<RangeInclusive<u16>> for Ports {
    fn from(ports: RangeInclusive<u16>) -> Self {
        Self {
            first: *ports.start(),
            last: *ports.end(),
        }
    }
}

/// Ports of this host that lead to another: connections to them go to the target, by translation of the
/// destination (DNAT).
///
/// They do so from outside, from the target's own network with [`Table::hairpin`](super::Table::hairpin), from this host itself, and for IPv4 from this host's
/// loopback addresses, if the [parameter](super::super::sysctl) `route_localnet` of the interface to the target allows
/// it. That also lets in what comes from there for a loopback address:
/// [`Table::guard_loopback`](super::Table::guard_loopback) keeps it out.
///
/// # Examples
/// ```
/// use ringfence::net::Publish;
///
/// let web = Publish::tcp(8080, "10.9.0.2:80".parse()?);
/// let many = Publish::udp(9000..=9009, "10.9.0.2:19000".parse()?).on([192, 0, 2, 1]);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "nothing is published until the table is installed"]
pub struct Publish {
    protocol: u8,
    pub(super) ports: Ports,
    on: Option<IpAddr>,
    pub(super) iif: Option<String>,
    pub(super) target: SocketAddr,
}

impl Publish {
    /// TCP ports. The first leads to the target's port, the others to those that follow.
    pub fn tcp(ports: impl Into<Ports>, target: SocketAddr) -> Self {
        Self::new(libc::IPPROTO_TCP as u8, ports.into(), target)
    }

    /// UDP ports, as [`tcp`](Self::tcp).
    pub fn udp(ports: impl Into<Ports>, target: SocketAddr) -> Self {
        Self::new(libc::IPPROTO_UDP as u8, ports.into(), target)
    }

    fn new(protocol: u8, ports: Ports, target: SocketAddr) -> Self {
        Self {
            protocol,
            ports,
            on: None,
            iif: None,
            target,
        }
    }

    /// Of this address of the host only.
    pub fn on(mut self, address: impl Into<IpAddr>) -> Self {
        self.on = Some(address.into());
        self
    }

    /// Only for what comes in by the interface of this name, which need not exist yet: so not from this host itself.
    pub fn iif(mut self, name: impl Into<String>) -> Self {
        self.iif = Some(name.into());
        self
    }

    /// Where connections go.
    #[must_use]
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    pub(super) fn check(&self) -> Result<()> {
        let Ports { first, last } = self.ports;
        let count = last.checked_sub(first);
        let last_target = count.and_then(|count| self.target.port().checked_add(count));
        let is_other = self
            .on
            .is_some_and(|on| on.is_ipv4() != self.target.is_ipv4());
        let what = match (first, last_target) {
            (0, _) | (_, None) => "is no range of ports, or leads to ports above 65535",
            _ if self.target.port() == 0 => "leads to port 0",
            _ if is_other => "is on an address of another family",
            _ => return Ok(()),
        };
        Err(Error::invalid("publish", format!("{self} {what}")))
    }

    /// By which all that share ports with one follow it without a gap.
    pub(super) fn order(&self) -> (u8, bool, u16) {
        (self.protocol, self.target.is_ipv6(), self.ports.first)
    }

    /// Whether one that follows has a port of the same protocol and family.
    pub(super) fn shares_ports_with(&self, next: &Self) -> bool {
        let kind = |publish: &Self| (publish.protocol, publish.target.is_ipv6());
        kind(self) == kind(next) && next.ports.first <= self.ports.last
    }

    pub(super) fn shares_addresses_with(&self, other: &Self) -> bool {
        fn may_be_same<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        may_be_same(&self.on, &other.on) && may_be_same(&self.iif, &other.iif)
    }

    /// Whether it has a port that another has as well, wherever in the order of all it is.
    pub(super) fn is_of_same(&self, other: &Self) -> bool {
        let [first, next] = match self.order() <= other.order() {
            true => [self, other],
            false => [other, self],
        };
        first.shares_ports_with(next) && first.shares_addresses_with(next)
    }

    pub(super) fn is_published_already(&self, by: &impl fmt::Display) -> Error {
        let what = format!("{self} is published already, as {by}");
        Error::invalid("publish", what).with_hint(Some(TAKEN.into()))
    }

    /// Whether the numbers of the ports differ by more than a constant for a single port.
    pub(super) fn needs_map(&self) -> bool {
        self.ports.first != self.ports.last && self.ports.first != self.target.port()
    }

    /// What [is written](fmt::Display) of one.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let new = match words.next()? {
            "tcp" => Self::tcp,
            "udp" => Self::udp,
            _ => return None,
        };
        let mut at = words.next()?;
        let mut iif = None;
        if at == "by" {
            iif = Some(words.next()?.to_owned());
            at = words.next()?;
        }
        let (on, ports) = match at.rsplit_once(':') {
            Some((on, ports)) => (Some(on.trim_matches(['[', ']']).parse().ok()?), ports),
            None => (None, at),
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let ports = first.parse().ok()?..=last.parse().ok()?;
        let target = words
            .next()
            .filter(|word| *word == "to")
            .and(words.next())?;
        let publish = new(Ports::from(ports), target.parse().ok()?);
        words
            .next()
            .is_none()
            .then_some(Self { on, iif, ..publish })
    }

    pub(super) fn put(&self, rule: &mut Expressions<'_>, map: &str) {
        if let Some(name) = &self.iif {
            rule.iif(name);
        }
        rule.family_of(self.target.ip());
        match self.on {
            Some(on) => rule.in_network(Side::Destination, on.into(), true),
            None => rule.for_this_host(),
        };
        let Ports { first, last } = self.ports;
        rule.ports(self.protocol, first, last);
        let moves = first != self.target.port();
        match moves {
            true if self.needs_map() => rule.mapped_port(map),
            true => rule.fixed_port(self.target.port()),
            false => rule,
        };
        rule.dnat(self.target.ip(), moves);
    }
}

impl fmt::Display for Publish {
    /// Such as `tcp 192.0.2.1:8080 to 10.9.0.2:80`, or `udp 9000-9009 to 10.9.0.2:19000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match i32::from(self.protocol) {
            libc::IPPROTO_TCP => "tcp",
            _ => "udp",
        };
        write!(f, "{protocol} ")?;
        if let Some(name) = &self.iif {
            write!(f, "by {name} ")?;
        }
        match self.on {
            Some(IpAddr::V6(on)) => write!(f, "[{on}]:")?,
            Some(IpAddr::V4(on)) => write!(f, "{on}:")?,
            None => {}
        }
        let Ports { first, last } = self.ports;
        match first == last {
            true => write!(f, "{first} to {}", self.target),
            false => write!(f, "{first}-{last} to {}", self.target),
        }
    }
}
