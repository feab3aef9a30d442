//! The command line of bubblewrap.

mod file_system;
mod values;

use crate::descriptors::Descriptors;
use crate::setup::Setup;
use crate::tool::{Result, fail, with_cause};
use lexopt::{Arg, Parser};
use ringfence::Namespaces;
use ringfence::lockdown::{Capabilities, SeccompFilter};
use rustix::process::{getgid, getuid};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use values::{descriptor_number, inside, octal, one, parsed, two};

/// As many arguments as bubblewrap takes.
const MAX_ARGUMENTS: usize = 9000;

/// The longest host name that the kernel takes.
const HOST_NAME_MAX: usize = 64;

pub(crate) enum Task {
    Run(Box<Options>),
    Help,
    Usage,
    Version,
}

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) program: Vec<OsString>,
    pub(crate) argv0: Option<OsString>,
    pub(crate) chdir: Option<PathBuf>,
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) lock_files: Vec<PathBuf>,
    /// Held until the program has ended.
    pub(crate) sync: Option<Arc<OwnedFd>>,
    pub(crate) new: Namespaces,
    pub(crate) user_try: bool,
    pub(crate) cgroup_try: bool,
    pub(crate) userns: Option<Arc<OwnedFd>>,
    pub(crate) userns2: Option<Arc<OwnedFd>>,
    /// Readable when somebody has written the id maps.
    pub(crate) userns_block: Option<Arc<OwnedFd>>,
    pub(crate) pidns: Option<Arc<OwnedFd>>,
    pub(crate) disable_userns: bool,
    pub(crate) assert_userns_disabled: bool,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// The user and group that the tool has been called by.
    pub(crate) caller: (u32, u32),
    pub(crate) hostname: Option<OsString>,
    pub(crate) setup: Vec<Setup>,
    pub(crate) filters: Vec<SeccompFilter>,
    pub(crate) block: Option<Arc<OwnedFd>>,
    pub(crate) info: Option<Arc<OwnedFd>>,
    pub(crate) json_status: Option<Arc<OwnedFd>>,
    pub(crate) new_session: bool,
    pub(crate) die_with_parent: bool,
    pub(crate) as_pid_1: bool,
    /// The program is held until somebody knows of it.
    pub(crate) gated: bool,
    /// What was added (true) and dropped, in this order.
    pub(crate) capabilities: Vec<(bool, Capabilities)>,
}

/// Whether messages begin with the number of their level, as journals read it: also that of a bad command line.
pub(crate) static HAS_LEVEL_PREFIX: AtomicBool = AtomicBool::new(false);

pub(crate) fn parse(arguments: Parser) -> Result<Task> {
    let mut reading = Reading {
        options: Options {
            env: std::env::vars_os().collect(),
            caller: (getuid().as_raw(), getgid().as_raw()),
            ..Options::default()
        },
        ..Reading::default()
    };
    if let Some(task) = reading.read(arguments, false)? {
        return Ok(task);
    }
    reading.finish()?;
    if reading.options.program.is_empty() {
        return Ok(Task::Usage);
    }
    Ok(Task::Run(Box::new(reading.options)))
}

#[derive(Default)]
struct Reading {
    options: Options,
    descriptors: Descriptors,
    perms: Option<u32>,
    size: Option<u64>,
    layers: Vec<PathBuf>,
    seccomp: Option<SeccompFilter>,
}

impl Reading {
    /// Help or version, if that is asked for.
    fn read(&mut self, mut parser: Parser, in_file: bool) -> Result<Option<Task>> {
        while let Some(argument) = parser.next()? {
            let name = match argument {
                Arg::Long(name) => format!("--{name}"),
                Arg::Short(letter) => return fail(format!("Unknown option -{letter}")),
                Arg::Value(program) => {
                    if !in_file {
                        let program = std::iter::once(program).chain(parser.raw_args()?);
                        self.options.program = program.collect();
                    }
                    break;
                }
            };
            if let Some(value) = parser.optional_value() {
                return fail(format!("Unknown option {name}={}", value.display()));
            }
            let known = match name.as_str() {
                "--help" => return Ok(Some(Task::Help)),
                "--version" => return Ok(Some(Task::Version)),
                "--args" if in_file => return fail("--args not supported in arguments file"),
                "--args" => self.more(&mut parser).map(|()| true)?,
                name => {
                    self.flag(name)
                        || self.environment(name, &mut parser)?
                        || self.value(name, &mut parser)?
                        || self.descriptor(name, &mut parser)?
                        || self.bind(name, &mut parser)?
                        || self.content(name, &mut parser)?
                        || self.overlay(name, &mut parser)?
                }
            };
            if !known {
                return fail(format!("Unknown option {name}"));
            }
            self.check_modifiers(&name)?;
        }
        Ok(None)
    }

