//! The way of a network namespace to the outside, by a program in user space.

mod api;
mod builder;
mod helper;
mod pasta;
mod ready;
mod slirp4netns;

pub use builder::UplinkBuilder;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Namespace, Net};
use crate::process::Child;
use crate::sandbox::Sandbox;
use crate::sandbox::attach::{Attach, Attached};
use helper::Helper;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The way of a network namespace to what its maker reaches, without any privilege over the network: a helper,
/// slirp4netns(1) or pasta(1), holds the other end of an interface inside, and does with sockets of its own what comes
/// through it.
///
/// Inside there are, with either helper, an interface `tap0` of address 10.0.2.100, a default route to 10.0.2.2, and a
/// forwarder to the outside's name server at 10.0.2.3: see [`UplinkBuilder`] for what can be chosen.
///
/// The outside is the network namespace of the thread that starts it. All that can be reached from there can be
/// reached from inside, the services of the machine's own addresses among it; only loopback addresses cannot, unless
/// [`host_loopback`](UplinkBuilder::host_loopback) says so. Nobody outside reaches in but by
/// [published ports](UplinkBuilder::publish_tcp).
///
/// When this is dropped, the helper is killed and reaped, and the interface goes with it. When the caller ends,
/// however that happens, the helper does as well. It keeps the namespace alive.
///
/// # Privileges
/// None but over the namespace: that of root in the user namespace that owns it, as its maker has. The caller may open
/// `/dev/net/tun`.
///
/// # Examples
/// A program that reaches the Internet, started by any user:
/// ```no_run
/// use ringfence::net::Uplink;
/// use ringfence::{IdMap, Sandbox};
///
/// # fn main() -> ringfence::Result<()> {
/// let uplink = Uplink::installed()?;
/// Sandbox::new()
///     .user()
///     .user_map(IdMap::root())
///     .net()
///     .mount()
///     .bind_data(uplink.resolv_conf(), "/etc/resolv.conf", 0o644, ringfence::Bind::new())
///     .uplink(&uplink)
///     .command("curl")
///     .arg("https://example.org")
///     .status()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the helper is ended when this is dropped"]
pub struct Uplink {
    helper: Child,
    /// Held, for writing to a pipe that nobody could read would end the helper.
    _stderr: File,
    /// The helper ends when nobody holds this.
    _exit: Option<OwnedFd>,
    builder: UplinkBuilder,
}

impl Uplink {
    /// By slirp4netns(1), of version 0.4 or later.
    pub fn slirp4netns() -> UplinkBuilder {
        UplinkBuilder::new(Helper::Slirp4netns)
    }

    /// By pasta(1), which is a name of passt(1), of September 2022 or later.
    ///
    /// It takes the outside's default route for its model. Where there is none, new versions have addresses of their
    /// own inside, below 169.254.0.0/16, in the place of those that the builder says, and old ones give up.
    pub fn pasta() -> UplinkBuilder {
        UplinkBuilder::new(Helper::Pasta)
    }

    /// By the helper that is installed: slirp4netns if both are, since it is told of its end by a descriptor
    /// besides, where pasta has signals alone. pasta carries more.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is neither in the search path, with their Debian packages as the hint.
    pub fn installed() -> Result<UplinkBuilder> {
        let found = [Helper::Slirp4netns, Helper::Pasta]
            .into_iter()
            .find(|helper| helper.is_installed());
        found.map(UplinkBuilder::new).ok_or_else(|| {
            let what = "neither slirp4netns nor pasta is in the search path";
            Error::other(ErrorKind::NotFound, Step::Uplink, what).with_hint(Some(
                "they are in the Debian packages slirp4netns and passt".into(),
            ))
        })
    }

    /// What it was made by.
    pub fn builder(&self) -> &UplinkBuilder {
        &self.builder
    }
}

impl AsFd for Uplink {
    /// A pidfd: readable when the helper has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.helper.as_fd()
    }
}

impl Attach for UplinkBuilder {
    fn attach(self: Arc<Self>, child: &Child, _: Option<&str>) -> Result<Attached> {
        let namespace = Namespace::<Net>::of_pidfd(child)?;
        Ok(Box::new(UplinkBuilder::attach(&self, &namespace)?))
    }

    fn label(&self) -> String {
        format!("connected to the outside by {}", self.helper.name())
    }

    fn setter(&self) -> &'static str {
        "uplink"
    }

    fn interface(&self) -> &str {
        &self.interface
    }

    fn has_default_route(&self) -> bool {
        true
    }

    fn check(&self) -> Result<()> {
        UplinkBuilder::check(self)
    }
}

impl Sandbox {
    /// Connects the sandbox to what the caller reaches, before its program starts: the program is held at the
    /// [gate](crate::Command::gate) until the interface is up. Needs [`net`](Self::net). The helper runs as long as
    /// the program's [`Child`] exists.
    ///
    /// # Errors
    /// [`compile`](crate::Command::compile) refuses it together with a [`network`](Self::network) that has the default
    /// route: [`NetworkBuilder::uplink`](crate::net::NetworkBuilder::uplink) is for that.
    /// [`Plan::spawn`](crate::Plan::spawn) has those of [`UplinkBuilder::attach`]. The program is then not started.
    pub fn uplink(mut self, uplink: &UplinkBuilder) -> Self {
        self.attach.push(Arc::new(uplink.clone()));
        self
    }
}
