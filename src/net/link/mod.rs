//! Network interfaces: what is to be made.

mod alt_name;
mod change;
mod data;
mod info;
mod kind;
mod port;
mod tun;
mod vxlan;

pub(super) use alt_name::{IFLA_ALT_IFNAME, IFLA_PROP_LIST, RTM_DELLINKPROP, RTM_NEWLINKPROP};
pub use change::LinkChange;
pub use data::LinkData;
pub use info::{LinkInfo, OperState, Statistics};
pub(super) use kind::LinkKind;
pub use kind::{Bridge, IpvlanMode, MacvlanMode, Vlan, VlanProtocol};
pub use port::BridgePort;
pub use tun::{TunDevice, TunTap};
pub use vxlan::{Vxlan, VxlanDf, VxlanFlag};

use super::batch::Indexes;
use super::ip::Mac;
use super::wire::Message;
use crate::error::{Error, Result};
use crate::ns::{Namespace, Net};
use alt_name::check_alt_name;
use std::fmt;
use std::os::fd::AsRawFd;

/// The longest name of a network interface: `IFNAMSIZ` without the NUL.
pub const NAME_MAX: usize = 15;

/// The size of `struct ifinfomsg`.
pub(super) const IFINFOMSG: usize = 16;
const IFF_UP: u32 = libc::IFF_UP as u32;
const IFF_PROMISC: u32 = libc::IFF_PROMISC as u32;

/// Which interface is meant: by index, or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LinkRef {
    /// Its number in its namespace.
    Index(u32),
    /// Its name, or one that it has [besides](LinkChange::alt_name).
    Name(String),
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "interface {index}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl From<u32> for LinkRef {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl From<&str> for LinkRef {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for LinkRef {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<&LinkInfo> for LinkRef {
    fn from(link: &LinkInfo) -> Self {
        Self::Index(link.index)
    }
}

impl From<&LinkRef> for LinkRef {
    fn from(link: &LinkRef) -> Self {
        link.clone()
    }
}

/// A network interface to be made, by [`Netlink::add`](super::Netlink::add) or in a [`Batch`](super::Batch).
///
/// Its name has up to [`NAME_MAX`] bytes. Unless [`up`](Self::up) is asked for, it is down.
///
/// # Kernel
/// A kind that the kernel lacks, because it was built without or the module cannot be loaded, is an error of
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) whose hint says which.
///
/// # Examples
/// A veth whose other end is `eth0` of another namespace:
/// ```no_run
/// use ringfence::net::{Address, Link, Netlink, Peer};
/// use ringfence::ns::{Namespace, Net};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let inside = Namespace::<Net>::create()?;
/// let host = Netlink::current()?;
/// host.batch()
///     .add(Link::veth("lab0", Peer::new("eth0").namespace(&inside)).up())
///     .add(Address::new("lab0", "10.9.0.1/24".parse::<ringfence::net::IpNet>()?))
///     .commit()?;
/// # Ok(())
/// # }
/// ```
///
/// See [ip-link(8)](https://man7.org/linux/man-pages/man8/ip-link.8.html).
#[derive(Clone, Debug)]
#[must_use = "nothing is made until it is added"]
pub struct Link<'a> {
    name: String,
    kind: LinkKind<'a>,
    index: Option<u32>,
    mac: Option<Mac>,
    mtu: Option<u32>,
    up: bool,
    master: Option<LinkRef>,
    group: Option<u32>,
    namespace: Option<&'a Namespace<Net>>,
}

impl<'a> Link<'a> {
    fn new(name: impl Into<String>, kind: LinkKind<'a>) -> Self {
        Self {
            name: name.into(),
            kind,
            index: None,
            mac: None,
            mtu: None,
            up: false,
            master: None,
            group: None,
            namespace: None,
        }
    }

    /// A pair of interfaces: what one sends, the other receives. Each may be in a namespace of its own.
    ///
    /// See [veth(4)](https://man7.org/linux/man-pages/man4/veth.4.html).
    pub fn veth(name: impl Into<String>, peer: Peer<'a>) -> Self {
        Self::new(name, LinkKind::Veth(peer))
    }

    /// A bridge: interfaces become its ports by having it as their [master](Self::master).
    pub fn bridge(name: impl Into<String>) -> Self {
        Self::bridge_with(name, Bridge::new())
    }

    /// A bridge with settings.
    pub fn bridge_with(name: impl Into<String>, bridge: Bridge) -> Self {
        Self::new(name, LinkKind::Bridge(bridge))
    }

    /// An interface with a hardware address of its own on the wire of another.
    pub fn macvlan(name: impl Into<String>, parent: impl Into<LinkRef>, mode: MacvlanMode) -> Self {
        let parent = parent.into();
        Self::new(name, LinkKind::Macvlan { parent, mode })
    }

