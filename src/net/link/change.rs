//! What is to be changed of an interface.

use super::super::batch::Indexes;
use super::super::ip::Mac;
use super::super::wire::Message;
use super::alt_name::AltNameChange;
use super::port::PortChange;
use super::{IFF_PROMISC, IFF_UP, LinkInfo, LinkRef, check_name, ifinfomsg};
use crate::error::Result;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The least that IPv6 takes, in bytes.
const IPV6_MIN_MTU: u32 = 1280;

/// A change of an interface that exists, or that was added earlier in the same [`Batch`](super::super::Batch).
///
/// # Examples
/// ```no_run
/// use ringfence::net::{LinkChange, Netlink};
///
/// # fn main() -> ringfence::Result<()> {
/// Netlink::current()?.set(LinkChange::of("eth0").mtu(9000).up())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is changed until it is set"]
pub struct LinkChange {
    pub(in super::super) link: LinkRef,
    /// Not UTF-8 only where it is to be given back.
    rename: Option<OsString>,
    mac: Option<Mac>,
    mtu: Option<u32>,
    up: Option<bool>,
    promisc: Option<bool>,
    txqueuelen: Option<u32>,
    alias: Option<OsString>,
    group: Option<u32>,
    alt_names: AltNameChange,
    port: PortChange,
    /// The inner `None` is no master.
    master: Option<Option<LinkRef>>,
}

impl LinkChange {
    /// Changes nothing yet.
    pub fn of(link: impl Into<LinkRef>) -> Self {
        Self {
            link: link.into(),
            rename: None,
            mac: None,
            mtu: None,
            up: None,
            promisc: None,
            txqueuelen: None,
            alias: None,
            group: None,
            alt_names: AltNameChange::default(),
            port: PortChange::default(),
            master: None,
        }
    }

    /// Gives it another name.
    ///
    /// # Kernel
    /// Before Linux 6.2 it has to be down for that.
    pub fn rename(mut self, name: impl Into<String>) -> Self {
        self.rename = Some(name.into().into());
        self
    }

    /// Gives it another hardware address.
    pub fn mac(mut self, mac: Mac) -> Self {
        self.mac = Some(mac);
        self
    }

    /// The largest packet that it sends, in bytes. Below 1280 there is no IPv6 by it, and what there was is lost as by
    /// [`down`](Self::down).
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Brings it up.
    pub fn up(mut self) -> Self {
        self.up = Some(true);
        self
    }

    /// Brings it down. The kernel forgets the routes by it that were added, its neighbours, and its IPv6 addresses; those
    /// of IPv4 stay. Bringing it up again does not bring them back, nor does a [`Batch`](super::super::Batch) that is
    /// undone.
    pub fn down(mut self) -> Self {
        self.up = Some(false);
        self
    }

    /// Whether it takes in frames for others, too.
    #[doc(alias = "IFF_PROMISC")]
    pub fn promisc(mut self, on: bool) -> Self {
        self.promisc = Some(on);
        self
    }

    /// How many packets may wait to be sent by it.
    #[doc(alias = "IFLA_TXQLEN")]
    pub fn txqueuelen(mut self, packets: u32) -> Self {
        self.txqueuelen = Some(packets);
        self
    }

    /// What it is called besides, for people, in up to 255 bytes; with an empty one it has none.
    #[doc(alias = "IFLA_IFALIAS")]
    pub fn alias(mut self, text: impl Into<OsString>) -> Self {
        self.alias = Some(text.into());
        self
    }

    /// Gives it one more name, of up to 127 bytes, that it is found by wherever a name is asked for. It keeps it when it is
    /// renamed, and when it moves to another namespace.
    ///
    /// # Errors
    /// `EEXIST` if it, or another, has the name already.
    ///
    /// # Kernel
    /// Linux 5.5; see `ip link property` in [ip-link(8)](https://man7.org/linux/man-pages/man8/ip-link.8.html).
    #[doc(alias("IFLA_ALT_IFNAME", "altname"))]
    pub fn alt_name(mut self, name: impl Into<OsString>) -> Self {
        self.alt_names.add.push(name.into());
        self
    }

