//! How a namespace is to be connected.

use super::member::{self, Member};
use super::{Inner, Network};
use crate::error::{Error, Result};
use crate::net::ip::Mac;
use crate::net::link::name_flaw;
use crate::ns::{Namespace, Net};
use crate::process::Child;
use crate::sandbox::Sandbox;
use crate::sandbox::attach::{Attach, Attached};
use std::net::IpAddr;
use std::sync::Arc;

/// How a namespace is connected to a [`Network`]: by an interface `eth0` with the first addresses that are free and
/// the default route, unless it says otherwise.
///
/// # Examples
/// A program in two networks:
/// ```no_run
/// use ringfence::Sandbox;
/// use ringfence::net::{Membership, Network};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let front = Network::bridge("front", "10.9.0.0/24".parse()?).masquerade().create()?;
/// let back = Network::bridge("back", "10.8.0.0/24".parse()?).create()?;
/// let second = Membership::new()
///     .interface("eth1")
///     .address([10, 8, 0, 80])
///     .no_default_route();
/// Sandbox::new()
///     .net()
///     .network(&front)
///     .network_with(&back, second)
///     .command("httpd")
///     .status()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is connected by it alone"]
pub struct Membership {
    pub(super) name: Option<String>,
    pub(super) interface: String,
    pub(super) address: Option<IpAddr>,
    pub(super) mac: Option<Mac>,
    pub(super) default_route: bool,
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            name: None,
            interface: "eth0".to_owned(),
            address: None,
            mac: None,
            default_route: true,
        }
    }
}

impl Membership {
    /// As [`Network::connect`] has it, without a name.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name by which other members find it. For a sandbox that is its [`hostname`](Sandbox::hostname), if not set.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The name of the interface inside, `eth0` if not set.
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.interface = name.into();
        self
    }

    /// Its address in one of the network's nets. In the others it has that of the same number: with 10.9.0.80 that is
    /// fd00:9::50.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The hardware address of its interface, random if not set.
    pub fn mac(mut self, mac: Mac) -> Self {
        self.mac = Some(mac);
        self
    }

    /// The bridge is not its way to everything else: another network is, or there is none.
    pub fn no_default_route(mut self) -> Self {
        self.default_route = false;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Some(flaw) = name_flaw(&self.interface) {
            let what = format!("{:?} {flaw}", self.interface);
            return Err(Error::invalid("interface", what));
        }
        Ok(())
    }
}

/// A sandbox's place in a network.
#[derive(Debug)]
struct Place {
    network: Arc<Inner>,
    membership: Membership,
    setter: &'static str,
}

impl Attach for Place {
    fn attach(self: Arc<Self>, child: &Child, name: Option<&str>) -> Result<Attached> {
        let namespace = Namespace::<Net>::of_pidfd(child)?;
        let mut membership = self.membership.clone();
        membership.name = membership.name.or_else(|| name.map(str::to_owned));
        Ok(Box::new(connect(&self.network, &namespace, &membership)?))
    }

    fn label(&self) -> String {
        format!("connected to the network {}", self.network.name)
    }

    fn setter(&self) -> &'static str {
        self.setter
    }

    fn interface(&self) -> &str {
        &self.membership.interface
    }

    fn has_default_route(&self) -> bool {
        self.membership.default_route
    }

    fn check(&self) -> Result<()> {
        self.membership.check()
    }
}

pub(super) fn connect(
    network: &Arc<Inner>,
    namespace: &Namespace<Net>,
    membership: &Membership,
) -> Result<Member> {
    membership.check()?;
    member::connect(network, namespace, membership)
}

impl Sandbox {
    /// Connects the sandbox to a network before its program starts: the program is held at the
    /// [gate](crate::Command::gate) until its `eth0` is up. Needs [`net`](Self::net). Its [`hostname`](Self::hostname), if it has
    /// one, is the name by which other members find it.
    ///
    /// It is a member as long as its [`Child`] exists.
    ///
    /// # Errors
    /// [`compile`](crate::Command::compile) refuses a second network with the same interface or a default route:
    /// [`network_with`](Self::network_with) is for that. [`Plan::spawn`](crate::Plan::spawn) has those of
    /// [`Network::connect`]. The program is then not started.
    pub fn network(self, network: &Network) -> Self {
        self.placed(network, Membership::new(), "network")
    }

    /// Connects the sandbox to a network, as [`network`](Self::network) does, in a way of its own: by another interface,
    /// with another address. So it is a member of several.
    ///
    /// # Errors
    /// Those of [`network`](Self::network).
    pub fn network_with(self, network: &Network, membership: Membership) -> Self {
        self.placed(network, membership, "network_with")
    }

    fn placed(mut self, network: &Network, membership: Membership, setter: &'static str) -> Self {
        self.attach.push(Arc::new(Place {
            network: Arc::clone(&network.0),
            membership,
            setter,
        }));
        self
    }
}