    /// An interface with the hardware address of another, told apart by its IP addresses.
    pub fn ipvlan(name: impl Into<String>, parent: impl Into<LinkRef>, mode: IpvlanMode) -> Self {
        let parent = parent.into();
        Self::new(name, LinkKind::Ipvlan { parent, mode })
    }

    /// The frames of another interface that have this tag: a number is one of 802.1Q.
    pub fn vlan(
        name: impl Into<String>,
        parent: impl Into<LinkRef>,
        vlan: impl Into<Vlan>,
    ) -> Self {
        let (parent, vlan) = (parent.into(), vlan.into());
        Self::new(name, LinkKind::Vlan { parent, vlan })
    }

    /// A tunnel of Ethernet frames through UDP.
    pub fn vxlan(name: impl Into<String>, vxlan: Vxlan) -> Self {
        Self::new(name, LinkKind::Vxlan(vxlan))
    }

    /// An interface that drops what it is to send.
    pub fn dummy(name: impl Into<String>) -> Self {
        Self::new(name, LinkKind::Dummy)
    }

    /// An intermediate functional block, which queues what other interfaces are redirected to it.
    pub fn ifb(name: impl Into<String>) -> Self {
        Self::new(name, LinkKind::Ifb)
    }

    /// Its hardware address; a random one if not set.
    pub fn mac(mut self, mac: Mac) -> Self {
        self.mac = Some(mac);
        self
    }

    /// The largest packet that it sends, in bytes.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Brings it up.
    pub fn up(mut self) -> Self {
        self.up = true;
        self
    }

    /// Makes it a port of this bridge, of the namespace that the link itself is to be [in](Self::namespace). In another
    /// than the socket's the bridge has to be there before the batch.
    #[doc(alias = "IFLA_MASTER")]
    pub fn master(mut self, master: impl Into<LinkRef>) -> Self {
        self.master = Some(master.into());
        self
    }

    /// Puts it into a group, by which [`Netlink::delete_group`](super::Netlink::delete_group) finds it.
    pub fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    /// Puts it into this namespace, rather than into that of the socket.
    pub fn namespace(mut self, namespace: &'a Namespace<Net>) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Its number; if not set, the kernel chooses.
    pub fn index(mut self, index: u32) -> Self {
        self.index = Some(index);
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where it is to be, if not where the socket is.
    pub(super) fn target(&self) -> Option<&'a Namespace<Net>> {
        self.namespace
    }

    pub(super) fn kind(&self) -> &LinkKind<'a> {
        &self.kind
    }

    /// The interfaces of the socket's namespace that have to be there before.
    pub(super) fn needs(&self) -> impl Iterator<Item = &LinkRef> {
        let master = self.master.iter();
        let master = master.filter(|_| self.namespace.is_none());
        master.chain(self.kind.needs())
    }

    /// The names that the socket's namespace has once it is made, with the numbers asked for.
    pub(super) fn brings(&self) -> impl Iterator<Item = (&str, Option<u32>)> {
        let own = (self.name.as_str(), self.index);
        let own = self.namespace.is_none().then_some(own);
        let peer = match &self.kind {
            LinkKind::Veth(peer) if peer.namespace.is_none() => Some((&*peer.name, peer.index)),
            _ => None,
        };
        own.into_iter().chain(peer)
    }

    /// Its number in its header; if 0, the kernel chooses.
    pub(super) fn number(&self, indexes: &mut Indexes<'_>) -> u32 {
        let number = indexes.number(&self.name, self.index, self.namespace);
        match &self.kind {
            // Of a veth, the kernel heeds the peer's number only if the first end has one.
            LinkKind::Veth(peer) if number == 0 && peer.number(indexes) != 0 => {
                indexes.choose(&self.name, self.namespace)
            }
            _ => number,
        }
    }

    pub(super) fn message(&self, number: u32, indexes: &mut Indexes<'_>) -> Result<Message> {
        check_name(&self.name)?;
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let up = if self.up { IFF_UP } else { 0 };
        let fixed = ifinfomsg(number, up, up);
        let mut message = Message::new(libc::RTM_NEWLINK, flags as u16, &fixed);
        self.common().put(&mut message);
        if let Some(master) = &self.master {
            let master = indexes.get_in(self.namespace, master)?;
            message.u32(libc::IFLA_MASTER, master);
        }
        if let Some(group) = self.group {
            message.u32(libc::IFLA_GROUP, group);
        }
        if let Some(parent) = self.kind.parent() {
            message.u32(libc::IFLA_LINK, indexes.get(parent)?);
        }
        self.kind.put(&mut message, indexes)?;
        Ok(message)
    }