    /// Takes one of its [other names](Self::alt_name) away: `ENOENT` if nobody has it, `EINVAL` if another has.
    pub fn no_alt_name(mut self, name: impl Into<OsString>) -> Self {
        self.alt_names.delete.push(name.into());
        self
    }

    /// Puts it into a group, by which [`Netlink::delete_group`](super::super::Netlink::delete_group) finds it.
    pub fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    /// Makes it a port of this bridge. A bridge that it was a port of before forgets all of it, such as its forwarding
    /// entries and VLANs.
    pub fn master(mut self, master: impl Into<LinkRef>) -> Self {
        self.master = Some(Some(master.into()));
        self
    }

    /// Makes it a port of none.
    pub fn no_master(mut self) -> Self {
        self.master = Some(None);
        self
    }

    /// Whether frames may leave the bridge by the port that they came in by, which this is. Off for a new port.
    ///
    /// This and what else is for a port needs one: `EOPNOTSUPP` if it is none, nor made one by
    /// [`master`](Self::master) of the same change.
    #[doc(alias = "IFLA_BRPORT_MODE")]
    pub fn hairpin(mut self, on: bool) -> Self {
        self.port.hairpin = Some(on);
        self
    }

    /// Whether the bridge learns from what comes in by this port where addresses are. On for a new port.
    #[doc(alias = "IFLA_BRPORT_LEARNING")]
    pub fn learning(mut self, on: bool) -> Self {
        self.port.learning = Some(on);
        self
    }

    /// Whether no frames pass between this port and others that are isolated, but only between it and the rest. Off for a
    /// new port.
    #[doc(alias = "IFLA_BRPORT_ISOLATED")]
    pub fn isolated(mut self, on: bool) -> Self {
        self.port.isolated = Some(on);
        self
    }

    pub(in super::super) fn new_name(&self) -> Option<&str> {
        self.rename.as_deref()?.to_str()
    }

    /// By which it is found as well when this is made.
    pub(in super::super) fn new_alt_names(&self) -> impl Iterator<Item = &str> {
        self.alt_names.add.iter().filter_map(|name| name.to_str())
    }

    /// The interfaces whose numbers it needs.
    pub(in super::super) fn needs(&self) -> impl Iterator<Item = &LinkRef> {
        [&self.link].into_iter().chain(self.master.iter().flatten())
    }

    pub(in super::super) fn is_for_port(&self) -> bool {
        !self.port.is_empty()
    }

    /// One message, or more.
    pub(in super::super) fn put(
        &self,
        indexes: &mut Indexes<'_>,
        messages: &mut Vec<Message>,
    ) -> Result<()> {
        let index = indexes.get(&self.link)?;
        let mut message = self.message(index, indexes)?;
        if self.is_for_port() {
            // The kernel reads what is for a port before it makes it one.
            if self.master.is_some() {
                let port = Message::new(libc::RTM_NEWLINK, 0, &ifinfomsg(index, 0, 0));
                messages.push(std::mem::replace(&mut message, port));
            }
            self.port.put(&mut message);
        }
        messages.push(message);
        self.alt_names.put(index, messages)
    }

