//! `cargo +nightly fuzz run mountinfo`: no bytes make the parser or the tree panic or hang.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringfence::mount::mountinfo::MountTable;

fuzz_target!(|bytes: &[u8]| {
    let Ok(table) = MountTable::parse(bytes) else { return };
    assert_eq!(table.walk().count(), table.len());
    for mount in &table {
        let over = table.mount_over(mount.target());
        assert!(over.is_none_or(|over| mount.target().starts_with(over.target())));
        assert!(table.children_of(mount.id()).count() < table.len());
        for options in [mount.options(), mount.super_options()] {
            assert!(options.iter().count() <= options.as_os_str().len() + 1);
        }
    }
});
