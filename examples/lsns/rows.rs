//! Which lines there are, and what they say.

use std::collections::HashMap;

use ringfence::inspect::{Holder, NamespaceInfo, ProcessInfo, Relation, Snapshot, TreeNode};
use ringfence::{Kind, NamespaceId};

use super::args::Args;
use super::columns::Column;

/// A line, with the lines below it in the tree.
pub(crate) struct Row {
    pub(crate) kind: Kind,
    /// In the order of [`Column::ALL`]; empty where there is nothing to say.
    cells: [String; 13],
    pub(crate) below: Vec<Row>,
}

impl Row {
    pub(crate) fn cell(&self, column: Column) -> &str {
        &self.cells[column as usize]
    }
}

pub(crate) fn select(args: &Args, snapshot: &Snapshot) -> Result<Vec<Row>, String> {
    let names = Users::read();
    let rows = match args.namespace {
        Some(inode) => {
            let info = snapshot.by_inode(inode);
            let info = info.ok_or_else(|| format!("not found namespace: {inode}"))?;
            processes(args, snapshot, info, &names)
        }
        None => namespaces(args, snapshot, &names),
    };
    Ok(keep(rows, args))
}

/// Those that the filter wants; what is below another one moves up.
fn keep(rows: Vec<Row>, args: &Args) -> Vec<Row> {
    let Some(filter) = &args.filter else {
        return rows;
    };
    let kept = rows.into_iter().flat_map(|mut row| {
        row.below = keep(row.below, args);
        match filter.is_true(|column| row.cell(column)) {
            true => vec![row],
            false => row.below,
        }
    });
    kept.collect()
}

fn namespaces(args: &Args, snapshot: &Snapshot, names: &Users) -> Vec<Row> {
    let is_wanted = |info: &NamespaceInfo| {
        let has_process = !info.members.is_empty();
        let by_task = args.task.is_none_or(|pid| info.members.contains(&pid));
        // What only leads to others belongs to a tree.
        let is_link = matches!(args.tree, Some(Relation::Owner | Relation::Parent))
            && info
                .holders
                .iter()
                .any(|holder| matches!(holder, Holder::Namespace { .. }));
        let by_process = match args.persistent {
            true => !has_process,
            false => has_process || is_link && args.task.is_none(),
        };
        args.kinds.contains(info.kind().into()) && by_task && by_process
    };
    let row = |info: &NamespaceInfo| Row {
        kind: info.kind(),
        cells: cells(snapshot, info, None, names),
        below: Vec::new(),
    };
    match args.tree {
        Some(relation @ (Relation::Owner | Relation::Parent)) => {
            let nodes = snapshot.tree(relation).nodes;
            let wanted = |id| snapshot.get(id).filter(|info| is_wanted(info));
            tree(&nodes, wanted, row)
        }
        tree => {
            let mut infos: Vec<_> = snapshot.namespaces().iter().collect();
            infos.sort_by_key(|info| info.id.inode());
            infos.retain(|info| is_wanted(info));
            match tree {
                Some(_) => by_process(snapshot, &infos, row),
                None => infos.into_iter().map(row).collect(),
            }
        }
    }
}

/// Each below the last one before it that is shown by the parent of the process that shows it.
fn by_process(
    snapshot: &Snapshot,
    infos: &[&NamespaceInfo],
    row: impl Fn(&NamespaceInfo) -> Row,
) -> Vec<Row> {
    let mut last: HashMap<u32, usize> = HashMap::new();
    let mut below: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for (at, info) in infos.iter().enumerate() {
        let leader = info.leader.as_ref();
        let process = leader.and_then(|leader| snapshot.process(leader.pid));
        let above = process.and_then(|process| last.get(&process.ppid).copied());
        below.entry(above).or_default().push(at);
        if let Some(process) = process {
            last.insert(process.pid, at);
        }
    }
    fn build(
        above: Option<usize>,
        below: &HashMap<Option<usize>, Vec<usize>>,
        row: &impl Fn(usize) -> Row,
    ) -> Vec<Row> {
        let rows = below.get(&above).into_iter().flatten();
        let rows = rows.map(|&at| Row {
            below: build(Some(at), below, row),
            ..row(at)
        });
        rows.collect()
    }
    build(None, &below, &|at| row(infos[at]))
}

/// Rows from nodes that come each after the one above; those that are not wanted leave theirs to the next above.
fn tree<'a>(
    nodes: &[TreeNode],
    wanted: impl Fn(NamespaceId) -> Option<&'a NamespaceInfo>,
    row: impl Fn(&NamespaceInfo) -> Row,
) -> Vec<Row> {
    let above: HashMap<_, _> = nodes.iter().map(|node| (node.id, node.above)).collect();
    let nearest = |id: NamespaceId| {
        let up = |id: &NamespaceId| above.get(id).copied().flatten();
        std::iter::successors(up(&id), up).find(|&id| wanted(id).is_some())
    };
    let mut below: HashMap<Option<NamespaceId>, Vec<&NamespaceInfo>> = HashMap::new();
    for info in nodes.iter().filter_map(|node| wanted(node.id)) {
        below.entry(nearest(info.id)).or_default().push(info);
    }
    fn build(
        at: Option<NamespaceId>,
        below: &HashMap<Option<NamespaceId>, Vec<&NamespaceInfo>>,
        row: &impl Fn(&NamespaceInfo) -> Row,
    ) -> Vec<Row> {
        let mut infos = below.get(&at).cloned().unwrap_or_default();
        infos.sort_by_key(|info| info.id.inode());
        let rows = infos.into_iter().map(|info| Row {
            below: build(Some(info.id), below, row),
            ..row(info)
        });
        rows.collect()
    }
    build(None, &below, &row)
}

