//! One command line, run by the drop-in and by the original.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::mount::{UnmountFlags, unmount};

use super::probe::{self, Facts};
use super::tools::Pair;
use crate::common::probe::namespace as probe_namespace;

/// What is to be run, and what must come of it, with both tools.
#[derive(Debug)]
pub(super) struct Row {
    options: Vec<String>,
    program: Program,
    facts: Vec<(&'static str, String)>,
    status: Status,
    says: Option<&'static str>,
    /// What the help of an original says that has the option.
    since: Option<&'static str>,
    /// How the drop-in differs, as it documents.
    differs: Option<&'static str>,
    env: Vec<(&'static str, &'static str)>,
    /// A file that keeps a namespace of this kind.
    file: Option<(&'static str, PathBuf)>,
}

#[derive(Debug)]
enum Program {
    /// The probe, with these exit codes.
    Probe,
    /// This, with no facts but its output.
    Given(Vec<&'static str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Code(i32),
    Signal(i32),
}

impl From<ExitStatus> for Status {
    fn from(status: ExitStatus) -> Self {
        match status.signal() {
            Some(signal) => Self::Signal(signal),
            None => Self::Code(status.code().unwrap_or(-1)),
        }
    }
}

/// The code that the probe ends with, to be seen through the tool.
const PROBED: i32 = 7;

/// The probe, run with these options, which are separated by spaces.
pub(super) fn row(options: impl AsRef<str>) -> Row {
    let options = options.as_ref().split_whitespace();
    Row {
        options: options.map(str::to_owned).collect(),
        program: Program::Probe,
        facts: Vec::new(),
        status: Status::Code(PROBED),
        says: None,
        since: None,
        differs: None,
        env: Vec::new(),
        file: None,
    }
}

impl Row {
    /// This program instead, whose output is the fact `said`.
    pub(super) fn program<const N: usize>(mut self, program: [&'static str; N]) -> Self {
        self.program = Program::Given(program.to_vec());
        self.status = Status::Code(0);
        self
    }

    /// What holds whatever the original says.
    pub(super) fn fact(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.facts.push((name, value.into()));
        self
    }

    /// These namespaces are new, and no others.
    pub(super) fn new_namespaces(mut self, kinds: &[&str]) -> Self {
        for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
            let is_new = kinds.contains(&kind);
            let name: &'static str = format!("ns {kind}").leak();
            self.facts
                .push((name, if is_new { "new" } else { "same" }.to_owned()));
        }
        self
    }

    /// It is in these namespaces of the target, and otherwise in its own.
    pub(super) fn joins(mut self, kinds: &[&str]) -> Self {
        for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
            let joins = kinds.contains(&kind);
            let name: &'static str = format!("ns {kind}").leak();
            self.facts
                .push((name, if joins { "target" } else { "same" }.to_owned()));
        }
        self
    }

    /// It fails: the tool ends with this code, and its message has these words.
    pub(super) fn fails(mut self, code: i32, says: &'static str) -> Self {
        if matches!(self.program, Program::Probe) {
            self.program = Program::Given(vec!["true"]);
        }
        self.status = Status::Code(code);
        self.says = Some(says);
        self
    }

    pub(super) fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// Compared only with an original whose help says this.
    pub(super) fn since(mut self, help: &'static str) -> Self {
        self.since = Some(help);
        self
    }

    /// The original does something else, for this reason.
    pub(super) fn differs(mut self, why: &'static str) -> Self {
        self.differs = Some(why);
        self
    }

    pub(super) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    /// Afterwards a namespace of this kind, which is new, is kept by this file.
    pub(super) fn keeps(mut self, kind: &'static str, file: &Path) -> Self {
        self.file = Some((kind, file.to_owned()));
        self.fact("file", "new")
    }

    fn run(&self, tool: &Path) -> Seen {
        let mut command = Command::new(tool);
        command
            .args(&self.options)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C")
            .env("SHELL", "/bin/sh")
            .env("VARIABLE", "value")
            .envs(self.env.iter().copied())
            .current_dir("/var")
            .stdin(Stdio::null());
        match &self.program {
            Program::Probe => {
                let script = probe::script() + "exit 7\n";
                command.args(["sh", "-c", &script, "probe", "one", "two words"]);
            }
            Program::Given(program) => {
                command.args(program);
            }
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let mut facts = match self.program {
            Program::Probe => probe::parse(&text),
            Program::Given(_) => [("said".to_owned(), text.trim().to_owned())].into(),
        };
        if let Some((kind, file)) = &self.file {
            facts.insert("file".to_owned(), kept(kind, file).to_owned());
        }
        Seen {
            status: output.status.into(),
            facts,
            message: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn check(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        if seen.status != self.status {
            wrong.push(format!("{:?}, not {:?}", seen.status, self.status));
        }
        for (name, value) in &self.facts {
            let found = seen.facts.get(*name).map_or("", String::as_str);
            if found != value {
                wrong.push(format!("{name} is {found:?}, not {value:?}"));
            }
        }
        if let Some(words) = self.says
            && !seen.message.contains(words)
        {
            wrong.push(format!("does not say {words:?}"));
        }
        if !wrong.is_empty() {
            wrong.push(format!("says {:?}", seen.message));
        }
        wrong
    }

    fn compare(&self, ours: &Seen, original: &Seen) -> Vec<String> {
        if ours.status != original.status {
            let (status, message) = (original.status, &original.message);
            return vec![format!(
                "{:?}, the original {status:?}: {message}",
                ours.status
            )];
        }
        let names: BTreeSet<_> = ours.facts.keys().chain(original.facts.keys()).collect();
        names
            .into_iter()
            .filter_map(|name| {
                let [left, right] = [ours, original].map(|seen| {
                    let lines = seen.facts.get(name).map_or("", String::as_str).lines();
                    lines.collect::<Vec<_>>()
                });
                let only = |these: &[&str], those: &[&str]| {
                    let these = these.iter().filter(|line| !those.contains(line));
                    these.map(|line| line.to_string()).collect::<Vec<_>>()
                };
                let (ours, original) = (only(&left, &right), only(&right, &left));
                (left != right).then(|| format!("{name} is {ours:?}, not {original:?}"))
            })
            .collect()
    }
}

/// Whose namespace a file keeps, which is taken away.
fn kept(kind: &str, file: &Path) -> &'static str {
    let own = probe_namespace("self", kind).unwrap();
    let found = fs::metadata(file).unwrap();
    if found.dev() != own.0 {
        return "none";
    }
    unmount(file, UnmountFlags::DETACH).unwrap();
    if found.ino() == own.1 { "same" } else { "new" }
}

#[derive(Debug)]
struct Seen {
    status: Status,
    facts: Facts,
    message: String,
}

/// Runs all rows; fails with everything that is not as it should be.
pub(super) fn compare(pair: &Pair, rows: Vec<Row>) {
    probe::hand_on_references();
    let (mut wrong, mut compared) = (Vec::new(), 0);
    let count = rows.len();
    for row in rows {
        let line = row.options.join(" ");
        let seen = row.run(&pair.ours);
        let mut errors = row.check(&seen);
        let skipped = match (&pair.original, row.differs) {
            (None, _) => Some("the original is not installed"),
            (Some(original), _) if row.since.is_some_and(|option| !original.knows(option)) => {
                Some(original.version.as_str())
            }
            (Some(_), Some(why)) => Some(why),
            (Some(original), None) => {
                compared += 1;
                errors.extend(row.compare(&seen, &row.run(&original.path)));
                None
            }
        };
        if let Some(why) = skipped {
            println!("SKIPPED-option {line}: only compared with what is documented: {why}");
        }
        wrong.extend(errors.into_iter().map(|error| format!("{line}: {error}")));
    }
    // Not println, which libtest captures.
    let _ = writeln!(io::stderr(), "{compared} of {count} command lines compared");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
