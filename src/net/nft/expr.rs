//! The expressions that rules are made of, as nf_tables has them: loads into registers, comparisons, verdicts.

use super::super::ip::IpNet;
use super::super::wire::Message;
use std::net::IpAddr;

const REG_VERDICT: u32 = libc::NFT_REG_VERDICT as u32;
pub(super) const REG_1: u32 = libc::NFT_REG_1 as u32;
pub(super) const REG_2: u32 = libc::NFT_REG_2 as u32;

// <linux/netfilter/nf_tables.h>: of a list, of an expression, of data, of a verdict.
pub(super) const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
pub(super) const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const NFPROTO: [u8; 2] = [2, 10];
/// `NFT_FIB_RESULT_ADDRTYPE` and `NFTA_FIB_F_DADDR`.
const FIB_ADDRTYPE: u32 = 3;
const FIB_DADDR: u32 = 2;
/// `NF_CT_STATE_BIT` of established and related.
const CT_ESTABLISHED_RELATED: u32 = 2 | 4;
/// `IPS_DST_NAT`.
const CT_DST_NAT: u32 = 1 << 5;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`.
const NAT_PROTO_SPECIFIED: u32 = 2;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// Which of a packet's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// Writes the expressions of one rule.
#[derive(Debug)]
pub(super) struct Expressions<'m>(pub(super) &'m mut Message);

impl Expressions<'_> {
    fn add(&mut self, name: &str, data: impl FnOnce(&mut Message)) -> &mut Self {
        self.0.nest(LIST_ELEM, |element| {
            element.text(EXPR_NAME, name).nest(EXPR_DATA, data);
        });
        self
    }

    fn meta(&mut self, key: i32) -> &mut Self {
        self.add("meta", |data| {
            data.be32(1, REG_1).be32(2, key.cast_unsigned());
        })
    }

    fn cmp(&mut self, op: i32, value: &[u8]) -> &mut Self {
        self.add("cmp", |data| {
            data.be32(1, REG_1).be32(2, op.cast_unsigned());
            data.nest(3, |data| {
                data.bytes(DATA_VALUE, value);
            });
        })
    }

    fn is(&mut self, value: &[u8]) -> &mut Self {
        self.cmp(libc::NFT_CMP_EQ, value)
    }

    fn payload(&mut self, base: i32, offset: u32, length: u32) -> &mut Self {
        self.add("payload", |data| {
            data.be32(1, REG_1).be32(2, base.cast_unsigned());
            data.be32(3, offset).be32(4, length);
        })
    }

    /// Keeps the bits of a mask.
    fn mask(&mut self, mask: &[u8]) -> &mut Self {
        let zero = vec![0; mask.len()];
        let length = mask.len() as u32;
        self.add("bitwise", |data| {
            data.be32(1, REG_1).be32(2, REG_1).be32(3, length);
            data.nest(4, |data| {
                data.bytes(DATA_VALUE, mask);
            });
            data.nest(5, |data| {
                data.bytes(DATA_VALUE, &zero);
            });
        })
    }

    /// The packet is of the family of this address.
    pub(super) fn family_of(&mut self, address: IpAddr) -> &mut Self {
        self.meta(libc::NFT_META_NFPROTO)
            .is(&[NFPROTO[usize::from(address.is_ipv6())]])
    }

    /// An address is, or is not, in a network of the family that was asked for before.
    pub(super) fn in_network(&mut self, side: Side, net: IpNet, inside: bool) -> &mut Self {
        let (offset, length) = match (net.address(), side) {
            (IpAddr::V4(_), Side::Source) => (12, 4),
            (IpAddr::V4(_), Side::Destination) => (16, 4),
            (IpAddr::V6(_), Side::Source) => (8, 16),
            (IpAddr::V6(_), Side::Destination) => (24, 16),
        };
        self.payload(libc::NFT_PAYLOAD_NETWORK_HEADER, offset, length);
        let op = match inside {
            true => libc::NFT_CMP_EQ,
            false => libc::NFT_CMP_NEQ,
        };
        self.mask(&octets(net.mask()))
            .cmp(op, &octets(net.network().address()))
    }

    /// The packet is for an address of this host.
    pub(super) fn for_this_host(&mut self) -> &mut Self {
        self.add("fib", |data| {
            data.be32(1, REG_1).be32(2, FIB_ADDRTYPE).be32(3, FIB_DADDR);
        })
        .is(&u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// The packet is of this protocol (`IPPROTO_*`) and for one of these ports.
    pub(super) fn ports(&mut self, protocol: u8, first: u16, last: u16) -> &mut Self {
        self.meta(libc::NFT_META_L4PROTO).is(&[protocol]).port();
        if first == last {
            return self.is(&first.to_be_bytes());
        }
        self.cmp(libc::NFT_CMP_GTE, &first.to_be_bytes())
            .cmp(libc::NFT_CMP_LTE, &last.to_be_bytes())
    }

    /// Loads the destination port.
    fn port(&mut self) -> &mut Self {
        self.payload(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2)
    }

    pub(super) fn iif(&mut self, name: &str) -> &mut Self {
        self.meta(libc::NFT_META_IIFNAME).is(&padded(name))
    }

    pub(super) fn oif(&mut self, name: &str) -> &mut Self {
        self.meta(libc::NFT_META_OIFNAME).is(&padded(name))
    }

    /// The packet belongs to a connection that was let through, or is related to one.
    pub(super) fn established(&mut self) -> &mut Self {
        self.ct_has(libc::NFT_CT_STATE, CT_ESTABLISHED_RELATED)
    }

    /// The connection's destination was translated.
    pub(super) fn is_dnat(&mut self) -> &mut Self {
        self.ct_has(libc::NFT_CT_STATUS, CT_DST_NAT)
    }

    fn ct_has(&mut self, key: i32, bits: u32) -> &mut Self {
        self.add("ct", |data| {
            data.be32(1, REG_1).be32(2, key.cast_unsigned());
        })
        .mask(&bits.to_ne_bytes())
        .cmp(libc::NFT_CMP_NEQ, &[0; 4])
    }

    pub(super) fn verdict(&mut self, verdict: Verdict) -> &mut Self {
        self.decide(|code| {
            code.be32(VERDICT_CODE, verdict as u32);
        })
    }

    /// The rules of this chain come next, then those that follow here.
    pub(super) fn jump(&mut self, chain: &str) -> &mut Self {
        self.decide(|code| {
            code.be32(VERDICT_CODE, libc::NFT_JUMP.cast_unsigned());
            code.text(VERDICT_CHAIN, chain);
        })
    }

    fn decide(&mut self, verdict: impl FnOnce(&mut Message)) -> &mut Self {
        self.add("immediate", |data| {
            data.be32(1, REG_VERDICT).nest(2, |data| {
                data.nest(DATA_VERDICT, verdict);
            });
        })
    }

    /// The source becomes the address of the interface that the packet leaves by.
    pub(super) fn masquerade(&mut self) -> &mut Self {
        self.add("masq", |_| {})
    }

    /// The port that a map has for the destination port, into the second register.
    pub(super) fn mapped_port(&mut self, map: &str) -> &mut Self {
        self.port().add("lookup", |data| {
            data.text(1, map).be32(2, REG_1).be32(3, REG_2);
        })
    }

    /// This port, into the second register.
    pub(super) fn fixed_port(&mut self, port: u16) -> &mut Self {
        self.load(REG_2, &port.to_be_bytes())
    }

    fn load(&mut self, register: u32, value: &[u8]) -> &mut Self {
        self.add("immediate", |data| {
            data.be32(1, register).nest(2, |data| {
                data.bytes(DATA_VALUE, value);
            });
        })
    }

    /// The destination becomes this address, and the port in the second register, or that which it has.
    pub(super) fn dnat(&mut self, to: IpAddr, with_port: bool) -> &mut Self {
        self.nat(libc::NFT_NAT_DNAT, to, with_port)
    }

    /// The source becomes this address.
    pub(super) fn snat(&mut self, to: IpAddr) -> &mut Self {
        self.nat(libc::NFT_NAT_SNAT, to, false)
    }

    fn nat(&mut self, kind: i32, to: IpAddr, with_port: bool) -> &mut Self {
        let family = NFPROTO[usize::from(to.is_ipv6())];
        self.load(REG_1, &octets(to)).add("nat", |data| {
            data.be32(1, kind.cast_unsigned()).be32(2, family.into());
            data.be32(3, REG_1);
            if with_port {
                data.be32(5, REG_2).be32(7, NAT_PROTO_SPECIFIED);
            }
        })
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A name as the kernel compares it, in the `IFNAMSIZ` bytes of the register.
fn padded(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (byte, of_name) in bytes.iter_mut().zip(name.bytes()) {
        *byte = of_name;
    }
    bytes
}
