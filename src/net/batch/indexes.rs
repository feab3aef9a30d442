//! The numbers of the interfaces that a batch speaks of.

use super::Change;
use crate::error::Result;
use crate::net::bridge_vlan::BridgeVlan;
use crate::net::fdb::FdbEntry;
use crate::net::link::{Link, LinkInfo, LinkRef};
use crate::net::netlink::Netlink;
use crate::net::wire::Message;
use crate::ns::{Namespace, Net};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::{HashMap, HashSet};

/// An interface that is made in the batch.
#[derive(Clone, Copy, Debug)]
struct New {
    /// Whether its number was chosen here, rather than asked for.
    chosen: bool,
    /// The position of the change that makes it.
    position: usize,
}

/// The numbers of interfaces, by their names.
#[derive(Debug)]
pub(in crate::net) struct Indexes<'n> {
    netlink: &'n Netlink,
    known: HashMap<String, u32>,
    /// Those that are made in the batch, by their numbers.
    new: HashMap<u32, New>,
    /// The names of those that are made in the batch.
    new_names: HashSet<String>,
    /// Whether a number was chosen for one in another namespace.
    chosen_elsewhere: bool,
    /// The position of the change that is being prepared.
    position: usize,
    /// Changes from here on have not been answered when that change is sent.
    unanswered: usize,
    /// Whether that change may be sent only when those before it have been made.
    waits: bool,
}

impl<'n> Indexes<'n> {
    pub(in crate::net) fn new(netlink: &'n Netlink) -> Self {
        Self {
            netlink,
            known: HashMap::new(),
            new: HashMap::new(),
            new_names: HashSet::new(),
            chosen_elsewhere: false,
            position: 0,
            unanswered: 0,
            waits: false,
        }
    }

    pub(in crate::net) fn get(&mut self, link: &LinkRef) -> Result<u32> {
        let index = match link {
            LinkRef::Index(index) => *index,
            LinkRef::Name(name) => match self.known.get(name) {
                Some(index) => *index,
                None => self.look_up(link)?.index,
            },
        };
        // A number that was asked for may be another's, and then nothing of this is for that.
        let is_asked = self.new.get(&index).is_some_and(|new| !new.chosen);
        if is_asked {
            self.wait_for(&LinkRef::Index(index));
        }
        Ok(index)
    }

    /// The number of one in another namespace, if that is given.
    pub(in crate::net) fn get_in(
        &mut self,
        elsewhere: Option<&Namespace<Net>>,
        link: &LinkRef,
    ) -> Result<u32> {
        match (elsewhere, link) {
            (None, _) => self.get(link),
            (Some(_), LinkRef::Index(index)) => Ok(*index),
            (Some(there), LinkRef::Name(_)) => {
                Ok(Netlink::open(there)?.link_uncounted(link)?.index)
            }
        }
    }

    /// What there is before the batch: by number, if it has been renamed.
    pub(super) fn look_up(&mut self, link: &LinkRef) -> Result<LinkInfo> {
        let LinkRef::Name(name) = link else {
            return self.netlink.link_uncounted(link);
        };
        let known = self.known.get(name).copied().map(LinkRef::Index);
        let found = self
            .netlink
            .link_uncounted(known.as_ref().unwrap_or(link))?;
        self.known.insert(name.clone(), found.index);
        Ok(found)
    }

    /// The number for a new interface in its header: what was asked for, or was chosen because later changes need
    /// it, or 0, and the kernel chooses.
    pub(in crate::net) fn number(
        &self,
        name: &str,
        asked: Option<u32>,
        elsewhere: Option<&Namespace<Net>>,
    ) -> u32 {
        let chosen = || self.known.get(name).filter(|_| elsewhere.is_none());
        asked.or_else(|| chosen().copied()).unwrap_or(0)
    }

    /// Begins with the change at this position, and those behind it.
    pub(super) fn begin(&mut self, position: usize, changes: &[Change<'_>]) {
        self.position = position;
        self.waits = false;
        if let Some(Change::Link(link)) = changes.first() {
            self.choose_for(link, &changes[1..]);
        }
    }

    /// Chooses numbers for what the link brings and later changes need.
    fn choose_for(&mut self, link: &Link<'_>, later: &[Change<'_>]) {
        for (name, asked) in link.brings() {
            self.known.remove(name);
            self.new_names.insert(name.to_owned());
            if asked.is_some() || later.iter().any(|change| change.needs(name)) {
                self.number_for(name, asked);
            }
        }
    }

