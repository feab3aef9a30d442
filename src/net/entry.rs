//! What addresses, routes, neighbours and rules have in common: they are added, removed and listed by
//! three messages with the same body.

use super::batch::Indexes;
use super::wire::{Message, Received};
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

    fn delete(&self, indexes: &mut Indexes<'_>) -> Result<Message> {
        self.message(Self::NEW + 1, 0, indexes)
    }

    /// The request for all of them.
    fn dump() -> Message {
        Message::new(Self::NEW + 2, 0, &vec![0; Self::FIXED])
    }
}