    fn common(&self) -> Common<'_> {
        Common {
            name: &self.name,
            mac: self.mac,
            mtu: self.mtu,
            namespace: self.namespace,
        }
    }

    pub(super) fn describe(&self) -> String {
        format!("add {} {}", self.kind.name(), self.name)
    }
}

/// The other end of a [veth](Link::veth). It is down at first: the kernel refuses to bring it up before
/// the pair exists.
#[derive(Clone, Debug)]
#[must_use = "nothing is made until the veth is added"]
pub struct Peer<'a> {
    name: String,
    index: Option<u32>,
    mac: Option<Mac>,
    mtu: Option<u32>,
    namespace: Option<&'a Namespace<Net>>,
}

impl<'a> Peer<'a> {
    /// In the namespace of the socket, unless [`namespace`](Self::namespace) says otherwise.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            index: None,
            mac: None,
            mtu: None,
            namespace: None,
        }
    }

    /// Its hardware address; a random one if not set.
    pub fn mac(mut self, mac: Mac) -> Self {
        self.mac = Some(mac);
        self
    }

    /// The largest packet that it sends, in bytes.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Puts it into this namespace.
    pub fn namespace(mut self, namespace: &'a Namespace<Net>) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Its number; if not set, the kernel chooses.
    pub fn index(mut self, index: u32) -> Self {
        self.index = Some(index);
        self
    }

    fn put(&self, message: &mut Message, kind: u16, indexes: &Indexes<'_>) -> Result<()> {
        check_name(&self.name)?;
        let common = Common {
            name: &self.name,
            mac: self.mac,
            mtu: self.mtu,
            namespace: self.namespace,
        };
        let fixed = ifinfomsg(self.number(indexes), 0, 0);
        message.nest_after(kind, &fixed, |message| common.put(message));
        Ok(())
    }

    fn number(&self, indexes: &Indexes<'_>) -> u32 {
        indexes.number(&self.name, self.index, self.namespace)
    }
}

/// What both ends of a veth have.
struct Common<'a> {
    name: &'a str,
    mac: Option<Mac>,
    mtu: Option<u32>,
    namespace: Option<&'a Namespace<Net>>,
}

impl Common<'_> {
    fn put(&self, message: &mut Message) {
        message.text(libc::IFLA_IFNAME, self.name);
        if let Some(Mac(mac)) = &self.mac {
            message.bytes(libc::IFLA_ADDRESS, mac);
        }
        if let Some(mtu) = self.mtu {
            message.u32(libc::IFLA_MTU, mtu);
        }
        if let Some(namespace) = self.namespace {
            message.u32(libc::IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
        }
    }
}

/// `struct ifinfomsg` of any family and type.
pub(super) fn ifinfomsg(index: u32, flags: u32, change: u32) -> [u8; IFINFOMSG] {
    let mut bytes = [0; IFINFOMSG];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..].copy_from_slice(&change.to_ne_bytes());
    bytes
}

pub(super) fn check_name(name: impl AsRef<[u8]>) -> Result<()> {
    let name = name.as_ref();
    match name_flaw(name) {
        Some(flaw) => {
            let name = String::from_utf8_lossy(name);
            Err(Error::invalid("name", format!("{name:?} {flaw}")))
        }
        None => Ok(()),
    }
}

/// The attribute by which the kernel looks for an interface of this name.
pub(super) fn name_attribute(name: &str) -> Result<u16> {
    match name_flaw(name) {
        None => Ok(libc::IFLA_IFNAME),
        Some(_) => check_alt_name(name).map(|()| IFLA_ALT_IFNAME),
    }
}

/// Why the kernel does not take it for a name, or does not keep it as it is: a `%d` it would replace.
pub(super) fn name_flaw(name: impl AsRef<[u8]>) -> Option<&'static str> {
    let name = name.as_ref();
    let is_bad =
        |byte: &u8| matches!(byte, b'/' | b':' | b'%' | 0 | 0x0b) || byte.is_ascii_whitespace();
    match name {
        b"" | b"." | b".." => Some("is no name for an interface"),
        _ if name.len() > NAME_MAX => {
            Some("is too long for an interface, whose name has up to 15 bytes")
        }
        _ if name.iter().any(is_bad) => {
            Some("has a character that the name of an interface cannot have")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_are_what_the_kernel_takes() {
        for name in ["a", "eth0", "fifteen-bytes-x", "é", "..."] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "sixteen-bytes-xy",
            "a/b",
            "a b",
            "a:b",
            "a%d",
            "a\0",
            "a\n",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
