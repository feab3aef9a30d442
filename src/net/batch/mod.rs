//! Several changes at once, all or none.

mod change;
mod indexes;

pub use change::Change;
pub(super) use indexes::Indexes;

use super::fail::Deed;
use super::link::{LinkRef, RTM_DELLINKPROP};
use super::netlink::Netlink;
use super::rule::Rule;
use super::socket::Refusal;
use super::wire::Message;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Namespace, Net};
use rustix::io::Errno;

/// How often other numbers are taken if those chosen for new interfaces turn out to be in use.
const ATTEMPTS: usize = 8;

/// How a change is undone.
#[derive(Clone, Debug)]
enum Undo<'a> {
    Send(Message),
    /// And what that does not bring back.
    Set(Vec<Message>, Option<String>),
    DeleteIn(&'a Namespace<Net>, LinkRef),
    /// The kernel alone might delete another.
    DeleteRule(Box<Rule>),
}

/// Changes that are made together, in the order in which they are added: in one call to the kernel (or
/// where there are more than a hundred, in few), and all or none.
///
/// A change may name an interface that an earlier one adds. A [`LinkChange`](super::LinkChange) of it is sent in a call
/// of its own, when it is known that it has been added: one that had the name or the number before is never changed.
///
/// The kernel has no such transactions: it goes on after a change that it refuses. So what it did is undone, in
/// reverse order. For a moment others may see a part of it. Only if the kernel's answers are lost, for lack of
/// memory, does what it did stay.
///
/// # What is not brought back
/// Of an interface that was there before, its settings are brought back, but not what the kernel forgets as it is brought
/// [down](super::LinkChange::down), gets an [mtu](super::LinkChange::mtu) below 1280, or
/// [leaves](super::LinkChange::master) a bridge: routes, IPv6 addresses, neighbours, forwarding entries. So such a change is
/// sent, in a call of its own, when all before it have been made, and is best the last; if one behind it fails, the error's
/// hint says what is lost. Nor does a bridge that has the hardware address of a port keep it when that goes.
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
                Err(error) if indexes.collided(error.raw_os_error()) => {}
                other => return other,
            }
        }
        self.attempt(&mut Indexes::new(self.netlink))
    }

    fn attempt(&self, indexes: &mut Indexes<'_>) -> Result<Committed<'a>> {
        let mut prepared = self.prepare(indexes)?;
        let results = prepared.send(self.netlink);
        let mut done = Committed {
            netlink: self.netlink,
            undo: Vec::new(),
        };
        let mut refused: Option<(usize, Refusal)> = None;
        for (number, result) in results.into_iter().enumerate() {
            match result {
                Ok(()) => done
                    .undo
                    .extend(prepared.undos[prepared.owners[number]].take()),
                Err(refusal) if refused.is_none() => refused = Some((number, refusal)),
                Err(_) => {}
            }
        }
        let Some((number, refusal)) = refused else {
            return Ok(done);
        };
        let position = prepared.owners[number];
        let half = prepared.undos[position].take();
        let change = &self.changes[position];
        let deed = self.netlink.deed(change.step(), change.describe());
        let error = deed.refused(&refusal, prepared.messages.get(number));
        let error = self.explain(error, change, &refusal);
        let mut hints: Vec<_> = error.hint().map(str::to_owned).into_iter().collect();
        hints.extend(done.lost());
        let half = self.undo_half(half, error.raw_os_error());
        if let Err(left) = half.and(done.undo()) {
            hints.push(format!("what had been done is still there: {left:?}"));
        }
        let hint = (!hints.is_empty()).then(|| hints.join("; "));
        Err(error.with_hint(hint))
    }

    /// Of a change of what is there, the kernel makes the parts one by one, up to the one that it refuses.
    fn undo_half(&self, undo: Option<Undo<'a>>, errno: Option<i32>) -> Result<()> {
        let is_of_parts = |undo: &Undo<'_>| matches!(undo, Undo::Set(..));
        let half = Committed {
            netlink: self.netlink,
            undo: undo.filter(is_of_parts).into_iter().collect(),
        };
        half.undo().or_else(|error| match error.raw_os_error() {
            // The refused part itself, back to what it is.
            again if again == errno => Ok(()),
            _ => Err(error),
        })
    }

    fn prepare(&self, indexes: &mut Indexes<'_>) -> Result<Prepared<'a>> {
        let mut all = Prepared {
            messages: Vec::with_capacity(self.changes.len()),
            owners: Vec::with_capacity(self.changes.len()),
            undos: Vec::with_capacity(self.changes.len()),
            parts: Vec::new(),
        };
        for (position, change) in self.changes.iter().enumerate() {
            indexes.begin(position, &self.changes[position..]);
            let first = all.messages.len();
            all.undos.push(change.prepare(indexes, &mut all.messages)?);
            all.owners.resize(all.messages.len(), position);
            if indexes.end() {
                all.parts.push(first);
            }
        }
        Ok(all)
    }

    fn explain(&self, error: Error, change: &Change<'_>, refusal: &Refusal) -> Error {
        match (change, refusal.errno) {
            (Change::Link(link), Errno::OPNOTSUPP) => {
                error.with_hint(Some(link.kind().lacking(refusal.text.as_deref())))
            }
            (Change::Set(change), Errno::OPNOTSUPP) if change.is_for_port() => {
                let hint = "what is for a port of a bridge needs an interface that is one";
                error.with_hint(Some(hint.to_owned()))
            }
            (Change::BridgeVlan(vlan), Errno::OPNOTSUPP) => {
                let link = self.netlink.link_uncounted(&vlan.link);
                let is_of_bridge = link.is_ok_and(|link| match vlan.of_bridge {
                    true => link.kind.as_deref() == Some("bridge"),
                    false => link.port.is_some(),
                });
                error.with_hint(Some(vlan.lacking(is_of_bridge).to_owned()))
            }
            (Change::Set(_) | Change::BridgeVlan(_), Errno::NODEV) => {
                error.with_kind(ErrorKind::NotFound)
            }
            _ => error,
        }
    }
}

/// A batch as it is sent.
struct Prepared<'a> {
    messages: Vec<Message>,
    /// For each message, the position of the change that it is of.
    owners: Vec<usize>,
    undos: Vec<Option<Undo<'a>>>,
    /// The messages that are sent only when all before them have been done.
    parts: Vec<usize>,
}

