//! What the drop-ins for unshare(1), nsenter(1) and bwrap(1) have in common: messages and exit codes, util-linux's
//! way of reading options, and a program to run that the tool stands for.

use ringfence::{Command, ErrorKind, Foreground, Kind, Sandbox, Step};
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// Why the tool ends: a message, unless there has been one, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// What every tool does around what it is for.
pub(crate) fn main<O>(
    name: &str,
    usage: &str,
    parse: impl FnOnce() -> Result<Task<O>>,
    run: impl FnOnce(O) -> Result<()>,
) -> ExitCode {
    let done = parse().and_then(|task| match task {
        Task::Run(options) => run(options),
        Task::Help => {
            print!("{usage}");
            Ok(())
        }
        Task::Version => {
            println!("{name} from ringfence {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.report()),
    }
}

/// A message, and exit code 1, as err(3) is used.
pub(crate) fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(Failure::new(message))
}

/// The name by which the tool was called.
fn tool() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or(OsStr::new("tool"));
    name.to_string_lossy().into_owned()
}

impl Failure {
    /// A message, and exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }

    pub(crate) fn report(&self) -> u8 {
        eprintln!("{}: {}", tool(), self.message);
        self.code
    }
}

impl From<lexopt::Error> for Failure {
    /// The words of getopt(3), which scripts look for.
    fn from(error: lexopt::Error) -> Self {
        use lexopt::Error;
        let named = |option: &str| match option.strip_prefix("--") {
            Some(long) => (false, long.to_owned()),
            None => (true, option.trim_start_matches('-').to_owned()),
        };
        let message = match &error {
            Error::UnexpectedOption(option) => match named(option) {
                (true, short) => format!("invalid option -- '{short}'"),
                (false, long) => format!("unrecognized option '--{long}'"),
            },
            Error::MissingValue {
                option: Some(option),
            } => match named(option) {
                (true, short) => format!("option requires an argument -- '{short}'"),
                (false, long) => format!("option '--{long}' requires an argument"),
            },
            Error::UnexpectedValue { option, .. } => {
                format!("option '{option}' doesn't allow an argument")
            }
            other => other.to_string(),
        };
        let tool = tool();
        Self {
            message: format!("{message}\nTry '{tool} --help' for more information."),
            code: 1,
        }
    }
}

impl From<ringfence::Error> for Failure {
    /// What the tools say of the same step, with the library's own words where they say nothing.
    fn from(error: ringfence::Error) -> Self {
        let object = error.to_string();
        let object = object.split_once(": ").map_or("", |(_, object)| object);
        let message = match error.step() {
            Some(Step::Clone) => format!("{} failed", tool()),
            Some(Step::Exec) => format!("failed to execute {object}"),
            Some(Step::CurrentDir) => format!("cannot change directory to {object}"),
            Some(Step::Proc | Step::BinfmtMisc) => format!("mount {object} failed"),
            Some(Step::PivotRoot) => {
                let dir = object.trim_end_matches(" by chroot");
                format!("cannot change root directory to '{dir}'")
            }
            Some(Step::Pin) => format!("mount {object} failed"),
            Some(Step::Join) => {
                let kind = object.split(':').next().unwrap_or(object);
                format!("reassociate to namespace 'ns/{kind}' failed")
            }
            Some(Step::Ids) => match error.syscall() {
                Some("setgroups") => "setgroups failed".to_owned(),
                Some("setresgid") => "setgid failed".to_owned(),
                Some("setresuid") => "setuid failed".to_owned(),
                _ => error.to_string(),
            },
            _ => error.to_string(),
        };
        let cause = error.raw_os_error().map(std::io::Error::from_raw_os_error);
        let mut message = match cause {
            Some(cause) => with_cause(message, &cause),
            None => message,
        };
        if let Some(hint) = error.hint() {
            message.push_str(&format!("\n{}: {hint}", tool()));
        }
        let code = match (error.step(), error.kind()) {
            (Some(Step::Exec), ErrorKind::NotFound) => 127,
            (Some(Step::Exec), _) => 126,
            _ => 1,
        };
        Self { message, code }
    }
}

/// The message and the system's words for the cause, without the number that std adds.
pub(crate) fn with_cause(message: impl Display, cause: &std::io::Error) -> String {
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    format!("{message}: {text}")
}

/// An option of a tool: its letter, `\0` if it has none, and its name.
pub(crate) type Opt = (char, &'static str);

/// An option as it was given.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    pub(crate) name: &'static str,
    #[allow(dead_code, reason = "only to unshare(1) it makes a difference")]
    pub(crate) is_long: bool,
}

impl Name {
    /// The kind of namespace that the option is about.
    pub(crate) fn kind(&self) -> Option<Kind> {
        let name = |kind: &Kind| match kind {
            Kind::Mount => "mount",
            other => other.proc_name(),
        };
        Kind::ALL.into_iter().find(|kind| name(kind) == self.name)
    }
}

/// What to do.
pub(crate) enum Task<T> {
    Help,
    Version,
    Run(T),
}

/// Reads the command line up to the program and its arguments.
pub(crate) fn parse(
    mut parser: lexopt::Parser,
    options: &[Opt],
    mut set: impl FnMut(Name, &mut lexopt::Parser) -> Result<()>,
) -> Result<Task<Vec<OsString>>> {
    while let Some(argument) = next(&mut parser, options)? {
        match argument {
            Argument::Program(program) => return Ok(Task::Run(program)),
            Argument::Option(Name { name: "help", .. }) => return Ok(Task::Help),
            Argument::Option(Name {
                name: "version", ..
            }) => return Ok(Task::Version),
            Argument::Option(option) => set(option, &mut parser)?,
        }
    }
    Ok(Task::Run(Vec::new()))
}

/// One argument, with the name of the option written out.
enum Argument {
    Option(Name),
    /// The program and its arguments, where the options end.
    Program(Vec<OsString>),
}

/// Reads the next argument. Like getopt(3), it knows an option by the beginning of its name.
fn next(parser: &mut lexopt::Parser, options: &[Opt]) -> Result<Option<Argument>> {
    let (name, is_long) = match parser.next()? {
        None => return Ok(None),
        Some(lexopt::Arg::Value(program)) => {
            let arguments = std::iter::once(program).chain(parser.raw_args()?);
            return Ok(Some(Argument::Program(arguments.collect())));
        }
        Some(lexopt::Arg::Short(letter)) => {
            let found = options.iter().find(|(short, _)| *short == letter);
            let (_, name) = found.ok_or(lexopt::Error::UnexpectedOption(format!("-{letter}")))?;
            (*name, false)
        }
        Some(lexopt::Arg::Long(given)) => (complete(given, options)?, true),
    };
    Ok(Some(Argument::Option(Name { name, is_long })))
}

fn complete(given: &str, options: &[Opt]) -> Result<&'static str> {
    let mut found = options
        .iter()
        .map(|(_, name)| *name)
        .filter(|name| name.starts_with(given));
    match (found.clone().find(|name| *name == given), found.next()) {
        (Some(exact), _) => Ok(exact),
        (None, None) => Err(lexopt::Error::UnexpectedOption(format!("--{given}")).into()),
        (None, Some(only)) if found.next().is_none() => Ok(only),
        (None, Some(_)) => fail(format!("option '--{given}' is ambiguous")),
    }
}

