//! What an uplink is to be.

use super::Uplink;
use super::helper::{Helper, Namespaces};
use crate::error::{Error, Result};
use crate::net::ip::IpNet;
use crate::net::link::name_flaw;
use crate::ns::{Namespace, Net, User};
use crate::sandbox::command::SETUP_TIMEOUT;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

/// The number of an address in the uplink's network, as slirp4netns fixes it.
const GATEWAY: u128 = 2;
const NAMESERVER: u128 = 3;
const INSIDE: u128 = 100;

const SLIRP4NETNS_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);

/// What each IPv4 and each IPv6 host must take at least.
const MIN_MTU: u32 = 68;
const MIN_MTU_IPV6: u32 = 1280;
/// What both helpers take.
const MAX_MTU: u32 = 65_520;

/// What an [`Uplink`] is to be.
///
/// # Examples
/// ```
/// use ringfence::net::Uplink;
///
/// let uplink = Uplink::slirp4netns().net("10.7.0.0/24".parse()?).mtu(1500);
/// assert_eq!(uplink.gateway().map(|it| it.to_string()).as_deref(), Some("10.7.0.2"));
/// assert_eq!(uplink.resolv_conf(), "nameserver 10.7.0.3\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is connected until it is attached"]
pub struct UplinkBuilder {
    pub(super) helper: Helper,
    program: Option<OsString>,
    pub(super) interface: String,
    pub(super) net: IpNet,
    pub(super) mtu: u32,
    pub(super) ipv6: bool,
    pub(super) host_loopback: bool,
    pub(super) published: Vec<Published>,
    pub(super) setup_timeout: Duration,
}

/// A port of the outside that leads to one inside.
#[derive(Clone, Debug)]
pub(super) struct Published {
    /// `tcp` or `udp`.
    pub(super) protocol: &'static str,
    pub(super) outside: SocketAddrV4,
    pub(super) inside: u16,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, outside, inside) = (self.protocol, self.outside, self.inside);
        write!(f, "{protocol} {outside} to port {inside}")
    }
}

impl UplinkBuilder {
    pub(super) fn new(helper: Helper) -> Self {
        Self {
            helper,
            program: None,
            interface: "tap0".to_owned(),
            net: IpNet::v4([10, 0, 2, 0], 24),
            mtu: MAX_MTU,
            ipv6: false,
            host_loopback: false,
            published: Vec::new(),
            setup_timeout: SETUP_TIMEOUT,
        }
    }

    /// The helper's program: a path, or a name that is looked up along the caller's `PATH`, as `slirp4netns` and
    /// `pasta` are if not set. A file of another name than `pasta` is not taken for it by itself.
    pub fn program(mut self, program: impl Into<OsString>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// The [gateway](Self::gateway)'s address inside leads to 127.0.0.1 outside: **every service that listens there,
    /// in the belief that only this machine's own programs can connect, is open to what is inside.**
    pub fn host_loopback(mut self) -> Self {
        self.host_loopback = true;
        self
    }

    /// The name of the interface inside, `tap0` if not set.
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.interface = name.into();
        self
    }

    /// The IPv4 network of the interface, of at least 128 addresses; 10.0.2.0/24 if not set. What is outside under
    /// these addresses cannot be reached.
    pub fn net(mut self, net: IpNet) -> Self {
        self.net = net.network();
        self
    }

    /// The largest packet of the interface, in bytes; 65520 if not set, which is also the most. Large ones are what
    /// makes helpers fast.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// IPv6, too: by slirp4netns in the network `fd00::/64`, by pasta with the addresses and routes of the outside. The
    /// kernel uses an address of it a second or two later, when it has asked whether somebody else has it.
    pub fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// A TCP port of the outside leads to a port inside, where a program listens on all addresses. With `0.0.0.0` all
    /// addresses of the outside have it.
    ///
    /// Of a [`Network`](crate::net::Network) that is the namespace of the bridge, whose
    /// [`publish`](crate::net::Network::publish) leads on to a member.
    pub fn publish_tcp(self, outside: SocketAddrV4, inside: u16) -> Self {
        self.publish("tcp", outside, inside)
    }

