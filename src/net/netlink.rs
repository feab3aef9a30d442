//! The socket that everything is asked for and changed by.

use super::address::Address;
use super::batch::{Batch, Change, Indexes};
use super::bridge_vlan::BridgeVlan;
use super::entry::{Deletable, Entry};
use super::fail::Deed;
use super::fdb::FdbEntry;
use super::link::{LinkChange, LinkInfo, LinkRef, check_name, ifinfomsg, name_attribute};
use super::neighbour::Neighbour;
use super::route::Route;
use super::rule::Rule;
use super::socket::{Refusal, Socket};
use super::wire::Message;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Namespace, NamespaceId, Net};
use rustix::io::Errno;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// From <linux/rtnetlink.h>.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// A socket to the part of the kernel that keeps the interfaces, addresses and routes of one network namespace.
///
/// It belongs to that namespace for good, and can be used from any thread in any other. Every change is
/// acknowledged before the method returns.
///
/// # Errors
/// Those of the methods have the kernel's own words, where it has any, and the attribute that it complains of.
///
/// # Privileges
/// Listing needs none. Changes need `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
///
/// # Kernel
/// Linux 5.10. A kernel that is asked for something that it does not know says so
/// (`NETLINK_GET_STRICT_CHK`), rather than doing something else.
///
/// # Examples
/// ```
/// use ringfence::net::Netlink;
///
/// # fn main() -> ringfence::Result<()> {
/// for link in Netlink::current()?.links()? {
///     println!("{}: {} mtu {}", link.index, link.name, link.mtu);
/// }
/// # Ok(())
/// # }
/// ```
///
/// See [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html).
#[derive(Debug)]
#[doc(alias = "NETLINK_ROUTE")]
pub struct Netlink {
    socket: Mutex<Socket>,
    /// Where it is, if not where it was opened from.
    namespace: Option<NamespaceId>,
}

impl Netlink {
    /// A socket of this namespace.
    ///
    /// # Errors
    /// Those of [`Namespace::socket`].
    ///
    /// # Privileges
    /// Those of [`Namespace::run_in`].
    pub fn open(namespace: &Namespace<Net>) -> Result<Self> {
        Self::open_beside(namespace, || ()).0
    }

    /// [`open`](Self::open), and meanwhile something else, for the thread that it takes.
    pub(super) fn open_beside<T>(
        namespace: &Namespace<Net>,
        here: impl FnOnce() -> T,
    ) -> (Result<Self>, T) {
        let (socket, here) = namespace.run_in_beside(|| Socket::open(libc::NETLINK_ROUTE), here);
        let netlink = socket.and_then(|opened| opened).map(|socket| Self {
            socket: Mutex::new(socket),
            namespace: Some(namespace.id()),
        });
        (netlink, here)
    }

    /// A socket of the namespace that the calling thread is in.
    ///
    /// # Errors
    /// When there are too many descriptors, or a filter forbids such sockets.
    pub fn current() -> Result<Self> {
        Ok(Self {
            socket: Mutex::new(Socket::open(libc::NETLINK_ROUTE)?),
            namespace: None,
        })
    }

    /// All interfaces.
    ///
    /// # Errors
    /// What the kernel gives; `EAGAIN` if they change all the time.
    pub fn links(&self) -> Result<Vec<LinkInfo>> {
        let request = Message::new(libc::RTM_GETLINK, 0, &ifinfomsg(0, 0, 0));
        let deed = self.deed(Step::Link, "list");
        let found = self.socket().dump(request, LinkInfo::parse);
        found.map_err(|refusal| deed.refused(&refusal, None))
    }

    /// One interface, by its index, its name, or [another](LinkChange::alt_name) that it has.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::InvalidInput`] for a name that none can have.
    pub fn link(&self, link: impl Into<LinkRef>) -> Result<LinkInfo> {
        let link = link.into();
        let message = by_name_or_index(libc::RTM_GETLINK, &link)?;
        self.look_up(&link, message)
    }

