//! Connecting a namespace to a network.

use super::membership::Membership;
use super::{BRIDGE, Entry, Inner, State, exhausted, group, port};
use crate::error::{Error, Result};
use crate::net::address::Address;
use crate::net::ip::IpNet;
use crate::net::link::{Link, LinkChange, Peer};
use crate::net::netlink::Netlink;
use crate::net::ready;
use crate::net::route::Route;
use crate::ns::{Namespace, Net};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The kernel needs microseconds for what is waited for, unless it is very busy.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// A namespace that is connected to a [`Network`](super::Network).
///
/// When this is dropped, its name and the ports published for it go. The connection itself, which takes
/// the kernel tens of milliseconds to cut, goes with the namespace, or with the network; and its address is not given
/// to another before. [`disconnect`](Self::disconnect) cuts it now.
#[derive(Debug)]
#[must_use = "its name and its published ports go when this is dropped"]
pub struct Member {
    network: Arc<Inner>,
    number: u32,
}

impl Member {
    /// Its address, or one of each of the network's nets.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let nets = 0..self.network.nets.len();
        nets.filter_map(|net| self.network.address(net, self.number))
            .collect()
    }

    /// The name of the other end of its interface, in the namespace of the bridge.
    #[must_use]
    pub fn port(&self) -> String {
        port(self.network.index, self.number).to_string()
    }

    /// Cuts the connection now. It is no error if it is gone already.
    ///
    /// # Errors
    /// Those of [`Netlink::delete_link`].
    pub fn disconnect(self) -> Result<()> {
        let port = port(self.network.index, self.number);
        match self.network.netlink.delete_link(port) {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.network.leave(self.number);
    }
}

pub(super) fn connect(
    network: &Arc<Inner>,
    namespace: &Namespace<Net>,
    membership: &Membership,
) -> Result<Member> {
    if let Some(name) = &membership.name {
        check_name(name)?;
    }
    let mut opened = None;
    let mut after = 0;
    loop {
        let member = reserve(network, after, membership)?;
        let plug = || plug(network, namespace, member.number, membership);
        let (inside, plugged) = match opened.take() {
            Some(inside) => (Ok(inside), plug()),
            None => Netlink::open_beside(namespace, plug),
        };
        let done = match (inside, plugged) {
            (Ok(inside), Ok(())) => set_up(network, &inside, member.number, membership)
                .and_then(|()| until_ready(network, (&inside, namespace), member.number)),
            (Err(error), Ok(())) => Err(error),
            // The number of one that has left, and whose namespace is still there, or was until now.
            (Ok(inside), Err(error))
                if error.raw_os_error() == Some(libc::EEXIST)
                    && membership.address.is_none()
                    && !has_interface(&inside, &membership.interface)? =>
            {
                after = member.number;
                opened = Some(inside);
                continue;
            }
            (_, Err(error)) => return Err(error),
        };
        return match done {
            Ok(()) => Ok(member),
            Err(error) => {
                let _ = member.disconnect();
                Err(error)
            }
        };
    }
}

/// Takes the number that is asked for, or the first after this one that no member has.
fn reserve(network: &Arc<Inner>, after: u32, membership: &Membership) -> Result<Member> {
    let mut state = network.state();
    let name = membership.name.as_deref();
    let is_taken = |entry: &Entry| name.is_some() && entry.name.as_deref() == name;
    if let Some(name) = name.filter(|_| state.members.values().any(is_taken)) {
        let what = format!("{name} is another member's");
        return Err(Error::invalid("connect", what));
    }
    let number = match membership.address {
        Some(address) => fixed_number(network, &state, address)?,
        None => free_number(network, &state, after)?,
    };
    let entry = Entry {
        name: name.map(str::to_owned),
    };
    state.members.insert(number, entry);
    let member = Member {
        network: Arc::clone(network),
        number,
    };
    let written = match name {
        Some(_) => network.write_hosts(&state),
        None => Ok(()),
    };
    // Dropping the member, after an error, takes it as well.
    drop(state);
    written.map(|()| member)
}

/// Whether a member can have this number.
fn is_in(nets: &[IpNet], number: u32) -> bool {
    nets.iter().all(|net| {
        let address = net.nth(number.into());
        address.is_some() && address != net.broadcast().map(Into::into)
    })
}