impl Prepared<'_> {
    /// The results of what was sent: if something is refused, the parts behind it are not.
    fn send(&mut self, netlink: &Netlink) -> Vec<Result<(), Refusal>> {
        let mut socket = netlink.socket();
        let mut results = Vec::with_capacity(self.messages.len());
        let mut first = 0;
        let ends = self.parts.iter().copied();
        for end in ends.chain([self.messages.len()]) {
            results.extend(socket.request(&mut self.messages[first..end]));
            if results.iter().any(Result::is_err) {
                break;
            }
            first = end;
        }
        results
    }
}

/// Changes that were made. They stay when this is dropped.
#[derive(Debug)]
pub struct Committed<'a> {
    netlink: &'a Netlink,
    undo: Vec<Undo<'a>>,
}

impl Committed<'_> {
    fn lost(&self) -> impl Iterator<Item = String> {
        let lost = self.undo.iter().filter_map(|undo| match undo {
            Undo::Set(_, lost) => lost.clone(),
            Undo::Send(_) | Undo::DeleteIn(..) | Undo::DeleteRule(_) => None,
        });
        lost.map(|lost| lost + ", which is not brought back")
    }

    /// Undoes them, in reverse order. What is gone meanwhile is left out, and what a change made the kernel
    /// [forget](Batch#what-is-not-brought-back) does not come back.
    ///
    /// # Errors
    /// The first of what the kernel gives; the others are undone nevertheless.
    pub fn undo(self) -> Result<()> {
        let mut first = Ok(());
        let mut messages = Vec::new();
        for undo in self.undo.into_iter().rev() {
            match undo {
                Undo::Send(message) => messages.push(message),
                Undo::Set(all, _) => messages.extend(all),
                Undo::DeleteIn(namespace, link) => {
                    first = first.and(send(self.netlink, &mut messages));
                    let deleted =
                        Netlink::open(namespace).and_then(|netlink| netlink.delete_link(link));
                    first = first.and(unless_gone(deleted));
                }
                Undo::DeleteRule(rule) => {
                    first = first.and(send(self.netlink, &mut messages));
                    first = first.and(unless_gone(self.netlink.delete_rule(&rule)));
                }
            }
        }
        first.and(send(self.netlink, &mut messages))
    }
}

fn unless_gone(deleted: Result<()>) -> Result<()> {
    deleted.or_else(|error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

/// Sends them one by one: after a refusal the rest shall be done as well.
fn send(netlink: &Netlink, messages: &mut Vec<Message>) -> Result<()> {
    let mut first = Ok(());
    for message in std::mem::take(messages) {
        let mut message = [message];
        let Some(Err(refusal)) = netlink.socket().request(&mut message).pop() else {
            continue;
        };
        // It has gone with something else, or the name is another's.
        let is_gone = match refusal.errno {
            Errno::NODEV | Errno::SRCH | Errno::ADDRNOTAVAIL | Errno::NOENT => true,
            Errno::INVAL => message.iter().all(|it| it.kind() == RTM_DELLINKPROP),
            _ => false,
        };
        if !is_gone && first.is_ok() {
            let deed: Deed = netlink.deed(Step::Link, "undo");
            first = Err(deed.refused(&refusal, message.first()));
        }
    }
    first
}
