//! How names, paths and the types of other modules are written.

use crate::ns::{Kind, NamespaceId, NamespaceIds, Namespaces};
use crate::sandbox::Extent;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;

pub(crate) fn bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

pub(crate) fn text<S: Serializer>(text: &OsStr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text.to_string_lossy())
}

pub(crate) fn texts<S: Serializer>(texts: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().map(|text| text.to_string_lossy()))
}

pub(crate) fn optional_texts<S: Serializer>(
    value: &Option<Vec<OsString>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => texts(value, serializer),
        None => serializer.serialize_none(),
    }
}

pub(crate) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    text(path.as_os_str(), serializer)
}

pub(crate) fn optional_path<S: Serializer>(
    value: &Option<Arc<Path>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => path(value, serializer),
        None => serializer.serialize_none(),
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.proc_name())
    }
}

impl Serialize for Namespaces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.kinds())
    }
}

impl Serialize for NamespaceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for NamespaceIds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Extent", 3)?;
        fields.serialize_field("inside", &self.inside)?;
        fields.serialize_field("outside", &self.outside)?;
        fields.serialize_field("count", &self.count)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use crate::inspect::parse::{FdInfo, Stat, Status, cgroups};
    use crate::inspect::{
        Change, Comparison, Container, Denied, Holder, Leader, Maps, NamespaceInfo, PidEntry,
        PidTable, ProcessInfo, Relation, Snapshot, Thread, Tree, TreeNode, Unseen,
    };
    use crate::ns::{Kind, NamespaceId, NamespaceIds, Namespaces};
    use crate::sandbox::Extent;
    use serde_json::{Value, json, to_value};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn id(kind: Kind, inode: u64) -> NamespaceId {
        NamespaceId::new(kind, 4, inode)
    }

    fn snapshot() -> Snapshot {
        let (user, uts) = (id(Kind::User, 10), id(Kind::Uts, 11));
        let info = |id| NamespaceInfo {
            id,
            unique_id: None,
            owner: None,
            owner_uid: None,
            parent: None,
            level: None,
            members: vec![],
            leader: None,
            holders: vec![],
            maps: None,
            netnsid: None,
        };
        let within = id(Kind::Mount, 12);
        let one = Extent {
            inside: 0,
            outside: 1000,
            count: 1,
        };
        let text = |bytes| OsStr::from_bytes(bytes).to_owned();
        Snapshot {
            namespaces: vec![
                NamespaceInfo {
                    level: Some(0),
                    members: vec![7],
                    leader: Some(Leader {
                        pid: 7,
                        command: vec![text(b"sh"), text(b"\xff")],
                    }),
                    holders: vec![Holder::Namespace { id: uts }],
                    maps: Some(Maps {
                        uid: vec![one],
                        gid: vec![],
                    }),
                    ..info(user)
                },
                NamespaceInfo {
                    unique_id: Some(5000),
                    owner: Some(user),
                    owner_uid: Some(1000),
                    holders: vec![
                        Holder::Thread { pid: 7, tid: 8 },
                        Holder::Descriptor { pid: 7, fd: 3 },
                        Holder::Socket { pid: 7, fd: 4 },
                        Holder::Mount {
                            within,
                            target: "/run/uts".into(),
                        },
                        Holder::ForChildren { pid: 7 },
                    ],
                    netnsid: Some(2),
                    ..info(uts)
                },
            ],
            processes: vec![ProcessInfo {
                pid: 7,
                ppid: 1,
                start_time: 99,
                state: 'S',
                thread_count: 2,
                uid: 1000,
                comm: text(b"sh"),
                command: Some(vec![text(b"sh")]),
                namespaces: NamespaceIds::new(vec![user]),
                pid_for_children: Some(id(Kind::Pid, 13)),
                time_for_children: None,
                threads: vec![Thread {
                    tid: 8,
                    namespaces: NamespaceIds::new(vec![user, uts]),
                }],
                numbers: Some(vec![7, 1]),
                cgroup: Some(Path::new("/a").into()),
            }],
            unseen: Unseen {
                processes: Denied {
                    eacces: 1,
                    ..Denied::default()
                },
                ..Unseen::default()
            },
            pid_namespace: Some(id(Kind::Pid, 14)),
        }
    }

    /// A change of this text breaks those who read it.
    #[test]
    fn the_text_of_a_snapshot_stays_as_it_is() {
        let text = serde_json::to_string_pretty(&snapshot()).unwrap() + "\n";
        assert_eq!(text, include_str!("snapshot.json"));
    }

    #[test]
    fn so_do_those_of_the_other_types() {
        let snapshot = snapshot();
        let (user, uts) = (id(Kind::User, 10), id(Kind::Uts, 11));
        let namespace = to_value(&snapshot.namespaces()[0]).unwrap();
        let written = |value: Result<Value, serde_json::Error>| value.unwrap();
        for (value, expected) in [
            (
                written(to_value(Change::Went(snapshot.namespaces()[0].clone()))),
                json!({"type": "went", "namespace": namespace}),
            ),
            (
                written(to_value(Comparison {
                    same: Namespaces::USER | Namespaces::MOUNT,
                    different: Namespaces::UTS,
                    unknown: Namespaces::empty(),
                })),
                json!({"same": ["user", "mnt"], "different": ["uts"], "unknown": []}),
            ),
            (
                written(to_value(Container {
                    pid: id(Kind::Pid, 1),
                    mount: id(Kind::Mount, 2),
                    cgroup: None,
                    processes: vec![7],
                })),
                json!({"pid": "pid:[1]", "mount": "mnt:[2]", "cgroup": null, "processes": [7]}),
            ),
            (
                written(to_value(PidTable {
                    namespace: id(Kind::Pid, 1),
                    entries: vec![PidEntry { pid: 7, inside: 1 }],
                })),
                json!({"namespace": "pid:[1]", "entries": [{"pid": 7, "inside": 1}]}),
            ),
            (
                written(to_value(Tree {
                    relation: Relation::Owner,
                    nodes: vec![TreeNode {
                        id: uts,
                        above: Some(user),
                        depth: 1,
                    }],
                })),
                json!({"relation": "owner", "nodes": [{"id": "uts:[11]", "above": "user:[10]", "depth": 1}]}),
            ),
        ] {
            assert_eq!(value, expected);
        }
    }

    #[test]
    fn parsed_texts_are_written_as_well() {
        let text = b"1 (sh) S 7 12 12 0 -1 1 1 2 3 4 5 6 7 8 20 0 3 0 99 0";
        let stat = to_value(Stat::parse(text).unwrap()).unwrap();
        assert_eq!(stat["comm"], "sh");
        assert_eq!(to_value(FdInfo::default()).unwrap()["ino"], Value::Null);
        assert_eq!(to_value(Status::default()).unwrap()["ns_pid"], json!([]));
        let entries = cgroups(b"4:cpu,cpuacct:/a\n").unwrap();
        let expected = json!([{"hierarchy": 4, "controllers": "cpu,cpuacct", "path": "/a"}]);
        assert_eq!(to_value(entries).unwrap(), expected);
    }
}