    fn more(&mut self, parser: &mut Parser) -> Result<()> {
        let number = self.number("--args", parser)?;
        let text = self.data(number, "Can't read --args data")?;
        let text = text.strip_suffix(b"\0").unwrap_or(&text);
        let arguments: Vec<_> = match text {
            [] => Vec::new(),
            text => text
                .split(|&byte| byte == 0)
                .map(|argument| OsString::from_vec(argument.to_vec()))
                .collect(),
        };
        if arguments.len() > MAX_ARGUMENTS {
            return fail(format!(
                "Exceeded maximum number of arguments {MAX_ARGUMENTS}"
            ));
        }
        self.read(Parser::from_args(arguments), true).map(drop)
    }

    fn flag(&mut self, name: &str) -> bool {
        let options = &mut self.options;
        let new = &mut options.new;
        match name {
            "--unshare-all" => {
                options.user_try = true;
                options.cgroup_try = true;
                *new |= Namespaces::IPC | Namespaces::PID | Namespaces::UTS | Namespaces::NET;
            }
            "--share-net" => *new -= Namespaces::NET,
            "--unshare-user" => *new |= Namespaces::USER,
            "--unshare-user-try" => options.user_try = true,
            "--unshare-ipc" => *new |= Namespaces::IPC,
            "--unshare-pid" => *new |= Namespaces::PID,
            "--unshare-net" => *new |= Namespaces::NET,
            "--unshare-uts" => *new |= Namespaces::UTS,
            "--unshare-cgroup" => *new |= Namespaces::CGROUP,
            "--unshare-cgroup-try" => options.cgroup_try = true,
            "--disable-userns" => options.disable_userns = true,
            "--assert-userns-disabled" => options.assert_userns_disabled = true,
            "--new-session" => options.new_session = true,
            "--die-with-parent" => options.die_with_parent = true,
            "--as-pid-1" => options.as_pid_1 = true,
            "--level-prefix" => HAS_LEVEL_PREFIX.store(true, Ordering::Relaxed),
            _ => return false,
        }
        true
    }

