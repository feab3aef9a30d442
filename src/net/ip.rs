//! Addresses with a prefix length, and hardware addresses, as text and as numbers.

use super::wire::Message;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP address with the length of its network's prefix, such as `10.9.0.1/24`.
///
/// # Examples
/// ```
/// use ringfence::net::IpNet;
///
/// let net: IpNet = "10.9.0.77/24".parse()?;
/// assert_eq!(net.prefix(), 24);
/// assert_eq!(net.network().to_string(), "10.9.0.0/24");
/// assert!(net.contains("10.9.0.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

impl IpNet {
    /// `None` if the prefix is longer than the address: 32 bits for IPv4, 128 for IPv6.
    #[must_use]
    pub fn new(address: impl Into<IpAddr>, prefix: u8) -> Option<Self> {
        let address = address.into();
        (prefix <= bits(address)).then_some(Self { address, prefix })
    }

    /// One of IPv4, of up to 32 bits.
    pub(super) const fn v4(octets: [u8; 4], prefix: u8) -> Self {
        let [a, b, c, d] = octets;
        let address = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        Self { address, prefix }
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of bits that all addresses of the network share.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The network: the same with all bits behind the prefix 0.
    #[must_use]
    pub fn network(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => Ipv4Addr::from(address.to_bits() & self.mask4()).into(),
            IpAddr::V6(address) => Ipv6Addr::from(address.to_bits() & self.mask6()).into(),
        };
        Self { address, ..*self }
    }

    /// The last address of an IPv4 network, which is the one for broadcasts. `None` for IPv6, and for networks of
    /// less than four addresses, which have none.
    #[must_use]
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) if self.prefix <= 30 => {
                Some(Ipv4Addr::from(address.to_bits() | !self.mask4()))
            }
            _ => None,
        }
    }

    /// Whether the address belongs to the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.prefix).is_some_and(|other| {
            other.address.is_ipv4() == self.address.is_ipv4() && other.network() == self.network()
        })
    }

    /// Whether the two networks have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The network's `n`-th address, its own being number 0. `None` if it has not that many.
    #[must_use]
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        let host = u32::from(bits(self.address) - self.prefix);
        if host < 128 && n >> host != 0 {
            return None;
        }
        Some(match self.network().address {
            IpAddr::V4(first) => Ipv4Addr::from(first.to_bits() | u32::try_from(n).ok()?).into(),
            IpAddr::V6(first) => Ipv6Addr::from(first.to_bits() | n).into(),
        })
    }

    /// Which [`nth`](Self::nth) of the network an address is.
    pub(super) fn position(&self, address: IpAddr) -> Option<u128> {
        let first = self.network().address;
        let position = match (first, address) {
            _ if !self.contains(address) => return None,
            (IpAddr::V4(first), IpAddr::V4(it)) => u128::from(it.to_bits() - first.to_bits()),
            (IpAddr::V6(first), IpAddr::V6(it)) => it.to_bits() - first.to_bits(),
            _ => return None,
        };
        Some(position)
    }

    /// The bits of the prefix.
    pub(super) fn mask(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => Ipv4Addr::from(self.mask4()).into(),
            IpAddr::V6(_) => Ipv6Addr::from(self.mask6()).into(),
        }
    }

    fn mask4(&self) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(self.prefix))
            .unwrap_or(0)
    }

    fn mask6(&self) -> u128 {
        u128::MAX
            .checked_shl(128 - u32::from(self.prefix))
            .unwrap_or(0)
    }
}

const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl From<IpAddr> for IpNet {
    /// The address alone, as a network of one.
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            prefix: bits(address),
        }
    }
}

impl From<Ipv4Addr> for IpNet {
    fn from(address: Ipv4Addr) -> Self {
        IpAddr::from(address).into()
    }
}

impl From<Ipv6Addr> for IpNet {
    fn from(address: Ipv6Addr) -> Self {
        IpAddr::from(address).into()
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text is not what it is read as: an address with a prefix length, or a hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}: {text:?}")]
pub struct ParseAddressError {
    expected: &'static str,
    text: String,
}

impl FromStr for IpNet {
    type Err = ParseAddressError;

    /// Reads `10.9.0.1/24` and `fd00::1/64`; without a length it is that of the whole address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let Some((address, prefix)) = text.split_once('/') else {
                return Some(Self::from(text.parse::<IpAddr>().ok()?));
            };
            // `parse` alone would take a sign.
            let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
            let prefix = is_number.then(|| prefix.parse().ok())??;
            Self::new(address.parse::<IpAddr>().ok()?, prefix)
        };
        parse().ok_or_else(|| ParseAddressError {
            expected: "an address such as 10.9.0.1/24",
            text: text.to_owned(),
        })
    }
}

