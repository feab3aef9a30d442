//! Networks whose owner was killed.

use super::hosts::Abandoned;
use super::{Network, group, table_name};
use crate::error::{ErrorKind, Result};
use crate::net::link::LinkInfo;
use crate::net::netlink::Netlink;
use crate::net::nft::Nft;

impl Network {
    /// Removes the networks of the caller's user that nobody has any more, from the namespace of the calling thread: their
    /// owner has ended without dropping them, as by `SIGKILL`. Returns the names of their bridges. What is still
    /// connected to them is cut off. Of those in [a namespace of their own](super::NetworkBuilder::own_namespace), which
    /// goes with its owner, it removes the [hosts file](Self::hosts_path) that is left.
    ///
    /// A network that has an owner is never removed: he holds a lock (flock(2)) on its hosts file. Those whose hosts file is not
    /// in the caller's directory for temporary files (`TMPDIR`), or whose bridge has been given another hardware
    /// address, are not found.
    ///
    /// # Errors
    /// Those of [`Netlink::delete_group`] and [`Nft::remove`].
    pub fn remove_abandoned() -> Result<Vec<String>> {
        let netlink = Netlink::current()?;
        let mut removed = Vec::new();
        for abandoned in Abandoned::all()? {
            match bridge_of(&abandoned, &netlink)? {
                Some(bridge) => {
                    match bridge.group == group(bridge.index) {
                        true => netlink.delete_group(bridge.group)?,
                        // It was killed before it had a member.
                        false => netlink.delete_link(bridge.index)?,
                    }
                    remove_table(bridge.index)?;
                    removed.push(bridge.name);
                }
                // It may be in another namespace.
                None if abandoned.mac.is_some() => continue,
                None => {}
            }
            abandoned.remove();
        }
        Ok(removed)
    }
}

/// The one that was made with the file: no other has the hardware address.
fn bridge_of(abandoned: &Abandoned, netlink: &Netlink) -> Result<Option<LinkInfo>> {
    let Some(mac) = abandoned.mac else {
        return Ok(None);
    };
    match netlink.link(&*abandoned.bridge) {
        Ok(link) => Ok((link.mac == Some(mac)).then_some(link)),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove_table(index: u32) -> Result<()> {
    let removed = Nft::current().and_then(|nft| nft.remove(&table_name(index)));
    match removed {
        // There is none where the kernel cannot have any.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {
            Ok(())
        }
        other => other,
    }
}