    fn environment(&mut self, name: &str, parser: &mut Parser) -> Result<bool> {
        match name {
            "--clearenv" => self.options.env.retain(|name, _| name == "PWD"),
            "--setenv" => {
                let (variable, value) = two(name, parser)?;
                let bytes = variable.as_bytes();
                if bytes.is_empty() || bytes.contains(&b'=') {
                    return fail("setenv failed: Invalid argument");
                }
                self.options.env.insert(variable, value);
            }
            "--unsetenv" => drop(self.options.env.remove(&one(name, parser)?)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn value(&mut self, name: &str, parser: &mut Parser) -> Result<bool> {
        let options = &mut self.options;
        match name {
            "--argv0" => options.argv0 = Some(one(name, parser)?),
            "--chdir" => options.chdir = Some(one(name, parser)?.into()),
            "--hostname" => {
                let name = one(name, parser)?;
                if name.len() > HOST_NAME_MAX {
                    let name = name.display();
                    return fail(format!("Can't set hostname to {name}: Invalid argument"));
                }
                options.hostname = Some(name);
            }
            "--lock-file" => options.lock_files.push(inside(one(name, parser)?)),
            "--uid" => options.uid = Some(parsed(&one(name, parser)?, "uid")?),
            "--gid" => options.gid = Some(parsed(&one(name, parser)?, "gid")?),
            "--cap-add" | "--cap-drop" => {
                let text = one(name, parser)?;
                let known = text.to_str().and_then(|text| text.parse().ok());
                match known {
                    Some(set) => options.capabilities.push((name == "--cap-add", set)),
                    None => return fail(format!("unknown cap: {}", text.display())),
                }
            }
            "--exec-label" | "--file-label" => {
                one(name, parser)?;
                return fail("labeling not supported on this system");
            }
            "--perms" => {
                let text = one(name, parser)?;
                if self.perms.is_some() {
                    return fail("--perms given twice for the same action");
                }
                self.perms = Some(octal(name, &text)?);
            }
            "--size" => {
                let text = one(name, parser)?;
                if self.size.is_some() {
                    return fail("--size given twice for the same action");
                }
                let size = text.to_str().and_then(|text| text.parse().ok());
                self.size = size.filter(|&size| size > 0);
                if self.size.is_none() {
                    return fail("--size takes a non-zero number of bytes");
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn descriptor(&mut self, name: &str, parser: &mut Parser) -> Result<bool> {
        match name {
            "--sync-fd" => self.options.sync = Some(self.taken(name, parser)?),
            "--block-fd" => self.options.block = Some(self.taken(name, parser)?),
            "--info-fd" => self.options.info = Some(self.taken(name, parser)?),
            "--json-status-fd" => self.options.json_status = Some(self.taken(name, parser)?),
            "--userns" => self.options.userns = Some(self.taken(name, parser)?),
            "--userns2" => self.options.userns2 = Some(self.taken(name, parser)?),
            "--userns-block-fd" => self.options.userns_block = Some(self.taken(name, parser)?),
            "--pidns" => self.options.pidns = Some(self.taken(name, parser)?),
            "--seccomp" => {
                if !self.options.filters.is_empty() {
                    return fail("--seccomp cannot be combined with --add-seccomp-fd");
                }
                self.seccomp = Some(self.filter(name, parser)?);
            }
            "--add-seccomp-fd" => {
                if self.seccomp.is_some() {
                    return fail("--add-seccomp-fd cannot be combined with --seccomp");
                }
                let filter = self.filter(name, parser)?;
                self.options.filters.push(filter);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What contradicts itself, in the words of bubblewrap.
    fn finish(&mut self) -> Result<()> {
        self.options.filters.extend(self.seccomp.take());
        let options = &mut self.options;
        let userns = options.userns.is_some();
        let new_user = options.new.contains(Namespaces::USER);
        let waits_for_maps = options.userns_block.is_some();
        let wrong = [
            (
                waits_for_maps && !new_user,
                "--userns-block-fd requires --unshare-user",
            ),
            (
                waits_for_maps && options.info.is_none(),
                "--userns-block-fd requires --info-fd",
            ),
            (userns && new_user, "--userns not compatible --unshare-user"),
            (
                userns && options.user_try,
                "--userns not compatible --unshare-user-try",
            ),
            (
                options.disable_userns && !new_user,
                "--disable-userns requires --unshare-user",
            ),
            (
                options.disable_userns && waits_for_maps,
                "--disable-userns is not compatible with  --userns-block-fd",
            ),
        ];
        refuse(&wrong)?;
        let waits = [&options.info, &options.json_status, &options.block];
        options.gated = waits.iter().any(|fd| fd.is_some()) || !options.lock_files.is_empty();
        options.choose_namespaces();
        let (own_uid, own_gid) = options.caller;
        let has_user = userns || options.new.contains(Namespaces::USER);
        let other = |id: Option<u32>, own: u32| id.is_some_and(|id| id != own) && !has_user;
        let has = |namespaces| options.new.contains(namespaces);
        refuse(&[
            (
                other(options.uid, own_uid),
                "Specifying --uid requires --unshare-user or --userns",
            ),
            (
                other(options.gid, own_gid),
                "Specifying --gid requires --unshare-user or --userns",
            ),
            (
                options.hostname.is_some() && !has(Namespaces::UTS),
                "Specifying --hostname requires --unshare-uts",
            ),
            (
                options.as_pid_1 && !has(Namespaces::PID),
                "Specifying --as-pid-1 requires --unshare-pid",
            ),
            (
                options.as_pid_1 && !options.lock_files.is_empty(),
                "Specifying --as-pid-1 and --lock-file is not permitted",
            ),
        ])
    }

    fn number(&self, name: &str, parser: &mut Parser) -> Result<i32> {
        descriptor_number(&one(name, parser)?)
    }

    fn taken(&mut self, name: &str, parser: &mut Parser) -> Result<Arc<OwnedFd>> {
        let number = self.number(name, parser)?;
        self.take(number)
    }

    fn take(&mut self, number: i32) -> Result<Arc<OwnedFd>> {
        let taken = self.descriptors.take(number);
        taken.or_else(|error| fail(with_cause(format!("Can't use fd {number}"), &error)))
    }

    fn data(&mut self, number: i32, what: &str) -> Result<Vec<u8>> {
        let read = self.descriptors.read(number);
        read.or_else(|error| fail(with_cause(what, &error)))
    }

    fn filter(&mut self, name: &str, parser: &mut Parser) -> Result<SeccompFilter> {
        let number = self.number(name, parser)?;
        let bytes = self.data(number, "Can't read seccomp data")?;
        SeccompFilter::from_bytes(&bytes)
            .or_else(|_| fail("Invalid seccomp data, must be multiple of 8"))
    }
}

impl Options {
    /// Those that any user needs, and those to be had if possible.
    fn choose_namespaces(&mut self) {
        if self.caller.0 != 0 && self.userns.is_none() {
            self.new |= Namespaces::USER;
        }
        if self.user_try && can_make_user_namespaces() {
            self.new |= Namespaces::USER;
        }
        if self.cgroup_try && std::path::Path::new("/proc/self/ns/cgroup").exists() {
            self.new |= Namespaces::CGROUP;
        }
    }
}

fn can_make_user_namespaces() -> bool {
    let limit = std::fs::read_to_string("/proc/sys/user/max_user_namespaces");
    limit.is_ok_and(|limit| limit.trim() != "0")
}

fn refuse(wrong: &[(bool, &str)]) -> Result<()> {
    match wrong.iter().find(|(found, _)| *found) {
        Some((_, message)) => fail(*message),
        None => Ok(()),
    }
}
