//! Address translation and packet filters, by netlink to nf_tables; no `nft` program is needed.

mod expr;
mod rules;

pub use rules::{Forward, Ports, Publish};

use super::fail::Deed;
use super::ip::IpNet;
use super::link::check_name;
use super::socket::Socket;
use super::wire::Message;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Namespace, Net};
use expr::{DATA_VALUE, Expressions, LIST_ELEM, Side, Verdict};
use rustix::io::Errno;
use std::sync::{Mutex, PoisonError};

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;
/// The numbers by which nft(8) knows what is in a map: `inet_service`.
const TYPE_PORT: u32 = 13;
const LOOPBACK: IpNet = IpNet::v4([127, 0, 0, 0], 8);
const CREATE: u16 = libc::NLM_F_CREATE as u16;

const TOO_LARGE: &str = "a table is one message, and without CAP_NET_ADMIN in the first user namespace net.core.wmem_max limits it: each published port takes about one KiB";

// <linux/netfilter/nf_tables.h>, where the attributes of all messages begin with the name of the table.
const TABLE: u16 = 1;

/// A table of nf_tables: translations and filters that are installed, and removed, as a whole.
///
/// # Examples
/// ```no_run
/// use ringfence::net::{Forward, Nft, Publish, Table};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let nft = Nft::current()?;
/// nft.install(
///     &Table::new("lab")
///         .masquerade("10.9.0.0/24".parse()?)
///         .publish(Publish::tcp(8080, "10.9.0.2:80".parse()?))
///         .forward(Forward::drop().iif("lab0").oif("lab1")),
/// )?;
/// nft.remove("lab")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is changed until it is installed"]
pub struct Table {
    name: String,
    masquerades: Vec<IpNet>,
    hairpins: Vec<IpNet>,
    publishes: Vec<Publish>,
    forwards: Vec<Forward>,
    guards: Vec<String>,
}

