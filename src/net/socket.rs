//! A netlink socket: requests that are acknowledged, and dumps.
//!
//! The kernel does what a message says before send(2) returns, and the rest of a dump before each
//! recv(2) does. So nothing here ever waits: an answer that is not there has been lost.

use super::wire::{Message, Messages, Received, TooLong};
use crate::error::{Error, Result, Step};
use crate::sys::netlink::enable;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send,
    socket_with,
    sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force},
};
use std::os::fd::{AsFd, OwnedFd};

/// Refusals wait in the socket's buffer, which by default has room for some 160.
const MESSAGES_PER_SEND: usize = 96;
/// The kernel puts no more than this into one datagram of a dump.
const BUFFER: usize = 32 << 10;
/// Other answers are acknowledgements, or tell of one thing. What is larger costs a new socket page faults.
const SMALL_BUFFER: usize = 8 << 10;
/// As often as a dump is begun again because something changed meanwhile.
const DUMPS: usize = 32;

const MESSAGE_ERROR: u16 = libc::NLMSG_ERROR as u16;
const MESSAGE_DONE: u16 = libc::NLMSG_DONE as u16;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
const DUMP_INTR: u16 = libc::NLM_F_DUMP_INTR as u16;

/// Why the kernel did not do what a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) syscall: &'static str,
    pub(super) errno: Errno,
    /// The kernel's own words.
    pub(super) text: Option<String>,
    /// The attribute that was refused, as a position in the message.
    pub(super) offset: Option<usize>,
}

impl Refusal {
    pub(super) fn none(syscall: &'static str, errno: Errno) -> Self {
        Self::of(syscall)(errno)
    }

    fn of(syscall: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self {
            syscall,
            errno,
            text: None,
            offset: None,
        }
    }
}

impl From<TooLong> for Refusal {
    fn from(_: TooLong) -> Self {
        Self::of("sendto")(Errno::MSGSIZE)
    }
}

