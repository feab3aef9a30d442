//! Making a network.

use super::hosts::Hosts;
use super::{BRIDGE, Inner, Network, State, forwarding, group, table_name};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::net::address::Address;
use crate::net::ip::{IpNet, Mac};
use crate::net::link::{Link, LinkChange};
use crate::net::netlink::Netlink;
use crate::net::nft::{Forward, Table};
use crate::net::sysctl::Changed;
use crate::net::uplink::UplinkBuilder;
use crate::ns::{Namespace, Net};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What a [`Network`] is to be.
#[derive(Clone, Debug)]
#[must_use = "nothing is made until it is created"]
pub struct NetworkBuilder {
    name: String,
    nets: Vec<IpNet>,
    own_namespace: bool,
    masquerade: bool,
    routed: bool,
    mtu: Option<u32>,
    uplink: Option<UplinkBuilder>,
}

impl NetworkBuilder {
    pub(super) fn new(name: String, net: IpNet) -> Self {
        Self {
            name,
            nets: vec![net.network()],
            own_namespace: false,
            masquerade: false,
            routed: false,
            mtu: None,
            uplink: None,
        }
    }

    /// Members have an address of this network, too, such as one of IPv6.
    pub fn and(mut self, net: IpNet) -> Self {
        self.nets.push(net.network());
        self
    }

    /// Puts the bridge into a namespace of its own, rather than into that of the caller: members reach each
    /// other and nothing else.
    pub fn own_namespace(mut self) -> Self {
        self.own_namespace = true;
        self
    }

    /// Members reach what the bridge's namespace reaches, with its address.
    ///
    /// That namespace forwards packets from then on, between all of its interfaces (`ip_forward`, and for a network of
    /// IPv6 `conf/all/forwarding`). It still does when the network has gone, since others may rely on it by then. In the machine's
    /// first namespace that makes the machine a router. With IPv6, an interface there whose `accept_ra` is 1 loses
    /// the default route that routers advertise; with 2 it keeps it. In its [own namespace](Self::own_namespace) it
    /// changes nothing of that.
    pub fn masquerade(mut self) -> Self {
        self.masquerade = true;
        self
    }

    /// Members can be reached from wherever packets are forwarded to them, by any port: other networks, and hosts outside
    /// that know a way. Otherwise what goes to members is dropped, unless it is a reply, is led there by a
    /// [published port](Network::publish), or comes from another member or from the bridge's namespace itself.
    pub fn routed(mut self) -> Self {
        self.routed = true;
        self
    }

    /// The largest packet of the bridge and of the members' interfaces, in bytes; 1500 if not set. No larger than that of
    /// the way to the outside, or large packets get lost where the messages that say so do.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Connects the bridge, in a [namespace of its own](Self::own_namespace), to what the caller reaches, and members
    /// [with it](Self::masquerade). So a caller without privilege over the network, such as root of a user namespace
    /// alone, has a network whose members reach the outside.
    pub fn uplink(mut self, uplink: &UplinkBuilder) -> Self {
        self.uplink = Some(uplink.clone());
        self.own_namespace().masquerade()
    }

    /// Makes the bridge, with its addresses.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the namespace or the uplink has an address of the same
    /// network, or the network no address for a member; `EEXIST` if there is an interface of that name; those of
    /// [`Nft::install`](crate::net::Nft::install); those of [`sysctl::set`](crate::net::sysctl::set) with
    /// [`masquerade`](Self::masquerade); those of [`UplinkBuilder::attach`] with [`uplink`](Self::uplink). Nothing stays
    /// behind.
    ///
    /// # Kernel
    /// Without [nf_tables](crate::net::Nft) only a network that is [routed](Self::routed) can be made, without
    /// [`masquerade`](Self::masquerade) and published ports.
    pub fn create(&self) -> Result<Network> {
        let namespace = match self.own_namespace {
            true => Namespace::<Net>::create()?,
            false => Namespace::<Net>::current()?,
        };
        let netlink = Netlink::open(&namespace)?;
        self.check(&netlink)?;
        let uplink = self.uplink.as_ref();
        let uplink = uplink.map(|uplink| uplink.attach(&namespace)).transpose()?;
        if uplink.is_some() {
            // pasta's IPv6 addresses are those of the outside.
            self.check_addresses(&netlink)?;
        }
        let mac = random_mac()?;
        // First, so that nothing is ever there without it.
        let hosts = Hosts::create(&self.name, (!self.own_namespace).then_some(mac))?;
        let index = self.bridge(&netlink, mac)?;
        // From here on, dropping it takes everything away.
        let network = Network(Arc::new(Inner {
            name: self.name.clone(),
            index,
            nets: self.nets.clone(),
            namespace,
            netlink,
            mtu: self.mtu,
            uplink,
            state: Mutex::new(State {
                members: BTreeMap::new(),
                table: self.table(index),
                nft: None,
                hosts,
            }),
        }));
        self.protect(&network.0)?;
        Ok(network)
    }

