//! Address translation and packet filters, by netlink to nf_tables; no `nft` program is needed.

mod expr;
mod forward;
mod publish;
mod published;
mod snat;
mod table;

pub use forward::Forward;
pub use publish::{Ports, Publish};
pub use snat::Snat;
pub use table::Table;

use super::fail::Deed;
use super::socket::{Refusal, Socket};
use super::wire::{Message, Received};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::ns::{Namespace, Net};
use published::Published;
use rustix::io::Errno;
use std::sync::{Mutex, MutexGuard, PoisonError};

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;

const TOO_LARGE: &str = "a table is one message, and without CAP_NET_ADMIN in the first user namespace net.core.wmem_max limits it: each published port takes about half a KiB";

// <linux/netfilter/nf_tables.h>, where the attributes of all messages begin with the name of the table.
const TABLE: u16 = 1;

fn message(kind: i32, flags: u16) -> Message {
    let kind = SUBSYSTEM << 8 | kind as u16;
    Message::new(kind, flags, &[INET, 0, 0, 0])
}

/// The beginning or the end of a transaction.
fn bound(kind: i32) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(kind as u16, 0, &[0, 0, high, low])
}

/// `NFTA_GEN_ID`.
const GENERATION: u16 = 1;
/// As often as a table is compared with what there is, if that changes meanwhile.
const ATTEMPTS: usize = 32;

/// A socket to the packet filter of one network namespace.
///
/// # Privileges
/// `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
///
/// # Kernel
/// nf_tables with `inet` tables and address translation: Linux 5.2, and the options or modules `nf_tables`,
/// `nft_chain_nat`, `nft_masq`, `nft_nat`, `nft_fib_inet`, `nft_ct`. Otherwise an error of [`ErrorKind::Unsupported`].
///
/// See [nft(8)](https://www.netfilter.org/projects/nftables/manpage.html).
#[derive(Debug)]
#[doc(alias = "NETLINK_NETFILTER")]
pub struct Nft {
    socket: Mutex<Socket>,
}

impl Nft {
    /// A socket of this namespace.
    ///
    /// # Errors
    /// Those of [`Namespace::socket`].
    ///
    /// # Privileges
    /// Those of [`Namespace::run_in`].
    pub fn open(namespace: &Namespace<Net>) -> Result<Self> {
        Self::of(Some(namespace))
    }

    /// A socket of the namespace that the calling thread is in.
    ///
    /// # Errors
    /// When there are too many descriptors, or a filter forbids such sockets.
    pub fn current() -> Result<Self> {
        Self::of(None)
    }

    fn of(namespace: Option<&Namespace<Net>>) -> Result<Self> {
        let open = || Socket::open(libc::NETLINK_NETFILTER);
        let socket = match namespace {
            Some(namespace) => namespace.run_in(open)?,
            None => open(),
        };
        let socket = socket.map_err(|error| {
            let missing = error.raw_os_error() == Some(libc::EPROTONOSUPPORT);
            match missing {
                true => lacking(error),
                false => error,
            }
        })?;
        Ok(Self {
            socket: Mutex::new(socket),
        })
    }

    /// Installs the table, in the place of one of the same name: from one packet to the next, and as a whole or
    /// not at all.
    ///
    /// # Errors
    /// What the kernel gives; [`ErrorKind::InvalidInput`] for what it could not express, and if a port is published
    /// twice, by this table or by another that was installed by this crate, whoever did. `EMSGSIZE` for some hundreds of
    /// published ports, or thousands of a range whose numbers change, if the caller has no `CAP_NET_ADMIN` in the first
    /// user namespace: see `net.core.wmem_max` in [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
    pub fn install(&self, table: &Table) -> Result<()> {
        self.install_beside(table, |other| format!("table {other}"))
    }

