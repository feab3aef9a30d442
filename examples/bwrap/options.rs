//! The command line of bubblewrap.

use crate::descriptors::Descriptors;
use crate::setup::Setup;
use crate::tool::{Result, fail, with_cause};
use lexopt::{Arg, Parser};
use ringfence::lockdown::{Capabilities, SeccompFilter};
use ringfence::{Bind, Namespaces};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    pub(crate) pidns: Option<Arc<OwnedFd>>,
    pub(crate) disable_userns: bool,
    pub(crate) assert_userns_disabled: bool,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) hostname: Option<OsString>,
    pub(crate) setup: Vec<Setup>,
    pub(crate) filters: Vec<SeccompFilter>,
    pub(crate) block: Option<Arc<OwnedFd>>,
    pub(crate) info: Option<Arc<OwnedFd>>,
    pub(crate) json_status: Option<Arc<OwnedFd>>,
    pub(crate) new_session: bool,
    pub(crate) die_with_parent: bool,
    pub(crate) as_pid_1: bool,
    /// What was added (true) and dropped, in this order.
    pub(crate) capabilities: Vec<(bool, Capabilities)>,
}

/// Whether messages begin with the number of their level, as journals read it: also that of a bad command line.
pub(crate) static HAS_LEVEL_PREFIX: AtomicBool = AtomicBool::new(false);

