//! Addresses of interfaces.

use super::batch::Indexes;
use super::entry::Entry;
use super::ip::{IpNet, family, from_octets, put};
use super::link::LinkRef;
use super::wire::{Message, Received, array};
use crate::error::{Error, Result, Step};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

// <linux/if_addr.h>
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
/// `INFINITY_LIFE_TIME` of the kernel.
const FOREVER: u32 = u32::MAX;

/// How far an address or a route is of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope(pub u8);

impl Scope {
    /// Everywhere.
    pub const GLOBAL: Self = Self(libc::RT_SCOPE_UNIVERSE);
    /// Within the site, for IPv6.
    pub const SITE: Self = Self(libc::RT_SCOPE_SITE);
    /// On the link.
    pub const LINK: Self = Self(libc::RT_SCOPE_LINK);
    /// On this host.
    pub const HOST: Self = Self(libc::RT_SCOPE_HOST);
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::GLOBAL => f.write_str("global"),
            Self::SITE => f.write_str("site"),
            Self::LINK => f.write_str("link"),
            Self::HOST => f.write_str("host"),
            Self(other) => write!(f, "{other}"),
        }
    }
}

/// An address of an interface, to be added or as it is listed.
///
/// # Examples
/// ```no_run
/// use ringfence::net::{Address, IpNet, Netlink};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let netlink = Netlink::current()?;
/// netlink.add(Address::new("eth0", "10.9.0.1/24".parse::<IpNet>()?))?;
/// netlink.add(Address::new("eth0", "fd00:9::1/64".parse::<IpNet>()?).nodad())?;
/// # Ok(())
/// # }
/// ```
///
/// See [ip-address(8)](https://man7.org/linux/man-pages/man8/ip-address.8.html).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "nothing is added until it is given to a netlink socket"]
pub struct Address {
    /// The interface; by index where it is listed.
    pub link: LinkRef,
    /// The address, and the network that is on the link.
    pub net: IpNet,
    /// The other end of a point-to-point link.
    pub peer: Option<IpAddr>,
    /// The address of broadcasts, which the kernel does not need.
    pub broadcast: Option<Ipv4Addr>,
    /// How far it is of use. For IPv6 the kernel decides.
    pub scope: Scope,
    /// Whether an IPv6 address is used without asking first whether somebody else has it, which takes
    /// more than a second.
    pub nodad: bool,
    /// Whether there is no route to its network, which the kernel would make otherwise.
    pub noprefixroute: bool,
    /// How long it is there, in whole seconds; for ever, if not set. What is listed is the rest.
    pub valid: Option<Duration>,
    /// How long new connections begin from it, in whole seconds; as long as it is valid, if not set.
    pub preferred: Option<Duration>,
    /// Whether an IPv6 address cannot be used yet, as it is being asked for.
    pub tentative: bool,
    /// Whether an IPv6 address cannot be used at all, as somebody else has it.
    pub dad_failed: bool,
    /// Whether new connections do not begin from it any more.
    pub deprecated: bool,
}

impl Address {
    /// An address of global scope.
    pub fn new(link: impl Into<LinkRef>, net: impl Into<IpNet>) -> Self {
        Self {
            link: link.into(),
            net: net.into(),
            peer: None,
            broadcast: None,
            scope: Scope::GLOBAL,
            nodad: false,
            noprefixroute: false,
            valid: None,
            preferred: None,
            tentative: false,
            dad_failed: false,
            deprecated: false,
        }
    }

    /// The other end of a point-to-point link.
    pub fn peer(mut self, peer: impl Into<IpAddr>) -> Self {
        self.peer = Some(peer.into());
        self
    }

    /// The address of broadcasts, for IPv4.
    pub fn broadcast(mut self, broadcast: Ipv4Addr) -> Self {
        self.broadcast = Some(broadcast);
        self
    }

    /// How far it is of use.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Usable at once, for IPv6: nobody is asked whether he has it already.
    #[doc(alias = "IFA_F_NODAD")]
    pub fn nodad(mut self) -> Self {
        self.nodad = true;
        self
    }

    /// Without a route to its network, which the kernel would make otherwise.
    #[doc(alias = "IFA_F_NOPREFIXROUTE")]
    pub fn noprefixroute(mut self) -> Self {
        self.noprefixroute = true;
        self
    }

    /// How long it is there, in whole seconds, at least one.
    #[doc(alias = "valid_lft")]
    pub fn valid(mut self, time: Duration) -> Self {
        self.valid = Some(time);
        self
    }

    /// How long new connections begin from it, in whole seconds, of which there may be none; not longer than it is
    /// [valid](Self::valid).
    #[doc(alias = "preferred_lft")]
    pub fn preferred(mut self, time: Duration) -> Self {
        self.preferred = Some(time);
        self
    }

