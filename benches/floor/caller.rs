//! What makes the caller expensive to copy: memory and descriptors.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::raw;

/// Resident memory in small pages, so that the page tables are as large as they are in a server.
pub(crate) fn ballast(bytes: usize) -> Vec<u8> {
    let mut memory = Vec::with_capacity(bytes);
    raw::refuse_huge_pages(memory.spare_capacity_mut());
    memory.resize(bytes, 1);
    memory
}

/// As many as the hard limit allows.
pub(crate) fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be raised to the hard one");
}

pub(crate) fn many_descriptors(count: usize) -> Vec<OwnedFd> {
    allow_descriptors();
    let null = File::open("/dev/null").expect("/dev/null");
    (0..count)
        .map(|opened| match null.try_clone() {
            Ok(file) => OwnedFd::from(file),
            Err(error) => panic!("descriptor {opened} of {count}: {error}"),
        })
        .collect()
}