impl Table {
    /// An empty table of this name, of the family `inet`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            masquerades: Vec::new(),
            hairpins: Vec::new(),
            publishes: Vec::new(),
            forwards: Vec::new(),
            guards: Vec::new(),
        }
    }

    /// Hides a network: what it sends elsewhere has the address of the interface that it leaves this host by.
    pub fn masquerade(mut self, net: IpNet) -> Self {
        self.masquerades.push(net);
        self
    }

    /// Lets hosts of a network use the ports that lead to another of the same network, or to themselves: the
    /// target then sees this host's address, as it would answer them directly otherwise.
    pub fn hairpin(mut self, net: IpNet) -> Self {
        self.hairpins.push(net);
        self
    }

    /// Leads ports of this host elsewhere.
    pub fn publish(mut self, publish: Publish) -> Self {
        self.publishes.push(publish);
        self
    }

    /// Lets packets through to another interface, or drops them.
    pub fn forward(mut self, forward: Forward) -> Self {
        self.forwards.push(forward);
        self
    }

    /// Drops what comes in by the interface of this name and is for a loopback address (127.0.0.0/8). The kernel does
    /// so itself until `route_localnet` is set for the interface: from then on whoever is root behind it reaches
    /// services that trust in being reached by this host alone. Replies to this host's own connections pass.
    pub fn guard_loopback(mut self, iif: impl Into<String>) -> Self {
        self.guards.push(iif.into());
        self
    }

    /// Takes back what is like this; whether there was anything.
    pub(super) fn unpublish(&mut self, is_like: impl Fn(&Publish) -> bool) -> bool {
        let before = self.publishes.len();
        self.publishes.retain(|publish| !is_like(publish));
        self.publishes.len() != before
    }

    fn check(&self) -> Result<()> {
        // NFT_TABLE_MAXNAMELEN, with the NUL.
        let longest = libc::NFT_TABLE_MAXNAMELEN as usize - 1;
        if self.name.is_empty() || self.name.len() > longest || self.name.contains('\0') {
            let what = format!("{:?} is no name for a table", self.name);
            return Err(Error::invalid("name", what));
        }
        let of_forwards = self.forwards.iter();
        let of_forwards = of_forwards.flat_map(|forward| forward.iif.iter().chain(&forward.oif));
        for name in of_forwards.chain(&self.guards) {
            check_name(name)?;
        }
        self.publishes.iter().try_for_each(Publish::check)?;
        self.check_overlaps()
    }

    /// Of two that lead the same port elsewhere, the second would never be reached.
    fn check_overlaps(&self) -> Result<()> {
        let mut sorted: Vec<&Publish> = self.publishes.iter().collect();
        sorted.sort_by_key(|publish| publish.order());
        for (position, publish) in sorted.iter().enumerate() {
            let near = sorted[position + 1..].iter();
            let mut near = near.take_while(|other| publish.shares_ports_with(other));
            if let Some(other) = near.find(|other| publish.shares_addresses_with(other)) {
                return Err(other.is_published_already(publish));
            }
        }
        Ok(())
    }

    /// The messages of the transaction that puts it in the place of one of the same name.
    fn messages(&self) -> Vec<Message> {
        let mut messages = vec![
            // So that there is one to be deleted.
            self.message(libc::NFT_MSG_NEWTABLE, CREATE),
            self.message(libc::NFT_MSG_DELTABLE, 0),
            self.message(libc::NFT_MSG_NEWTABLE, CREATE),
        ];
        if !self.guards.is_empty() {
            self.raw(&mut messages);
        }
        if !self.publishes.is_empty() {
            self.maps(&mut messages);
            for (chain, hook) in [
                ("prerouting", libc::NF_INET_PRE_ROUTING),
                ("output", libc::NF_INET_LOCAL_OUT),
            ] {
                messages.push(self.chain(chain, "nat", hook, libc::NF_IP_PRI_NAT_DST));
                for (number, publish) in self.publishes.iter().enumerate() {
                    messages.push(self.rule(chain, |rule| publish.put(rule, &map_name(number))));
                }
            }
        }
        let translates = [!self.publishes.is_empty(), !self.masquerades.is_empty()];
        if translates.contains(&true) {
            self.postrouting(&mut messages);
        }
        if !self.forwards.is_empty() {
            self.filter(&mut messages);
        }
        messages
    }

    /// Before connection tracking, by which replies get the loopback address that they are for.
    fn raw(&self, messages: &mut Vec<Message>) {
        let (chain, hook) = ("raw", libc::NF_INET_PRE_ROUTING);
        messages.push(self.chain(chain, "filter", hook, libc::NF_IP_PRI_RAW));
        for name in &self.guards {
            messages.push(self.rule(chain, |rule| {
                rule.iif(name)
                    .family_of(LOOPBACK.address())
                    .in_network(Side::Destination, LOOPBACK, true)
                    .verdict(Verdict::Drop);
            }));
        }
    }

    fn postrouting(&self, messages: &mut Vec<Message>) {
        let (chain, hook) = ("postrouting", libc::NF_INET_POST_ROUTING);
        messages.push(self.chain(chain, "nat", hook, libc::NF_IP_PRI_NAT_SRC));
        for net in &self.masquerades {
            messages.push(self.rule(chain, |rule| {
                rule.family_of(net.address())
                    .in_network(Side::Source, *net, true)
                    .in_network(Side::Destination, *net, false)
                    .masquerade();
            }));
        }
        for net in &self.hairpins {
            messages.push(self.rule(chain, |rule| {
                rule.family_of(net.address())
                    .in_network(Side::Source, *net, true)
                    .in_network(Side::Destination, *net, true)
                    .is_dnat()
                    .masquerade();
            }));
        }
        // What comes from a loopback address could not be answered.
        if !self.publishes.is_empty() {
            messages.push(self.rule(chain, |rule| {
                rule.family_of(LOOPBACK.address())
                    .in_network(Side::Source, LOOPBACK, true)
                    .in_network(Side::Destination, LOOPBACK, false)
                    .is_dnat()
                    .masquerade();
            }));
        }
    }

    fn filter(&self, messages: &mut Vec<Message>) {
        let (chain, hook) = ("forward", libc::NF_INET_FORWARD);
        messages.push(self.chain(chain, "filter", hook, libc::NF_IP_PRI_FILTER));
        messages.push(self.rule(chain, |rule| {
            rule.established().verdict(Verdict::Accept);
        }));
        for forward in &self.forwards {
            messages.push(self.rule(chain, |rule| forward.put(rule)));
        }
    }

    /// For each range whose ports change, a map from one port to the other.
    fn maps(&self, messages: &mut Vec<Message>) {
        let shifted = |(_, publish): &(usize, &Publish)| publish.needs_map();
        for (number, publish) in self.publishes.iter().enumerate().filter(shifted) {
            let name = map_name(number);
            let mut set = self.message(libc::NFT_MSG_NEWSET, CREATE);
            let flags = (libc::NFT_SET_MAP | libc::NFT_SET_CONSTANT).cast_unsigned();
            set.text(2, &name).be32(3, flags);
            set.be32(4, TYPE_PORT)
                .be32(5, 2)
                .be32(6, TYPE_PORT)
                .be32(7, 2);
            set.be32(10, number as u32 + 1);
            messages.push(set);
            let Ports { first, last } = publish.ports;
            let pairs: Vec<_> = (first..=last).zip(publish.target.port()..).collect();
            // An attribute has up to 64 KiB, an element of it 32 bytes.
            for pairs in pairs.chunks(1024) {
                let mut elements = self.message(libc::NFT_MSG_NEWSETELEM, CREATE);
                elements.text(2, &name).nest(3, |list| {
                    pairs.iter().for_each(|pair| put_pair(list, *pair));
                });
                messages.push(elements);
            }
        }
    }

    /// A message about this table.
    fn message(&self, kind: i32, flags: u16) -> Message {
        let mut message = message(kind, flags);
        message.text(TABLE, &self.name);
        message
    }

    fn chain(&self, name: &str, kind: &str, hook: i32, priority: i32) -> Message {
        let mut message = self.message(libc::NFT_MSG_NEWCHAIN, CREATE);
        message.text(3, name).nest(4, |at| {
            at.be32(1, hook.cast_unsigned())
                .be32(2, priority.cast_unsigned());
        });
        message.be32(5, Verdict::Accept as u32).text(7, kind);
        message
    }

    fn rule(&self, chain: &str, fill: impl FnOnce(&mut Expressions<'_>)) -> Message {
        let flags = CREATE | libc::NLM_F_APPEND as u16;
        let mut message = self.message(libc::NFT_MSG_NEWRULE, flags);
        message
            .text(2, chain)
            .nest(4, |list| fill(&mut Expressions(list)));
        message
    }
}

