//! Interfaces whose packets a program reads and writes.

use super::check_name;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Namespace, Net};
use crate::sys::netlink::{TunSetting, tun_set, tun_set_iff};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const DEVICE: &str = "/dev/net/tun";

/// An interface whose packets are read from, and written to, a descriptor, to be [opened](Self::open).
///
/// # Examples
/// ```no_run
/// use ringfence::net::{LinkChange, Netlink, TunTap};
/// use ringfence::ns::{Namespace, Net};
///
/// # fn main() -> ringfence::Result<()> {
/// let net = Namespace::<Net>::create()?;
/// let device = TunTap::tap("tap0").open(&net)?;
/// Netlink::open(&net)?.set(LinkChange::of(device.name()).up())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is made until it is opened"]
pub struct TunTap {
    name: String,
    flags: i32,
    owner: Option<u32>,
    group: Option<u32>,
    persist: bool,
}

impl TunTap {
    /// With IP packets.
    #[doc(alias = "IFF_TUN")]
    pub fn tun(name: impl Into<String>) -> Self {
        Self::new(name, libc::IFF_TUN)
    }

    /// With Ethernet frames.
    #[doc(alias = "IFF_TAP")]
    pub fn tap(name: impl Into<String>) -> Self {
        Self::new(name, libc::IFF_TAP)
    }

    fn new(name: impl Into<String>, flags: i32) -> Self {
        Self {
            name: name.into(),
            flags: flags | libc::IFF_NO_PI,
            owner: None,
            group: None,
            persist: false,
        }
    }

    /// The interface stays when its descriptor is closed. Opened again under the same name, it is the same.
    #[doc(alias = "TUNSETPERSIST")]
    pub fn persist(mut self) -> Self {
        self.persist = true;
        self
    }

    /// The user who may open one that [persists](Self::persist) without `CAP_NET_ADMIN`. If neither this nor a
    /// [`group`](Self::group) is set, everybody may who may open `/dev/net/tun`.
    #[doc(alias = "TUNSETOWNER")]
    pub fn owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// The group whose members may open one that [persists](Self::persist); with an [`owner`](Self::owner), that user has to
    /// be a member.
    #[doc(alias = "TUNSETGROUP")]
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Each packet has a `struct virtio_net_hdr` before it, of ten bytes, which says what a checksum or a segmentation is
    /// left to do, as monitors of virtual machines want it.
    #[doc(alias = "IFF_VNET_HDR")]
    pub fn vnet_hdr(mut self) -> Self {
        self.flags |= libc::IFF_VNET_HDR;
        self
    }

    /// It can be opened many times, always with this, and each descriptor is a queue of its own.
    #[doc(alias = "IFF_MULTI_QUEUE")]
    pub fn multi_queue(mut self) -> Self {
        self.flags |= libc::IFF_MULTI_QUEUE;
        self
    }

    /// Makes the interface in a namespace, or opens one that [persists](Self::persist) and nobody else has
    /// open, or that has [many queues](Self::multi_queue). It is down. Each read(2) gives one packet and each write(2) sends
    /// one, with no header before it but the [one that is asked for](Self::vnet_hdr).
    ///
    /// # Errors
    /// `EBUSY` if it is open already; `EINVAL` if there is an interface of that name that is something else, or has one queue
    /// where many are asked for or the reverse, or if the user namespace has no such owner or group;
    /// [`ErrorKind::Unsupported`] if the kernel has no such interfaces.
    ///
    /// # Privileges
    /// Those of [`Namespace::run_in`].
    pub fn open(&self, namespace: &Namespace<Net>) -> Result<TunDevice> {
        check_name(&self.name)?;
        let object = format!("open {} in {namespace}", self.name);
        let failed = |call| {
            let object = &object;
            move |errno| Error::system(Step::Link, object, call, errno)
        };
        let mut name = [0; 16];
        name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        let fd = namespace.run_in(|| {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            let fd = rustix::fs::open(DEVICE, flags, Mode::empty())
                .map_err(|errno| hint(failed("open")(errno), errno))?;
            tun_set_iff(fd.as_fd(), &mut name, self.flags).map_err(failed("ioctl(TUNSETIFF)"))?;
            for setting in self.settings() {
                tun_set(fd.as_fd(), setting).map_err(failed(setting.name()))?;
            }
            Ok::<_, Error>(fd)
        })??;
        Ok(TunDevice {
            fd,
            name: self.name.clone(),
        })
    }

    /// The last is what makes it stay.
    fn settings(&self) -> impl Iterator<Item = TunSetting> {
        let owner = self.owner.map(TunSetting::Owner);
        let group = self.group.map(TunSetting::Group);
        let persist = self.persist.then_some(TunSetting::Persist);
        owner.into_iter().chain(group).chain(persist)
    }
}

fn hint(error: Error, errno: Errno) -> Error {
    match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => error
            .with_kind(ErrorKind::Unsupported)
            .with_hint(Some(format!("there is no {DEVICE}: see modprobe tun"))),
        _ => error,
    }
}

/// An open [`TunTap`]. The interface goes when this is dropped, unless it [persists](TunTap::persist).
#[derive(Debug)]
pub struct TunDevice {
    fd: OwnedFd,
    name: String,
}

impl TunDevice {
    /// The name of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl AsFd for TunDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<TunDevice> for OwnedFd {
    fn from(device: TunDevice) -> Self {
        device.fd
    }
}
