//! Will it work here? What the kernel offers, what the system forbids, and what to do about it.
//!
//! ```
//! use ringfence::support::Report;
//!
//! let report = Report::new();
//! if let Some(refusal) = &report.user_namespaces {
//!     eprintln!("no user namespaces: {refusal}");
//! }
//! println!("{report}");
//! ```

mod display;
mod features;
mod settings;

pub use features::Feature;
pub use settings::{Effect, Setting};

use crate::diagnose::System;
use crate::ns::{AnyNamespace, Kind, Namespace, Namespaces, User};
use crate::plan::features::kernel_version;
use crate::plan::maps::find_helper;
use crate::sandbox::idmap::IdKind;
use crate::sandbox::subid::allotment;
use std::path::PathBuf;

/// What the calling process can do with namespaces on this machine.
///
/// `Display` prints it as a table, followed by advice on what stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The version of the kernel, as uname(2) tells it.
    pub kernel: String,
    /// Whether that is old enough not to be supported: before Linux 5.10.
    pub too_old: bool,
    /// Whether the caller has `CAP_SYS_ADMIN`: it needs no user namespace for the others.
    pub privileged: bool,
    /// The kinds of namespaces that the kernel has.
    pub kinds: Namespaces,
    /// Why a user namespace, which was tried, could not be made and mapped. `None` if it could.
    pub user_namespaces: Option<String>,
    /// The features of the kernel that the crate uses, and what it does without them.
    pub features: Vec<Feature>,
    /// What can forbid or limit namespaces, and whether it does.
    pub settings: Vec<Setting>,
    /// The ranges of user ids that `/etc/subuid` gives the caller.
    pub subuid: Vec<IdRange>,
    /// The ranges of group ids that `/etc/subgid` gives the caller.
    pub subgid: Vec<IdRange>,
    /// newuidmap(1), which maps those.
    pub newuidmap: Helper,
    /// newgidmap(1).
    pub newgidmap: Helper,
}

/// Consecutive ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct IdRange {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// A program that writes id maps on behalf of the unprivileged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "type", rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Helper {
    /// It can be used.
    Usable {
        /// Where it is.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "crate::inspect::json::path")
        )]
        path: PathBuf,
    },
    /// It cannot.
    Unusable {
        /// Why, and what to do.
        why: String,
    },
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

impl Report {
    /// Looks and tries. A user namespace is made and given up again; nothing else is changed.
    #[must_use]
    pub fn new() -> Self {
        let system = System::here();
        let present = |kind: &Kind| AnyNamespace::current(*kind).is_ok();
        let kinds = Kind::ALL.into_iter().filter(present);
        let kinds = kinds.fold(Namespaces::empty(), |set, kind| set | kind.into());
        let uname = rustix::system::uname();
        Self {
            kernel: uname.release().to_string_lossy().into_owned(),
            too_old: kernel_version() < (5, 10),
            privileged: system.is_privileged(),
            kinds,
            user_namespaces: Namespace::<User>::create()
                .err()
                .map(|error| format!("{error:?}")),
            features: features::probe(&system),
            settings: settings::read(&system),
            subuid: ranges(IdKind::User),
            subgid: ranges(IdKind::Group),
            newuidmap: helper(IdKind::User),
            newgidmap: helper(IdKind::Group),
        }
    }

    /// Whether the caller can make sandboxes at all, with or without a user namespace.
    #[must_use]
    pub fn works(&self) -> bool {
        !self.too_old && (self.privileged || self.user_namespaces.is_none())
    }

    /// Whether more ids than the caller's own can be mapped: [`IdMap::subids`](crate::IdMap::subids) works.
    #[must_use]
    pub fn maps_ranges(&self) -> bool {
        let has_helpers = [&self.newuidmap, &self.newgidmap]
            .iter()
            .all(|helper| matches!(helper, Helper::Usable { .. }));
        self.works()
            && !self.subuid.is_empty()
            && !self.subgid.is_empty()
            && (self.privileged || has_helpers)
    }

    /// What to do so that more works, the worst first.
    pub fn advice(&self) -> impl Iterator<Item = &str> {
        let forbids = |effect| {
            let settings = self.settings.iter();
            settings.filter(move |setting| setting.effect == effect)
        };
        let helpers = [&self.newuidmap, &self.newgidmap].into_iter();
        let helpers = helpers.filter_map(|helper| match helper {
            Helper::Unusable { why } if !self.privileged => Some(why.as_str()),
            _ => None,
        });
        let old = self.too_old.then_some("this needs Linux 5.10 or later");
        let no_ranges = self.subuid.is_empty() || self.subgid.is_empty();
        let ranges = (no_ranges && !self.privileged).then_some(
            "to map more than one's own id, as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
        );
        old.into_iter()
            .chain(forbids(Effect::Forbids).filter_map(|setting| setting.advice.as_deref()))
            .chain(forbids(Effect::Limits).filter_map(|setting| setting.advice.as_deref()))
            .chain(helpers)
            .chain(ranges)
    }
}

fn ranges(kind: IdKind) -> Vec<IdRange> {
    let ranges = allotment(kind).unwrap_or_default().into_iter();
    ranges
        .map(|(first, count)| IdRange { first, count })
        .collect()
}

fn helper(kind: IdKind) -> Helper {
    let setter = match kind {
        IdKind::User => "user_map",
        IdKind::Group => "group_map",
    };
    match find_helper(kind, setter) {
        Ok(path) => Helper::Usable { path },
        Err(error) => Helper::Unusable {
            why: error
                .hint()
                .map_or_else(|| error.to_string(), str::to_owned),
        },
    }
}
