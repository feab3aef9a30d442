//! Packets that are let through or dropped.

use super::Ports;
use super::expr::{Expressions, Side, Verdict};
use crate::error::{Error, Result};
use crate::net::ip::IpNet;

/// What becomes of packets that this host sends on from one interface to another. The first that fits
/// decides. Replies, and what else belongs to a connection that was let through, always pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "nothing is filtered until the table is installed"]
pub struct Forward {
    pub(super) iif: Option<String>,
    pub(super) oif: Option<String>,
    from: Option<IpNet>,
    to: Option<IpNet>,
    /// A protocol with its destination ports.
    ports: Option<(u8, Ports)>,
    dnat: bool,
    accept: bool,
}

impl Forward {
    /// Lets them through.
    pub fn accept() -> Self {
        Self::new(true)
    }

    /// Drops them.
    pub fn drop() -> Self {
        Self::new(false)
    }

    fn new(accept: bool) -> Self {
        Self {
            iif: None,
            oif: None,
            from: None,
            to: None,
            ports: None,
            dnat: false,
            accept,
        }
    }

    /// Those that came in by the interface of this name, which need not exist yet.
    pub fn iif(mut self, name: impl Into<String>) -> Self {
        self.iif = Some(name.into());
        self
    }

    /// Those that leave by the interface of this name.
    pub fn oif(mut self, name: impl Into<String>) -> Self {
        self.oif = Some(name.into());
        self
    }

    /// Those from this network, or address.
    pub fn from(mut self, net: impl Into<IpNet>) -> Self {
        self.from = Some(net.into());
        self
    }

    /// Those to this network, or address. What a published port leads on has the address of its target by then.
    pub fn to(mut self, net: impl Into<IpNet>) -> Self {
        self.to = Some(net.into());
        self
    }

    /// Those to these TCP ports.
    pub fn tcp(mut self, ports: impl Into<Ports>) -> Self {
        self.ports = Some((libc::IPPROTO_TCP as u8, ports.into()));
        self
    }

    /// Those to these UDP ports.
    pub fn udp(mut self, ports: impl Into<Ports>) -> Self {
        self.ports = Some((libc::IPPROTO_UDP as u8, ports.into()));
        self
    }

    /// Those whose destination was translated, as it is for a [published](super::Publish) port.
    pub fn dnat(mut self) -> Self {
        self.dnat = true;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let nets = self.from.zip(self.to);
        let what = match (nets, self.ports) {
            (Some((from, to)), _) if from.address().is_ipv4() != to.address().is_ipv4() => {
                format!("{from} and {to} are not of one family")
            }
            (_, Some((_, Ports { first, last }))) if first > last => {
                format!("{first}-{last} is no range of ports")
            }
            _ => return Ok(()),
        };
        Err(Error::invalid("forward", what))
    }

    pub(super) fn put(&self, rule: &mut Expressions<'_>) {
        if let Some(name) = &self.iif {
            rule.iif(name);
        }
        if let Some(name) = &self.oif {
            rule.oif(name);
        }
        if let Some(net) = self.from.or(self.to) {
            rule.family_of(net.address());
        }
        if let Some(net) = self.from {
            rule.in_network(Side::Source, net, true);
        }
        if let Some(net) = self.to {
            rule.in_network(Side::Destination, net, true);
        }
        if let Some((protocol, Ports { first, last })) = self.ports {
            rule.ports(protocol, first, last);
        }
        if self.dnat {
            rule.is_dnat();
        }
        rule.verdict(match self.accept {
            true => Verdict::Accept,
            false => Verdict::Drop,
        });
    }
}
