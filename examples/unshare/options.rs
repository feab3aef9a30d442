//! The command line of unshare(1).

use crate::tool::{self, Name, Opt, Result, Task, fail, number};
use lexopt::Parser;
use ringfence::mount::Propagation;
use ringfence::{IdMap, Kind, Namespaces, Setgroups, TimeOffset};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

const OPTIONS: &[Opt] = &[
    ('h', "help"),
    ('V', "version"),
    ('m', "mount"),
    ('u', "uts"),
    ('i', "ipc"),
    ('n', "net"),
    ('p', "pid"),
    ('U', "user"),
    ('C', "cgroup"),
    ('T', "time"),
    ('f', "fork"),
    ('\0', "kill-child"),
    ('\0', "forward-signals"),
    ('\0', "mount-proc"),
    ('\0', "mount-binfmt"),
    ('l', "load-interp"),
    ('\0', "map-user"),
    ('\0', "map-users"),
    ('\0', "map-group"),
    ('\0', "map-groups"),
    ('r', "map-root-user"),
    ('c', "map-current-user"),
    ('\0', "map-auto"),
    ('\0', "map-subids"),
    ('\0', "owner"),
    ('\0', "propagation"),
    ('\0', "setgroups"),
    ('\0', "keep-caps"),
    ('S', "setuid"),
    ('G', "setgid"),
    ('R', "root"),
    ('w', "wd"),
    ('\0', "monotonic"),
    ('\0', "boottime"),
    ('\0', "clear-env"),
    ('\0', "whitelist-env"),
];

const PROC: &str = "/proc";
const BINFMT_MISC: &str = "/proc/sys/fs/binfmt_misc";

/// The ids of one kind, users or groups.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// What the caller is.
    pub(crate) own: Option<u32>,
    pub(crate) ranges: Option<IdMap>,
}

#[derive(Debug)]
pub(crate) enum Spread {
    Unchanged,
    As(Propagation),
}

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) new: Namespaces,
    /// Files on which namespaces are to persist.
    pub(crate) files: Vec<(Kind, PathBuf)>,
    pub(crate) fork: bool,
    pub(crate) forward_signals: bool,
    pub(crate) kill_child: Option<i32>,
    pub(crate) mount_proc: Option<PathBuf>,
    pub(crate) mount_binfmt: Option<PathBuf>,
    pub(crate) load_interp: Option<OsString>,
    pub(crate) users: Ids,
    pub(crate) groups: Ids,
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) propagation: Option<Spread>,
    pub(crate) setgroups: Option<Setgroups>,
    pub(crate) keep_caps: bool,
    pub(crate) setuid: Option<u32>,
    pub(crate) setgid: Option<u32>,
    pub(crate) root: Option<PathBuf>,
    pub(crate) wd: Option<PathBuf>,
    pub(crate) monotonic: Option<TimeOffset>,
    pub(crate) boottime: Option<TimeOffset>,
    pub(crate) clear_env: bool,
    pub(crate) whitelist_env: Vec<String>,
    pub(crate) program: Vec<OsString>,
}

