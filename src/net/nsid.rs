//! The numbers by which one network namespace knows others.

use super::netlink::Netlink;
use super::wire::{Message, Received};
use crate::error::{Result, Step};
use crate::ns::{Namespace, Net};
use std::os::fd::AsRawFd;

// <linux/net_namespace.h>
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// `struct rtgenmsg`, aligned.
const RTGENMSG: [u8; 4] = [0; 4];
/// `NETNSA_NSID_NOT_ASSIGNED`.
const NOT_ASSIGNED: i32 = -1;

impl Netlink {
    /// The id that this namespace has for another; `None` if it has none. The kernel gives one by itself when
    /// an interface leads there.
    ///
    /// # Errors
    /// What the kernel gives.
    #[doc(alias = "RTM_GETNSID")]
    pub fn nsid(&self, namespace: &Namespace<Net>) -> Result<Option<i32>> {
        let mut message = Message::new(libc::RTM_GETNSID, 0, &RTGENMSG);
        message.u32(NETNSA_FD, namespace.as_raw_fd().cast_unsigned());
        let deed = self.deed(Step::Namespace, format!("id of {namespace}"));
        let found = self.socket().get(message, id);
        let found = found.map_err(|refusal| deed.refused(&refusal, None))?;
        Ok(found.filter(|id| *id != NOT_ASSIGNED))
    }

    /// Gives another namespace this id in this one, for good; without one, the kernel chooses.
    ///
    /// # Errors
    /// `EEXIST` if it has one, or another has this.
    ///
    /// # Privileges
    /// `CAP_NET_ADMIN` for this namespace.
    #[doc(alias = "RTM_NEWNSID")]
    pub fn set_nsid(&self, namespace: &Namespace<Net>, id: Option<i32>) -> Result<()> {
        let mut message = Message::new(libc::RTM_NEWNSID, 0, &RTGENMSG);
        message.u32(NETNSA_NSID, id.unwrap_or(NOT_ASSIGNED).cast_unsigned());
        message.u32(NETNSA_FD, namespace.as_raw_fd().cast_unsigned());
        let deed = self.deed(Step::Namespace, format!("give {namespace} an id"));
        self.one(deed, message)
    }

    /// The ids that this namespace has for others.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    pub fn nsids(&self) -> Result<Vec<i32>> {
        let request = Message::new(libc::RTM_GETNSID, 0, &RTGENMSG);
        let deed = self.deed(Step::Namespace, "list ids");
        let found = self.socket().dump(request, id);
        let mut found = found.map_err(|refusal| deed.refused(&refusal, None))?;
        found.sort_unstable();
        Ok(found)
    }
}

fn id(message: &Received<'_>) -> Option<i32> {
    let (_, attributes) = message.split(RTGENMSG.len())?;
    attributes.get(NETNSA_NSID)?.i32()
}
