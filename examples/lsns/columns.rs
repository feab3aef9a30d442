//! The columns and their values.

use super::args::Format;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Column {
    Ns,
    Type,
    Path,
    Nprocs,
    Pid,
    Ppid,
    Command,
    Uid,
    User,
    Netnsid,
    Nsfs,
    Pns,
    Ons,
}

impl Column {
    pub(crate) const ALL: [Self; 13] = [
        Self::Ns,
        Self::Type,
        Self::Path,
        Self::Nprocs,
        Self::Pid,
        Self::Ppid,
        Self::Command,
        Self::Uid,
        Self::User,
        Self::Netnsid,
        Self::Nsfs,
        Self::Pns,
        Self::Ons,
    ];

    pub(crate) fn name(self) -> &'static str {
        self.facts().0
    }

    pub(crate) fn help(self) -> &'static str {
        self.facts().1
    }

    fn facts(self) -> (&'static str, &'static str) {
        match self {
            Self::Ns => ("NS", "namespace identifier (inode number)"),
            Self::Type => ("TYPE", "kind of namespace"),
            Self::Path => ("PATH", "path to the namespace"),
            Self::Nprocs => ("NPROCS", "number of processes in the namespace"),
            Self::Pid => ("PID", "lowest PID in the namespace"),
            Self::Ppid => ("PPID", "PPID of the PID"),
            Self::Command => ("COMMAND", "command line of the PID"),
            Self::Uid => ("UID", "UID of the PID"),
            Self::User => ("USER", "username of the PID"),
            Self::Netnsid => ("NETNSID", "namespace ID as used by network subsystem"),
            Self::Nsfs => ("NSFS", "nsfs mountpoint (usually used network subsystem)"),
            Self::Pns => ("PNS", "parent namespace identifier (inode number)"),
            Self::Ons => ("ONS", "owner namespace identifier (inode number)"),
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let is_it = |column: &Self| column.name().eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(is_it)
    }

    /// Whether JSON has a number here.
    pub(crate) fn is_number(self) -> bool {
        use Column::*;
        matches!(self, Ns | Nprocs | Pid | Ppid | Uid | Pns | Ons)
    }

    /// Whether the table has it at the right.
    pub(crate) fn is_right(self) -> bool {
        self.is_number() || self == Self::Netnsid
    }

    /// The least width in a table.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Ns => 10,
            _ => self.name().len(),
        }
    }
}

/// What `--list-columns` prints.
pub(crate) fn list(format: Format) -> String {
    let kind = |column: Column| match column.is_number() {
        true => "<number>",
        false => "<string>",
    };
    let columns = Column::ALL.into_iter();
    match format {
        Format::Json => {
            let objects = columns.map(|column| {
                format!(
                    "{{\n         \"holder\": \"{}\",\n         \"type\": \"{}\",\n         \"description\": \"{}\"\n      }}",
                    column.name(),
                    kind(column),
                    column.help()
                )
            });
            let objects = objects.collect::<Vec<_>>().join(",");
            format!("{{\n   \"lsns-columns\": [\n      {objects}\n   ]\n}}\n")
        }
        Format::Raw => columns
            .map(|column| {
                let help = column.help().replace(' ', "\\x20");
                format!("{} {} {help}\n", column.name(), kind(column))
            })
            .collect(),
        Format::Table => columns
            .map(|column| {
                format!(
                    "{:<8} {:<8} {}\n",
                    column.name(),
                    kind(column),
                    column.help()
                )
            })
            .collect(),
    }
}
