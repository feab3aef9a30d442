//! Interfaces whose packets a program reads and writes.

use super::check_name;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Namespace, Net};
use crate::sys::netlink::{tun_set_iff, tun_set_persist};
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
            persist: false,
        }
    }

    /// The interface stays when its descriptor is closed. Opened again under the same name, it is the same.
    #[doc(alias = "TUNSETPERSIST")]
    pub fn persist(mut self) -> Self {
        self.persist = true;
        self
    }

    /// Makes the interface in a namespace, or opens one that [persists](Self::persist) and nobody else has
    /// open. It is down. Each read(2) gives one packet and each write(2) sends one, with no header before it.
    ///
    /// # Errors
    /// `EBUSY` if it is open already; `EINVAL` if there is an interface of that name that is something else;
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
            if self.persist {
                tun_set_persist(fd.as_fd()).map_err(failed("ioctl(TUNSETPERSIST)"))?;
            }
            Ok::<_, Error>(fd)
        })??;
        Ok(TunDevice {
            fd,
            name: self.name.clone(),
        })
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
