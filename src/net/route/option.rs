//! What connections by a route start from: `RTA_METRICS`.

use crate::net::wire::{Attribute, Attributes, Message};
use std::collections::BTreeMap;

/// What connections by a route start from, in the place of what they would find out or the system's own.
///
/// See [ip-route(8)](https://man7.org/linux/man-pages/man8/ip-route.8.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[doc(alias = "RTA_METRICS")]
pub enum RouteOption {
    /// Which of the others the kernel may not change by itself: a bit for each, `1 << RTAX_*`.
    Lock = 1,
    /// The largest packet, in bytes.
    Mtu = 2,
    /// The largest window that is advertised, in bytes.
    Window = 3,
    /// The first guess at the round-trip time, in eighths of a millisecond.
    Rtt = 4,
    /// The first guess at its variance, in quarters of a millisecond.
    RttVar = 5,
    /// The first slow start threshold, in segments.
    SsThresh = 6,
    /// The largest congestion window, in segments; it has to be locked.
    Cwnd = 7,
    /// The largest segment that the other side is told, in bytes.
    AdvMss = 8,
    /// The most that segments are expected to change places.
    Reordering = 9,
    /// The first hop limit, or time to live.
    HopLimit = 10,
    /// The first congestion window, in segments.
    InitCwnd = 11,
    /// Bits `RTAX_FEATURE_*`: 1 for explicit congestion notification.
    Features = 12,
    /// The shortest time before something is sent again, in milliseconds.
    RtoMin = 13,
    /// The first window that is advertised, in segments.
    InitRwnd = 14,
    /// 1 to acknowledge at once.
    QuickAck = 15,
    /// 1 for TCP Fast Open without a cookie.
    FastOpenNoCookie = 17,
}

/// By their numbers, as bytes: that of congestion control is a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RouteOptions(BTreeMap<u16, Vec<u8>>);

impl RouteOptions {
    pub(super) fn set(&mut self, option: RouteOption, value: u32) {
        self.0.insert(option as u16, value.to_ne_bytes().to_vec());
    }

    pub(super) fn get(&self, option: RouteOption) -> Option<u32> {
        let value = self.0.get(&(option as u16))?;
        Some(u32::from_ne_bytes(value.as_slice().try_into().ok()?))
    }

    pub(super) fn put(&self, message: &mut Message) {
        if self.0.is_empty() {
            return;
        }
        message.nest(libc::RTA_METRICS, |message| {
            for (number, value) in &self.0 {
                message.bytes(*number, value);
            }
        });
    }

    pub(super) fn parse(attributes: Attributes<'_>) -> Self {
        let pair = |found: Attribute<'_>| (found.kind, found.value.to_vec());
        Self(attributes.map(pair).collect())
    }

    /// Whether all that is set here is so there.
    pub(super) fn fits(&self, listed: &Self) -> bool {
        self.0
            .iter()
            .all(|(number, value)| listed.0.get(number) == Some(value))
    }
}
