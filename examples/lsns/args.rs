//! The command line.

use lexopt::{Arg, Parser, ValueExt};
use ringfence::inspect::Relation;
use ringfence::{Kind, Namespaces};

use super::columns::Column;
use super::filter::Filter;

pub(crate) enum Action {
    Help,
    Version,
    Columns(Format),
    List(Box<Args>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Raw,
    Json,
}

pub(crate) struct Args {
    pub(crate) format: Format,
    pub(crate) headings: bool,
    pub(crate) truncate: bool,
    pub(crate) wrap: bool,
    pub(crate) persistent: bool,
    pub(crate) columns: Vec<Column>,
    pub(crate) kinds: Namespaces,
    pub(crate) task: Option<u32>,
    pub(crate) filter: Option<Filter>,
    /// `None` for a list.
    pub(crate) tree: Option<Relation>,
    /// The inode number of the namespace whose processes are asked for.
    pub(crate) namespace: Option<u64>,
}

impl Args {
    /// Whether the column is shown or filtered by.
    pub(crate) fn uses(&self, column: Column) -> bool {
        let filtered = self.filter.as_ref();
        self.columns.contains(&column) || filtered.is_some_and(|filter| filter.uses(column))
    }
}

/// What the options say, before it is made sense of.
#[derive(Default)]
struct Given {
    json: bool,
    raw: bool,
    list: bool,
    no_headings: bool,
    no_truncate: bool,
    no_wrap: bool,
    persistent: bool,
    columns: Option<String>,
    all_columns: bool,
    kinds: Namespaces,
    task: Option<u32>,
    filter: Option<Filter>,
    tree: Option<Relation>,
    namespace: Option<u64>,
    list_columns: bool,
}

pub(crate) fn parse(mut parser: Parser) -> Result<Action, String> {
    let hint =
        |error: &dyn std::fmt::Display| format!("{error}\nTry 'lsns --help' for more information.");
    let mut given = Given::default();
    while let Some(arg) = parser.next().map_err(|error| hint(&error))? {
        let name = match arg {
            Arg::Short(name) => format!("-{name}"),
            Arg::Long(name) => format!("--{name}"),
            Arg::Value(value) => {
                let text = value.to_string_lossy();
                let number = text.parse();
                let number = number.map_err(|_| format!("invalid namespace argument: '{text}'"))?;
                given.namespace = Some(number);
                continue;
            }
        };
        match name.as_str() {
            "-h" | "--help" => return Ok(Action::Help),
            "-V" | "--version" => return Ok(Action::Version),
            "-T" | "--tree" => given.tree = Some(relation(parser.optional_value())?),
            name => {
                let value = || parser.value().and_then(ValueExt::string);
                option(&mut given, name, value).map_err(|error| match error {
                    Wrong::Value(what) => what,
                    Wrong::Option(error) => hint(&error),
                })?;
            }
        }
    }
    given.action()
}

enum Wrong {
    Value(String),
    Option(lexopt::Error),
}

impl From<lexopt::Error> for Wrong {
    fn from(error: lexopt::Error) -> Self {
        Self::Option(error)
    }
}

fn option(
    given: &mut Given,
    name: &str,
    value: impl FnOnce() -> Result<String, lexopt::Error>,
) -> Result<(), Wrong> {
    match name {
        "-H" | "--list-columns" => given.list_columns = true,
        "-J" | "--json" => given.json = true,
        "-l" | "--list" => given.list = true,
        "-n" | "--noheadings" => given.no_headings = true,
        "-o" | "--output" => given.columns = Some(value()?),
        "--output-all" => given.all_columns = true,
        "-P" | "--persistent" => given.persistent = true,
        "-r" | "--raw" => given.raw = true,
        "-u" | "--notruncate" => given.no_truncate = true,
        "-W" | "--nowrap" => given.no_wrap = true,
        "-p" | "--task" => {
            let text = value()?;
            let pid = text.parse();
            let wrong = |_| Wrong::Value(format!("invalid PID argument: '{text}'"));
            given.task = Some(pid.map_err(wrong)?);
        }
        "-t" | "--type" => {
            let name = value()?;
            let kind = Kind::from_proc_name(&name);
            let wrong = || Wrong::Value(format!("unknown namespace type: {name}"));
            given.kinds |= kind.ok_or_else(wrong)?.into();
        }
        "-Q" | "--filter" => {
            given.filter = Some(Filter::parse(&value()?).map_err(Wrong::Value)?);
        }
        _ => {
            let unknown = match name.strip_prefix("--") {
                Some(_) => format!("unrecognized option '{name}'"),
                None => format!("invalid option -- '{}'", name.trim_start_matches('-')),
            };
            return Err(Wrong::Option(unknown.into()));
        }
    }
    Ok(())
}

fn relation(value: Option<std::ffi::OsString>) -> Result<Relation, String> {
    let name = value.map(|value| value.to_string_lossy().into_owned());
    match name.as_deref() {
        None | Some("owner") => Ok(Relation::Owner),
        Some("parent") => Ok(Relation::Parent),
        Some("process") => Ok(Relation::Process),
        Some(name) => Err(format!("unknown tree type: {name}")),
    }
}

impl Given {
    fn action(self) -> Result<Action, String> {
        let format = match (self.json, self.raw) {
            (true, true) => return Err("mutually exclusive arguments: --json --raw".to_owned()),
            (true, false) => Format::Json,
            (false, true) => Format::Raw,
            (false, false) => Format::Table,
        };
        if self.list_columns {
            return Ok(Action::Columns(format));
        }
        if self.task.is_some() && self.namespace.is_some() {
            return Err("--task is mutually exclusive with <namespace>".to_owned());
        }
        if self.persistent && self.task.is_some() {
            return Err("--persistent is mutually exclusive with --task".to_owned());
        }
        // A tree by process unless something else is asked for.
        let default = (!self.all_columns).then_some(Relation::Process);
        let tree = match (self.list, self.namespace) {
            (true, _) => None,
            (false, Some(_)) => Some(Relation::Process),
            (false, None) => self.tree.or(default),
        };
        let kinds = match self.kinds.is_empty() {
            true => Namespaces::all(),
            false => self.kinds,
        };
        Ok(Action::List(Box::new(Args {
            format,
            headings: !self.no_headings,
            truncate: !self.no_truncate,
            wrap: !self.no_wrap,
            persistent: self.persistent,
            columns: self.columns(kinds)?,
            kinds,
            task: self.task,
            filter: self.filter,
            tree,
            namespace: self.namespace,
        })))
    }