pub(crate) fn parse(arguments: Parser) -> Result<Task> {
    let mut reading = Reading {
        options: Options {
            env: std::env::vars_os().collect(),
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
            "--userns2" | "--userns-block-fd" => {
                one(name, parser)?;
                return fail(format!("{name} is not supported"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn bind(&mut self, name: &str, parser: &mut Parser) -> Result<bool> {
        let (kind, optional) = match name.strip_suffix("-try") {
            Some(kind) => (kind, true),
            None => (name, false),
        };
        let options = match kind {
            "--bind" | "--bind-fd" => Bind::new(),
            "--dev-bind" => Bind::new().allow_dev(),
            "--ro-bind" | "--ro-bind-fd" => Bind::new().read_only(),
            _ => return Ok(false),
        };
        let setup = match kind {
            "--bind-fd" | "--ro-bind-fd" if optional => return Ok(false),
            "--bind-fd" | "--ro-bind-fd" => {
                let (number, at) = two(name, parser)?;
                let fd = self.take(descriptor_number(&number)?)?;
                let at = inside(at);
                Setup::BindFd { fd, at, options }
            }
            _ => {
                let (source, at) = two(name, parser)?;
                Setup::Bind {
                    source: source.into(),
                    at: inside(at),
                    options,
                    optional,
                }
            }
        };
        self.options.setup.push(setup);
        Ok(true)
    }

    fn content(&mut self, name: &str, parser: &mut Parser) -> Result<bool> {
        let setup = match name {
            "--proc" => Setup::Proc(inside(one(name, parser)?)),
            "--dev" => Setup::Dev(inside(one(name, parser)?)),
            "--mqueue" => Setup::Mqueue(inside(one(name, parser)?)),
            "--remount-ro" => Setup::RemountReadOnly(inside(one(name, parser)?)),
            "--tmpfs" => Setup::Tmpfs {
                at: inside(one(name, parser)?),
                mode: self.perms.take().unwrap_or(0o755),
                size: self.size.take(),
            },
            "--dir" => Setup::Dir {
                at: inside(one(name, parser)?),
                mode: self.perms.take().unwrap_or(0o755),
            },
            "--file" => {
                let (number, at) = two(name, parser)?;
                let number = descriptor_number(&number)?;
                let what = format!("Can't write data to file {}", at.display());
                Setup::File {
                    bytes: self.data(number, &what)?,
                    at: inside(at),
                    mode: self.perms.take().unwrap_or(0o666),
                }
            }
            "--bind-data" | "--ro-bind-data" => {
                let (number, at) = two(name, parser)?;
                let number = descriptor_number(&number)?;
                let what = format!("Can't write data to file {}", at.display());
                Setup::BindData {
                    bytes: self.data(number, &what)?,
                    at: inside(at),
                    mode: self.perms.take().unwrap_or(0o600),
                    read_only: name == "--ro-bind-data",
                }
            }
            "--symlink" => {
                let (target, at) = two(name, parser)?;
                Setup::Symlink {
                    target: target.into(),
                    at: inside(at),
                }
            }
            "--chmod" => {
                let (mode, at) = two(name, parser)?;
                Setup::Chmod {
                    mode: octal(name, &mode)?,
                    at: inside(at),
                }
            }
            _ => return Ok(false),
        };
        self.options.setup.push(setup);
        Ok(true)
    }

    fn overlay(&mut self, name: &str, parser: &mut Parser) -> Result<bool> {
        let (at, upper, fewest) = match name {
            "--overlay-src" => {
                self.layers.push(one(name, parser)?.into());
                return Ok(true);
            }
            "--overlay" => {
                let values = (parser.value(), parser.value(), parser.value());
                let (Ok(upper), Ok(work), Ok(at)) = values else {
                    return fail("--overlay takes three arguments");
                };
                (at, Some((upper.into(), work.into())), 1)
            }
            "--tmp-overlay" => (one(name, parser)?, None, 1),
            "--ro-overlay" => (one(name, parser)?, None, 2),
            _ => return Ok(false),
        };
        let lowers = std::mem::take(&mut self.layers);
        if lowers.len() < fewest {
            let number = if fewest == 1 { "one" } else { "two" };
            return fail(format!("{name} requires at least {number} --overlay-src"));
        }
        self.options.setup.push(Setup::Overlay {
            lowers,
            upper,
            at: inside(at),
            throwaway: name == "--tmp-overlay",
        });
        Ok(true)
    }

    /// What an option says of the next one, that has to heed it.
    fn check_modifiers(&self, name: &str) -> Result<()> {
        if ["--perms", "--size"].contains(&name) {
            return Ok(());
        }
        if self.perms.is_some() {
            return fail("--perms must be followed by an option that creates a file");
        }
        if self.size.is_some() {
            return fail("--size must be followed by --tmpfs");
        }
        let of_overlay = [
            "--overlay-src",
            "--overlay",
            "--tmp-overlay",
            "--ro-overlay",
        ];
        if !self.layers.is_empty() && !of_overlay.contains(&name) {
            return fail(
                "--overlay-src must be followed by another --overlay-src or one of --overlay, --tmp-overlay, or --ro-overlay",
            );
        }
        Ok(())
    }

    /// What contradicts itself, in the words of bubblewrap.
    fn finish(&mut self) -> Result<()> {
        self.options.filters.extend(self.seccomp.take());
        let options = &mut self.options;
        let userns = options.userns.is_some();
        let new_user = options.new.contains(Namespaces::USER);
        let wrong = [
            (userns && new_user, "--userns not compatible --unshare-user"),
            (
                userns && options.user_try,
                "--userns not compatible --unshare-user-try",
            ),
            (
                options.disable_userns && !new_user,
                "--disable-userns requires --unshare-user",
            ),
        ];
        refuse(&wrong)?;
        options.choose_namespaces();
        let own = (rustix::process::getuid(), rustix::process::getgid());
        let has_user = userns || options.new.contains(Namespaces::USER);
        let other = |id: Option<u32>, own: u32| id.is_some_and(|id| id != own) && !has_user;
        let has = |namespaces| options.new.contains(namespaces);
        refuse(&[
            (
                other(options.uid, own.0.as_raw()),
                "Specifying --uid requires --unshare-user or --userns",
            ),
            (
                other(options.gid, own.1.as_raw()),
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
        let is_root = rustix::process::getuid().is_root();
        if !is_root && self.userns.is_none() {
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

fn one(name: &str, parser: &mut Parser) -> Result<OsString> {
    let number = match name {
        "--chdir" | "--remount-ro" => "one",
        _ => "an",
    };
    let value = parser.value();
    value.or_else(|_| fail(format!("{name} takes {number} argument")))
}

fn two(name: &str, parser: &mut Parser) -> Result<(OsString, OsString)> {
    match (parser.value(), parser.value()) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        _ => fail(format!("{name} takes two arguments")),
    }
}

/// A path inside, which needs no slash at its beginning.
fn inside(path: OsString) -> PathBuf {
    PathBuf::from("/").join(path)
}

fn descriptor_number(text: &OsStr) -> Result<i32> {
    let number = parsed(text, "fd")?;
    i32::try_from(number).or_else(|_| fail(format!("Invalid fd: {number}")))
}

fn parsed(text: &OsStr, what: &str) -> Result<u32> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    match number {
        Some(number) => Ok(number),
        None => fail(format!("Invalid {what}: {}", text.display())),
    }
}

fn octal(name: &str, text: &OsStr) -> Result<u32> {
    let mode = text
        .to_str()
        .and_then(|text| u32::from_str_radix(text, 8).ok());
    match mode.filter(|&mode| mode <= 0o7777) {
        Some(mode) => Ok(mode),
        None => fail(format!("{name} takes an octal argument <= 07777")),
    }
}
