//! Connecting a namespace to a network.

use super::{Entry, Inner, exhausted, group, port};
use crate::error::{Error, Result};
use crate::net::address::Address;
use crate::net::ip::IpNet;
use crate::net::link::{Link, LinkChange, Peer};
use crate::net::netlink::Netlink;
use crate::net::route::Route;
use crate::ns::{Namespace, Net};
use std::net::IpAddr;
use std::sync::Arc;

/// The interface of a member.
const INSIDE: &str = "eth0";

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

    /// The name of the other end of its `eth0`, in the namespace of the bridge.
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
    name: Option<&str>,
) -> Result<Member> {
    if let Some(name) = name {
        check_name(name)?;
    }
    let mut opened = None;
    let mut after = 0;
    loop {
        let member = reserve(network, after, name)?;
        let plug = || plug(network, namespace, member.number);
        let (inside, plugged) = match opened.take() {
            Some(inside) => (Ok(inside), plug()),
            None => Netlink::open_beside(namespace, plug),
        };
        let done = match (inside, plugged) {
            (Ok(inside), Ok(())) => set_up(network, &inside, member.number),
            (Err(error), Ok(())) => Err(error),
            // The number of one that has left, and whose namespace is still there, or was until now.
            (Ok(inside), Err(error))
                if error.raw_os_error() == Some(libc::EEXIST) && !has_eth0(&inside)? =>
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

/// Takes the first number after this one that no member has.
fn reserve(network: &Arc<Inner>, after: u32, name: Option<&str>) -> Result<Member> {
    let mut state = network.state();
    let is_taken = |entry: &Entry| name.is_some() && entry.name.as_deref() == name;
    if let Some(name) = name.filter(|_| state.members.values().any(is_taken)) {
        let what = format!("{name} is another member's");
        return Err(Error::invalid("connect", what));
    }
    // The bridge has number 1.
    let mut number = after.max(1);
    loop {
        number = number
            .checked_add(1)
            .ok_or_else(|| exhausted(&network.nets))?;
        let is_in = |net: &IpNet| {
            let address = net.nth(number.into());
            address.is_some() && address != net.broadcast().map(Into::into)
        };
        if !network.nets.iter().all(is_in) {
            return Err(exhausted(&network.nets));
        }
        if !state.members.contains_key(&number) {
            break;
        }
    }
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

fn has_eth0(inside: &Netlink) -> Result<bool> {
    match inside.link_uncounted(&INSIDE.into()) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
        Err(error) => Err(error),
    }
}

/// One message: both ends, the outer one a port of the bridge.
fn plug(network: &Inner, namespace: &Namespace<Net>, number: u32) -> Result<()> {
    let outer = port(network.index, number).to_string();
    let veth = Link::veth(outer, Peer::new(INSIDE).namespace(namespace))
        .master(network.index)
        .group(group(network.index))
        .up();
    network.netlink.add(veth)
}

/// One more for the rest, inside.
fn set_up(network: &Inner, inside: &Netlink, number: u32) -> Result<()> {
    let mut batch = inside
        .batch()
        .add(LinkChange::of("lo").up())
        .add(LinkChange::of(INSIDE).up());
    for (position, net) in network.nets.iter().enumerate() {
        let own = network.address(position, number);
        let own = own.and_then(|own| IpNet::new(own, net.prefix()));
        let own = own.ok_or_else(|| exhausted(&network.nets))?;
        let mut address = Address::new(INSIDE, own).nodad();
        if let Some(broadcast) = net.broadcast() {
            address = address.broadcast(broadcast);
        }
        batch = batch.add(address);
        if let Some(gateway) = network.address(position, 1) {
            batch = batch.add(Route::default_via(gateway).dev(INSIDE));
        }
    }
    batch.commit().map(drop)
}

fn check_name(name: &str) -> Result<()> {
    let is_bad = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, 0 | b'#');
    if name.is_empty() || name.bytes().any(is_bad) {
        let what = format!("{name:?} is no name for a hosts file");
        return Err(Error::invalid("connect", what));
    }
    Ok(())
}
