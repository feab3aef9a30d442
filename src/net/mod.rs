//! Network interfaces, addresses, routes and packet filters of network namespaces, by netlink.
//!
//! A [`Netlink`] socket belongs to one namespace, and is used from any other. It lists, adds, changes and
//! removes; a [`Batch`] makes several changes in one call to the kernel, all or none. A [`Monitor`] tells what others
//! change.
//!
//! Names are those of ip(8): a [`Link`] is a network interface.
//!
//! # Examples
//! Two namespaces, connected:
//! ```no_run
//! use ringfence::net::{Address, IpNet, Link, LinkChange, Netlink, Peer};
//! use ringfence::ns::{Namespace, Net};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (left, right) = (Namespace::<Net>::create()?, Namespace::<Net>::create()?);
//! let (here, there) = (Netlink::open(&left)?, Netlink::open(&right)?);
//! here.batch()
//!     .add(Link::veth("eth0", Peer::new("eth0").namespace(&right)).up())
//!     .add(Address::new("eth0", "10.9.0.1/24".parse::<IpNet>()?))
//!     .commit()?;
//! there
//!     .batch()
//!     .add(LinkChange::of("eth0").up())
//!     .add(Address::new("eth0", "10.9.0.2/24".parse::<IpNet>()?))
//!     .commit()?;
//! # Ok(())
//! # }
//! ```
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "constants of libc are wider than the fields that they are for"
)]

mod address;
mod batch;
mod bridge_vlan;
mod entry;
mod fail;
mod fdb;
mod ip;
mod link;
mod monitor;
pub mod named;
mod neighbour;
mod netlink;
mod network;
mod next_hop;
mod nft;
mod nsid;
mod pool;
mod ready;
mod route;
mod rule;
mod socket;
pub mod sysctl;
mod temporary;
#[cfg(test)]
mod tests;
mod told;
mod uplink;
mod wire;

pub use address::{Address, Scope};
pub use batch::{Batch, Change, Committed};
pub use bridge_vlan::{BridgeVlan, Vids};
pub use fdb::{FdbEntry, FdbTable};
pub use ip::{IpNet, Mac, ParseAddressError};
pub use link::{
    Bridge, BridgePort, IpvlanMode, Link, LinkChange, LinkData, LinkInfo, LinkRef, MacvlanMode,
    NAME_MAX, OperState, Peer, Statistics, TunDevice, TunTap, Vlan, VlanProtocol, Vxlan, VxlanDf,
    VxlanFlag,
};
pub use monitor::{Event, Monitor, Watch};
pub use neighbour::{Neighbour, NeighbourState};
pub use netlink::Netlink;
pub use network::{Member, Membership, Network, NetworkBuilder};
pub use next_hop::NextHop;
pub use nft::{Forward, Nft, Ports, Publish, Snat, Table};
pub use pool::NetPool;
pub use ready::{wait_for_addresses, wait_for_link};
pub use route::{Route, RouteKind, RouteOption, RoutePreference};
pub use rule::{Family, Rule, RuleAction};
pub use uplink::{Uplink, UplinkBuilder};