    fn columns(&self, kinds: Namespaces) -> Result<Vec<Column>, String> {
        use Column::*;
        if self.all_columns {
            return Ok(Column::ALL.to_vec());
        }
        let default = match self.namespace {
            Some(_) => vec![Pid, Ppid, User, Command],
            None if self.kinds.contains(Namespaces::NET) && !kinds.is_empty() => {
                vec![Ns, Type, Nprocs, Pid, User, Netnsid, Nsfs, Command]
            }
            None if self.persistent => vec![Ns, Type, Path],
            None => vec![Ns, Type, Nprocs, Pid, User, Command],
        };
        let Some(names) = &self.columns else {
            return Ok(default);
        };
        let (mut columns, names) = match names.strip_prefix('+') {
            Some(names) => (default, names),
            None => (Vec::new(), names.as_str()),
        };
        for name in names.split(',') {
            let column = Column::from_name(name);
            columns.push(column.ok_or_else(|| format!("unknown column: {name}"))?);
        }
        Ok(columns)
    }
}

pub(crate) fn help() -> String {
    let mut text = "\
Usage:
 lsns [options] [<namespace>]

List the namespaces of the system, or the processes of one.

Options:
 -H, --list-columns     list the available columns
 -J, --json             use JSON output format
 -l, --list             use list format output
 -n, --noheadings       don't print headings
 -o, --output <list>    define which output columns to use
     --output-all       output all columns
 -P, --persistent       namespaces without processes
 -p, --task <pid>       print process namespaces
 -Q, --filter <expr>    print those for which the expression is true
 -r, --raw              use the raw output format
 -u, --notruncate       don't truncate text in columns
 -W, --nowrap           don't use multi-line representation
 -t, --type <name>      namespace type (mnt, net, ipc, user, pid, uts, cgroup, time)
 -T, --tree[=<rel>]     use tree format (parent, owner, or process)

 -h, --help             display this help
 -V, --version          display version

Available output columns:
"
    .to_owned();
    for column in Column::ALL {
        text += &format!(" {:>11}  {}\n", column.name(), column.help());
    }
    text
}