/// A hardware address of an Ethernet interface, such as `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut bytes = [0; 6];
            let mut parts = text.split(':');
            for byte in &mut bytes {
                let part = parts.next()?;
                let is_hex = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
                *byte = is_hex.then(|| u8::from_str_radix(part, 16).ok())??;
            }
            parts.next().is_none().then_some(Self(bytes))
        };
        parse().ok_or_else(|| ParseAddressError {
            expected: "a hardware address such as 02:00:00:00:00:01",
            text: text.to_owned(),
        })
    }
}

/// Writes an address as an attribute.
pub(super) fn put(message: &mut Message, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => message.bytes(kind, &address.octets()),
        IpAddr::V6(address) => message.bytes(kind, &address.octets()),
    };
}

/// The address of 4 or 16 bytes.
pub(super) fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(bytes.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// `AF_INET` or `AF_INET6`, as the fixed headers have it.
pub(super) fn family(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

pub(super) const AF_INET: u8 = libc::AF_INET as u8;
pub(super) const AF_INET6: u8 = libc::AF_INET6 as u8;

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn texts_are_read_and_written() {
        for text in [
            "10.9.0.1/24",
            "0.0.0.0/0",
            "255.255.255.255/32",
            "::/0",
            "fd00::1/64",
        ] {
            assert_eq!(net(text).to_string(), text);
        }
        assert_eq!(net("10.0.0.1"), net("10.0.0.1/32"));
        assert_eq!(net("::1"), net("::1/128"));
        for text in [
            "",
            "10.0.0.1/33",
            "::/129",
            "10.0.0.1/",
            "10.0.0.1/+8",
            "/8",
            "a/8",
        ] {
            assert!(text.parse::<IpNet>().is_err(), "{text}");
        }
        let mac: Mac = "02:00:0a:FF:00:01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:0a:ff:00:01");
        for text in [
            "",
            "02:00:0a:ff:00",
            "02:00:0a:ff:00:01:02",
            "02:00:0a:ff:00:+1",
            "2:0:a:f:0:1",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn networks_contain_what_they_should() {
        let lab = net("10.9.0.77/24");
        assert_eq!(lab.network(), net("10.9.0.0/24"));
        assert_eq!(lab.broadcast(), Some(Ipv4Addr::new(10, 9, 0, 255)));
        assert!(lab.contains("10.9.0.255".parse().unwrap()));
        assert!(!lab.contains("10.9.1.0".parse().unwrap()));
        assert!(!lab.contains("::10.9.0.1".parse().unwrap()));
        assert!(net("0.0.0.0/0").contains("1.2.3.4".parse().unwrap()));
        assert!(net("::/0").contains("ff02::1".parse().unwrap()));
        assert!(lab.overlaps(&net("10.0.0.0/8")) && net("10.0.0.0/8").overlaps(&lab));
        assert!(!lab.overlaps(&net("10.9.1.0/24")));
        for none in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/64"] {
            assert_eq!(net(none).broadcast(), None);
        }
    }

    #[test]
    fn addresses_are_counted() {
        let lab = net("10.9.0.7/30");
        assert_eq!(lab.nth(0), Some("10.9.0.4".parse().unwrap()));
        assert_eq!(lab.nth(3), Some("10.9.0.7".parse().unwrap()));
        assert_eq!(lab.nth(4), None);
        assert_eq!(lab.position("10.9.0.7".parse().unwrap()), Some(3));
        assert_eq!(lab.position("10.9.0.8".parse().unwrap()), None);
        assert_eq!(
            net("fd00::/64").position("fd00::1:0".parse().unwrap()),
            Some(0x1_0000)
        );
        assert_eq!(net("10.0.0.1/32").nth(1), None);
        assert_eq!(net("fd00::/64").nth(1 << 64), None);
        assert_eq!(
            net("fd00::/64").nth(0x1_0000),
            Some("fd00::1:0".parse().unwrap())
        );
        assert_eq!(
            net("::/0").nth(u128::MAX),
            Some(Ipv6Addr::from(u128::MAX).into())
        );
        assert_eq!(
            net("0.0.0.0/0").nth(u128::from(u32::MAX)),
            Some(Ipv4Addr::BROADCAST.into())
        );
    }
}