/// The processes of a namespace, below each other as far as the parents are in it as well.
fn processes(args: &Args, snapshot: &Snapshot, info: &NamespaceInfo, names: &Users) -> Vec<Row> {
    let row = |process: &ProcessInfo| Row {
        kind: info.kind(),
        cells: cells(snapshot, info, Some(process), names),
        below: Vec::new(),
    };
    let members: Vec<_> = snapshot.members(info.id).collect();
    if args.tree.is_none() {
        return members.into_iter().map(row).collect();
    }
    let mut below: HashMap<Option<u32>, Vec<&ProcessInfo>> = HashMap::new();
    for process in members {
        let is_in = info.members.binary_search(&process.ppid).is_ok();
        let above = Some(process.ppid).filter(|_| is_in);
        below.entry(above).or_default().push(process);
    }
    fn build(
        at: Option<u32>,
        below: &mut HashMap<Option<u32>, Vec<&ProcessInfo>>,
        row: &impl Fn(&ProcessInfo) -> Row,
    ) -> Vec<Row> {
        let processes = below.remove(&at).unwrap_or_default().into_iter();
        let rows = processes.map(|process| Row {
            below: build(Some(process.pid), below, row),
            ..row(process)
        });
        rows.collect()
    }
    build(None, &mut below, &row)
}

fn cells(
    snapshot: &Snapshot,
    info: &NamespaceInfo,
    process: Option<&ProcessInfo>,
    names: &Users,
) -> [String; 13] {
    let leader = info.leader.as_ref();
    let shown = process.or_else(|| snapshot.process(leader?.pid));
    let uid = shown.map(|process| process.uid).or(info.owner_uid);
    let of_process = |text: &dyn Fn(&ProcessInfo) -> String| shown.map(text).unwrap_or_default();
    let inode = |id: Option<NamespaceId>| id.map_or(0, |id| id.inode()).to_string();
    let pins: Vec<_> = info
        .pins()
        .filter_map(|holder| match holder {
            Holder::Mount { target, .. } => Some(target.display().to_string()),
            _ => None,
        })
        .collect();
    Column::ALL.map(|column| match column {
        Column::Ns => info.id.inode().to_string(),
        Column::Type => info.kind().to_string(),
        Column::Path => match shown {
            Some(process) => format!("/proc/{}/ns/{}", process.pid, info.kind()),
            None => path(info),
        },
        Column::Nprocs => info.members.len().to_string(),
        Column::Pid => of_process(&|process| process.pid.to_string()),
        Column::Ppid => of_process(&|process| process.ppid.to_string()),
        Column::Command => of_process(&|process| command(info, process)),
        Column::Uid => uid.map(|uid| uid.to_string()).unwrap_or_default(),
        Column::User => uid.map(|uid| names.name(uid)).unwrap_or_default(),
        Column::Netnsid => match (info.kind(), info.netnsid) {
            (Kind::Net, Some(id)) => id.to_string(),
            (Kind::Net, None) => "unassigned".to_owned(),
            _ => String::new(),
        },
        Column::Nsfs => pins.join("\n"),
        Column::Pns => inode(info.parent),
        Column::Ons => inode(info.owner),
    })
}

/// Where a namespace without processes can be opened.
fn path(info: &NamespaceInfo) -> String {
    let mut holders = info.holders.iter();
    let found = holders.find_map(|holder| match holder {
        Holder::Mount { target, .. } => Some(target.display().to_string()),
        Holder::Descriptor { pid, fd } => Some(format!("/proc/{pid}/fd/{fd}")),
        Holder::Thread { pid, tid } => Some(format!("/proc/{pid}/task/{tid}/ns/{}", info.kind())),
        Holder::ForChildren { pid } => Some(format!("/proc/{pid}/ns/{}_for_children", info.kind())),
        _ => None,
    });
    found.unwrap_or_default()
}

fn command(info: &NamespaceInfo, process: &ProcessInfo) -> String {
    let leader = info
        .leader
        .as_ref()
        .filter(|leader| leader.pid == process.pid);
    let of_leader = leader.map(|leader| leader.command.as_slice());
    let words = process.command.as_deref().or(of_leader).unwrap_or_default();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    match words.join(" ") {
        line if line.is_empty() => process.comm.to_string_lossy().into_owned(),
        line => line,
    }
}

/// The names of users.
struct Users(HashMap<u32, String>);

impl Users {
    fn read() -> Self {
        let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let users = text.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
        });
        Self(users.collect())
    }

    fn name(&self, uid: u32) -> String {
        self.0.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
}
