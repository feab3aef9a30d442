//! Several changes at once, all or none.

use super::address::Address;
use super::entry::Entry;
use super::fail::Deed;
use super::fdb::FdbEntry;
use super::link::{Link, LinkChange, LinkRef};
use super::neighbour::Neighbour;
use super::netlink::{Netlink, by_name_or_index};
use super::route::Route;
use super::rule::Rule;
use super::socket::Refusal;
use super::wire::Message;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Namespace, Net};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::{HashMap, HashSet};

/// How often other numbers are taken if those chosen for new interfaces turn out to be in use.
const ATTEMPTS: usize = 8;

/// Something that can be added or changed, and undone.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the type that it is named after")]
pub enum Change<'a> {
    Link(Link<'a>),
    Set(LinkChange),
    Address(Address),
    Route(Route),
    Neighbour(Neighbour),
    Fdb(FdbEntry),
    Rule(Rule),
}

macro_rules! changes {
    ($($variant:ident($inner:ty),)*) => {
        $(impl<'a> From<$inner> for Change<'a> {
            fn from(inner: $inner) -> Self {
                Self::$variant(inner)
            }
        })*
    };
}

changes! {
    Link(Link<'a>),
    Set(LinkChange),
    Address(Address),
    Route(Route),
    Neighbour(Neighbour),
    Fdb(FdbEntry),
    Rule(Rule),
}

impl<'a> Change<'a> {
    fn step(&self) -> Step {
        match self {
            Self::Link(_) | Self::Set(_) => Step::Link,
            Self::Address(_) => Address::STEP,
            Self::Route(_) => Route::STEP,
            Self::Neighbour(_) => Neighbour::STEP,
            Self::Fdb(_) => FdbEntry::STEP,
            Self::Rule(_) => Rule::STEP,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Link(link) => link.describe(),
            Self::Set(change) => change.describe(),
            Self::Address(address) => format!("add {}", address.describe()),
            Self::Route(route) => format!("add {}", route.describe()),
            Self::Neighbour(neighbour) => format!("add {}", neighbour.describe()),
            Self::Fdb(entry) => format!("add {}", entry.describe()),
            Self::Rule(rule) => format!("add {}", rule.describe()),
        }
    }

    /// Whether the interface of this name has to be there before.
    fn needs(&self, name: &str) -> bool {
        let is_it = |link: &LinkRef| matches!(link, LinkRef::Name(needed) if needed == name);
        match self {
            Self::Link(link) => link.needs().any(is_it),
            Self::Set(change) => change.needs().any(is_it),
            Self::Address(address) => is_it(&address.link),
            Self::Route(route) => route.links().any(is_it),
            Self::Neighbour(neighbour) => is_it(&neighbour.link),
            Self::Fdb(entry) => is_it(&entry.link),
            Self::Rule(_) => false,
        }
    }

    fn prepare(&self, indexes: &mut Indexes<'_>) -> Result<(Message, Option<Undo<'a>>)> {
        fn both<'a, T: Entry>(
            entry: &T,
            indexes: &mut Indexes<'_>,
        ) -> Result<(Message, Option<Undo<'a>>)> {
            let undo = entry.delete(indexes)?;
            Ok((entry.add(indexes)?, Some(Undo::Send(undo))))
        }
        match self {
            Self::Link(link) => {
                let message = link.message(indexes)?;
                let name = LinkRef::from(link.name());
                let undo = match link.target() {
                    Some(namespace) => Undo::DeleteIn(namespace, name),
                    None => Undo::Send(by_name_or_index(libc::RTM_DELLINK, &name)?),
                };
                Ok((message, Some(undo)))
            }
            Self::Set(change) => {
                let message = change.message(indexes)?;
                let mut undo = None;
                // What was made in the same batch goes as a whole.
                if !indexes.is_new(&change.link) {
                    let now = indexes.netlink.link_uncounted(&indexes.now(&change.link))?;
                    indexes.note(&change.link, now.index);
                    undo = Some(Undo::Send(change.reverse(&now).message(indexes)?));
                }
                if let Some(name) = change.new_name() {
                    indexes.rename(&change.link, name)?;
                }
                Ok((message, undo))
            }
            Self::Address(address) => both(address, indexes),
            Self::Route(route) => both(route, indexes),
            Self::Neighbour(neighbour) => both(neighbour, indexes),
            // One that is there already is not added, and stays.
            Self::Fdb(entry) if entry.is_one_of_many() && indexes.has(entry)? => {
                Ok((entry.add(indexes)?, None))
            }
            Self::Fdb(entry) => both(entry, indexes),
            Self::Rule(rule) => both(rule, indexes),
        }
    }
}

/// The numbers of interfaces, by their names.
#[derive(Debug)]
pub(super) struct Indexes<'n> {
    netlink: &'n Netlink,
    known: HashMap<String, u32>,
    /// The numbers of those that are made in the batch, and whether they were chosen here.
    new: HashMap<u32, bool>,
    /// The names of those that are made in the batch.
    new_names: HashSet<String>,
}

