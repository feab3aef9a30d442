//! Names that an interface has besides its own.

use super::super::wire::{Attributes, Message};
use super::ifinfomsg;
use crate::error::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

// <linux/rtnetlink.h> and <linux/if_link.h>
pub(in super::super) const RTM_NEWLINKPROP: u16 = 108;
pub(in super::super) const RTM_DELLINKPROP: u16 = 109;
pub(in super::super) const IFLA_PROP_LIST: u16 = 52;
pub(in super::super) const IFLA_ALT_IFNAME: u16 = 53;

/// `ALTIFNAMSIZ` without the NUL.
const ALT_NAME_MAX: usize = 127;

/// Those that are told of an interface.
pub(super) fn parse(properties: Attributes<'_>) -> Vec<OsString> {
    let names = properties.filter(|property| property.kind == IFLA_ALT_IFNAME);
    names
        .map(|name| OsStr::from_bytes(name.text()).to_owned())
        .collect()
}

/// Those that are to be taken, and given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AltNameChange {
    pub(super) delete: Vec<OsString>,
    pub(super) add: Vec<OsString>,
}

impl AltNameChange {
    /// One message each, so that nothing is done of one that is refused.
    pub(super) fn put(&self, index: u32, messages: &mut Vec<Message>) -> Result<()> {
        for (kind, names) in [
            (RTM_DELLINKPROP, &self.delete),
            (RTM_NEWLINKPROP, &self.add),
        ] {
            for name in names {
                check_alt_name(name)?;
                let mut message = Message::new(kind, 0, &ifinfomsg(index, 0, 0));
                message.nest(IFLA_PROP_LIST, |properties| {
                    properties.text(IFLA_ALT_IFNAME, name.as_bytes());
                });
                messages.push(message);
            }
        }
        Ok(())
    }

    /// The change that brings back what this one changes of an interface that has these.
    pub(super) fn reverse(&self, now: &[OsString]) -> Self {
        let deleted = self.delete.iter().filter(|name| now.contains(name));
        let added = self.add.iter().filter(|name| !now.contains(name));
        Self {
            // By then there may be one again.
            delete: added.chain(deleted.clone()).cloned().collect(),
            add: deleted.cloned().collect(),
        }
    }

    pub(super) fn describe(&self) -> String {
        let named = |word: &str, names: &[OsString]| -> String {
            let names = names.iter();
            names
                .map(|name| format!(" {word} {}", name.display()))
                .collect()
        };
        named("no altname", &self.delete) + &named("altname", &self.add)
    }
}

/// What ip(8) takes for one: the kernel takes anything.
pub(super) fn check_alt_name(name: impl AsRef<OsStr>) -> Result<()> {
    let bytes = name.as_ref().as_bytes();
    let is_bad = |byte: &u8| matches!(byte, b'/' | 0 | 0x0b) || byte.is_ascii_whitespace();
    let flaw = match bytes.len() {
        0 => "is no name for an interface",
        1..=ALT_NAME_MAX if bytes.iter().any(is_bad) => {
            "has a character that no name of an interface can have"
        }
        1..=ALT_NAME_MAX => return Ok(()),
        _ => "is too long for an interface, whose other names have up to 127 bytes",
    };
    let what = format!("{:?} {flaw}", name.as_ref().display().to_string());
    Err(Error::invalid("alt_name", what))
}
