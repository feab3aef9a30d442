//! The mountinfo parser against generated text: what is printed comes back, and no bytes upset it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "common/mountinfo_line.rs"]
mod mountinfo_line;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mountinfo_line::{escape, lines};
use ringfence::mount::Propagation;
use ringfence::mount::mountinfo::MountTable;

/// xorshift64*: the same numbers every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap() % end
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn number(&mut self) -> u32 {
        let number = u32::try_from(self.next()).unwrap();
        number >> self.below(32)
    }

    fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    /// A name of any bytes but NUL, most of them such as need an escape.
    fn name(&mut self) -> Vec<u8> {
        let length = self.below(12);
        let byte = |random: &mut Self| match random.below(3) {
            0 => b" \t\n\\#,=-:\"07"[random.below(12)],
            1 => b'a' + u8::try_from(random.below(26)).unwrap(),
            _ => u8::try_from(1 + random.below(255)).unwrap(),
        };
        (0..length).map(|_| byte(self)).collect()
    }

    fn path(&mut self) -> Vec<u8> {
        let mut path = b"/".to_vec();
        path.extend(self.name());
        path
    }
}

#[derive(Debug)]
struct Model {
    id: u32,
    parent: u32,
    major: u32,
    minor: u32,
    root: Vec<u8>,
    target: Vec<u8>,
    options: &'static str,
    shared: Option<u32>,
    master: Option<u32>,
    propagate_from: Option<u32>,
    unbindable: bool,
    fs_type: &'static str,
    source: Vec<u8>,
    super_options: Vec<Vec<u8>>,
}

impl Model {
    fn random(random: &mut Random, id: u32) -> Self {
        let shared = random.chance().then(|| random.number());
        let master = random.chance().then(|| random.number());
        Self {
            id,
            parent: u32::try_from(random.below(40)).unwrap(),
            major: random.number(),
            minor: random.number(),
            root: random.path(),
            target: random.path(),
            options: random.pick(&["rw", "ro", "rw,nosuid,nodev", "ro,relatime,idmapped"]),
            shared,
            master,
            propagate_from: master.and_then(|_| random.chance().then(|| random.number())),
            unbindable: shared.is_none() && master.is_none() && random.chance(),
            fs_type: random.pick(&["ext4", "tmpfs", "fuse.sub#type", "fuse.a b"]),
            source: random.name(),
            super_options: (0..random.below(4)).map(|_| random.name()).collect(),
        }
    }

    fn print(&self) -> Vec<u8> {
        let Self {
            id,
            parent,
            major,
            minor,
            options,
            ..
        } = self;
        let mut line = format!("{id} {parent} {major}:{minor} ").into_bytes();
        line.extend(escape(&self.root, b" \t\n\\"));
        line.push(b' ');
        line.extend(escape(&self.target, b" \t\n\\"));
        line.extend(format!(" {options}").bytes());
        for (tag, group) in [
            ("shared", self.shared),
            ("master", self.master),
            ("propagate_from", self.propagate_from),
        ] {
            if let Some(group) = group {
                line.extend(format!(" {tag}:{group}").bytes());
            }
        }
        if self.unbindable {
            line.extend(b" unbindable");
        }
        line.extend(b" - ");
        line.extend(escape(self.fs_type.as_bytes(), b" \t\n\\#"));
        line.push(b' ');
        line.extend(escape(&self.source, b" \t\n\\#"));
        line.extend(b" rw");
        for value in &self.super_options {
            line.extend(b",name=");
            line.extend(escape(value, b", \t\n\\"));
        }
        line.push(b'\n');
        line
    }

    fn propagation(&self) -> Propagation {
        match (
            self.shared.is_some(),
            self.master.is_some(),
            self.unbindable,
        ) {
            (true, true, _) => Propagation::SlaveShared,
            (true, false, _) => Propagation::Shared,
            (false, true, _) => Propagation::Slave,
            (false, false, true) => Propagation::Unbindable,
            (false, false, false) => Propagation::Private,
        }
    }
}