    /// A UDP port, as [`publish_tcp`](Self::publish_tcp). slirp4netns lets no answer to the outside's loopback
    /// addresses unless [`host_loopback`](Self::host_loopback) is set.
    pub fn publish_udp(self, outside: SocketAddrV4, inside: u16) -> Self {
        self.publish("udp", outside, inside)
    }

    fn publish(mut self, protocol: &'static str, outside: SocketAddrV4, inside: u16) -> Self {
        self.published.push(Published {
            protocol,
            outside,
            inside,
        });
        self
    }

    /// How long the helper may take to be ready, ten seconds if not set.
    pub fn setup_timeout(mut self, limit: Duration) -> Self {
        self.setup_timeout = limit;
        self
    }

    /// The address of the interface, number 100 of its network. `None` if the network is not one that the helpers
    /// take.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.nth(INSIDE)
    }

    /// The address that the default route leads to, number 2 of the network; with
    /// [`host_loopback`](Self::host_loopback) it stands for the outside's 127.0.0.1.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        self.nth(GATEWAY)
    }

    /// The address at which the outside's name server answers, number 3 of the network.
    #[must_use]
    pub fn nameserver(&self) -> Option<IpAddr> {
        self.nth(NAMESERVER)
    }

    /// The text of resolv.conf(5) for what is inside, to be bound at `/etc/resolv.conf` by
    /// [`Sandbox::bind_data`](crate::Sandbox::bind_data).
    #[must_use]
    pub fn resolv_conf(&self) -> String {
        let nameserver = self.nameserver();
        nameserver.map_or_else(String::new, |address| format!("nameserver {address}\n"))
    }

    /// Starts the helper, and returns when the interface of the namespace is up, as is its `lo`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a name, network or size that no interface or
    /// helper takes; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the helper is not installed;
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) if it is not ready in time. If it ends instead, the error says
    /// what it has written: such as that there is an interface of that name, or that it may not open `/dev/net/tun`.
    /// `EPERM` for a namespace of a user namespace that is not the caller's or within it. As with
    /// [`Sandbox::init`](crate::Sandbox::init), the caller's `/proc` has to show the caller's pids. Nothing stays behind.
    pub fn attach(&self, namespace: &Namespace<Net>) -> Result<Uplink> {
        self.check()?;
        let owner = namespace.user_namespace()?;
        let is_own = owner == Namespace::<User>::current()?;
        let namespaces = Namespaces {
            net: namespace.try_clone()?.into(),
            user: (!is_own).then(|| owner.into()),
        };
        self.helper.start(self, namespaces)
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Some(flaw) = name_flaw(&self.interface) {
            let what = format!("{:?} {flaw}", self.interface);
            return Err(Error::invalid("interface", what));
        }
        let smallest = if self.ipv6 { MIN_MTU_IPV6 } else { MIN_MTU };
        if !(smallest..=MAX_MTU).contains(&self.mtu) {
            let what = format!("{} is not between {smallest} and {MAX_MTU}", self.mtu);
            return Err(Error::invalid("mtu", what));
        }
        if !self.net.address().is_ipv4() || !(1..=25).contains(&self.net.prefix()) {
            let what = format!("{} is no IPv4 network of 128 addresses or more", self.net);
            return Err(Error::invalid("net", what));
        }
        let is_0 = |port: &&Published| port.outside.port() == 0 || port.inside == 0;
        match self.published.iter().find(is_0) {
            Some(port) => {
                let setter = match port.protocol {
                    "tcp" => "publish_tcp",
                    _ => "publish_udp",
                };
                Err(Error::invalid(setter, format!("0 is no port: {port}")))
            }
            None => Ok(()),
        }
    }

    /// The networks that are known to be inside before the helper is there.
    pub(in crate::net) fn nets(&self) -> impl Iterator<Item = IpNet> {
        let is_fixed = self.ipv6 && self.helper == Helper::Slirp4netns;
        let ipv6 = is_fixed.then(|| IpNet::new(SLIRP4NETNS_IPV6, 64)).flatten();
        [self.net].into_iter().chain(ipv6)
    }

    pub(super) fn program_or_default(&self) -> &OsStr {
        let default = || OsStr::new(self.helper.name());
        self.program.as_deref().unwrap_or_else(default)
    }

    fn nth(&self, number: u128) -> Option<IpAddr> {
        self.net.nth(number).filter(|_| self.check().is_ok())
    }
}
