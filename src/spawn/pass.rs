//! Descriptors that the child passes to the caller.

use super::record::{Call, Fail, Named};
use core::mem::MaybeUninit;
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::os::fd::{BorrowedFd, OwnedFd};

/// How many are passed at once, at most: a namespace of each kind.
pub(super) const MOST: usize = 8;

/// The caller's end, and the child's.
pub(super) fn socket() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// In the child: passes them in one message.
pub(super) fn send(caller: BorrowedFd<'_>, descriptors: &[BorrowedFd<'_>]) -> Result<(), Fail> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Fail::new(Call::Sendmsg, Errno::TOOBIG));
    }
    let data = [IoSlice::new(b"d")];
    rustix::net::sendmsg(caller, &data, &mut control, SendFlags::NOSIGNAL)
        .map(drop)
        .named(Call::Sendmsg)
}

/// What has been passed already.
pub(crate) fn receive(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    receive_all(socket)?.into_iter().next().ok_or(Errno::BADF)
}

/// All of one message, or as many as there is room for in the caller's table.
pub(super) fn receive_all(socket: &OwnedFd) -> Result<Vec<OwnedFd>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0_u8];
    let mut data = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(socket, &mut data, &mut control, flags)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(rights.flatten().collect())
}