    fn number_for(&mut self, name: &str, asked: Option<u32>) -> u32 {
        let number = asked.unwrap_or_else(random_index);
        self.known.insert(name.to_owned(), number);
        let new = New {
            chosen: asked.is_none(),
            position: self.position,
        };
        self.new.insert(number, new);
        number
    }

    /// Chooses a number for a new interface.
    pub(in crate::net) fn choose(&mut self, name: &str, elsewhere: Option<&Namespace<Net>>) -> u32 {
        if elsewhere.is_none() {
            return self.number_for(name, None);
        }
        self.chosen_elsewhere = true;
        random_index()
    }

    pub(super) fn is_new(&self, link: &LinkRef) -> bool {
        match link {
            LinkRef::Index(index) => self.new.contains_key(index),
            LinkRef::Name(name) => self.new_names.contains(name),
        }
    }

    /// Has the change wait until all before it have been made.
    pub(super) fn wait(&mut self) {
        self.waits = true;
    }

    /// Has the change wait until this interface has been made.
    pub(super) fn wait_for(&mut self, link: &LinkRef) {
        let index = match link {
            LinkRef::Index(index) => Some(index),
            LinkRef::Name(name) => self.known.get(name),
        };
        let new = index.and_then(|index| self.new.get(index));
        let is_made_before = |new: &New| (self.unanswered..self.position).contains(&new.position);
        self.waits |= new.is_some_and(is_made_before);
    }

    /// Whether the change has to wait for those before it; it then counts as sent after their answers.
    pub(super) fn end(&mut self) -> bool {
        if self.waits {
            self.unanswered = self.position;
        }
        self.waits
    }

    pub(super) fn has(&mut self, entry: &FdbEntry) -> Result<bool> {
        if self.is_new(&entry.link) {
            return Ok(false);
        }
        let index = self.get(&entry.link)?;
        let all = self.netlink.fdb()?;
        Ok(all.iter().any(|other| entry.is(other, index)))
    }

    /// How a change of memberships is undone.
    pub(super) fn reverse(&mut self, vlan: &BridgeVlan) -> Result<Vec<Message>> {
        let index = self.get(&vlan.link)?;
        Ok(vlan.reverse(index, &self.netlink.bridge_vlans()?))
    }

    pub(super) fn rename(&mut self, link: &LinkRef, name: &str) -> Result<()> {
        let index = self.get(link)?;
        let is_new = self.is_new(link);
        if let LinkRef::Name(before) = link {
            self.new_names.remove(before);
        }
        self.known.retain(|_, known| *known != index);
        self.insert(index, name, is_new);
        Ok(())
    }

    /// One more name of an interface.
    pub(super) fn name(&mut self, link: &LinkRef, name: &str) -> Result<()> {
        let index = self.get(link)?;
        let is_new = self.is_new(link);
        self.insert(index, name, is_new);
        Ok(())
    }

    fn insert(&mut self, index: u32, name: &str, is_new: bool) {
        if is_new {
            self.new_names.insert(name.to_owned());
        }
        self.known.insert(name.to_owned(), index);
    }

    /// Whether a number that was chosen here may be that of another interface, which the kernel refuses with this.
    pub(super) fn collided(&self, errno: Option<i32>) -> bool {
        let is_there = |number: u32| self.netlink.link_uncounted(&LinkRef::Index(number)).is_ok();
        let chosen = || self.new.iter().filter(|(_, new)| new.chosen);
        match errno {
            Some(libc::EBUSY) if self.chosen_elsewhere => true,
            Some(libc::EEXIST | libc::EBUSY) => chosen().any(|(number, _)| is_there(*number)),
            _ => false,
        }
    }
}

/// Of six digits: the kernel itself counts from 1.
fn random_index() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness numbers are the same each time, and may have to be chosen again.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    100_000 + u32::from_ne_bytes(bytes) % 900_000
}