impl<'n> Indexes<'n> {
    pub(super) fn new(netlink: &'n Netlink) -> Self {
        Self {
            netlink,
            known: HashMap::new(),
            new: HashMap::new(),
            new_names: HashSet::new(),
        }
    }

    pub(super) fn get(&mut self, link: &LinkRef) -> Result<u32> {
        let name = match link {
            LinkRef::Index(index) => return Ok(*index),
            LinkRef::Name(name) => name,
        };
        if let Some(index) = self.known.get(name) {
            return Ok(*index);
        }
        let index = self.netlink.link_uncounted(link)?.index;
        self.known.insert(name.clone(), index);
        Ok(index)
    }

    /// The number of an interface that has been looked up.
    fn note(&mut self, link: &LinkRef, index: u32) {
        if let LinkRef::Name(name) = link {
            self.known.insert(name.clone(), index);
        }
    }

    /// What finds the interface before the batch: by number, if it has been renamed.
    fn now(&self, link: &LinkRef) -> LinkRef {
        let renamed = match link {
            LinkRef::Name(name) => self.known.get(name),
            LinkRef::Index(_) => None,
        };
        renamed.map_or_else(|| link.clone(), |index| LinkRef::Index(*index))
    }

    /// The number for a new interface in its header: what was asked for, or was chosen because later changes need
    /// it, or 0, and the kernel chooses.
    pub(super) fn number(
        &self,
        name: &str,
        asked: Option<u32>,
        elsewhere: Option<&Namespace<Net>>,
    ) -> u32 {
        let chosen = || self.known.get(name).filter(|_| elsewhere.is_none());
        asked.or_else(|| chosen().copied()).unwrap_or(0)
    }

    /// Chooses numbers for what the link brings and later changes need.
    fn choose(&mut self, link: &Link<'_>, later: &[Change<'_>]) {
        for (name, asked) in link.brings() {
            self.known.remove(name);
            self.new_names.insert(name.to_owned());
            if asked.is_none() && !later.iter().any(|change| change.needs(name)) {
                continue;
            }
            let number = asked.unwrap_or_else(random_index);
            self.known.insert(name.to_owned(), number);
            self.new.insert(number, asked.is_none());
        }
    }

    fn is_new(&self, link: &LinkRef) -> bool {
        match link {
            LinkRef::Index(index) => self.new.contains_key(index),
            LinkRef::Name(name) => self.new_names.contains(name),
        }
    }

    fn has(&mut self, entry: &FdbEntry) -> Result<bool> {
        if self.is_new(&entry.link) {
            return Ok(false);
        }
        let index = self.get(&entry.link)?;
        let all = self.netlink.fdb()?;
        Ok(all.iter().any(|other| entry.is(other, index)))
    }

    fn rename(&mut self, link: &LinkRef, name: &str) -> Result<()> {
        let index = self.get(link)?;
        let is_new = self.is_new(link);
        if let LinkRef::Name(before) = link {
            self.new_names.remove(before);
        }
        if is_new {
            self.new_names.insert(name.to_owned());
        }
        self.known.retain(|_, known| *known != index);
        self.known.insert(name.to_owned(), index);
        Ok(())
    }

    /// Whether a number that was chosen here is that of another interface.
    fn collided(&self) -> bool {
        let chosen = self.new.iter().filter(|(_, chosen)| **chosen);
        chosen
            .into_iter()
            .any(|(number, _)| self.netlink.link_uncounted(&(*number).into()).is_ok())
    }
}

/// Of six digits: the kernel itself counts from 1.
pub(super) fn random_index() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness numbers are the same each time, and may have to be chosen again.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    100_000 + u32::from_ne_bytes(bytes) % 900_000
}

/// How a change is undone.
#[derive(Clone, Debug)]
enum Undo<'a> {
    Send(Message),
    DeleteIn(&'a Namespace<Net>, LinkRef),
}