/// A number, as strtoul(3) takes it in base 10.
pub(crate) fn number<T: std::str::FromStr>(what: &str, text: &OsStr) -> Result<T> {
    let parsed = text.to_str().and_then(|text| text.trim().parse().ok());
    match parsed {
        Some(number) => Ok(number),
        None => fail(format!("failed to parse {what}: '{}'", text.display())),
    }
}

/// The program to run in a sandbox, or if there is none a shell.
pub(crate) fn command(sandbox: Sandbox, program: &[OsString], shell: Option<OsString>) -> Command {
    let command = match program {
        [program, arguments @ ..] => sandbox.command(program).args(arguments),
        [] => {
            let shell = shell.unwrap_or_else(|| "/bin/sh".into());
            let name = Path::new(&shell).file_name().unwrap_or(&shell);
            let name = OsString::from_iter([OsStr::from_bytes(b"-"), name]);
            sandbox.command(&shell).arg0(name)
        }
    };
    command
        .inherit_descriptors()
        .inherit_ignored_signals()
        .keep_groups()
        .keep_ids()
}

/// How a tool waits that a user takes for the program: nearly every signal is passed on.
pub(crate) fn stand_in() -> Foreground {
    let faults = [
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
        libc::SIGSYS,
    ];
    let signals = (1..=64).filter(|signal| !faults.contains(signal));
    Foreground::new().forward(signals).mirror_stops()
}
