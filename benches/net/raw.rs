//! The floor: the same messages in as many sends, by bare calls on the calling thread.
#![allow(unsafe_code, reason = "unshare is called raw, apart from the crate")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "constants of libc are wider than the fields that they are for"
)]

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use rustix::thread::{UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::wire::{Message, Messages};

const ETH0: u32 = 2;
const UP: u32 = libc::IFF_UP as u32;
const ADD: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// Network and mount namespaces for this process, which has one thread.
pub(crate) fn unshare() {
    // SAFETY: only CLONE_FILES is unsafe.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.expect("root");
}

pub(crate) struct Floor {
    home: File,
    outside: OwnedFd,
    next: u32,
    buffer: Vec<u8>,
}

fn open() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).expect("a socket")
}

fn link(index: u32, flags: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

fn up(index: u32) -> Message {
    let flags = libc::NLM_F_REQUEST as u16;
    Message::new(libc::RTM_NEWLINK, flags, &link(index, UP))
}

fn address(index: u32, address: Ipv4Addr) -> Message {
    let mut fixed = [libc::AF_INET as u8, 24, 0, 0, 0, 0, 0, 0];
    fixed[4..].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(libc::RTM_NEWADDR, ADD, &fixed);
    message.bytes(libc::IFA_LOCAL, &address.octets());
    message.bytes(libc::IFA_ADDRESS, &address.octets());
    message
}

fn default_route(index: u32, gateway: Ipv4Addr) -> Message {
    let mut fixed = [0; 12];
    fixed[0] = libc::AF_INET as u8;
    fixed[4..8].copy_from_slice(&[254, libc::RTPROT_STATIC, 0, libc::RTN_UNICAST]);
    let mut message = Message::new(libc::RTM_NEWROUTE, ADD, &fixed);
    message.bytes(libc::RTA_GATEWAY, &gateway.octets());
    message.u32(libc::RTA_OIF, index);
    message
}

impl Floor {
    pub(crate) fn new() -> Self {
        Self {
            home: File::open("/proc/thread-self/ns/net").expect("/proc"),
            outside: open(),
            next: 1_000_000,
            buffer: vec![0; 32 << 10],
        }
    }

    pub(crate) fn connect(
        &mut self,
        namespace: &(impl AsFd + AsRawFd),
        name: &str,
        host: Ipv4Addr,
        inside: Ipv4Addr,
    ) {
        let veth = self.veth(namespace, name);
        let messages = [veth, address(self.next, host)];
        exchange(&self.outside, messages, &mut self.buffer);
        self.set_up(namespace, host, inside);
    }

    /// As a port of a bridge, which has the address of the host.
    pub(crate) fn plug(
        &mut self,
        namespace: &(impl AsFd + AsRawFd),
        name: &str,
        bridge: u32,
        [host, inside]: [Ipv4Addr; 2],
    ) {
        let mut veth = self.veth(namespace, name);
        veth.u32(libc::IFLA_MASTER, bridge);
        exchange(&self.outside, [veth], &mut self.buffer);
        self.set_up(namespace, host, inside);
    }

    fn veth(&mut self, namespace: &impl AsRawFd, name: &str) -> Message {
        self.next += 1;
        let mut veth = Message::new(libc::RTM_NEWLINK, ADD, &link(self.next, UP));
        veth.text(libc::IFLA_IFNAME, name);
        veth.nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "veth");
            info.nest(libc::IFLA_INFO_DATA, |data| {
                data.nest_after(1, &link(ETH0, 0), |peer| {
                    peer.text(libc::IFLA_IFNAME, "eth0");
                    let fd = namespace.as_raw_fd().cast_unsigned();
                    peer.u32(libc::IFLA_NET_NS_FD, fd);
                });
            });
        });
        veth
    }

    fn set_up(&mut self, namespace: &impl AsFd, host: Ipv4Addr, inside: Ipv4Addr) {
        move_into_link_name_space(namespace.as_fd(), None).expect("root");
        let socket = open();
        move_into_link_name_space(self.home.as_fd(), None).expect("root");
        let messages = [
            up(1),
            up(ETH0),
            address(ETH0, inside),
            default_route(ETH0, host),
        ];
        exchange(&socket, messages, &mut self.buffer);
    }
}

/// One send. What is refused is answered in any case, and the last one is asked to be.
fn exchange<const N: usize>(socket: &OwnedFd, mut messages: [Message; N], buffer: &mut [u8]) {
    let mut bytes = Vec::new();
    if let Some(last) = messages.last_mut() {
        last.add_flags(libc::NLM_F_ACK as u16);
    }
    for (mut message, number) in messages.into_iter().zip(1..) {
        bytes.extend_from_slice(message.finish(number).expect("is short"));
    }
    send(socket, &bytes, SendFlags::empty()).expect("a send");
    let (_, length) = recv(socket, &mut *buffer, RecvFlags::empty()).expect("an answer");
    let answer = Messages(&buffer[..length]).next().expect("an answer");
    assert_eq!(answer.sequence as usize, N);
    assert_eq!(answer.acknowledgement().expect("is one").errno, 0);
}
