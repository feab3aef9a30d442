//! What is installed as a whole, and the messages that do it.

use super::expr::{DATA_VALUE, Expressions, LIST_ELEM, Side, Verdict};
use super::published::{self, put_comment};
use super::{Forward, Ports, Publish, Snat, TABLE, message};
use crate::error::{Error, Result};
use crate::net::ip::IpNet;
use crate::net::link::check_name;
use crate::net::wire::Message;

/// The numbers by which nft(8) knows what is in a map: `inet_service`.
const TYPE_PORT: u32 = 13;
const LOOPBACK: IpNet = IpNet::v4([127, 0, 0, 0], 8);
const CREATE: u16 = libc::NLM_F_CREATE as u16;

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
    pub(super) name: String,
    snats: Vec<Snat>,
    hairpins: Vec<IpNet>,
    pub(super) publishes: Vec<Publish>,
    forwards: Vec<Forward>,
    guards: Vec<String>,
}

impl Table {
    /// An empty table of this name, of the family `inet`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            snats: Vec::new(),
            hairpins: Vec::new(),
            publishes: Vec::new(),
            forwards: Vec::new(),
            guards: Vec::new(),
        }
    }

    /// Hides a network: what it sends elsewhere has the address of the interface that it leaves this host by.
    pub fn masquerade(self, net: IpNet) -> Self {
        self.snat(Snat::masquerade(net))
    }

    /// Hides a network behind another address, or by one interface only. The first that fits decides.
    pub fn snat(mut self, snat: Snat) -> Self {
        self.snats.push(snat);
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
    pub(in crate::net) fn unpublish(&mut self, is_like: impl Fn(&Publish) -> bool) -> bool {
        let before = self.publishes.len();
        self.publishes.retain(|publish| !is_like(publish));
        self.publishes.len() != before
    }

    pub(super) fn check(&self) -> Result<()> {
        // NFT_TABLE_MAXNAMELEN, with the NUL.
        let longest = libc::NFT_TABLE_MAXNAMELEN as usize - 1;
        if self.name.is_empty() || self.name.len() > longest || self.name.contains('\0') {
            let what = format!("{:?} is no name for a table", self.name);
            return Err(Error::invalid("name", what));
        }
        let of_forwards = self.forwards.iter();
        let of_forwards = of_forwards.flat_map(|forward| forward.iif.iter().chain(&forward.oif));
        let of_publishes = self.publishes.iter().filter_map(|it| it.iif.as_ref());
        let of_snats = self.snats.iter().filter_map(|it| it.oif.as_ref());
        let names = of_forwards.chain(of_publishes).chain(of_snats);
        for name in names.chain(&self.guards) {
            check_name(name)?;
        }
        self.snats.iter().try_for_each(Snat::check)?;
        self.forwards.iter().try_for_each(Forward::check)?;
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
    pub(super) fn messages(&self) -> Vec<Message> {
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
            self.published(&mut messages);
        }
        let translates = [!self.publishes.is_empty(), !self.snats.is_empty()];
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

    /// One chain for what comes in and what this host sends: the size of a table is limited.
    fn published(&self, messages: &mut Vec<Message>) {
        messages.push(self.plain_chain(published::CHAIN));
        for (number, publish) in self.publishes.iter().enumerate() {
            let mut rule = self.rule(published::CHAIN, |rule| {
                publish.put(rule, &map_name(number))
            });
            put_comment(&mut rule, publish);
            messages.push(rule);
        }
        for (chain, hook) in [
            ("prerouting", libc::NF_INET_PRE_ROUTING),
            ("output", libc::NF_INET_LOCAL_OUT),
        ] {
            messages.push(self.chain(chain, "nat", hook, libc::NF_IP_PRI_NAT_DST));
            messages.push(self.rule(chain, |rule| {
                rule.jump(published::CHAIN);
            }));
        }
    }

    fn postrouting(&self, messages: &mut Vec<Message>) {
        let (chain, hook) = ("postrouting", libc::NF_INET_POST_ROUTING);
        messages.push(self.chain(chain, "nat", hook, libc::NF_IP_PRI_NAT_SRC));
        for snat in &self.snats {
            messages.push(self.rule(chain, |rule| snat.put(rule)));
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
    pub(super) fn message(&self, kind: i32, flags: u16) -> Message {
        let mut message = message(kind, flags);
        message.text(TABLE, &self.name);
        message
    }

    /// A chain that others jump to.
    fn plain_chain(&self, name: &str) -> Message {
        let mut message = self.message(libc::NFT_MSG_NEWCHAIN, CREATE);
        message.text(3, name);
        message
    }

    fn chain(&self, name: &str, kind: &str, hook: i32, priority: i32) -> Message {
        let mut message = self.plain_chain(name);
        message.nest(4, |at| {
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
