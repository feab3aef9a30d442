//! A drop-in for `ip netns`: list, add, attach, delete, set, identify, pids, exec, monitor, list-id.
//!
//! `netns add blue; netns exec blue ip addr; netns delete blue`. Needs root.

use std::ffi::OsString;
use std::process::ExitCode;

use lexopt::prelude::*;
use ringfence::net::named::{self, Event, Monitor};
use ringfence::net::{LinkChange, Netlink};

type Result<T = ExitCode> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: netns list
       netns add NAME
       netns attach NAME PID
       netns set NAME NETNSID
       netns [-all] delete [NAME]
       netns identify [PID]
       netns pids NAME
       netns [-all] exec [NAME] cmd ...
       netns monitor
       netns list-id [target-nsid POSITIVE-INT]";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

/// The words of the command line; like ip(8), `-all` with one dash, before or after the command.
fn run() -> Result {
    let mut words = Vec::new();
    let mut all = false;
    let mut parser = lexopt::Parser::from_env();
    while let Some(raw) = parser.try_raw_args().and_then(|mut raw| raw.next()) {
        let is_exec = words.first().is_some_and(|word: &OsString| word == "exec");
        match raw.to_str() {
            // What follows the command of exec is the program's.
            Some("-all" | "--all" | "-a") if !is_exec || words.len() == 1 => all = true,
            _ => words.push(raw),
        }
    }
    let verb = match words.is_empty() {
        true => "list".to_owned(),
        false => words.remove(0).string()?,
    };
    if verb == "exec" {
        return exec(words, all);
    }
    let texts: Vec<String> = words
        .into_iter()
        .map(|word| word.string())
        .collect::<std::result::Result<_, _>>()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    match (verb.as_str(), texts.as_slice()) {
        ("list" | "show" | "ls", []) => list()?,
        // ip-netns(8) leaves the loopback interface down.
        ("add", [name]) => Netlink::open(&named::add(name)?)?.set(LinkChange::of("lo").down())?,
        ("attach", [name, pid]) => drop(named::attach(name, pid.parse()?)?),
        ("delete" | "del", []) if all => {
            for name in named::list()? {
                named::delete(&name)?;
            }
        }
        ("delete" | "del", [name]) => named::delete(name)?,
        ("set", [name, "auto"]) => Netlink::current()?.set_nsid(&named::open(name)?, None)?,
        ("set", [name, id]) => {
            Netlink::current()?.set_nsid(&named::open(name)?, Some(id.parse()?))?;
        }
        ("identify", []) => print(named::identify(std::process::id())?),
        ("identify", [pid]) => print(named::identify(pid.parse()?)?),
        ("pids", [name]) => print(named::pids(name)?),
        ("monitor", []) => monitor()?,
        ("list-id", []) => list_ids(None)?,
        ("list-id", ["target-nsid", id]) => list_ids(Some(id.parse()?))?,
        _ => {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(255));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print<T: std::fmt::Display>(lines: Vec<T>) {
    for line in lines {
        println!("{line}");
    }
}

fn list() -> Result<()> {
    let netlink = Netlink::current()?;
    for name in named::list()? {
        match netlink.nsid(&named::open(&name)?)? {
            Some(id) => println!("{name} (id: {id})"),
            None => println!("{name}"),
        }
    }
    Ok(())
}

fn list_ids(only: Option<i32>) -> Result<()> {
    let netlink = Netlink::current()?;
    let mut names = Vec::new();
    for name in named::list()? {
        names.push((netlink.nsid(&named::open(&name)?)?, name));
    }
    for id in netlink.nsids()? {
        if only.is_some_and(|only| only != id) {
            continue;
        }
        let name = names.iter().find(|(of_name, _)| *of_name == Some(id));
        let name = name.map(|(_, name)| format!(" (iproute2 netns name: {name})"));
        println!("nsid {id}{}", name.unwrap_or_default());
    }
    Ok(())
}

fn exec(mut words: Vec<OsString>, all: bool) -> Result {
    let names = match all {
        true => named::list()?,
        false if words.is_empty() => Vec::new(),
        false => vec![words.remove(0).string()?],
    };
    let Some((program, arguments)) = words.split_first() else {
        eprintln!("{USAGE}");
        return Ok(ExitCode::from(255));
    };
    let mut code = ExitCode::SUCCESS;
    for name in names {
        if all {
            println!("\nnetns: {name}");
        }
        let status = named::command(&name, program)?.args(arguments).status()?;
        if !status.success() {
            let number = status.code().and_then(|code| u8::try_from(code).ok());
            code = number.unwrap_or(1).into();
        }
    }
    Ok(code)
}

fn monitor() -> Result<()> {
    let mut monitor = Monitor::new()?;
    loop {
        match monitor.wait()? {
            Event::Added(name) => println!("add {name}"),
            Event::Deleted(name) => println!("delete {name}"),
            Event::Lost => eprintln!("some changes were lost"),
        }
    }
}
