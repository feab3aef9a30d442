//! What the kernel tells of an interface.

use super::super::ip::Mac;
use super::super::wire::{Attributes, Received, array};
use super::IFINFOMSG;
use super::alt_name::{self, IFLA_PROP_LIST};
use super::data::LinkData;
use super::port::BridgePort;
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// A network interface as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkInfo {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name. What is not UTF-8 in it is replaced by U+FFFD: it is by its index, then, that the interface is found, and
    /// [`os_name`](Self::os_name) is its name as it is.
    pub name: String,
    /// Its name, if that is not UTF-8.
    raw_name: Option<OsString>,
    /// The kernel's name of its kind, such as `veth`; `None` for a loopback interface and for hardware.
    pub kind: Option<String>,
    /// What is particular to its kind, for some kinds.
    pub data: Option<LinkData>,
    /// The [other names](super::LinkChange::alt_name) that it is found by, which may be any bytes.
    pub alt_names: Vec<OsString>,
    /// What it is called besides, for people.
    pub alias: Option<OsString>,
    /// Its hardware address, if it has an Ethernet one.
    pub mac: Option<Mac>,
    /// The largest packet that it sends, in bytes.
    pub mtu: u32,
    /// How many packets may wait to be sent by it.
    pub txqueuelen: u32,
    /// Whether it has been brought up.
    pub up: bool,
    /// Whether it has been told to take in frames for others, too.
    pub promisc: bool,
    /// Whether it can carry packets: it is up, and so is what it stands on, or the other end.
    pub carrier: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// Its settings as a port of a bridge, if it is one.
    pub port: Option<BridgePort>,
    /// The group that it is in; 0, unless it was put into another.
    pub group: u32,
    /// The interface that it stands on, or for a veth the other end. It is in another namespace if
    /// [`link_netnsid`](Self::link_netnsid) says which.
    pub link: Option<u32>,
    /// The id that this namespace has for that of [`link`](Self::link).
    pub link_netnsid: Option<i32>,
    /// What it has sent and received.
    pub statistics: Statistics,
}

/// Packets and bytes that an interface has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the kernel's names say it all")]
pub struct Statistics {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

impl Statistics {
    /// The first fields of `struct rtnl_link_stats64`.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let field = |n: usize| array(bytes, n * 8).map(u64::from_ne_bytes);
        Some(Self {
            rx_packets: field(0)?,
            tx_packets: field(1)?,
            rx_bytes: field(2)?,
            tx_bytes: field(3)?,
            rx_errors: field(4)?,
            tx_errors: field(5)?,
            rx_dropped: field(6)?,
            tx_dropped: field(7)?,
        })
    }
}

impl LinkInfo {
    /// Its name, which the kernel lets be any bytes.
    #[must_use]
    pub fn os_name(&self) -> &OsStr {
        self.raw_name.as_deref().unwrap_or(self.name.as_ref())
    }

    fn set_name(&mut self, bytes: &[u8]) {
        let name = String::from_utf8_lossy(bytes);
        if matches!(name, Cow::Owned(_)) {
            self.raw_name = Some(OsStr::from_bytes(bytes).to_owned());
        }
        self.name = name.into_owned();
    }

    pub(in super::super) fn parse(message: &Received<'_>) -> Option<Self> {
        if message.kind != libc::RTM_NEWLINK {
            return None;
        }
        let (fixed, attributes) = message.split(IFINFOMSG)?;
        let flags = u32::from_ne_bytes(array(fixed, 8)?);
        let has = |flag: i32| flags & flag.cast_unsigned() != 0;
        let mut found = Self {
            index: u32::from_ne_bytes(array(fixed, 4)?),
            name: String::new(),
            raw_name: None,
            kind: None,
            data: None,
            alt_names: Vec::new(),
            alias: None,
            mac: None,
            mtu: 0,
            txqueuelen: 0,
            up: has(libc::IFF_UP),
            promisc: has(libc::IFF_PROMISC),
            carrier: has(libc::IFF_UP) && has(libc::IFF_LOWER_UP),
            loopback: has(libc::IFF_LOOPBACK),
            master: None,
            port: None,
            group: 0,
            link: None,
            link_netnsid: None,
            statistics: Statistics::default(),
        };
        for attribute in attributes {
            match attribute.kind {
                libc::IFLA_IFNAME => found.set_name(attribute.text()),
                libc::IFLA_ADDRESS => found.mac = attribute.value.try_into().ok().map(Mac),
                libc::IFLA_IFALIAS => {
                    found.alias = Some(OsStr::from_bytes(attribute.text()).to_owned());
                }
                IFLA_PROP_LIST => found.alt_names = alt_name::parse(attribute.attributes()),
                libc::IFLA_TXQLEN => found.txqueuelen = attribute.u32()?,
                libc::IFLA_MTU => found.mtu = attribute.u32()?,
                libc::IFLA_MASTER => found.master = attribute.u32(),
                libc::IFLA_GROUP => found.group = attribute.u32()?,
                // For a tunnel to nowhere in particular it is 0.
                libc::IFLA_LINK => found.link = attribute.u32().filter(|index| *index != 0),
                libc::IFLA_LINK_NETNSID => found.link_netnsid = attribute.i32(),
                libc::IFLA_LINKINFO => {
                    found.kind = kind(attribute.attributes());
                    found.data = LinkData::parse(attribute.attributes());
                    found.port = BridgePort::parse(attribute.attributes());
                }
                libc::IFLA_STATS64 => {
                    found.statistics = Statistics::parse(attribute.value).unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(found)
    }
}

fn kind(info: Attributes<'_>) -> Option<String> {
    let kind = info.get(libc::IFLA_INFO_KIND)?;
    kind.str().map(str::to_owned)
}