    /// [`install`](Self::install), with names for the tables of others.
    pub(super) fn install_beside(
        &self,
        table: &Table,
        name: impl Fn(&str) -> String,
    ) -> Result<()> {
        if table.publishes.is_empty() {
            return self.put(table);
        }
        table.check()?;
        let mut attempt = 1;
        loop {
            let generation = self.generation()?;
            if let Some(error) = published::conflict(table, &self.published()?, &name) {
                return Err(error);
            }
            let done = self.transaction(&table.name, "install", table.messages(), Some(generation));
            match done {
                // It has changed meanwhile, maybe by the same port.
                Err(error)
                    if error.raw_os_error() == Some(libc::ERESTART) && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// Installs one that publishes nothing that it did not publish before.
    pub(super) fn put(&self, table: &Table) -> Result<()> {
        table.check()?;
        self.transaction(&table.name, "install", table.messages(), None)
    }

    /// The number of the present state, which the next change ends.
    fn generation(&self) -> Result<u32> {
        let parse = |message: &Received<'_>| message.split(4)?.1.get(GENERATION)?.be32();
        let found = self.socket().get(message(libc::NFT_MSG_GETGEN, 0), parse);
        let none = || Refusal::none("recvfrom", Errno::BADMSG);
        found
            .and_then(|found| found.ok_or_else(none))
            .map_err(|refusal| {
                let error =
                    Deed::new(Step::Nftables, "look up the generation").refused(&refusal, None);
                match refusal.errno {
                    Errno::INVAL | Errno::OPNOTSUPP => lacking(error),
                    _ => error,
                }
            })
    }

    /// What all tables publish.
    fn published(&self) -> Result<Vec<Published>> {
        let deed = Deed::new(Step::Nftables, "list what is published");
        let found = self.socket().dump(Published::dump(), Published::parse);
        found.map_err(|refusal| deed.refused(&refusal, None))
    }

    /// Removes the table of this name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none.
    pub fn remove(&self, name: &str) -> Result<()> {
        let table = Table::new(name);
        table.check()?;
        let messages = vec![table.message(libc::NFT_MSG_DELTABLE, 0)];
        self.transaction(name, "remove", messages, None)
    }

    /// The names of the tables of the family `inet`.
    ///
    /// # Errors
    /// What the kernel gives.
    pub fn tables(&self) -> Result<Vec<String>> {
        let request = message(libc::NFT_MSG_GETTABLE, 0);
        let name = |message: &Received<'_>| {
            let (_, attributes) = message.split(4)?;
            attributes.get(TABLE)?.str().map(str::to_owned)
        };
        let deed = Deed::new(Step::Nftables, "list tables");
        let found = self.socket().dump(request, name);
        found.map_err(|refusal| deed.refused(&refusal, None))
    }

    fn socket(&self) -> MutexGuard<'_, Socket> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of one generation, if that is given, and of no other.
    fn transaction(
        &self,
        name: &str,
        verb: &str,
        inner: Vec<Message>,
        generation: Option<u32>,
    ) -> Result<()> {
        let mut begin = bound(libc::NFNL_MSG_BATCH_BEGIN);
        if let Some(generation) = generation {
            begin.be32(libc::NFNL_BATCH_GENID as u16, generation);
        }
        let mut messages = vec![begin];
        messages.extend(inner);
        messages.push(bound(libc::NFNL_MSG_BATCH_END));
        let Err((position, refusal)) = self.socket().transaction(&mut messages) else {
            return Ok(());
        };
        let mut object = format!("{verb} table {name}");
        if position > 0 {
            object += &format!(", message {position}");
        }
        let error = Deed::new(Step::Nftables, object).refused(&refusal, messages.get(position));
        // A family or an expression that cannot be loaded is ENOENT as well.
        let is_missing = verb == "install" && refusal.errno == Errno::NOENT;
        Err(match refusal.errno {
            Errno::OPNOTSUPP => lacking(error),
            Errno::MSGSIZE => error.with_hint(Some(TOO_LARGE.into())),
            _ if is_missing => lacking(error),
            _ => error,
        })
    }
}

fn lacking(error: Error) -> Error {
    error.with_kind(ErrorKind::Unsupported).with_hint(Some(
        "this kernel lacks a part of nf_tables: see the modules nf_tables, nft_chain_nat, nft_masq, nft_nat, nft_fib_inet, nft_ct".into(),
    ))
}
