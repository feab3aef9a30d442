//! Namespaces as trees.

use super::model::{NamespaceInfo, Snapshot};
use crate::ns::NamespaceId;
use std::collections::HashMap;

/// What makes one namespace the child of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Relation {
    /// A user or pid namespace lies in another one. The other kinds stand alone.
    Parent,
    /// A user namespace owns it; a user namespace is below its parent.
    Owner,
    /// The nearest ancestor of its leader that is in another namespace of the kind is in that.
    Process,
}

/// Namespaces as trees, from [`Snapshot::tree`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Tree {
    /// What the links are.
    pub relation: Relation,
    /// Every namespace once, each after the one that it is below.
    pub nodes: Vec<TreeNode>,
}

/// A namespace in a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TreeNode {
    /// The namespace.
    pub id: NamespaceId,
    /// The one that it is below.
    pub above: Option<NamespaceId>,
    /// How many are above it.
    pub depth: usize,
}

impl Snapshot {
    /// The namespaces as trees. [`Relation::Parent`] and [`Relation::Owner`] need
    /// [`Sources::RELATIONS`](super::Sources::RELATIONS).
    #[must_use]
    pub fn tree(&self, relation: Relation) -> Tree {
        let mut below: HashMap<Option<NamespaceId>, Vec<NamespaceId>> = HashMap::new();
        for info in &self.namespaces {
            let above = self
                .above(info, relation)
                .filter(|&above| above != info.id && self.get(above).is_some());
            below.entry(above).or_default().push(info.id);
        }
        let mut nodes = Vec::with_capacity(self.namespaces.len());
        let mut pending = Vec::new();
        let push = |pending: &mut Vec<TreeNode>, ids: Vec<_>, above, depth| {
            let nodes = ids.into_iter().rev();
            pending.extend(nodes.map(|id| TreeNode { id, above, depth }));
        };
        push(
            &mut pending,
            below.remove(&None).unwrap_or_default(),
            None,
            0,
        );
        while let Some(node) = pending.pop() {
            let ids = below.remove(&Some(node.id)).unwrap_or_default();
            push(&mut pending, ids, Some(node.id), node.depth + 1);
            nodes.push(node);
        }
        Tree { relation, nodes }
    }

    fn above(&self, info: &NamespaceInfo, relation: Relation) -> Option<NamespaceId> {
        match relation {
            Relation::Parent => info.parent,
            Relation::Owner => info.owner,
            Relation::Process => {
                let leader = self.process(info.leader.as_ref()?.pid)?;
                let parent = |pid: &u32| self.process(*pid).map(|process| process.ppid);
                // A ring of parents cannot be, but pids may have been used again.
                let ancestors = std::iter::successors(Some(leader.ppid), parent);
                ancestors
                    .take(self.processes.len())
                    .filter_map(|pid| self.process(pid)?.namespaces.get(info.kind()))
                    .find(|&id| id != info.id)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Scan;

    #[test]
    fn every_namespace_is_in_a_tree_once() {
        let snapshot = Scan::new().run().unwrap();
        for relation in [Relation::Parent, Relation::Owner, Relation::Process] {
            let tree = snapshot.tree(relation);
            let mut seen = Vec::new();
            for node in &tree.nodes {
                assert_eq!(node.depth == 0, node.above.is_none());
                assert!(node.above.is_none_or(|above| seen.contains(&above)));
                seen.push(node.id);
            }
            assert_eq!(seen.len(), snapshot.namespaces().len(), "{relation:?}");
        }
    }
}
