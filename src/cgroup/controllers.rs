//! The controllers of a cgroup, and where one is that is missing.

use std::fmt;
use std::path::Path;

bitflags::bitflags! {
    /// Controllers of cgroup v2, each of which limits one resource.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Controllers: u32 {
        /// Processor time.
        const CPU = 1;
        /// Processors and memory nodes.
        const CPUSET = 1 << 1;
        /// Block I/O.
        const IO = 1 << 2;
        /// Memory.
        const MEMORY = 1 << 3;
        /// The number of processes.
        const PIDS = 1 << 4;
        /// Huge pages.
        const HUGETLB = 1 << 5;
        /// RDMA resources.
        const RDMA = 1 << 6;
        /// Other countable resources.
        const MISC = 1 << 7;
    }
}

impl Controllers {
    /// Those of a text of the kernel's; what has no name here is left out.
    pub(super) fn parse(text: &str) -> Self {
        let names = text.split_whitespace();
        names
            .filter_map(|name| Self::from_name(&name.to_ascii_uppercase()))
            .collect()
    }

    pub(super) fn names(self) -> impl Iterator<Item = String> {
        self.iter_names().map(|(name, _)| name.to_ascii_lowercase())
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.write_str(&names.join(" "))
    }
}

/// Why a cgroup does not have the controller of this name.
pub(super) fn why_missing(cgroup: &Path, name: &str) -> String {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if is_v1(&own, name) {
        return format!(
            "this is a hybrid host: {name} belongs to a hierarchy of cgroup v1; boot with systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1={name}"
        );
    }
    let above = cgroup.join("../cgroup.controllers");
    let above = std::fs::read_to_string(above).unwrap_or_default();
    if above.split_whitespace().any(|other| other == name) {
        return format!("the parent has {name} but does not hand it on, see Cgroup::enable");
    }
    format!("no cgroup above hands {name} on, or the kernel was built without it")
}

/// Whether a controller is in a hierarchy of v1, which all have a number other than 0.
fn is_v1(own: &str, name: &str) -> bool {
    own.lines().any(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers) = (fields.next(), fields.next());
        number != Some("0") && controllers.is_some_and(|all| all.split(',').any(|one| one == name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_found_in_a_hierarchy_of_v1() {
        let hybrid = "5:cpu,cpuacct:/x\n4:memory:/a:b\n1:name=systemd:/\n0::/\n";
        assert!(is_v1(hybrid, "memory") && is_v1(hybrid, "cpu") && !is_v1(hybrid, "io"));
        assert!(!is_v1("0::/memory\n", "memory"));
    }

    #[test]
    fn what_has_no_name_is_left_out() {
        let found = Controllers::parse("cpu memory zoo\n");
        assert_eq!(found, Controllers::CPU | Controllers::MEMORY);
        assert_eq!(found.to_string(), "cpu memory");
    }
}