#[test]
fn what_is_printed_is_parsed() {
    let mut random = Random(1);
    for _ in 0..300 {
        let count = u32::try_from(random.below(40)).unwrap();
        let models: Vec<Model> = (0..count)
            .map(|id| Model::random(&mut random, id))
            .collect();
        let text: Vec<u8> = models.iter().flat_map(Model::print).collect();
        let table = MountTable::parse(&text).unwrap();
        assert_eq!(table.len(), models.len());
        for (mount, model) in table.iter().zip(&models) {
            assert_eq!((mount.id(), mount.parent()), (model.id, model.parent));
            assert_eq!(
                (mount.device().major, mount.device().minor),
                (model.major, model.minor)
            );
            assert_eq!(mount.root().as_os_str().as_bytes(), model.root);
            assert_eq!(mount.target().as_os_str().as_bytes(), model.target);
            assert_eq!(mount.options().as_os_str(), model.options);
            let propagation = mount.propagation();
            assert_eq!(propagation.propagation(), model.propagation());
            assert_eq!(propagation.peer_group(), model.shared);
            assert_eq!(propagation.master(), model.master);
            assert_eq!(propagation.propagate_from(), model.propagate_from);
            assert_eq!(mount.fs_type(), model.fs_type);
            assert_eq!(mount.source().as_bytes(), model.source);
            let values: Vec<Vec<u8>> = mount
                .super_options()
                .iter()
                .filter_map(|option| Some(option.value?.as_bytes().to_vec()))
                .collect();
            assert_eq!(values, model.super_options);
        }
        assert_eq!(lines(&table), text);
        use_every_way(&table);
    }
}

/// Calls everything that a table can be asked, and checks what holds for any table.
fn use_every_way(table: &MountTable) {
    let walked: Vec<*const _> = table
        .walk()
        .map(|entry| std::ptr::from_ref(entry.mount))
        .collect();
    assert_eq!(walked.len(), table.len());
    assert_eq!(
        walked.iter().collect::<HashSet<_>>().len(),
        table.len(),
        "a mount is walked twice"
    );
    assert_eq!(
        table.walk().filter(|entry| entry.depth == 0).count(),
        table.tops().count()
    );
    for mount in table {
        assert_eq!(
            table.get(mount.id()).map(|mount| mount.id()),
            Some(mount.id())
        );
        assert!(table.children_of(mount.id()).count() < table.len());
        if let Some(over) = table.mount_over(mount.target()) {
            assert!(mount.target().starts_with(over.target()));
        }
        for options in [mount.options(), mount.super_options()] {
            assert!(options.iter().all(|option| options.contains(&option.name)));
        }
        assert!(!format!("{mount:?} {}", mount.propagation()).is_empty());
    }
    assert_eq!(table.mount_over("/"), table.root());
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(2);
    let alphabet = b"0123456789  \n:-,=\\/absharedmter:1 - ";
    for round in 0..20_000 {
        let length = random.below(200);
        let bytes: Vec<u8> = (0..length)
            .map(|_| match round % 2 {
                0 => u8::try_from(random.below(256)).unwrap(),
                _ => alphabet[random.below(alphabet.len())],
            })
            .collect();
        if let Ok(table) = MountTable::parse(&bytes) {
            use_every_way(&table);
        }
    }
}

#[test]
fn mutilated_tables_never_panic() {
    let mut random = Random(3);
    let mut parsed = 0;
    for _ in 0..3_000 {
        let mut text: Vec<u8> = (0..8)
            .flat_map(|id| Model::random(&mut random, id).print())
            .collect();
        for _ in 0..random.below(4) {
            let at = random.below(text.len());
            match random.below(4) {
                0 => text[at] = u8::try_from(random.below(256)).unwrap(),
                1 => drop(text.remove(at)),
                2 => text.truncate(at + 1),
                _ => {
                    let tail = text[at..].to_vec();
                    text.extend(tail);
                }
            }
        }
        if let Ok(table) = MountTable::parse(&text) {
            use_every_way(&table);
            parsed += 1;
        }
    }
    assert!(parsed > 300, "only {parsed} tables were still tables");
}

/// Ids that go round in circles, which no kernel prints.
#[test]
fn circles_are_cut() {
    let line = |id: u32, parent: u32| format!("{id} {parent} 0:1 / / rw - tmpfs none rw\n");
    for links in [
        &[(1, 1)][..],
        &[(1, 2), (2, 1)],
        &[(1, 2), (2, 3), (3, 2), (4, 1)],
        &[(5, 5), (5, 5), (6, 5)],
        &[(1, 2), (2, 1), (1, 2), (2, 1)],
    ] {
        let text: String = links
            .iter()
            .map(|(id, parent)| line(*id, *parent))
            .collect();
        let table = MountTable::parse(text.as_bytes()).unwrap();
        use_every_way(&table);
        assert!(table.root().is_some());
    }
}

#[test]
fn a_relative_target_is_over_nothing() {
    let text = b"1 1 0:1 / rel rw - tmpfs none rw\n2 1 0:1 / / rw - tmpfs none rw\n";
    let table = MountTable::parse(text).unwrap();
    assert_eq!(table.mount_over("/"), None);
    assert_eq!(table.mount_over("rel"), None);
    assert_eq!(
        table.mount_over(Path::new(OsStr::from_bytes(b"/\xff"))),
        None
    );
}
