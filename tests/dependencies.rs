//! What the crate builds on, as cargo resolves it: few crates, each accounted for, of known licences, from
//! the registry, and none that asks for a newer compiler.
#![expect(
    clippy::unwrap_used,
    reason = "an answer of cargo's that cannot be read fails the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

/// As in `deny.toml`.
const LICENCES: [&str; 3] = ["Apache-2.0", "MIT", "Unicode-3.0"];

/// What `cargo metadata` says, without asking the network.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--locked"])
        .args(["--all-features", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().unwrap()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

fn own(metadata: &Value) -> &Value {
    let mut packages = packages(metadata).iter();
    packages
        .find(|package| name(package) == "ringfence")
        .unwrap()
}

/// Whether the expression can be met by allowed licences. `/` is the old way to write `OR`.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // Without nesting, `AND` of groups in parentheses is all that occurs.
    expression.split(" AND ").all(|group| {
        group
            .split(" OR ")
            .any(|licence| LICENCES.contains(&licence.trim()))
    })
}

#[test]
fn the_dependencies_are_those_that_the_design_accounts_for() {
    let metadata = metadata();
    let dependencies = own(&metadata)["dependencies"].as_array().unwrap();
    let normal: BTreeSet<_> = dependencies
        .iter()
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| (name(dependency), dependency["optional"] == true))
        .collect();
    let design =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/design.md")).unwrap();
    let (_, table) = design.split_once("## Dependencies").unwrap();
    let accounted: BTreeSet<_> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .filter(|cell| *cell != "crate")
        .map(|cell| match cell.split_once(" (feature ") {
            Some((name, _)) => (name, true),
            None => (cell, false),
        })
        .collect();
    assert_eq!(normal, accounted);
    let builds = dependencies.iter().filter(|one| one["kind"] == "build");
    assert_eq!(builds.count(), 0, "the build script needs nothing");
}

#[test]
fn every_package_has_a_licence_that_is_allowed() {
    assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!is_allowed("(MIT OR Apache-2.0) AND GPL-2.0"));
    assert!(!is_allowed("GPL-2.0 OR LGPL-2.1"));
    for package in packages(&metadata()) {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(is_allowed(licence), "{}: {licence}", name(package));
    }
}

#[test]
fn every_other_package_is_from_the_registry() {
    for package in packages(&metadata()) {
        let source = package["source"].as_str();
        let expected = match name(package) {
            "ringfence" => source.is_none(),
            _ => source.is_some_and(|source| source.starts_with("registry+")),
        };
        assert!(expected, "{} is from {source:?}", name(package));
    }
}

#[test]
fn no_dependency_needs_a_newer_compiler() {
    let metadata = metadata();
    let version = |package: &Value| -> Option<Vec<u32>> {
        let version = package["rust_version"].as_str()?;
        Some(
            version
                .split('.')
                .map(|part| part.parse().unwrap())
                .collect(),
        )
    };
    let own = version(own(&metadata)).unwrap();
    for package in packages(&metadata) {
        let wanted = version(package).unwrap_or_default();
        assert!(
            wanted.get(..2) <= own.get(..2),
            "{}: {wanted:?}",
            name(package)
        );
    }
}
