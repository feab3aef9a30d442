//! The command line of nsenter(1).

use crate::tool::{self, Name, Opt, Result, Task, fail, number};
use lexopt::Parser;
use ringfence::Kind;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

const OPTIONS: &[Opt] = &[
    ('h', "help"),
    ('V', "version"),
    ('a', "all"),
    ('t', "target"),
    ('m', "mount"),
    ('u', "uts"),
    ('i', "ipc"),
    ('n', "net"),
    ('N', "net-socket"),
    ('p', "pid"),
    ('C', "cgroup"),
    ('U', "user"),
    ('\0', "user-parent"),
    ('T', "time"),
    ('S', "setuid"),
    ('G', "setgid"),
    ('\0', "preserve-credentials"),
    ('\0', "keep-caps"),
    ('r', "root"),
    ('w', "wd"),
    ('W', "wdns"),
    ('e', "env"),
    ('F', "no-fork"),
    ('c', "join-cgroup"),
];

/// Where a namespace comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Target,
    File(PathBuf),
    Number(u64),
}

/// A directory.
#[derive(Debug)]
pub(crate) enum Place {
    OfTarget,
    Path(PathBuf),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Id {
    OfTarget,
    Number(u32),
}

/// A process, and the inode that its pidfd must have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) inode: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) all: bool,
    pub(crate) target: Option<Process>,
    pub(crate) namespaces: BTreeMap<Kind, Source>,
    pub(crate) net_socket: Option<i32>,
    pub(crate) user_parent: bool,
    pub(crate) uid: Option<Id>,
    pub(crate) gid: Option<Id>,
    pub(crate) preserve_credentials: bool,
    pub(crate) keep_caps: bool,
    pub(crate) root: Option<Place>,
    pub(crate) wd: Option<Place>,
    pub(crate) wdns: Option<PathBuf>,
    pub(crate) env: bool,
    pub(crate) no_fork: bool,
    pub(crate) join_cgroup: bool,
    pub(crate) program: Vec<OsString>,
}

pub(crate) fn parse() -> Result<Task<Options>> {
    let mut options = Options::default();
    let set = |option, parser: &mut Parser| options.set(option, parser);
    Ok(match tool::parse(Parser::from_env(), OPTIONS, set)? {
        Task::Run(program) => {
            options.program = program;
            options.check()?;
            Task::Run(options)
        }
        Task::Help => Task::Help,
        Task::Version => Task::Version,
    })
}

impl Options {
    fn set(&mut self, option: Name, parser: &mut Parser) -> Result<()> {
        if let Some(kind) = option.kind() {
            let source = match parser.optional_value() {
                Some(text) => source(text)?,
                None => Source::Target,
            };
            self.namespaces.insert(kind, source);
            return Ok(());
        }
        let mut place = || match parser.optional_value() {
            Some(path) => Place::Path(path.into()),
            None => Place::OfTarget,
        };
        match option.name {
            "all" => self.all = true,
            "user-parent" => self.user_parent = true,
            "preserve-credentials" => self.preserve_credentials = true,
            "keep-caps" => self.keep_caps = true,
            "env" => self.env = true,
            "no-fork" => self.no_fork = true,
            "join-cgroup" => self.join_cgroup = true,
            "root" => self.root = Some(place()),
            "wd" => self.wd = Some(place()),
            "wdns" => self.wdns = Some(parser.value()?.into()),
            "net-socket" => self.net_socket = Some(number("file descriptor", &parser.value()?)?),
            "setuid" => self.uid = Some(id("uid", &parser.value()?)?),
            "setgid" => self.gid = Some(id("gid", &parser.value()?)?),
            _ => {
                let given = process(&parser.value()?)?;
                if self.target.replace(given).is_some() {
                    return fail("option --target may be given only once");
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.wd.is_some() && self.wdns.is_some() {
            return fail("mutually exclusive arguments: --wdns --wd");
        }
        let named = !self.namespaces.is_empty() || self.user_parent || self.net_socket.is_some();
        match named || self.all {
            true => Ok(()),
            false => fail("no namespace specified"),
        }
    }
}

fn source(text: OsString) -> Result<Source> {
    Ok(
        match text.to_str().and_then(|text| text.strip_prefix(':')) {
            Some(digits) => Source::Number(number("nsid", OsStr::new(digits))?),
            None => Source::File(text.into()),
        },
    )
}

fn id(what: &str, text: &OsStr) -> Result<Id> {
    Ok(match text == "follow" {
        true => Id::OfTarget,
        false => Id::Number(number(what, text)?),
    })
}

fn process(text: &OsStr) -> Result<Process> {
    let parts = text.to_str().and_then(|text| text.split_once(':'));
    Ok(match parts {
        Some((pid, inode)) => Process {
            pid: number("pid", OsStr::new(pid))?,
            inode: Some(number("inode", OsStr::new(inode))?),
        },
        None => Process {
            pid: number("pid", text)?,
            inode: None,
        },
    })
}