fn free_number(network: &Inner, state: &State, after: u32) -> Result<u32> {
    let mut number = after.max(BRIDGE);
    loop {
        let next = number.checked_add(1);
        let next = next.filter(|next| is_in(&network.nets, *next));
        number = next.ok_or_else(|| exhausted(&network.nets))?;
        if !state.members.contains_key(&number) {
            return Ok(number);
        }
    }
}

fn fixed_number(network: &Inner, state: &State, address: IpAddr) -> Result<u32> {
    let invalid = |what| Err(Error::invalid("address", format!("{address} {what}")));
    let mut positions = network.nets.iter().filter_map(|net| net.position(address));
    let number = positions
        .next()
        .and_then(|number| u32::try_from(number).ok());
    match number.filter(|number| *number > BRIDGE && is_in(&network.nets, *number)) {
        None => invalid("is none that the network has for a member"),
        Some(number) if state.members.contains_key(&number) => invalid("is another member's"),
        Some(number) => Ok(number),
    }
}

fn has_interface(inside: &Netlink, name: &str) -> Result<bool> {
    match inside.link_uncounted(&name.into()) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
        Err(error) => Err(error),
    }
}

/// One message: both ends, the outer one a port of the bridge.
fn plug(
    network: &Inner,
    namespace: &Namespace<Net>,
    number: u32,
    membership: &Membership,
) -> Result<()> {
    let mut inner = Peer::new(&*membership.interface).namespace(namespace);
    if let Some(mac) = membership.mac {
        inner = inner.mac(mac);
    }
    if let Some(mtu) = network.mtu {
        inner = inner.mtu(mtu);
    }
    let mut outer = Link::veth(port(network.index, number).to_string(), inner)
        .master(network.index)
        .group(group(network.index))
        .up();
    if let Some(mtu) = network.mtu {
        outer = outer.mtu(mtu);
    }
    network.netlink.add(outer)
}

/// One more for the rest, inside.
fn set_up(network: &Inner, inside: &Netlink, number: u32, membership: &Membership) -> Result<()> {
    let interface = &*membership.interface;
    let mut batch = inside
        .batch()
        .add(LinkChange::of("lo").up())
        .add(LinkChange::of(interface).up());
    for (position, net) in network.nets.iter().enumerate() {
        let own = network.address(position, number);
        let own = own.and_then(|own| IpNet::new(own, net.prefix()));
        let own = own.ok_or_else(|| exhausted(&network.nets))?;
        let mut address = Address::new(interface, own).nodad();
        if let Some(broadcast) = net.broadcast() {
            address = address.broadcast(broadcast);
        }
        batch = batch.add(address);
        let gateway = network.address(position, BRIDGE);
        if let Some(gateway) = gateway.filter(|_| membership.default_route) {
            batch = batch.add(Route::default_via(gateway).dev(interface));
        }
    }
    batch.commit().map(drop)
}

/// Until both ends send, and take in what is sent to their addresses. What is sent before is lost, and then the first
/// connection takes a second more.
fn until_ready(
    network: &Inner,
    (inside, namespace): (&Netlink, &Namespace<Net>),
    number: u32,
) -> Result<()> {
    let deadline = Instant::now().checked_add(READY_LIMIT);
    let outside = (&network.netlink, &network.namespace);
    // The end inside came up last, and so has its carrier at once.
    for link in [port(network.index, number), network.index.into()] {
        if !ready::until_sends_or_is_down(outside.0, outside.1, &link, deadline)? {
            return Ok(());
        }
    }
    for (position, net) in network.nets.iter().enumerate() {
        for ((netlink, namespace), number) in [((inside, namespace), number), (outside, BRIDGE)] {
            let own = network.address(position, number);
            // Those of IPv4 are there at once.
            if let Some(own) = own.filter(|_| !net.address().is_ipv4()) {
                ready::until_local(netlink, namespace, own, deadline)?;
            }
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let is_bad = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, 0 | b'#');
    if name.is_empty() || name.bytes().any(is_bad) {
        let what = format!("{name:?} is no name for a hosts file");
        return Err(Error::invalid("connect", what));
    }
    Ok(())
}
