//! What becomes of interfaces, addresses and routes.

use super::address::Address;
use super::entry::Entry;
use super::link::{IFINFOMSG, LinkInfo};
use super::route::Route;
use super::told::Teller;
use super::wire::{Messages, Received};
use crate::error::{Error, Result, Step};
use crate::ns::{Namespace, Net};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Larger than what the kernel says of one interface with some hundred virtual functions.
const BUFFER: usize = 64 << 10;

// Groups of <linux/rtnetlink.h>, as bits.
const RTMGRP_LINK: u32 = 1;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV4_ROUTE: u32 = 0x40;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;
const RTMGRP_IPV6_ROUTE: u32 = 0x400;

/// What a [`Monitor`] tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it")]
pub enum Watch {
    Links,
    Addresses,
    Routes,
}

impl Watch {
    fn groups(self) -> u32 {
        match self {
            Self::Links => RTMGRP_LINK,
            Self::Addresses => RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
            Self::Routes => RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
        }
    }
}

/// What has become of something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It was made, or is now so.
    Link(LinkInfo),
    /// It is gone, or has been moved away.
    LinkDeleted(LinkInfo),
    /// It was added, or is now so: the kernel has asked for it, and it can be used.
    Address(Address),
    /// It is gone.
    AddressDeleted(Address),
    /// It was added, or is now so. Routes that go with their interface are not told as gone, but for IPv6.
    Route(Route),
    /// It is gone.
    RouteDeleted(Route),
    /// There was more than the kernel keeps, and some of it is lost: what there is has to be listed.
    Lost,
}

/// Tells what becomes of the interfaces, addresses and routes of one network namespace.
///
/// It ends when it is dropped. To wait for something else as well, poll its descriptor, which is readable when there is
/// something to tell, and take that by [`try_next`](Self::try_next).
///
/// # Examples
/// ```no_run
/// use ringfence::net::{Event, Monitor, Netlink, Watch};
/// use ringfence::ns::{Namespace, Net};
///
/// # fn main() -> ringfence::Result<()> {
/// let namespace = Namespace::<Net>::create()?;
/// // First, so that none is missed between the two.
/// let mut monitor = Monitor::open(&namespace, &[Watch::Links])?;
/// let links = Netlink::open(&namespace)?.links()?;
/// println!("{} interfaces", links.len());
/// loop {
///     match monitor.wait()? {
///         Event::Link(link) => println!("{} has a carrier: {}", link.name, link.carrier),
///         Event::LinkDeleted(link) => println!("{} is gone", link.name),
///         Event::Lost => println!("something else"),
///         _ => {}
///     }
/// }
/// # }
/// ```
///
/// See [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html), and `ip monitor`.
#[derive(Debug)]
#[doc(alias = "ip monitor")]
#[doc(alias = "RTMGRP_LINK")]
pub struct Monitor {
    fd: OwnedFd,
    buffer: Vec<u8>,
    /// What was read and not yet told.
    events: VecDeque<Event>,
}

impl Monitor {
    /// Of this namespace, from now on.
    ///
    /// # Errors
    /// Those of [`Namespace::socket`].
    ///
    /// # Privileges
    /// Those of [`Namespace::run_in`].
    pub fn open(namespace: &Namespace<Net>, what: &[Watch]) -> Result<Self> {
        namespace.run_in(|| Self::current(what))?
    }

    /// Of the namespace that the calling thread is in, from now on.
    ///
    /// # Errors
    /// When there are too many descriptors, or a filter forbids such sockets.
    pub fn current(what: &[Watch]) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // The protocol 0 is NETLINK_ROUTE.
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None);
        let fd = fd.map_err(failed("socket"))?;
        let groups = what.iter().fold(0, |all, one| all | one.groups());
        bind(&fd, &SocketAddrNetlink::new(0, groups)).map_err(failed("bind"))?;
        Ok(Self {
            fd,
            buffer: vec![0; BUFFER],
            events: VecDeque::new(),
        })
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// What the kernel gives.
    pub fn wait(&mut self) -> Result<Event> {
        self.take()
    }

    /// Waits for the next event, but no longer than this; `None` if there is none.
    ///
    /// # Errors
    /// What the kernel gives.
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Option<Event>> {
        self.take_until(Instant::now().checked_add(limit))
    }

    /// The next event if there is one.
    ///
    /// # Errors
    /// What the kernel gives.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        while self.events.is_empty() && self.read()? {}
        Ok(self.events.pop_front())
    }

    /// One datagram, if there is one.
    fn read(&mut self) -> Result<bool> {
        let received = loop {
            match recvfrom(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        let (length, from) = match received {
            Ok((_, length, from)) => (length, from),
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::NOBUFS) => {
                self.events.push_back(Event::Lost);
                return Ok(true);
            }
            Err(errno) => return Err(failed("recvfrom")(errno)),
        };
        // Whoever may change the namespace may send to its groups, too.
        let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
        let is_of_kernel = from.is_some_and(|from| from.pid() == 0);
        match self.buffer.get(..length) {
            _ if !is_of_kernel => {}
            Some(datagram) => self.events.extend(Messages(datagram).filter_map(event)),
            None => self.events.push_back(Event::Lost),
        }
        Ok(true)
    }
}

impl Teller for Monitor {
    type Event = Event;

    fn try_take(&mut self) -> Result<Option<Event>> {
        self.try_next()
    }

    fn failed(call: &'static str, errno: Errno) -> Error {
        failed(call)(errno)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn event(message: Received<'_>) -> Option<Event> {
    let link = || {
        // Of the same group are those of bridges about their ports, which come and go without their interfaces.
        let (fixed, _) = message.split(IFINFOMSG)?;
        let kind = libc::RTM_NEWLINK;
        let is_link = fixed.first() == Some(&0);
        is_link.then(|| LinkInfo::parse(&Received { kind, ..message }))?
    };
    match message.kind {
        libc::RTM_NEWLINK => link().map(Event::Link),
        libc::RTM_DELLINK => link().map(Event::LinkDeleted),
        libc::RTM_NEWADDR => Address::parse(&message).map(Event::Address),
        libc::RTM_DELADDR => Address::parse(&message).map(Event::AddressDeleted),
        libc::RTM_NEWROUTE => Route::parse(&message).map(Event::Route),
        libc::RTM_DELROUTE => Route::parse(&message).map(Event::RouteDeleted),
        _ => None,
    }
}

fn failed(syscall: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::system(Step::Netlink, "a socket of events", syscall, errno)
}