    /// All but its other names and what is for a port.
    fn message(&self, index: u32, indexes: &mut Indexes<'_>) -> Result<Message> {
        let (mut flags, mut mask) = (0, 0);
        for (flag, on) in [(IFF_UP, self.up), (IFF_PROMISC, self.promisc)] {
            mask |= if on.is_some() { flag } else { 0 };
            flags |= if on == Some(true) { flag } else { 0 };
        }
        // Not RTM_SETLINK, which passes over what is nested.
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &ifinfomsg(index, flags, mask));
        if let Some(name) = &self.rename {
            check_name(name.as_bytes())?;
            message.text(libc::IFLA_IFNAME, name.as_bytes());
        }
        if let Some(Mac(mac)) = &self.mac {
            message.bytes(libc::IFLA_ADDRESS, mac);
        }
        if let Some(mtu) = self.mtu {
            message.u32(libc::IFLA_MTU, mtu);
        }
        if let Some(packets) = self.txqueuelen {
            message.u32(libc::IFLA_TXQLEN, packets);
        }
        if let Some(alias) = &self.alias {
            message.bytes(libc::IFLA_IFALIAS, alias.as_bytes());
        }
        if let Some(group) = self.group {
            message.u32(libc::IFLA_GROUP, group);
        }
        if let Some(master) = &self.master {
            let master = match master {
                Some(master) => indexes.get(master)?,
                None => 0,
            };
            message.u32(libc::IFLA_MASTER, master);
        }
        Ok(message)
    }

    /// The change that brings back what this one changes of an interface that is now like this.
    pub(in super::super) fn reverse(&self, now: &LinkInfo) -> Self {
        let port = match (now.port, &self.master) {
            // A bridge forgets a port that leaves it.
            (Some(port), Some(_)) => port.into(),
            (Some(port), None) => self.port.reverse(port),
            (None, _) => PortChange::default(),
        };
        Self {
            link: LinkRef::Index(now.index),
            rename: self.rename.as_ref().map(|_| now.os_name().to_owned()),
            mac: self.mac.and(now.mac),
            mtu: self.mtu.map(|_| now.mtu),
            up: self.up.and(Some(now.up)),
            promisc: self.promisc.and(Some(now.promisc)),
            txqueuelen: self.txqueuelen.and(Some(now.txqueuelen)),
            alias: self
                .alias
                .as_ref()
                .map(|_| now.alias.clone().unwrap_or_default()),
            group: self.group.map(|_| now.group),
            alt_names: self.alt_names.reverse(&now.alt_names),
            port,
            master: self.master.as_ref().map(|_| now.master.map(LinkRef::Index)),
        }
    }

    /// What the kernel forgets of an interface that is now like this, and its [reverse](Self::reverse) does not bring
    /// back.
    pub(in super::super) fn loses(&self, now: &LinkInfo) -> Option<&'static str> {
        let loses_ipv6 = |mtu| mtu < IPV6_MIN_MTU && now.mtu >= IPV6_MIN_MTU;
        if self.up == Some(false) && now.up {
            Some("the routes by it that had been added, its neighbours, and its IPv6 addresses")
        } else if self.mtu.is_some_and(loses_ipv6) {
            Some("its IPv6 addresses and routes")
        } else if self.master.is_some() && now.master.is_some() {
            Some("what its bridge knew of it, such as forwarding entries and VLANs")
        } else {
            None
        }
    }

    pub(in super::super) fn describe(&self) -> String {
        let word = |on, yes, no| String::from(if on { yes } else { no });
        let master = |master: &Option<LinkRef>| match master {
            Some(master) => format!("master {master}"),
            None => "no master".to_owned(),
        };
        let parts = [
            Some(format!("set {}", self.link)),
            (self.rename.as_ref()).map(|name| format!("name {}", name.display())),
            self.mac.map(|mac| format!("address {mac}")),
            self.mtu.map(|mtu| format!("mtu {mtu}")),
            self.up.map(|up| word(up, "up", "down")),
            (self.promisc).map(|promisc| word(promisc, "promisc on", "promisc off")),
            (self.txqueuelen).map(|packets| format!("txqueuelen {packets}")),
            (self.alias.as_ref()).map(|alias| format!("alias {}", alias.display())),
            self.group.map(|group| format!("group {group}")),
            self.master.as_ref().map(master),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        parts.join(" ") + &self.alt_names.describe() + &self.port.describe()
    }
}
