//! Networks that have another address outside.

use super::expr::{Expressions, Side};
use crate::error::{Error, Result};
use crate::net::ip::IpNet;
use std::net::IpAddr;

/// What a network is hidden behind: what it sends elsewhere has another source address (SNAT).
///
/// # Examples
/// ```
/// use ringfence::net::Snat;
///
/// let lab = "10.9.0.0/24".parse()?;
/// let by_wan = Snat::masquerade(lab).oif("wan");
/// let fixed = Snat::to(lab, [192, 0, 2, 7]);
/// # Ok::<(), ringfence::net::ParseAddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "nothing is hidden until the table is installed"]
pub struct Snat {
    net: IpNet,
    to: Option<IpAddr>,
    pub(super) oif: Option<String>,
}

impl Snat {
    /// Behind the address of the interface that a packet leaves this host by.
    pub fn masquerade(net: IpNet) -> Self {
        Self {
            net,
            to: None,
            oif: None,
        }
    }

    /// Behind this address, which replies have to reach this host by.
    pub fn to(net: IpNet, address: impl Into<IpAddr>) -> Self {
        Self {
            to: Some(address.into()),
            ..Self::masquerade(net)
        }
    }

    /// Only what leaves by the interface of this name, which need not exist yet.
    pub fn oif(mut self, name: impl Into<String>) -> Self {
        self.oif = Some(name.into());
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let Self { net, to, .. } = self;
        match to {
            Some(to) if to.is_ipv4() != net.address().is_ipv4() => {
                let what = format!("{net} and {to} are not of one family");
                Err(Error::invalid("snat", what))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn put(&self, rule: &mut Expressions<'_>) {
        if let Some(name) = &self.oif {
            rule.oif(name);
        }
        rule.family_of(self.net.address())
            .in_network(Side::Source, self.net, true)
            .in_network(Side::Destination, self.net, false);
        match self.to {
            Some(to) => rule.snat(to),
            None => rule.masquerade(),
        };
    }
}