    /// The lifetimes in seconds, as the kernel has them: preferred and valid.
    fn lifetimes(&self) -> [u32; 2] {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(FOREVER);
        let valid = self.valid.map_or(FOREVER, seconds);
        [self.preferred.map_or(valid, seconds), valid]
    }

    fn check(&self) -> Result<()> {
        let address = self.net.address();
        let wrong_peer = self
            .peer
            .is_some_and(|peer| peer.is_ipv4() != address.is_ipv4());
        let what = match self.broadcast {
            _ if wrong_peer => "has a peer of the other family",
            Some(_) if address.is_ipv6() => "is of IPv6, which has no broadcasts",
            _ => match self.lifetimes() {
                [_, 0] => "is valid for less than a second",
                [preferred, valid] if preferred > valid => {
                    "is preferred for longer than it is valid"
                }
                _ => return Ok(()),
            },
        };
        Err(Error::invalid("address", format!("{} {what}", self.net)))
    }
}

impl Entry for Address {
    const STEP: Step = Step::Address;
    const NEW: u16 = libc::RTM_NEWADDR;
    const FIXED: usize = 8;

    fn message(&self, kind: u16, flags: u16, indexes: &mut Indexes<'_>) -> Result<Message> {
        self.check()?;
        let index = indexes.get(&self.link)?;
        let address = self.net.address();
        let mut fixed = [0; Self::FIXED];
        fixed[0] = family(&address);
        fixed[1] = self.net.prefix();
        fixed[3] = self.scope.0;
        fixed[4..].copy_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(kind, flags, &fixed);
        put(&mut message, libc::IFA_LOCAL, address);
        put(
            &mut message,
            libc::IFA_ADDRESS,
            self.peer.unwrap_or(address),
        );
        if let Some(broadcast) = self.broadcast {
            put(&mut message, libc::IFA_BROADCAST, broadcast.into());
        }
        let flags = [
            (self.nodad, libc::IFA_F_NODAD),
            (self.noprefixroute, IFA_F_NOPREFIXROUTE),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set);
        let flags = flags.fold(0, |all, (_, flag)| all | flag);
        if flags != 0 {
            message.u32(IFA_FLAGS, flags);
        }
        if kind == Self::NEW && self.lifetimes() != [FOREVER; 2] {
            let [preferred, valid] = self.lifetimes().map(u32::to_ne_bytes);
            let info = [preferred, valid, [0; 4], [0; 4]];
            message.bytes(IFA_CACHEINFO, info.as_flattened());
        }
        Ok(message)
    }

    fn parse(message: &Received<'_>) -> Option<Self> {
        let (fixed, attributes) = message.split(Self::FIXED)?;
        let (mut local, mut address, mut broadcast) = (None, None, None);
        let mut flags = u32::from(fixed[2]);
        let mut lifetimes = [None; 2];
        for attribute in attributes {
            match attribute.kind {
                libc::IFA_LOCAL => local = from_octets(attribute.value),
                libc::IFA_ADDRESS => address = from_octets(attribute.value),
                libc::IFA_BROADCAST => broadcast = from_octets(attribute.value),
                IFA_FLAGS => flags = attribute.u32()?,
                IFA_CACHEINFO => lifetimes = [0, 4].map(|at| lifetime(attribute.value, at)),
                _ => {}
            }
        }
        // With a peer, that is the address.
        let own = local.or(address)?;
        Some(Self {
            link: LinkRef::Index(u32::from_ne_bytes(array(fixed, 4)?)),
            net: IpNet::new(own, fixed[1])?,
            peer: address.filter(|address| *address != own),
            broadcast: match broadcast {
                Some(IpAddr::V4(broadcast)) => Some(broadcast),
                _ => None,
            },
            scope: Scope(fixed[3]),
            nodad: flags & libc::IFA_F_NODAD != 0,
            noprefixroute: flags & IFA_F_NOPREFIXROUTE != 0,
            preferred: lifetimes[0],
            valid: lifetimes[1],
            tentative: flags & libc::IFA_F_TENTATIVE != 0,
            dad_failed: flags & libc::IFA_F_DADFAILED != 0,
            deprecated: flags & libc::IFA_F_DEPRECATED != 0,
        })
    }

    fn describe(&self) -> String {
        format!("{} dev {}", self.net, self.link)
    }
}

/// A lifetime in the `struct ifa_cacheinfo`, unless it is for ever.
fn lifetime(value: &[u8], at: usize) -> Option<Duration> {
    let seconds = u32::from_ne_bytes(array(value, at)?);
    (seconds != FOREVER).then(|| Duration::from_secs(seconds.into()))
}
