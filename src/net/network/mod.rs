//! Networks that sandboxes are connected to.

mod abandoned;
mod create;
mod hosts;
mod member;
mod membership;

pub use create::NetworkBuilder;
pub use member::Member;
pub use membership::Membership;

use super::ip::IpNet;
use super::link::{LinkChange, LinkRef};
use super::netlink::Netlink;
use super::nft::{Nft, Publish, Table};
use super::sysctl::Changed;
use super::uplink::Uplink;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Namespace, Net};
use hosts::Hosts;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A network of namespaces: a bridge, the addresses that its members are given, the ports that are published, and
/// the names by which members find each other.
///
/// Members reach each other, and the bridge's namespace. What is forwarded to them from elsewhere is dropped but for
/// replies and for ports that are published, unless the network is [routed](NetworkBuilder::routed).
///
/// It is removed when the last clone of it and the last [`Member`] are dropped: the bridge, what was connected to it, and the
/// table of nf_tables. If the owner is killed instead, it stays, as long as its namespace does, until somebody calls
/// [`remove_abandoned`](Network::remove_abandoned).
///
/// # Privileges
/// `CAP_SYS_ADMIN` and `CAP_NET_ADMIN` in the caller's user namespace and in those that own the network namespaces.
/// Without privilege all of it works in a user namespace of one's own, where the caller is root: see
/// `examples/network.rs`.
///
/// # Examples
/// ```no_run
/// use ringfence::Sandbox;
/// use ringfence::net::{Network, Publish};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Network::bridge("lab", "10.9.0.0/24".parse()?).masquerade().create()?;
/// let sandbox = |name| Sandbox::new().net().uts().hostname(name).network(&network);
/// let mut web = sandbox("web").command("httpd").args(["-f", "-p", "80"]).spawn()?;
/// let web_address = network.address_of("web").expect("is a member");
/// network.publish(Publish::tcp(8080, (web_address, 80).into()))?;
/// web.wait()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Network(Arc<Inner>);

pub(super) struct Inner {
    name: String,
    /// The bridge's index, and the group that it and what leads to it are in.
    index: u32,
    nets: Vec<IpNet>,
    namespace: Namespace<Net>,
    netlink: Netlink,
    mtu: Option<u32>,
    uplink: Option<Uplink>,
    state: Mutex<State>,
}

struct State {
    members: BTreeMap<u32, Entry>,
    table: Table,
    nft: Option<Nft>,
    hosts: Hosts,
}

/// The number of the bridge's own address in the network.
const BRIDGE: u32 = 1;

/// A member by the number of its address in the network.
struct Entry {
    name: Option<String>,
}

impl Network {
    /// A bridge of this name, whose first address is the bridge's own. To be [made](NetworkBuilder::create).
    pub fn bridge(name: impl Into<String>, net: IpNet) -> NetworkBuilder {
        NetworkBuilder::new(name.into(), net)
    }

