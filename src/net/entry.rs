//! What addresses, routes, neighbours and rules have in common: they are added, removed and listed by
//! three messages with the same body.

use super::batch::Indexes;
use super::wire::{Attribute, Message, Received};
use crate::error::{Result, Step};

pub(super) trait Entry: Sized {
    const STEP: Step;
    /// `RTM_NEW*`, which `RTM_DEL*` and `RTM_GET*` follow.
    const NEW: u16;
    /// The size of the fixed header.
    const FIXED: usize;

    /// The fixed header for [`NEW`](Self::NEW), and what writes the attributes behind it.
    fn message(&self, kind: u16, flags: u16, indexes: &mut Indexes<'_>) -> Result<Message>;

    /// What the kernel lists; `None` for what is not of this sort.
    fn parse(message: &Received<'_>) -> Option<Self>;

    /// As ip(8) would take it.
    fn describe(&self) -> String;

    fn add(&self, indexes: &mut Indexes<'_>) -> Result<Message> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.message(Self::NEW, flags as u16, indexes)
    }

    /// [`add`](Self::add), or what is there becomes this.
    fn replace(&self, indexes: &mut Indexes<'_>) -> Result<Message> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.message(Self::NEW, flags as u16, indexes)
    }

    fn delete(&self, indexes: &mut Indexes<'_>) -> Result<Message> {
        self.message(Self::NEW + 1, 0, indexes)
    }

    /// The request for all of them.
    fn dump() -> Message {
        Message::new(Self::NEW + 2, 0, &vec![0; Self::FIXED])
    }
}

/// Entries of which the kernel deletes the first that has what it is told: that is not always the one that is meant.
pub(super) trait Deletable: Entry + Clone + PartialEq {
    /// The request for those among which it is.
    fn dump_beside(&self) -> Message;

    /// With interfaces by number, and all else as it would be listed.
    fn as_listed(&self, indexes: &mut Indexes<'_>) -> Result<Self>;

    /// Whether a listed one has all that this one says.
    fn means(&self, listed: &Self) -> bool;

    /// Whether the kernel may take a listed one for this one. In doubt it may.
    fn takes(&self, listed: &Self) -> bool;

    /// Among all that there are, the one that is meant, and what the kernel would delete in its place.
    fn find<'a>(&self, listed: &'a [Self]) -> Option<(&'a Self, Option<&'a Self>)> {
        let same = listed.iter().find(|other| *other == self);
        let meant = same.or_else(|| listed.iter().find(|other| self.means(other)))?;
        let taken = listed.iter().find(|other| meant.takes(other));
        Some((meant, taken.filter(|taken| *taken != meant)))
    }
}

/// Whether what is asked for, if anything is, is what there is.
pub(super) fn fits<T: PartialEq>(asked: &Option<T>, listed: &Option<T>) -> bool {
    asked.is_none() || asked == listed
}

/// [`fits`] of a number that asks for nothing if it is 0.
pub(super) fn fits_number<T: PartialEq + Default>(asked: T, listed: T) -> bool {
    asked == T::default() || asked == listed
}

/// Attributes that are not understood here, as the kernel gave them. It gets them back as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Others(Vec<Other>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Other {
    kind: u16,
    nested: bool,
    value: Vec<u8>,
}

impl Others {
    pub(super) fn keep(&mut self, attribute: Attribute<'_>) {
        self.0.push(Other {
            kind: attribute.kind,
            nested: attribute.nested,
            value: attribute.value.to_vec(),
        });
    }

    pub(super) fn put(&self, message: &mut Message) {
        for other in &self.0 {
            message.copy(Attribute {
                kind: other.kind,
                nested: other.nested,
                value: &other.value,
            });
        }
    }

    pub(super) fn kinds(&self) -> Vec<u16> {
        self.0.iter().map(|other| other.kind).collect()
    }
}
