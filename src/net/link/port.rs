//! What a bridge is told, and tells, of one of its ports.

use super::super::wire::{Attributes, Message};

/// The kind of what ports are of.
const BRIDGE: &str = "bridge";

// <linux/if_link.h>
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_ISOLATED: u16 = 33;

/// The settings of a port of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BridgePort {
    /// Whether frames may leave the bridge by the port that they came in by, which this is.
    pub hairpin: bool,
    /// Whether the bridge learns from what comes in by it where addresses are.
    pub learning: bool,
    /// Whether no frames pass between it and other isolated ports.
    pub isolated: bool,
}

impl BridgePort {
    pub(super) fn parse(info: Attributes<'_>) -> Option<Self> {
        if info.get(libc::IFLA_INFO_SLAVE_KIND)?.str() != Some(BRIDGE) {
            return None;
        }
        let data = info.get(libc::IFLA_INFO_SLAVE_DATA)?.attributes();
        let is_on = |kind| data.get(kind).is_some_and(|flag| flag.value == [1]);
        Some(Self {
            hairpin: is_on(IFLA_BRPORT_MODE),
            learning: is_on(IFLA_BRPORT_LEARNING),
            isolated: is_on(IFLA_BRPORT_ISOLATED),
        })
    }
}

/// Those that are to be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PortChange {
    pub(super) hairpin: Option<bool>,
    pub(super) learning: Option<bool>,
    pub(super) isolated: Option<bool>,
}

impl PortChange {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// By their names of ip(8).
    fn flags(self) -> impl Iterator<Item = (u16, &'static str, bool)> {
        let all = [
            (IFLA_BRPORT_MODE, "hairpin", self.hairpin),
            (IFLA_BRPORT_LEARNING, "learning", self.learning),
            (IFLA_BRPORT_ISOLATED, "isolated", self.isolated),
        ];
        all.into_iter()
            .filter_map(|(kind, name, on)| Some((kind, name, on?)))
    }

    pub(super) fn put(self, message: &mut Message) {
        message.nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_SLAVE_KIND, BRIDGE);
            info.nest(libc::IFLA_INFO_SLAVE_DATA, |data| {
                for (kind, _, on) in self.flags() {
                    data.u8(kind, on.into());
                }
            });
        });
    }

    /// The change that brings these of a port back to what they are now.
    pub(super) fn reverse(self, now: BridgePort) -> Self {
        Self {
            hairpin: self.hairpin.and(Some(now.hairpin)),
            learning: self.learning.and(Some(now.learning)),
            isolated: self.isolated.and(Some(now.isolated)),
        }
    }

    pub(super) fn describe(self) -> String {
        let word = |on| if on { "on" } else { "off" };
        self.flags()
            .map(|(_, name, on)| format!(" {name} {}", word(on)))
            .collect()
    }
}

impl From<BridgePort> for PortChange {
    fn from(port: BridgePort) -> Self {
        Self {
            hairpin: Some(port.hairpin),
            learning: Some(port.learning),
            isolated: Some(port.isolated),
        }
    }
}