fn map_name(number: usize) -> String {
    format!("ports{number}")
}

fn put_pair(list: &mut Message, (from, to): (u16, u16)) {
    list.nest(LIST_ELEM, |element| {
        for (kind, port) in [(1, from), (2, to)] {
            element.nest(kind, |data| {
                data.be16(DATA_VALUE, port);
            });
        }
    });
}

fn message(kind: i32, flags: u16) -> Message {
    let kind = SUBSYSTEM << 8 | kind as u16;
    Message::new(kind, flags, &[INET, 0, 0, 0])
}

/// The beginning or the end of a transaction.
fn bound(kind: i32) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(kind as u16, 0, &[0, 0, high, low])
}

/// A socket to the packet filter of one network namespace.
///
/// # Privileges
/// `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
///
/// # Kernel
/// nf_tables with `inet` tables and address translation: Linux 5.2, and the options or modules `nf_tables`,
/// `nft_chain_nat`, `nft_masq`, `nft_nat`, `nft_fib_inet`, `nft_ct`. Otherwise an error of [`ErrorKind::Unsupported`].
///
/// See [nft(8)](https://www.netfilter.org/projects/nftables/manpage.html).
#[derive(Debug)]
#[doc(alias = "NETLINK_NETFILTER")]
pub struct Nft {
    socket: Mutex<Socket>,
}

