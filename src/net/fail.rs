//! Refusals of the kernel, as errors.

use super::link::{IFINFOMSG, IFLA_PROP_LIST, RTM_NEWLINKPROP};
use super::next_hop::RTA_VIA;
use super::socket::Refusal;
use super::wire::Message;
use crate::error::{Error, Step};
use rustix::io::Errno;

/// What was to be done, for the error if it cannot be.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    pub(super) step: Step,
    pub(super) object: String,
}

impl Deed {
    pub(super) fn new(step: Step, object: impl Into<String>) -> Self {
        Self {
            step,
            object: object.into(),
        }
    }

    /// The error, with what the kernel says of it and of which attribute of the message.
    pub(super) fn refused(&self, refusal: &Refusal, message: Option<&Message>) -> Error {
        let mut object = self.object.clone();
        if let Some(text) = &refusal.text {
            object += &format!(": {text}");
        }
        let attribute = message.zip(refusal.offset).map(|(message, offset)| {
            let path = message.attribute_at(fixed_of(message.kind()), offset);
            name_of(message.kind(), &path)
        });
        if let Some(attribute) = attribute.filter(|name| !name.is_empty()) {
            object += &format!(" (attribute {attribute})");
        }
        let hint = (refusal.errno == Errno::PERM).then(|| {
            "needs CAP_NET_ADMIN in the user namespace that owns the network namespace".to_owned()
        });
        Error::system(self.step, object, refusal.syscall, refusal.errno).with_hint(hint)
    }
}

/// The size of the fixed header of a message of NETLINK_ROUTE, else of NETLINK_NETFILTER.
fn fixed_of(kind: u16) -> usize {
    const RTGENMSG: usize = 4;
    match kind & !3 {
        libc::RTM_NEWLINK | RTM_NEWLINKPROP => IFINFOMSG,
        libc::RTM_NEWADDR => 8,
        libc::RTM_NEWROUTE | libc::RTM_NEWNEIGH | libc::RTM_NEWRULE => 12,
        _ => RTGENMSG,
    }
}

/// The names of the attributes that are written here; numbers for what is inside them.
fn name_of(kind: u16, path: &[u16]) -> String {
    let names: &[(u16, &str)] = match kind & !3 {
        libc::RTM_NEWLINK | RTM_NEWLINKPROP => &[
            (libc::IFLA_ADDRESS, "IFLA_ADDRESS"),
            (libc::IFLA_IFNAME, "IFLA_IFNAME"),
            (libc::IFLA_MTU, "IFLA_MTU"),
            (libc::IFLA_TXQLEN, "IFLA_TXQLEN"),
            (libc::IFLA_IFALIAS, "IFLA_IFALIAS"),
            (libc::IFLA_GROUP, "IFLA_GROUP"),
            (libc::IFLA_LINK, "IFLA_LINK"),
            (libc::IFLA_MASTER, "IFLA_MASTER"),
            (libc::IFLA_LINKINFO, "IFLA_LINKINFO"),
            (libc::IFLA_NET_NS_FD, "IFLA_NET_NS_FD"),
            (libc::IFLA_AF_SPEC, "IFLA_AF_SPEC"),
            (IFLA_PROP_LIST, "IFLA_PROP_LIST"),
        ],
        libc::RTM_NEWADDR => &[
            (libc::IFA_ADDRESS, "IFA_ADDRESS"),
            (libc::IFA_LOCAL, "IFA_LOCAL"),
            (libc::IFA_BROADCAST, "IFA_BROADCAST"),
        ],
        libc::RTM_NEWROUTE => &[
            (libc::RTA_DST, "RTA_DST"),
            (libc::RTA_OIF, "RTA_OIF"),
            (libc::RTA_GATEWAY, "RTA_GATEWAY"),
            (libc::RTA_PREFSRC, "RTA_PREFSRC"),
            (libc::RTA_TABLE, "RTA_TABLE"),
            (RTA_VIA, "RTA_VIA"),
            (libc::RTA_MULTIPATH, "RTA_MULTIPATH"),
        ],
        _ => &[],
    };
    let mut text = String::new();
    for (depth, number) in path.iter().enumerate() {
        let name = names.iter().find(|(known, _)| known == number);
        match name.filter(|_| depth == 0) {
            Some((_, name)) => text += name,
            None if depth == 0 => text += &number.to_string(),
            None => text += &format!(".{number}"),
        }
    }
    text
}