    /// [`link`](Self::link), without what it has counted, which takes the kernel longer than all the rest.
    pub(super) fn link_uncounted(&self, link: &LinkRef) -> Result<LinkInfo> {
        let mut message = by_name_or_index(libc::RTM_GETLINK, link)?;
        message.u32(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        self.look_up(link, message)
    }

    fn look_up(&self, link: &LinkRef, message: Message) -> Result<LinkInfo> {
        let deed = self.deed(Step::Link, format!("look up {link}"));
        let found = self.socket().get(message, LinkInfo::parse);
        let none = || Refusal::none("recvfrom", Errno::NODEV);
        match found.and_then(|found| found.ok_or_else(none)) {
            Ok(found) => Ok(found),
            Err(refusal) => Err(not_found(deed.refused(&refusal, None))),
        }
    }

    /// All addresses of all interfaces.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    pub fn addresses(&self) -> Result<Vec<Address>> {
        self.list()
    }

    /// All routes of all tables, those of the kernel itself for local addresses included.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    pub fn routes(&self) -> Result<Vec<Route>> {
        self.list()
    }

    /// All neighbours, of IPv4 and IPv6.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    pub fn neighbours(&self) -> Result<Vec<Neighbour>> {
        self.list()
    }

    /// All forwarding entries, of bridges, vxlans and other interfaces.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    #[doc(alias = "bridge fdb")]
    pub fn fdb(&self) -> Result<Vec<FdbEntry>> {
        self.list()
    }

    /// The VLANs that ports of bridges, and bridges themselves, are members of. Those of an interface that follow each other,
    /// and are alike, are one entry.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    #[doc(alias = "bridge vlan")]
    pub fn bridge_vlans(&self) -> Result<Vec<BridgeVlan>> {
        let found = self.socket().dump(BridgeVlan::dump(), BridgeVlan::parse);
        found.map_err(|refusal| {
            self.deed(BridgeVlan::STEP, "list VLANs")
                .refused(&refusal, None)
        })
    }

    /// All routing rules, in the order in which they are asked, those of IPv4 first.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    pub fn rules(&self) -> Result<Vec<Rule>> {
        self.list()
    }

    fn list<T: Entry>(&self) -> Result<Vec<T>> {
        let found = self.dump(T::dump());
        found.map_err(|refusal| self.deed(T::STEP, "list").refused(&refusal, None))
    }

    fn dump<T: Entry>(&self, request: Message) -> Result<Vec<T>, Refusal> {
        let parse = |message: &super::wire::Received<'_>| {
            (message.kind == T::NEW)
                .then(|| T::parse(message))
                .flatten()
        };
        self.socket().dump(request, parse)
    }

    /// Several changes that are made together: in one call to the kernel, and all or none.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(self)
    }

    /// Adds an interface, an address, a route, a neighbour, a rule, or an interface to VLANs.
    ///
    /// # Errors
    /// `EEXIST` if there is one already, and what else the kernel gives; [`ErrorKind::InvalidInput`] for what it
    /// could not express.
    pub fn add<'a>(&self, change: impl Into<Change<'a>>) -> Result<()> {
        let change: Change<'a> = change.into();
        Batch::new(self).add(change).commit().map(drop)
    }

    /// Changes an interface.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, and what else the kernel gives.
    pub fn set(&self, change: LinkChange) -> Result<()> {
        self.add(change)
    }

    /// Deletes an interface; of a veth, both ends.
    ///
    /// Deleting a veth waits until nothing in the kernel uses it, which takes 15 to 30 ms. It also goes
    /// with the namespace that one of its ends is in, and then nobody waits.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none.
    pub fn delete_link(&self, link: impl Into<LinkRef>) -> Result<()> {
        let link = link.into();
        let message = by_name_or_index(libc::RTM_DELLINK, &link)?;
        self.one(self.deed(Step::Link, format!("delete {link}")), message)
            .map_err(not_found)
    }

    /// Deletes all interfaces of a group, which takes no longer than one does.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there are none; `EPERM` for group 0, in which are all that were put into no other.
    pub fn delete_group(&self, group: u32) -> Result<()> {
        let mut message = Message::new(libc::RTM_DELLINK, 0, &ifinfomsg(0, 0, 0));
        message.u32(libc::IFLA_GROUP, group);
        let deed = self.deed(Step::Link, format!("delete group {group}"));
        self.one(deed, message).map_err(not_found)
    }

    /// Moves an interface into another namespace. It is down there, and has lost its addresses.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; `EEXIST` if there is one of that name; `EINVAL` for one that cannot be
    /// moved, such as the loopback interface.
    ///
    /// # Privileges
    /// `CAP_NET_ADMIN` for both namespaces.
    pub fn move_link(&self, link: impl Into<LinkRef>, namespace: &Namespace<Net>) -> Result<()> {
        self.move_to(&link.into(), namespace, None)
    }

    /// [Moves](Self::move_link) an interface into another namespace, and gives it another name there.
    ///
    /// # Errors
    /// Those of [`move_link`](Self::move_link), `EEXIST` if there is one with the new name. It then stays where it is, unless
    /// that has come up at the same moment: the kernel moves it first.
    ///
    /// # Privileges
    /// `CAP_NET_ADMIN` for both namespaces, and those of [`open`](Self::open).
    pub fn move_link_as(
        &self,
        link: impl Into<LinkRef>,
        namespace: &Namespace<Net>,
        name: &str,
    ) -> Result<()> {
        let link = link.into();
        check_name(name)?;
        match Self::open(namespace)?.link_uncounted(&name.into()) {
            Ok(_) => {
                let deed = self.moving(&link, namespace, Some(name));
                let refusal = Refusal::none("sendto", Errno::EXIST);
                Err(deed.refused(&refusal, None))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.move_to(&link, namespace, Some(name))
            }
            Err(error) => Err(error),
        }
    }

    fn move_to(
        &self,
        link: &LinkRef,
        namespace: &Namespace<Net>,
        name: Option<&str>,
    ) -> Result<()> {
        let index = Indexes::new(self).get(link)?;
        let mut message = Message::new(libc::RTM_SETLINK, 0, &ifinfomsg(index, 0, 0));
        message.u32(libc::IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
        if let Some(name) = name {
            message.text(libc::IFLA_IFNAME, name);
        }
        self.one(self.moving(link, namespace, name), message)
    }

    fn moving(&self, link: &LinkRef, namespace: &Namespace<Net>, name: Option<&str>) -> Deed {
        let name = name.map(|name| format!(" name {name}"));
        let what = format!("move {link} to {namespace}{}", name.unwrap_or_default());
        self.deed(Step::Link, what)
    }

    /// Adds an address; if the interface has it already, it gets these lifetimes and, for IPv6, these flags and this
    /// peer. What else it has stays.
    ///
    /// As what was there is gone, this does not fit in a [batch](Self::batch).
    ///
    /// # Errors
    /// What the kernel gives.
    #[doc(alias = "NLM_F_REPLACE")]
    pub fn replace_address(&self, address: &Address) -> Result<()> {
        self.replace(address)
    }

    /// Adds a route, in the place of the one to its destination that has the same metric and type of service, if
    /// there is one. Packets find one or the other at any time.
    ///
    /// As what was there is gone, this does not fit in a [batch](Self::batch).
    ///
    /// # Errors
    /// What the kernel gives.
    #[doc(alias = "NLM_F_REPLACE")]
    pub fn replace_route(&self, route: &Route) -> Result<()> {
        self.replace(route)
    }

    /// Adds a neighbour, in the place of what was known or learned of its address.
    ///
    /// As what was there is gone, this does not fit in a [batch](Self::batch).
    ///
    /// # Errors
    /// What the kernel gives.
    #[doc(alias = "NLM_F_REPLACE")]
    pub fn replace_neighbour(&self, neighbour: &Neighbour) -> Result<()> {
        self.replace(neighbour)
    }

    fn replace<T: Entry>(&self, entry: &T) -> Result<()> {
        let deed = self.deed(T::STEP, format!("replace {}", entry.describe()));
        let message = entry.replace(&mut Indexes::new(self))?;
        self.one(deed, message)
    }

    /// Removes an address.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if there is none like this.
    pub fn delete_address(&self, address: &Address) -> Result<()> {
        self.delete(address)
    }

    /// Removes a route: of several to its destination the one with its metric and its type of service, and of those
    /// the one that has all that is set in this one. A listed one is removed itself, and no other.
    ///
    /// The kernel is asked first which there are, since it would delete the first that it finds: this takes longer the
    /// more routes there are in the table.
    ///
    /// # Errors
    /// `ESRCH` if there is none like this; [`ErrorKind::InvalidInput`] if the kernel, which does not compare
    /// everything, would delete another that it finds before.
    pub fn delete_route(&self, route: &Route) -> Result<()> {
        self.delete_exactly(route, "route", Errno::SRCH)
    }

    /// Removes a neighbour.
    ///
    /// # Errors
    /// `ENOENT` if there is none like this.
    pub fn delete_neighbour(&self, neighbour: &Neighbour) -> Result<()> {
        self.delete(neighbour)
    }

    /// Removes a forwarding entry.
    ///
    /// # Errors
    /// `ENOENT` if there is none like this.
    pub fn delete_fdb(&self, entry: &FdbEntry) -> Result<()> {
        self.delete(entry)
    }

    /// Takes an interface out of VLANs. It is no error if it is a member of none of them; whether it is `pvid` or
    /// `untagged` does not matter.
    ///
    /// # Errors
    /// Those of [`BridgeVlan`].
    pub fn delete_bridge_vlan(&self, vlan: &BridgeVlan) -> Result<()> {
        self.add(vlan.clone().leave())
    }

    /// Removes a rule: one that is for the same packets and does the same with them, at any priority if none is set.
    ///
    /// The kernel is asked first which there are, since it would delete the first that it finds.
    ///
    /// # Errors
    /// `ENOENT` if there is none like this; [`ErrorKind::InvalidInput`] if the kernel, which does not compare
    /// everything, would delete another that it finds before.
    pub fn delete_rule(&self, rule: &Rule) -> Result<()> {
        self.delete_exactly(rule, "rule", Errno::NOENT)
    }

    fn delete_exactly<T: Deletable>(
        &self,
        entry: &T,
        setter: &'static str,
        missing: Errno,
    ) -> Result<()> {
        let mut indexes = Indexes::new(self);
        let deed = self.deed(T::STEP, format!("delete {}", entry.describe()));
        let entry = entry.as_listed(&mut indexes)?;
        let listed = match self.dump(entry.dump_beside()) {
            // There is no such table.
            Err(refusal) if refusal.errno == Errno::NOENT => Vec::new(),
            other => other.map_err(|refusal| deed.refused(&refusal, None))?,
        };
        match entry.find(&listed) {
            None => Err(deed.refused(&Refusal::none("recvfrom", missing), None)),
            Some((meant, Some(taken))) => {
                let [meant, taken] = [meant, taken].map(Entry::describe);
                let what = format!("in the place of {meant} the kernel would delete {taken}");
                Err(Error::invalid(setter, what))
            }
            Some((meant, None)) => self.one(deed, meant.delete(&mut indexes)?),
        }
    }

    fn delete<T: Entry>(&self, entry: &T) -> Result<()> {
        let deed = self.deed(T::STEP, format!("delete {}", entry.describe()));
        let message = entry.delete(&mut Indexes::new(self))?;
        self.one(deed, message)
    }

    /// Sends a message and returns when it has been done.
    pub(super) fn one(&self, deed: Deed, message: Message) -> Result<()> {
        let mut message = [message];
        let result = self.socket().request(&mut message).pop();
        result
            .unwrap_or(Ok(()))
            .map_err(|refusal| deed.refused(&refusal, message.first()))
    }

    pub(super) fn deed(&self, step: Step, object: impl Into<String>) -> Deed {
        let mut object = object.into();
        if let Some(namespace) = self.namespace {
            object += &format!(" in {namespace}");
        }
        Deed::new(step, object)
    }

    pub(super) fn socket(&self) -> MutexGuard<'_, Socket> {
        // Its state is a number and a buffer, which are of use whatever has happened.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message about one interface.
pub(super) fn by_name_or_index(kind: u16, link: &LinkRef) -> Result<Message> {
    Ok(match link {
        LinkRef::Index(index) => Message::new(kind, 0, &ifinfomsg(*index, 0, 0)),
        LinkRef::Name(name) => {
            let attribute = name_attribute(name)?;
            let mut message = Message::new(kind, 0, &ifinfomsg(0, 0, 0));
            message.text(attribute, name);
            message
        }
    })
}

fn not_found(error: Error) -> Error {
    if error.raw_os_error() == Some(libc::ENODEV) {
        return error.with_kind(ErrorKind::NotFound);
    }
    error
}