pub(crate) fn parse() -> Result<Task<Options>> {
    let mut parser = Parser::from_env();
    parser.set_short_equals(false);
    let mut options = Options::default();
    let set = |option, parser: &mut Parser| options.set(option, parser);
    Ok(match tool::parse(parser, OPTIONS, set)? {
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
        let Name { name, is_long } = option;
        if let Some(kind) = option.kind() {
            self.new |= Namespaces::from(kind);
            // The letters take no value: -mn are two.
            let file = is_long.then(|| parser.optional_value()).flatten();
            self.files.extend(file.map(|file| (kind, file.into())));
            return Ok(());
        }
        match name {
            "fork" => self.fork = true,
            "forward-signals" => (self.fork, self.forward_signals) = (true, true),
            "kill-child" => {
                self.fork = true;
                self.kill_child = Some(match parser.optional_value() {
                    Some(name) => signal(&name)?,
                    None => libc::SIGKILL,
                });
            }
            "setgroups" => self.setgroups = Some(setgroups(&parser.value()?)?),
            "keep-caps" => self.keep_caps = true,
            "setuid" => self.setuid = Some(number("uid", &parser.value()?)?),
            "setgid" => self.setgid = Some(number("gid", &parser.value()?)?),
            "root" => self.root = Some(parser.value()?.into()),
            "wd" => self.wd = Some(parser.value()?.into()),
            "monotonic" => self.monotonic = Some(offset("monotonic", &parser.value()?)?),
            "boottime" => self.boottime = Some(offset("boottime", &parser.value()?)?),
            "clear-env" => self.clear_env = true,
            "whitelist-env" => {
                let names = parser.value()?.to_string_lossy().into_owned();
                self.whitelist_env
                    .extend(names.split(',').map(str::to_owned));
            }
            "mount-proc" | "mount-binfmt" | "load-interp" | "propagation" => {
                self.set_mounts(name, parser)?;
            }
            _ => {
                self.new |= Namespaces::USER;
                self.set_ids(name, parser)?;
            }
        }
        Ok(())
    }

    fn set_mounts(&mut self, name: &str, parser: &mut Parser) -> Result<()> {
        match name {
            "propagation" => {
                self.propagation = Some(spread(&parser.value()?)?);
                return Ok(());
            }
            "mount-proc" => {
                self.mount_proc = Some(parser.optional_value().unwrap_or(PROC.into()).into())
            }
            "mount-binfmt" => self.mount_binfmt = parser.optional_value().map(PathBuf::from),
            _ => self.load_interp = Some(parser.value()?),
        }
        self.new |= Namespaces::MOUNT;
        if name != "mount-proc" {
            self.new |= Namespaces::USER;
            if self.mount_binfmt.is_none() {
                self.mount_binfmt = Some(BINFMT_MISC.into());
                self.mount_proc.get_or_insert(PROC.into());
            }
        }
        Ok(())
    }

    fn set_ids(&mut self, name: &str, parser: &mut Parser) -> Result<()> {
        match name {
            "map-root-user" => (self.users.own, self.groups.own) = (Some(0), Some(0)),
            "map-current-user" => {
                self.users.own = Some(rustix::process::geteuid().as_raw());
                self.groups.own = Some(rustix::process::getegid().as_raw());
            }
            "map-user" => self.users.own = Some(id("uid", "/etc/passwd", &parser.value()?)?),
            "map-group" => self.groups.own = Some(id("gid", "/etc/group", &parser.value()?)?),
            "map-users" => self.users.add(range(&parser.value()?)?),
            "map-groups" => self.groups.add(range(&parser.value()?)?),
            "map-auto" | "map-subids" => {
                let map = match name {
                    "map-auto" => IdMap::subid_range(),
                    _ => IdMap::subid_range_identity(),
                };
                self.users.add(map.clone());
                self.groups.add(map);
            }
            "owner" => self.owner = Some(owner(&parser.value()?)?),
            _ => {}
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let offset = self.monotonic.is_some() || self.boottime.is_some();
        if offset && !self.new.contains(Namespaces::TIME) {
            return fail(
                "options --monotonic and --boottime require unsharing of a time namespace (-T)",
            );
        }
        let one_group = self.groups.own.is_some() && self.groups.ranges.is_none();
        if one_group && self.setgroups == Some(Setgroups::Allow) && self.owner.is_none() {
            return fail("options --setgroups=allow and --map-group are mutually exclusive");
        }
        Ok(())
    }
}

impl Ids {
    fn add(&mut self, map: IdMap) {
        self.ranges = Some(match self.ranges.take() {
            Some(ranges) => ranges.union(map),
            None => map,
        });
    }

    /// The map of all that was asked for.
    pub(crate) fn map(&self) -> IdMap {
        match (&self.ranges, self.own) {
            (Some(ranges), Some(own)) => ranges.clone().caller_as(own),
            (Some(ranges), None) => ranges.clone(),
            (None, Some(own)) => IdMap::single(own),
            (None, None) => IdMap::none(),
        }
    }
}

fn offset(clock: &str, text: &OsStr) -> Result<TimeOffset> {
    let seconds = number::<i64>(&format!("{clock} offset"), text)?;
    let amount = Duration::from_secs(seconds.unsigned_abs());
    Ok(match seconds {
        0.. => TimeOffset::ahead(amount),
        _ => TimeOffset::behind(amount),
    })
}

/// A number, or a name in a file such as /etc/passwd.
fn id(what: &str, file: &str, text: &OsStr) -> Result<u32> {
    let known = std::fs::read_to_string(file).unwrap_or_default();
    let named = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next().is_some_and(|name| text == name);
        is_it.then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    match named {
        Some(id) => Ok(id),
        None => number(what, text),
    }
}

/// `auto`, `subids`, `all`, `inner:outer:count`, or `outer,inner,count`.
fn range(text: &OsStr) -> Result<IdMap> {
    let text = text.to_string_lossy();
    let numbers = |mark| -> Option<[u32; 3]> {
        let parts: Vec<u32> = text
            .split(mark)
            .map_while(|part| part.parse().ok())
            .collect();
        (text.split(mark).count() == 3)
            .then(|| parts.try_into().ok())
            .flatten()
    };
    Ok(match text.as_ref() {
        "auto" => IdMap::subid_range(),
        "subids" => IdMap::subid_range_identity(),
        "all" => IdMap::all(),
        _ => match (numbers(':'), numbers(',')) {
            (Some([inner, outer, count]), _) | (None, Some([outer, inner, count])) => {
                IdMap::range(inner, outer, count)
            }
            (None, None) => return fail(format!("invalid mapping '{text}'")),
        },
    })
}

fn owner(text: &OsStr) -> Result<(u32, u32)> {
    let pair = text.to_str().and_then(|text| text.split_once(':'));
    let ids = pair.and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    match ids {
        Some(ids) => Ok(ids),
        None => fail("failed to parse owner"),
    }
}

fn spread(text: &OsStr) -> Result<Spread> {
    Ok(match text.to_str() {
        Some("unchanged") => Spread::Unchanged,
        Some("private") => Spread::As(Propagation::Private),
        Some("shared") => Spread::As(Propagation::Shared),
        Some("slave") => Spread::As(Propagation::Slave),
        _ => return fail(format!("unsupported propagation mode: {}", text.display())),
    })
}

fn setgroups(text: &OsStr) -> Result<Setgroups> {
    match text.to_str() {
        Some("allow") => Ok(Setgroups::Allow),
        Some("deny") => Ok(Setgroups::Deny),
        _ => fail(format!(
            "unsupported --setgroups argument '{}'",
            text.display()
        )),
    }
}

/// A signal by number or by name, with or without `SIG`.
fn signal(text: &OsStr) -> Result<i32> {
    const NAMES: &[(&str, i32)] = &[
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("ILL", libc::SIGILL),
        ("TRAP", libc::SIGTRAP),
        ("ABRT", libc::SIGABRT),
        ("IOT", libc::SIGIOT),
        ("BUS", libc::SIGBUS),
        ("FPE", libc::SIGFPE),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("SEGV", libc::SIGSEGV),
        ("USR2", libc::SIGUSR2),
        ("PIPE", libc::SIGPIPE),
        ("ALRM", libc::SIGALRM),
        ("TERM", libc::SIGTERM),
        ("CHLD", libc::SIGCHLD),
        ("CONT", libc::SIGCONT),
        ("STOP", libc::SIGSTOP),
        ("TSTP", libc::SIGTSTP),
        ("TTIN", libc::SIGTTIN),
        ("TTOU", libc::SIGTTOU),
        ("URG", libc::SIGURG),
        ("XCPU", libc::SIGXCPU),
        ("XFSZ", libc::SIGXFSZ),
        ("VTALRM", libc::SIGVTALRM),
        ("PROF", libc::SIGPROF),
        ("WINCH", libc::SIGWINCH),
        ("IO", libc::SIGIO),
        ("POLL", libc::SIGPOLL),
        ("PWR", libc::SIGPWR),
        ("SYS", libc::SIGSYS),
    ];
    let upper = text.to_string_lossy().to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = NAMES.iter().find(|(known, _)| *known == name);
    let number = named.map(|(_, number)| *number).or(name.parse().ok());
    match number {
        Some(number) if (1..=64).contains(&number) => Ok(number),
        _ => fail(format!("unknown signal: {}", text.display())),
    }
}