impl Nft {
    /// A socket of this namespace.
    ///
    /// # Errors
    /// Those of [`Namespace::socket`].
    ///
    /// # Privileges
    /// Those of [`Namespace::run_in`].
    pub fn open(namespace: &Namespace<Net>) -> Result<Self> {
        Self::of(Some(namespace))
    }

    /// A socket of the namespace that the calling thread is in.
    ///
    /// # Errors
    /// When there are too many descriptors, or a filter forbids such sockets.
    pub fn current() -> Result<Self> {
        Self::of(None)
    }

    fn of(namespace: Option<&Namespace<Net>>) -> Result<Self> {
        let open = || Socket::open(libc::NETLINK_NETFILTER);
        let socket = match namespace {
            Some(namespace) => namespace.run_in(open)?,
            None => open(),
        };
        let socket = socket.map_err(|error| {
            let missing = error.raw_os_error() == Some(libc::EPROTONOSUPPORT);
            match missing {
                true => lacking(error),
                false => error,
            }
        })?;
        Ok(Self {
            socket: Mutex::new(socket),
        })
    }

    /// Installs the table, in the place of one of the same name: from one packet to the next, and as a whole or
    /// not at all.
    ///
    /// # Errors
    /// What the kernel gives; [`ErrorKind::InvalidInput`] for what it could not express, and if a port is published
    /// twice. `EMSGSIZE` for some hundreds of published ports, or thousands of a range whose numbers change, if the caller
    /// has no `CAP_NET_ADMIN` in the first user namespace: see `net.core.wmem_max` in
    /// [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
    pub fn install(&self, table: &Table) -> Result<()> {
        table.check()?;
        self.transaction(&table.name, "install", table.messages())
    }

    /// Removes the table of this name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none.
    pub fn remove(&self, name: &str) -> Result<()> {
        let table = Table::new(name);
        table.check()?;
        let messages = vec![table.message(libc::NFT_MSG_DELTABLE, 0)];
        self.transaction(name, "remove", messages)
    }

    /// The names of the tables of the family `inet`.
    ///
    /// # Errors
    /// What the kernel gives.
    pub fn tables(&self) -> Result<Vec<String>> {
        let request = message(libc::NFT_MSG_GETTABLE, 0);
        let name = |message: &super::wire::Received<'_>| {
            let (_, attributes) = message.split(4)?;
            attributes.get(TABLE)?.str().map(str::to_owned)
        };
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let deed = Deed::new(Step::Nftables, "list tables");
        socket
            .dump(request, name)
            .map_err(|refusal| deed.refused(&refusal, None))
    }

    fn transaction(&self, name: &str, verb: &str, inner: Vec<Message>) -> Result<()> {
        let mut messages = vec![bound(libc::NFNL_MSG_BATCH_BEGIN)];
        messages.extend(inner);
        messages.push(bound(libc::NFNL_MSG_BATCH_END));
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let Err((position, refusal)) = socket.transaction(&mut messages) else {
            return Ok(());
        };
        let mut object = format!("{verb} table {name}");
        if position > 0 {
            object += &format!(", message {position}");
        }
        let error = Deed::new(Step::Nftables, object).refused(&refusal, messages.get(position));
        // A family or an expression that cannot be loaded is ENOENT as well.
        let is_missing = verb == "install" && refusal.errno == Errno::NOENT;
        Err(match refusal.errno {
            Errno::OPNOTSUPP => lacking(error),
            Errno::MSGSIZE => error.with_hint(Some(TOO_LARGE.into())),
            _ if is_missing => lacking(error),
            _ => error,
        })
    }
}

fn lacking(error: Error) -> Error {
    error.with_kind(ErrorKind::Unsupported).with_hint(Some(
        "this kernel lacks a part of nf_tables: see the modules nf_tables, nft_chain_nat, nft_masq, nft_nat, nft_fib_inet, nft_ct".into(),
    ))
}
