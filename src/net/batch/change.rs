//! What can be in a batch.

use super::Undo;
use super::indexes::Indexes;
use crate::error::{Result, Step};
use crate::net::address::Address;
use crate::net::bridge_vlan::BridgeVlan;
use crate::net::entry::Entry;
use crate::net::fdb::FdbEntry;
use crate::net::link::{Link, LinkChange, LinkRef};
use crate::net::neighbour::Neighbour;
use crate::net::netlink::by_name_or_index;
use crate::net::route::Route;
use crate::net::rule::Rule;
use crate::net::wire::Message;

/// Something that can be added or changed, and undone.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the type that it is named after")]
pub enum Change<'a> {
    Link(Link<'a>),
    Set(LinkChange),
    BridgeVlan(BridgeVlan),
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
    BridgeVlan(BridgeVlan),
    Address(Address),
    Route(Route),
    Neighbour(Neighbour),
    Fdb(FdbEntry),
    Rule(Rule),
}

impl<'a> Change<'a> {
    pub(super) fn step(&self) -> Step {
        match self {
            Self::Link(_) | Self::Set(_) => Step::Link,
            Self::BridgeVlan(_) => BridgeVlan::STEP,
            Self::Address(_) => Address::STEP,
            Self::Route(_) => Route::STEP,
            Self::Neighbour(_) => Neighbour::STEP,
            Self::Fdb(_) => FdbEntry::STEP,
            Self::Rule(_) => Rule::STEP,
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Link(link) => link.describe(),
            Self::Set(change) => change.describe(),
            Self::BridgeVlan(vlan) => vlan.describe(),
            Self::Address(address) => format!("add {}", address.describe()),
            Self::Route(route) => format!("add {}", route.describe()),
            Self::Neighbour(neighbour) => format!("add {}", neighbour.describe()),
            Self::Fdb(entry) => format!("add {}", entry.describe()),
            Self::Rule(rule) => format!("add {}", rule.describe()),
        }
    }

    /// Whether the interface of this name has to be there before.
    pub(super) fn needs(&self, name: &str) -> bool {
        let is_it = |link: &LinkRef| matches!(link, LinkRef::Name(needed) if needed == name);
        match self {
            Self::Link(link) => link.needs().any(is_it),
            Self::Set(change) => change.needs().any(is_it),
            Self::BridgeVlan(vlan) => is_it(&vlan.link),
            Self::Address(address) => is_it(&address.link),
            Self::Route(route) => route.links().any(is_it),
            Self::Neighbour(neighbour) => is_it(&neighbour.link),
            Self::Fdb(entry) => is_it(&entry.link),
            Self::Rule(_) => false,
        }
    }

    /// Adds the messages that make it; how it is undone.
    pub(super) fn prepare(
        &self,
        indexes: &mut Indexes<'_>,
        messages: &mut Vec<Message>,
    ) -> Result<Option<Undo<'a>>> {
        fn both<'a, T: Entry>(
            entry: &T,
            indexes: &mut Indexes<'_>,
            messages: &mut Vec<Message>,
        ) -> Result<Option<Undo<'a>>> {
            let undo = entry.delete(indexes)?;
            messages.push(entry.add(indexes)?);
            Ok(Some(Undo::Send(undo)))
        }
        match self {
            Self::Link(link) => {
                let number = link.number(indexes);
                messages.push(link.message(number, indexes)?);
                // By its number, for it may have another name by then.
                let made = match number {
                    0 => LinkRef::from(link.name()),
                    _ => LinkRef::Index(number),
                };
                Ok(Some(match link.target() {
                    Some(namespace) => Undo::DeleteIn(namespace, made),
                    None => Undo::Send(by_name_or_index(libc::RTM_DELLINK, &made)?),
                }))
            }
            Self::Set(change) => {
                let undo = if indexes.is_new(&change.link) {
                    // What was made in the same batch goes as a whole.
                    indexes.wait_for(&change.link);
                    None
                } else {
                    let now = indexes.look_up(&change.link)?;
                    let mut back = Vec::new();
                    change.reverse(&now).put(indexes, &mut back)?;
                    let lost = change.loses(&now);
                    if lost.is_some() {
                        indexes.wait();
                    }
                    let lost = lost.map(|what| format!("{} has lost {what}", now.name));
                    Some(Undo::Set(back, lost))
                };
                change.put(indexes, messages)?;
                for name in change.new_alt_names() {
                    indexes.name(&change.link, name)?;
                }
                if let Some(name) = change.new_name() {
                    indexes.rename(&change.link, name)?;
                }
                Ok(undo)
            }
            Self::BridgeVlan(vlan) => {
                let message = vlan.message(indexes)?;
                let undo = if indexes.is_new(&vlan.link) {
                    // As above.
                    indexes.wait_for(&vlan.link);
                    None
                } else {
                    Some(Undo::Set(indexes.reverse(vlan)?, None))
                };
                messages.push(message);
                Ok(undo)
            }
            Self::Address(address) => both(address, indexes, messages),
            Self::Route(route) => both(route, indexes, messages),
            Self::Neighbour(neighbour) => both(neighbour, indexes, messages),
            // One that is there already is not added, and stays.
            Self::Fdb(one) if one.is_one_of_many() && indexes.has(one)? => {
                messages.push(one.add(indexes)?);
                Ok(None)
            }
            Self::Fdb(one) => both(one, indexes, messages),
            Self::Rule(rule) => {
                messages.push(rule.add(indexes)?);
                Ok(Some(Undo::DeleteRule(Box::new(rule.clone()))))
            }
        }
    }
}