#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// In the calling thread's namespace.
    pub(super) fn open(protocol: i32) -> Result<Self> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol
                .cast_unsigned()
                .try_into()
                .ok()
                .map(Protocol::from_raw),
        )
        .map_err(failed("socket"))?;
        // Without them an error has an errno only, and answers are longer.
        let _ = enable(fd.as_fd(), libc::NETLINK_EXT_ACK);
        let _ = enable(fd.as_fd(), libc::NETLINK_CAP_ACK);
        if protocol == libc::NETLINK_ROUTE {
            let _ = enable(fd.as_fd(), libc::NETLINK_GET_STRICT_CHK);
        }
        // From now on nobody but the kernel (port 0) can send to it.
        connect(&fd, &SocketAddrNetlink::new(0, 0)).map_err(failed("connect"))?;
        Ok(Self {
            fd,
            sequence: 0,
            buffer: Vec::new(),
        })
    }

    /// Sends all of them at once, or where they are many, some at a time until one is refused. The
    /// kernel goes on after a message that it refuses, and says so before it acknowledges the last one. The results
    /// of those that were sent, in order; where sending failed, the last is that.
    pub(super) fn request(&mut self, messages: &mut [Message]) -> Vec<Result<(), Refusal>> {
        let mut results = Vec::with_capacity(messages.len());
        for part in messages.chunks_mut(MESSAGES_PER_SEND) {
            for message in part.iter_mut() {
                message.add_flags(REQUEST);
            }
            if let Some(last) = part.last_mut() {
                last.add_flags(ACK);
            }
            let first = self.send(part);
            match first.and_then(|first| self.answers(first, part.len())) {
                Ok(answers) => results.extend(answers),
                Err(refusal) => results.push(Err(refusal)),
            }
            if results.iter().any(Result::is_err) {
                break;
            }
        }
        results
    }

    /// A transaction of nf_tables, from its beginning to its end: the kernel itself does all or
    /// nothing, and answers the last message and those that it refuses.
    pub(super) fn transaction(&mut self, messages: &mut [Message]) -> Result<(), (usize, Refusal)> {
        for message in messages.iter_mut() {
            message.add_flags(REQUEST);
        }
        if let [.., last, _end] = messages {
            last.add_flags(ACK);
        }
        let all = |refusal| (0, refusal);
        let first = self.send(messages).map_err(all)?;
        let mut refused: Option<(usize, Refusal)> = None;
        let mut acknowledged = false;
        loop {
            let datagram = match self.receive() {
                Err(refusal) if refusal.errno == Errno::AGAIN => break,
                other => other.map_err(all)?,
            };
            for message in Messages(datagram) {
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != MESSAGE_ERROR || index >= messages.len() {
                    continue;
                }
                match answer(&message) {
                    Ok(()) => acknowledged = true,
                    Err(refusal) if refused.is_none() => refused = Some((index, refusal)),
                    Err(_) => {}
                }
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None if acknowledged => Ok(()),
            None => Err(all(Refusal::of("recvfrom")(Errno::AGAIN))),
        }
    }

    /// Asks for one thing, which is the answer.
    pub(super) fn get<T>(
        &mut self,
        mut request: Message,
        parse: impl FnOnce(&Received<'_>) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        request.add_flags(REQUEST);
        let sequence = self.send(std::slice::from_mut(&mut request))?;
        loop {
            for message in Messages(self.receive()?) {
                if message.sequence != sequence {
                    continue;
                }
                return match message.kind {
                    MESSAGE_ERROR => answer(&message).map(|()| None),
                    _ => Ok(parse(&message)),
                };
            }
        }
    }

    /// Asks for all there is. It is asked again if something changed meanwhile.
    pub(super) fn dump<I: IntoIterator>(
        &mut self,
        mut request: Message,
        mut parse: impl FnMut(&Received<'_>) -> I,
    ) -> Result<Vec<I::Item>, Refusal> {
        request.add_flags(REQUEST | DUMP);
        self.buffer.resize(BUFFER, 0);
        for _ in 0..DUMPS {
            let sequence = self.send(std::slice::from_mut(&mut request))?;
            if let Some(found) = self.one_dump(sequence, &mut parse)? {
                return Ok(found);
            }
        }
        Err(Refusal::of("recvfrom(NLM_F_DUMP_INTR)")(Errno::AGAIN))
    }

    fn one_dump<I: IntoIterator>(
        &mut self,
        sequence: u32,
        parse: &mut impl FnMut(&Received<'_>) -> I,
    ) -> Result<Option<Vec<I::Item>>, Refusal> {
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            for message in Messages(self.receive()?) {
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & DUMP_INTR != 0;
                match message.kind {
                    // Both begin with the errno.
                    MESSAGE_ERROR | MESSAGE_DONE => {
                        answer(&message)?;
                        return Ok((!interrupted).then_some(found));
                    }
                    _ => found.extend(parse(&message)),
                }
            }
        }
    }

    /// Numbers and sends them; returns the number of the first.
    fn send(&mut self, messages: &mut [Message]) -> Result<u32, Refusal> {
        let first = self.sequence.wrapping_add(1);
        let mut all = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            all.extend_from_slice(message.finish(self.sequence)?);
        }
        let mut grown = false;
        loop {
            match send(&self.fd, &all, SendFlags::empty()) {
                Err(Errno::INTR) => {}
                Err(Errno::MSGSIZE) if !grown => {
                    self.grow_send_buffer(all.len());
                    grown = true;
                }
                Err(errno) => return Err(Refusal::of("sendto")(errno)),
                Ok(_) => return Ok(first),
            }
        }
    }

    /// The kernel takes no datagram that is larger than the buffer.
    fn grow_send_buffer(&self, size: usize) {
        // Without CAP_NET_ADMIN in the first user namespace no more than net.core.wmem_max.
        if set_socket_send_buffer_size_force(&self.fd, size).is_err() {
            let _ = set_socket_send_buffer_size(&self.fd, size);
        }
    }

    /// The refusals, until the last message is answered.
    fn answers(&mut self, first: u32, count: usize) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        let mut answers = vec![Ok(()); count];
        let last = self.sequence;
        loop {
            for message in Messages(self.receive()?) {
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != MESSAGE_ERROR {
                    continue;
                }
                if let Some(slot) = answers.get_mut(index) {
                    *slot = answer(&message);
                }
                if message.sequence == last {
                    return Ok(answers);
                }
            }
        }
    }

    fn receive(&mut self) -> Result<&[u8], Refusal> {
        if self.buffer.is_empty() {
            self.buffer.resize(SMALL_BUFFER, 0);
        }
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let received = loop {
            match recv(&self.fd, &mut self.buffer[..], flags) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Refusal::of("recvfrom")(errno)),
                Ok((_, length)) => break length,
            }
        };
        let truncated = || Refusal::of("recvfrom")(Errno::MSGSIZE);
        self.buffer.get(..received).ok_or_else(truncated)
    }
}

/// What an acknowledgement, or the end of a dump, says.
fn answer(message: &Received<'_>) -> Result<(), Refusal> {
    let malformed = || Refusal::of("recvfrom")(Errno::BADMSG);
    let acknowledgement = message.acknowledgement().ok_or_else(malformed)?;
    if acknowledgement.errno == 0 {
        return Ok(());
    }
    Err(Refusal {
        syscall: "sendto",
        errno: Errno::from_raw_os_error(acknowledgement.errno),
        text: acknowledgement.text.map(str::to_owned),
        offset: acknowledgement
            .offset
            .and_then(|offset| usize::try_from(offset).ok()),
    })
}

fn failed(syscall: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::system(Step::Netlink, "a netlink socket", syscall, errno)
}
