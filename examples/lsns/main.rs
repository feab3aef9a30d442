//! Lists namespaces as lsns(8) does, with the same options and columns, and those that it does not find.
//!
//! A tree by process unless `--list` or `--tree` says otherwise, coloured on a terminal. `--persistent` shows what is kept
//! alive by mounts, descriptors, sockets and threads alone.
#![allow(
    clippy::print_stderr,
    reason = "a program has nowhere else to complain"
)]

mod args;
mod columns;
mod filter;
mod json;
mod rows;
mod table;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use args::{Action, Args, Format};
use lexopt::Parser;
use ringfence::inspect::{Scan, Snapshot, Sources};

fn main() -> ExitCode {
    let printed = match run(Parser::from_env()) {
        Ok(printed) => printed,
        Err(message) => {
            eprintln!("lsns: {message}");
            return ExitCode::FAILURE;
        }
    };
    // A reader that has gone, such as head(1), is none of our business.
    let _ = std::io::stdout().write_all(printed.as_bytes());
    ExitCode::SUCCESS
}

/// What the command line asks for.
pub(crate) fn run(arguments: Parser) -> Result<String, String> {
    Ok(match args::parse(arguments)? {
        Action::Help => args::help(),
        Action::Version => {
            concat!("lsns from ringfence ", env!("CARGO_PKG_VERSION"), "\n").to_owned()
        }
        Action::Columns(format) => columns::list(format),
        Action::List(args) => list(&args)?,
    })
}

fn list(args: &Args) -> Result<String, String> {
    let snapshot = scan(args).map_err(|error| format!("{error:#}"))?;
    let rows = rows::select(args, &snapshot)?;
    let is_terminal = std::io::stdout().is_terminal();
    Ok(match args.format {
        Format::Json => json::print(args, &rows),
        Format::Raw => table::raw(args, &rows),
        Format::Table => table::print(args, &rows, is_terminal),
    })
}

/// Looks only where the answer may be.
fn scan(args: &Args) -> ringfence::Result<Snapshot> {
    let mut sources = Sources::RELATIONS;
    if args.persistent {
        sources = Sources::all() - Sources::CGROUPS - Sources::NUMBERS;
    }
    if args.uses(columns::Column::Nsfs) {
        sources |= Sources::MOUNTS;
    }
    if args.uses(columns::Column::Netnsid) {
        sources |= Sources::NETNSIDS;
    }
    if args.namespace.is_some() {
        sources |= Sources::COMMANDS;
    }
    Scan::new().sources(sources).kinds(args.kinds).run()
}
