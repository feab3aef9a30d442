//! The report says what the kernel does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod common;
mod support;

use std::fs;

use ringfence::Kind;
use ringfence::support::{Effect, Feature, Helper, Report};
use rustix::thread::UnshareFlags;

use common::leaks::{Census, assert_same};
use common::{isolated_as_both, isolated_as_user_with_subids, require, seccomp};
use support::{enter_userns, is_privileged};

fn feature(report: &Report, name: &str) -> Feature {
    let mut features = report.features.iter();
    *features.find(|feature| feature.name == name).unwrap()
}

#[test]
fn it_agrees_with_a_trial() {
    isolated_as_both(|| {
        let report = Report::new();
        assert_eq!(report.user_namespaces.is_none(), require::userns().is_ok());
        assert_eq!(report.privileged, is_privileged());
        let works = report.privileged || require::userns().is_ok();
        assert_eq!(report.works(), works);
        for kind in Kind::ALL {
            let exists = fs::exists(format!("/proc/self/ns/{kind}")).unwrap();
            assert_eq!(report.kinds.contains(kind.into()), exists, "{kind}");
        }
        assert!(report.to_string().contains(&report.kernel));
    });
}

#[test]
fn what_the_version_has_is_there() {
    isolated_as_both(|| {
        let report = Report::new();
        for feature in &report.features {
            let (major, minor) = feature.since.split_once('.').unwrap();
            let (major, minor) = (major.parse().unwrap(), minor.parse().unwrap());
            let is_new_enough = require::kernel(major, minor).is_ok();
            assert!(is_new_enough || !feature.available, "{feature:?}");
        }
        // Of this one the test can tell by itself.
        let mount = fs::read("/proc/self/mountinfo").is_ok();
        assert!(
            mount && feature(&report, "mount_setattr").available == require::kernel(5, 12).is_ok()
        );
    });
}

#[test]
fn subordinate_ids_are_listed() {
    isolated_as_user_with_subids(|| {
        require!(subuid);
        let report = Report::new();
        let ids = require::subids().unwrap();
        let first = report.subuid[0];
        assert_eq!((first.first, first.count), ids.uid);
        let first = report.subgid[0];
        assert_eq!((first.first, first.count), ids.gid);
        assert!(matches!(report.newuidmap, Helper::Usable { .. }));
        assert!(report.maps_ranges());
    });
}

#[test]
fn a_switch_that_is_off_is_found() {
    isolated_as_both(|| {
        require!(userns);
        enter_userns(0, UnshareFlags::empty());
        // Of this user namespace alone.
        fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
        let report = Report::new();
        let refusal = report.user_namespaces.as_deref().unwrap();
        assert!(refusal.contains("max_user_namespaces"), "{refusal}");
        let mut settings = report.settings.iter();
        let setting = settings
            .find(|setting| setting.name == "user.max_user_namespaces")
            .unwrap();
        assert_eq!(setting.effect, Effect::Forbids);
        assert!(
            report
                .advice()
                .any(|advice| advice.contains("max_user_namespaces"))
        );
    });
}

#[test]
fn what_a_filter_hides_is_missing() {
    isolated_as_both(|| {
        seccomp::Filter::new()
            .deny(libc::SYS_clone3, libc::ENOSYS)
            .deny(libc::SYS_mount_setattr, libc::ENOSYS)
            .install()
            .unwrap();
        let report = Report::new();
        for name in ["clone3", "mount_setattr"] {
            let feature = feature(&report, name);
            assert!(!feature.available, "{feature:?}");
            assert!(report.to_string().contains(feature.fallback));
        }
        assert!(feature(&report, "close_range").available);
    });
}

#[test]
fn nothing_stays_behind() {
    isolated_as_both(|| {
        drop(Report::new());
        let before = Census::take().without(&["maps"]);
        drop(Report::new());
        assert_same(&before, &Census::take().without(&["maps"]));
    });
}