/// Changes that are made together, in the order in which they are added: in one call to the kernel (or
/// where there are more than a hundred, in few), and all or none.
///
/// A change may name an interface that an earlier one adds.
///
/// The kernel has no such transactions: it goes on after a change that it refuses. So what it did is undone, in
/// reverse order. For a moment others may see a part of it. Only if the kernel's answers are lost, for lack of
/// memory, does what it did stay.
///
/// # Examples
/// ```no_run
/// use ringfence::net::{Address, IpNet, Link, LinkChange, Netlink, Route};
/// use std::net::Ipv4Addr;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let netlink = Netlink::current()?;
/// netlink
///     .batch()
///     .add(Link::bridge("lab").up())
///     .add(Address::new("lab", "10.9.0.1/24".parse::<IpNet>()?))
///     .add(Route::to("10.10.0.0/16".parse()?).via(Ipv4Addr::new(10, 9, 0, 2)))
///     .commit()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is changed until it is committed"]
pub struct Batch<'a> {
    netlink: &'a Netlink,
    changes: Vec<Change<'a>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(netlink: &'a Netlink) -> Self {
        Self {
            netlink,
            changes: Vec::new(),
        }
    }

    /// Adds a change.
    #[expect(clippy::should_implement_trait, reason = "nothing is summed up")]
    pub fn add<'c>(mut self, change: impl Into<Change<'c>>) -> Batch<'c>
    where
        'a: 'c,
    {
        let mut changes: Vec<Change<'c>> = std::mem::take(&mut self.changes);
        changes.push(change.into());
        Batch {
            netlink: self.netlink,
            changes,
        }
    }

    /// Makes the changes.
    ///
    /// # Errors
    /// That of the first change that failed. Everything else has been undone; if that failed as well, the
    /// hint says what is left.
    pub fn commit(self) -> Result<Committed<'a>> {
        for _ in 1..ATTEMPTS {
            let mut indexes = Indexes::new(self.netlink);
            match self.attempt(&mut indexes) {
                Err(error) if is_in_use(&error) && indexes.collided() => {}
                other => return other,
            }
        }
        self.attempt(&mut Indexes::new(self.netlink))
    }

    fn attempt(&self, indexes: &mut Indexes<'_>) -> Result<Committed<'a>> {
        let mut messages = Vec::with_capacity(self.changes.len());
        let mut undos = Vec::with_capacity(self.changes.len());
        for (position, change) in self.changes.iter().enumerate() {
            if let Change::Link(link) = change {
                indexes.choose(link, &self.changes[position + 1..]);
            }
            let (message, undo) = change.prepare(indexes)?;
            messages.push(message);
            undos.push(undo);
        }
        let results = self.netlink.socket().request(&mut messages);
        let mut done = Committed {
            netlink: self.netlink,
            undo: Vec::new(),
        };
        let mut refused: Option<(usize, Refusal)> = None;
        for (position, result) in results.into_iter().enumerate() {
            match (result, undos[position].take()) {
                (Ok(()), Some(undo)) => done.undo.push(undo),
                (Ok(()), None) => {}
                (Err(refusal), _) if refused.is_none() => refused = Some((position, refusal)),
                (Err(_), _) => {}
            }
        }
        let Some((position, refusal)) = refused else {
            return Ok(done);
        };
        let change = &self.changes[position];
        let deed = self.netlink.deed(change.step(), change.describe());
        let error = deed.refused(&refusal, messages.get(position));
        let error = explain(error, change, &refusal);
        match done.undo() {
            Ok(()) => Err(error),
            Err(left) => {
                Err(error.with_hint(Some(format!("what had been done is still there: {left:?}"))))
            }
        }
    }
}

/// The answer to a number that another interface has.
fn is_in_use(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EBUSY))
}

fn explain(error: Error, change: &Change<'_>, refusal: &Refusal) -> Error {
    match (change, refusal.errno) {
        (Change::Link(link), Errno::OPNOTSUPP) => {
            error.with_hint(Some(link.kind().lacking(refusal.text.as_deref())))
        }
        (Change::Set(_), Errno::NODEV) => error.with_kind(ErrorKind::NotFound),
        _ => error,
    }
}

/// Changes that were made. They stay when this is dropped.
#[derive(Debug)]
pub struct Committed<'a> {
    netlink: &'a Netlink,
    undo: Vec<Undo<'a>>,
}

impl Committed<'_> {
    /// Undoes them, in reverse order. What is gone meanwhile is left out.
    ///
    /// # Errors
    /// The first of what the kernel gives; the others are undone nevertheless.
    pub fn undo(self) -> Result<()> {
        let mut first = Ok(());
        let mut messages = Vec::new();
        for undo in self.undo.into_iter().rev() {
            match undo {
                Undo::Send(message) => messages.push(message),
                Undo::DeleteIn(namespace, link) => {
                    first = first.and(send(self.netlink, &mut messages));
                    let deleted =
                        Netlink::open(namespace).and_then(|netlink| netlink.delete_link(link));
                    let is_gone = |error: &Error| error.kind() == ErrorKind::NotFound;
                    first = first.and(deleted.or_else(|error| match is_gone(&error) {
                        true => Ok(()),
                        false => Err(error),
                    }));
                }
            }
        }
        first.and(send(self.netlink, &mut messages))
    }
}

/// Sends them one by one: after a refusal the rest shall be done as well.
fn send(netlink: &Netlink, messages: &mut Vec<Message>) -> Result<()> {
    let mut first = Ok(());
    for message in std::mem::take(messages) {
        let mut message = [message];
        let Some(Err(refusal)) = netlink.socket().request(&mut message).pop() else {
            continue;
        };
        // It has gone with something else.
        let is_gone = matches!(
            refusal.errno,
            Errno::NODEV | Errno::SRCH | Errno::ADDRNOTAVAIL | Errno::NOENT
        );
        if !is_gone && first.is_ok() {
            let deed: Deed = netlink.deed(Step::Link, "undo");
            first = Err(deed.refused(&refusal, message.first()));
        }
    }
    first
}