    /// The name of the bridge.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The namespace that the bridge is in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace<Net> {
        &self.0.namespace
    }

    /// The way to the outside, if it was [asked for](NetworkBuilder::uplink).
    #[must_use]
    pub fn uplink(&self) -> Option<&Uplink> {
        self.0.uplink.as_ref()
    }

    /// The networks that members have addresses of.
    #[must_use]
    pub fn nets(&self) -> &[IpNet] {
        &self.0.nets
    }

    /// The bridge's own address, which is the members' gateway.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        self.0.address(0, BRIDGE)
    }

    /// Connects a namespace: it gets an `eth0` with an address that no other member has, a default route
    /// to the bridge, and its loopback interface is brought up. With a name, the other members find it by that.
    ///
    /// Of an IPv6 address the kernel makes the routes on its own, some milliseconds later.
    ///
    /// # Errors
    /// [`ErrorKind::LimitReached`] if there is no address left; `EEXIST` if there is an `eth0`, or a default route,
    /// already; [`ErrorKind::InvalidInput`] for a name that is another member's, or that a hosts file cannot have.
    /// Nothing stays behind.
    pub fn connect(&self, namespace: &Namespace<Net>, name: Option<&str>) -> Result<Member> {
        let mut membership = Membership::new();
        membership.name = name.map(str::to_owned);
        membership::connect(&self.0, namespace, &membership)
    }

    /// Connects a namespace, as [`connect`](Self::connect) does, in a way of its own.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), where the interface is the one that is asked for;
    /// [`ErrorKind::InvalidInput`] for a name that no interface can have, and an address that the network has not, or
    /// that another member has; `EEXIST` if the namespace of one that has left still has the address.
    pub fn connect_with(
        &self,
        namespace: &Namespace<Net>,
        membership: &Membership,
    ) -> Result<Member> {
        membership::connect(&self.0, namespace, membership)
    }

    /// The first address of the member of this name.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<IpAddr> {
        let state = self.0.state();
        let is_it = |entry: &Entry| entry.name.as_deref() == Some(name);
        let found = state.members.iter().find(|(_, entry)| is_it(entry));
        self.0.address(0, *found?.0)
    }

    /// Leads ports of the bridge's namespace to a member, until that is dropped. From loopback addresses as well.
    ///
    /// The namespace forwards packets from then on, and stays so: see [`NetworkBuilder::masquerade`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the target's address is none of the network's, or one of the ports is published
    /// already, by this network or by another one of the same namespace, of whatever process; the error says by which. One
    /// that a killed owner has left still has its ports until [`remove_abandoned`](Self::remove_abandoned). Those of
    /// [`Nft::install`] and of [`sysctl::set`](super::sysctl::set). Nothing is changed then.
    pub fn publish(&self, publish: Publish) -> Result<()> {
        let target = publish.target().ip();
        if !self.0.nets.iter().any(|net| net.contains(target)) {
            let what = format!("{target} is no address of the network {}", self.0.name);
            return Err(Error::invalid("publish", what));
        }
        let mut state = self.0.state();
        let table = state.table.clone().publish(publish.clone());
        let before = self.0.install_by(&mut state, table, |nft, table| {
            nft.install_beside(table, |other| self.0.owner(other))
        })?;
        let led = self.0.lead(&state, target);
        if led.is_err() {
            let _ = self.0.install(&mut state, before);
        }
        led
    }

    /// Takes back what was [published](Self::publish). Connections that there are go on.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not published, or not any more; those of [`Nft::install`].
    pub fn unpublish(&self, publish: &Publish) -> Result<()> {
        let mut state = self.0.state();
        let mut table = state.table.clone();
        if !table.unpublish(|other| other == publish) {
            let what = format!("{publish} is not published");
            return Err(Error::other(ErrorKind::NotFound, Step::Network, what));
        }
        self.0.install(&mut state, table).map(drop)
    }

    /// A file in the form of hosts(5) with the names of the members, kept up to date. To be bound at `/etc/hosts`:
    /// `sandbox.bind_ro(network.hosts_path(), "/etc/hosts")`.
    #[must_use]
    pub fn hosts_path(&self) -> std::path::PathBuf {
        self.0.state().hosts.path().to_owned()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address with this number in one of the networks.
    fn address(&self, net: usize, number: u32) -> Option<IpAddr> {
        self.nets.get(net)?.nth(number.into())
    }

    /// The number of the member that has this address.
    fn number_of(&self, state: &State, address: IpAddr) -> Option<u32> {
        let nets = 0..self.nets.len();
        let mut all = nets.flat_map(|net| state.members.keys().map(move |number| (net, *number)));
        let (_, number) = all.find(|(net, number)| self.address(*net, *number) == Some(address))?;
        Some(number)
    }

    /// Lets packets through to an address that ports lead to.
    fn lead(&self, state: &State, to: IpAddr) -> Result<()> {
        let mut parameters = Changed::new(&self.namespace);
        parameters.set(forwarding(to), "1")?;
        if to.is_ipv4() {
            let parameter = format!("ipv4/conf/{}/route_localnet", self.name);
            parameters.set(&parameter, "1")?;
        }
        // Where bridges look at IP packets (br_netfilter), the member itself could not use it otherwise.
        if let Some(number) = self.number_of(state, to) {
            let port = port(self.index, number);
            self.netlink.set(LinkChange::of(port).hairpin(true))?;
        }
        parameters.keep();
        Ok(())
    }

    /// Puts a table, which publishes no more, in the place of the one that there is, which it returns.
    fn install(&self, state: &mut State, table: Table) -> Result<Table> {
        self.install_by(state, table, Nft::put)
    }

    fn install_by(
        &self,
        state: &mut State,
        table: Table,
        install: impl FnOnce(&Nft, &Table) -> Result<()>,
    ) -> Result<Table> {
        let nft = match state.nft.take() {
            Some(nft) => nft,
            None => Nft::open(&self.namespace)?,
        };
        let installed = install(&nft, &table);
        state.nft = Some(nft);
        installed?;
        Ok(std::mem::replace(&mut state.table, table))
    }

    /// Whose table this is.
    fn owner(&self, table: &str) -> String {
        let bridge = table
            .strip_prefix(TABLE)
            .and_then(|index| index.parse::<u32>().ok());
        match bridge.map(|index| self.netlink.link_uncounted(&index.into())) {
            Some(Ok(bridge)) => format!("the network {}", bridge.name),
            _ => format!("table {table}"),
        }
    }

    fn write_hosts(&self, state: &State) -> Result<()> {
        let members = state.members.iter().filter_map(|(number, entry)| {
            let addresses = (0..self.nets.len()).filter_map(|net| self.address(net, *number));
            Some((addresses, entry.name.as_deref()?))
        });
        let lines = members.flat_map(|(addresses, name)| addresses.map(move |one| (one, name)));
        state.hosts.write(lines)
    }

    /// What a member leaves: its number is free, and nothing leads to its addresses.
    fn leave(&self, number: u32) {
        let mut state = self.state();
        let left = state.members.remove(&number);
        if left.is_some_and(|entry| entry.name.is_some()) {
            let _ = self.write_hosts(&state);
        }
        let addresses: Vec<_> = (0..self.nets.len())
            .filter_map(|net| self.address(net, number))
            .collect();
        let mut table = state.table.clone();
        if table.unpublish(|publish| addresses.contains(&publish.target().ip())) {
            let _ = self.install(&mut state, table);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Its members as well, in one go. While there are any, the table protects the host.
        let _ = self.netlink.delete_group(group(self.index));
        if let Some(nft) = &state.nft {
            let _ = nft.remove(&table_name(self.index));
        }
    }
}

/// What lets a namespace forward packets of the family of an address.
fn forwarding(of: IpAddr) -> &'static str {
    match of {
        IpAddr::V4(_) => "ipv4/ip_forward",
        IpAddr::V6(_) => "ipv6/conf/all/forwarding",
    }
}

/// The group of interfaces that belong to the bridge with this index, which nothing else in its namespace has.
fn group(index: u32) -> u32 {
    const OURS: u32 = 0x5246_0000;
    OURS.wrapping_add(index)
}

/// How the names of the tables of all networks begin.
const TABLE: &str = "ringfence-";

fn table_name(index: u32) -> String {
    format!("{TABLE}{index}")
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Network");
        debug.field("name", &self.name).field("nets", &self.nets);
        debug.field("members", &self.state().members.len()).finish()
    }
}

fn exhausted(nets: &[IpNet]) -> Error {
    let nets: Vec<_> = nets.iter().map(IpNet::to_string).collect();
    let what = format!("no address of {} is left", nets.join(" or "));
    Error::other(ErrorKind::LimitReached, Step::Network, what)
}

/// What leads to a member, in the bridge's namespace.
fn port(index: u32, number: u32) -> LinkRef {
    LinkRef::Name(format!("rf{index}-{number}"))
}
