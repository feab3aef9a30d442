//! Waiting until what has been set can be used.
//!
//! The kernel finishes some things in the background: until it has noticed that there is a carrier, an interface drops
//! what it is to send, and an IPv6 address gets no answers before it has its route.

use super::address::Address;
use super::link::{LinkInfo, LinkRef, OperState};
use super::monitor::{Monitor, Watch};
use super::netlink::Netlink;
use super::route::RouteKind;
use super::told::Teller;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Namespace, Net};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Looks again whenever there is something new of what is watched, until there is a result or the time is up.
fn until<T>(
    namespace: &Namespace<Net>,
    watch: Watch,
    deadline: Option<Instant>,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    if let Some(found) = look()? {
        return Ok(Some(found));
    }
    let mut monitor = Monitor::open(namespace, &[watch])?;
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if monitor.take_until(deadline)?.is_none() {
            return Ok(None);
        }
    }
}

fn late(step: Step, what: String) -> Error {
    Error::other(ErrorKind::TimedOut, step, what)
}

/// Whether it sends what it is given. Since Linux 6.8 the kernel finishes what is to be done for that before it
/// answers; before, the state of those that get and lose their carrier by software tells.
fn sends(link: &LinkInfo) -> bool {
    let changes_by_software = matches!(link.kind.as_deref(), Some("veth" | "bridge"));
    let is_noticed = match link.operstate {
        OperState::Up => true,
        OperState::Unknown => !changes_by_software,
        _ => false,
    };
    link.carrier && is_noticed
}

fn until_link(
    netlink: &Netlink,
    namespace: &Namespace<Net>,
    link: &LinkRef,
    deadline: Option<Instant>,
    is_ready: impl Fn(&LinkInfo) -> bool,
) -> Result<LinkInfo> {
    let ready = until(namespace, Watch::Links, deadline, || {
        let found = netlink.link_uncounted(link)?;
        Ok(is_ready(&found).then_some(found))
    })?;
    let no_carrier = || late(Step::Link, format!("{link} in {namespace} has no carrier"));
    ready.ok_or_else(no_carrier)
}

/// Waits until an interface can send: it is up, has a carrier, and the kernel has noticed. Until then it drops what it
/// is given, which for the first packet is a lost second: it is sent again after that.
///
/// A veth has a carrier when both of its ends are up, and it is the end that came up first that is late, for
/// microseconds, or for much longer if the kernel has network namespaces to take down.
///
/// # Errors
/// [`ErrorKind::TimedOut`] if it takes longer than the limit, and those of [`Monitor::open`] and [`Netlink::link`].
///
/// # Privileges
/// Those of [`Namespace::run_in`].
///
/// # Kernel
/// Since Linux 6.8 the kernel does what is left to do when it is asked for the interface. Before, what it tells of changes is
/// waited for.
///
/// # Examples
/// ```no_run
/// use ringfence::net::{Link, LinkChange, Netlink, Peer, wait_for_link};
/// use ringfence::ns::{Namespace, Net};
/// use std::time::Duration;
///
/// # fn main() -> ringfence::Result<()> {
/// let (host, inside) = (Namespace::<Net>::current()?, Namespace::<Net>::create()?);
/// Netlink::open(&host)?.add(Link::veth("v0", Peer::new("eth0").namespace(&inside)).up())?;
/// Netlink::open(&inside)?.set(LinkChange::of("eth0").up())?;
/// wait_for_link(&host, "v0", Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "IF_OPER_UP")]
pub fn wait_for_link(
    namespace: &Namespace<Net>,
    link: impl Into<LinkRef>,
    limit: Duration,
) -> Result<LinkInfo> {
    let deadline = Instant::now().checked_add(limit);
    let netlink = Netlink::open(namespace)?;
    until_link(&netlink, namespace, &link.into(), deadline, sends)
}

/// [`wait_for_link`], but one that somebody has brought down is not waited for. Whether it sends.
pub(super) fn until_sends_or_is_down(
    netlink: &Netlink,
    namespace: &Namespace<Net>,
    link: &LinkRef,
    deadline: Option<Instant>,
) -> Result<bool> {
    let is_ready = |link: &LinkInfo| !link.up || sends(link);
    until_link(netlink, namespace, link, deadline, is_ready).map(|link| link.up)
}

/// Waits until packets to an address of the namespace's own are taken in.
pub(super) fn until_local(
    netlink: &Netlink,
    namespace: &Namespace<Net>,
    address: IpAddr,
    deadline: Option<Instant>,
) -> Result<()> {
    let is_local = until(namespace, Watch::Routes, deadline, || {
        match netlink.route_to(address) {
            Ok(route) => Ok((route.kind == RouteKind::Local).then_some(())),
            Err(error) if error.raw_os_error() == Some(libc::ENETUNREACH) => Ok(None),
            Err(error) => Err(error),
        }
    })?;
    let unused = || {
        let what = format!("{address} in {namespace} cannot be used yet");
        late(Step::Address, what)
    };
    is_local.ok_or_else(unused)
}

/// Waits until no address of an interface is [tentative](Address::tentative) any more, and returns all that it has. The
/// kernel asks for each new IPv6 address whether somebody has it, unless it is [`nodad`](Address::nodad); one that
/// somebody has is [`dad_failed`](Address::dad_failed).
///
/// This takes a second or two from when the interface is up and has a carrier; until then nobody is asked.
///
/// # Errors
/// [`ErrorKind::TimedOut`] if it takes longer than the limit, and those of [`Monitor::open`] and [`Netlink::link`].
///
/// # Privileges
/// Those of [`Namespace::run_in`].
///
/// # Examples
/// ```no_run
/// use ringfence::net::{Address, IpNet, Netlink, wait_for_addresses};
/// use ringfence::ns::{Namespace, Net};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let namespace = Namespace::<Net>::current()?;
/// Netlink::open(&namespace)?.add(Address::new("eth0", "fd00:9::1/64".parse::<IpNet>()?))?;
/// let all = wait_for_addresses(&namespace, "eth0", Duration::from_secs(5))?;
/// if all.iter().any(|address| address.dad_failed) {
///     return Err("somebody else has it".into());
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "DAD")]
pub fn wait_for_addresses(
    namespace: &Namespace<Net>,
    link: impl Into<LinkRef>,
    limit: Duration,
) -> Result<Vec<Address>> {
    let link = link.into();
    let deadline = Instant::now().checked_add(limit);
    let netlink = Netlink::open(namespace)?;
    let index = LinkRef::Index(netlink.link_uncounted(&link)?.index);
    let settled = until(namespace, Watch::Addresses, deadline, || {
        let mut all = netlink.addresses()?;
        all.retain(|address| address.link == index);
        let is_asked_for = |address: &Address| address.tentative && !address.dad_failed;
        Ok((!all.iter().any(is_asked_for)).then_some(all))
    })?;
    settled.ok_or_else(|| {
        let what = format!("addresses of {link} in {namespace} are still being asked for");
        late(Step::Address, what)
    })
}
