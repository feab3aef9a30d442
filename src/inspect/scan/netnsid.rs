//! The numbers by which the caller's network namespace knows others: `RTM_GETNSID`.

use super::registry::Registry;
use crate::ns::Kind;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::os::fd::{AsRawFd, OwnedFd};

const NLM_F_REQUEST: u16 = 1;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// `struct nlmsghdr` and, padded, `struct rtgenmsg`.
const HEADERS: usize = 16 + 4;
const NOT_ASSIGNED: i32 = -1;

pub(super) fn fill(registry: &mut Registry) {
    // NETLINK_ROUTE is protocol 0.
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None);
    let Ok(socket) = socket else { return };
    for found in registry.iter_mut() {
        if found.info.kind() == Kind::Net
            && let Some(fd) = &found.fd
        {
            found.info.netnsid = ask(&socket, fd).ok().flatten();
        }
    }
}

fn ask(socket: &OwnedFd, namespace: &OwnedFd) -> Result<Option<i32>, Errno> {
    send(socket, &request(namespace.as_raw_fd()), SendFlags::empty())?;
    let mut reply = [0; 128];
    let (received, _) = recv(socket, &mut reply, RecvFlags::empty())?;
    Ok(parse(reply.get(..received).unwrap_or_default()).filter(|&id| id != NOT_ASSIGNED))
}

fn request(fd: i32) -> [u8; HEADERS + 8] {
    let mut request = [0; HEADERS + 8];
    let length = u32::try_from(request.len()).unwrap_or(0);
    let fields: [&[u8]; 8] = [
        &length.to_ne_bytes(),
        &RTM_GETNSID.to_ne_bytes(),
        &NLM_F_REQUEST.to_ne_bytes(),
        // Sequence, port, and an address family of any.
        &[0; 12],
        &8_u16.to_ne_bytes(),
        &NETNSA_FD.to_ne_bytes(),
        &fd.to_ne_bytes(),
        &[],
    ];
    let bytes = fields.into_iter().flatten();
    request
        .iter_mut()
        .zip(bytes)
        .for_each(|(to, &from)| *to = from);
    request
}

fn parse(reply: &[u8]) -> Option<i32> {
    let short = |at: usize| Some(u16::from_ne_bytes(*reply.get(at..)?.first_chunk()?));
    if short(4)? != RTM_NEWNSID {
        return None;
    }
    let mut at = HEADERS;
    loop {
        let (length, kind) = (usize::from(short(at)?), short(at + 2)?);
        if kind == NETNSA_NSID {
            return Some(i32::from_ne_bytes(*reply.get(at + 4..)?.first_chunk()?));
        }
        at += length.next_multiple_of(4).max(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_number_among_attributes() {
        let mut reply = vec![0; HEADERS];
        reply[4..6].copy_from_slice(&RTM_NEWNSID.to_ne_bytes());
        assert_eq!(parse(&reply), None);
        for (kind, value) in [(9_u16, 5_i32), (NETNSA_NSID, 7)] {
            reply.extend(8_u16.to_ne_bytes());
            reply.extend(kind.to_ne_bytes());
            reply.extend(value.to_ne_bytes());
        }
        assert_eq!(parse(&reply), Some(7));
        for cut in 0..reply.len() {
            let _ = parse(&reply[..cut]);
        }
        reply[4] = 0;
        assert_eq!(parse(&reply), None);
    }
}