    /// The bridge's number.
    fn bridge(&self, netlink: &Netlink, mac: Mac) -> Result<u32> {
        let mut bridge = Link::bridge(&*self.name).mac(mac).up();
        if let Some(mtu) = self.mtu {
            bridge = bridge.mtu(mtu);
        }
        let mut batch = netlink.batch().add(bridge);
        for net in &self.nets {
            let mut address = Address::new(&*self.name, self.own(net)?).nodad();
            if let Some(broadcast) = net.broadcast() {
                address = address.broadcast(broadcast);
            }
            batch = batch.add(address);
        }
        let made = batch.commit().map_err(with_hint)?;
        let mark = || {
            let index = netlink.link(&*self.name)?.index;
            netlink.set(LinkChange::of(index).group(group(index)))?;
            Ok(index)
        };
        let marked = mark();
        if marked.is_err() {
            let _ = made.undo();
        }
        marked
    }

    fn table(&self, index: u32) -> Table {
        let name = &self.name;
        let mut table = Table::new(table_name(index)).guard_loopback(name);
        if !self.routed {
            table = table
                .forward(Forward::accept().dnat().oif(name))
                .forward(Forward::accept().iif(name).oif(name))
                .forward(Forward::drop().oif(name));
        }
        for net in &self.nets {
            table = table.hairpin(*net);
            if self.masquerade {
                table = table.masquerade(*net);
            }
        }
        table
    }

    fn protect(&self, network: &Inner) -> Result<()> {
        let mut state = network.state();
        let table = state.table.clone();
        match network.install(&mut state, table) {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                // What keeps the host's loopback addresses closed is needed for published ports only.
                return match self.routed && !self.masquerade {
                    true => Ok(()),
                    false => Err(error.with_hint(Some(
                        "without nf_tables a network can be made if it is routed(), and without masquerade()".into(),
                    ))),
                };
            }
            other => drop(other?),
        }
        let mut parameters = Changed::new(&network.namespace);
        // Before it is a router, which takes no default route that is advertised and forgets the one it has.
        if let Some(accept_ra) = self.uplink.as_ref().and_then(UplinkBuilder::accept_ra) {
            parameters.set(&accept_ra, "2")?;
        }
        for net in self.nets.iter().filter(|_| self.masquerade) {
            parameters.set(forwarding(net.address()), "1")?;
        }
        parameters.keep();
        Ok(())
    }

    /// The bridge's address in a network.
    fn own(&self, net: &IpNet) -> Result<IpNet> {
        let first = net
            .nth(BRIDGE.into())
            .and_then(|first| IpNet::new(first, net.prefix()));
        first.ok_or_else(|| self.invalid(format!("{net} has no address for a bridge")))
    }

    fn check(&self, netlink: &Netlink) -> Result<()> {
        for (position, net) in self.nets.iter().enumerate() {
            let is_too_small =
                net.nth(2).is_none() || net.nth(2) == net.broadcast().map(Into::into);
            if is_too_small {
                return Err(self.invalid(format!("{net} has no address for a member")));
            }
            let first = net.address();
            if first.is_multicast() || first.is_loopback() || first.is_unspecified() {
                return Err(self.invalid(format!("{net} is for no interface's addresses")));
            }
            if let Some(other) = self.nets[..position]
                .iter()
                .find(|other| other.overlaps(net))
            {
                return Err(self.invalid(format!("{net} and {other} overlap")));
            }
            let mut outer = self.uplink.iter().flat_map(UplinkBuilder::nets);
            if let Some(outer) = outer.find(|outer| outer.overlaps(net)) {
                return Err(self.invalid(format!("{net} overlaps {outer} of the uplink")));
            }
        }
        self.check_addresses(netlink)
    }

    fn check_addresses(&self, netlink: &Netlink) -> Result<()> {
        for address in netlink.addresses()? {
            if let Some(net) = self.nets.iter().find(|net| net.overlaps(&address.net)) {
                let link = netlink.link_uncounted(&address.link);
                let link = link.map_or_else(|_| address.link.to_string(), |link| link.name);
                let what = format!("{net} overlaps {} on {link}", address.net);
                return Err(self.invalid(what));
            }
        }
        Ok(())
    }

    fn invalid(&self, what: String) -> Error {
        Error::invalid("bridge", format!("{}: {what}", self.name))
    }
}

fn with_hint(error: Error) -> Error {
    if error.raw_os_error() != Some(libc::EEXIST) {
        return error;
    }
    let hint = "if a process that was killed has left it, Network::remove_abandoned removes it";
    error.with_hint(Some(hint.into()))
}

/// An address that no manufacturer gives. A bridge without one of its own has that of one of its ports, and
/// changes it as they come and go.
fn random_mac() -> Result<Mac> {
    let mut bytes = [0; 6];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|errno| {
        Error::system(
            Step::Network,
            "an address for the bridge",
            "getrandom",
            errno,
        )
    })?;
    bytes[0] = bytes[0] & 0xfc | 2;
    Ok(Mac(bytes))
}
