//! Rows as a table, and as raw text.

use std::fmt::Write as _;

use ringfence::Kind;
use ringfence::inspect::Relation;

use super::args::Args;
use super::columns::Column;
use super::rows::Row;

/// A row with the branches of the tree in front of it.
struct Line<'a> {
    row: &'a Row,
    branch: String,
}

/// The characters of the branches.
struct Marks {
    last: &'static str,
    other: &'static str,
    past: &'static str,
}

impl Marks {
    /// Those that the locale has.
    fn of_locale() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let locale = locale.unwrap_or_default().to_uppercase();
        if locale.contains("UTF-8") || locale.contains("UTF8") {
            Self {
                last: "└─",
                other: "├─",
                past: "│ ",
            }
        } else {
            Self {
                last: "`-",
                other: "|-",
                past: "| ",
            }
        }
    }
}

fn lines(rows: &[Row]) -> Vec<Line<'_>> {
    fn walk<'a>(rows: &'a [Row], indent: Option<&str>, marks: &Marks, lines: &mut Vec<Line<'a>>) {
        for (index, row) in rows.iter().enumerate() {
            let is_last = index + 1 == rows.len();
            let (branch, below) = match (indent, is_last) {
                (None, _) => (String::new(), String::new()),
                (Some(indent), true) => (format!("{indent}{}", marks.last), format!("{indent}  ")),
                (Some(indent), false) => (
                    format!("{indent}{}", marks.other),
                    format!("{indent}{}", marks.past),
                ),
            };
            lines.push(Line { row, branch });
            walk(&row.below, Some(&below), marks, lines);
        }
    }
    let mut found = Vec::new();
    walk(rows, None, &Marks::of_locale(), &mut found);
    found
}

/// The column that has the branches of the tree.
fn tree_column(args: &Args) -> Option<Column> {
    let column = match args.tree? {
        Relation::Process => Column::Command,
        _ => Column::Ns,
    };
    args.columns.contains(&column).then_some(column)
}

pub(crate) fn print(args: &Args, rows: &[Row], is_terminal: bool) -> String {
    let lines = lines(rows);
    let tree = tree_column(args);
    // What each cell says, by line and column.
    let cells: Vec<Vec<Vec<String>>> = lines
        .iter()
        .map(|line| {
            let cell = |&column: &Column| {
                let branch = if tree == Some(column) {
                    line.branch.as_str()
                } else {
                    ""
                };
                cell(args, line.row, column, branch)
            };
            args.columns.iter().map(cell).collect()
        })
        .collect();
    let widths: Vec<usize> = args
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let texts = cells.iter().flat_map(|cells| &cells[at]);
            let widest = texts.map(|text| text.chars().count()).max().unwrap_or(0);
            widest.max(column.width())
        })
        .collect();
    let printer = Printer {
        args,
        tree,
        widths,
        screen: is_terminal.then(screen_width),
        coloured: is_terminal && std::env::var_os("NO_COLOR").is_none(),
    };
    let mut text = String::new();
    if args.headings && !lines.is_empty() {
        let names = args.columns.iter().map(|column| column.name().to_owned());
        printer.line(&mut text, &names.collect::<Vec<_>>(), None);
    }
    for (line, cells) in lines.iter().zip(&cells) {
        // A cell may go on in further lines.
        let height = cells.iter().map(Vec::len).max().unwrap_or(1);
        for row in 0..height {
            let texts = cells
                .iter()
                .map(|cell| cell.get(row).cloned().unwrap_or_default());
            printer.line(&mut text, &texts.collect::<Vec<_>>(), Some(line.row.kind));
        }
    }
    text
}

fn cell(args: &Args, row: &Row, column: Column, branch: &str) -> Vec<String> {
    let value = row.cell(column);
    if column == Column::Nsfs {
        return match args.wrap {
            true => value.split('\n').map(str::to_owned).collect(),
            false => vec![value.replace('\n', ",")],
        };
    }
    vec![format!("{branch}{}", printable(value))]
}

/// Control characters would play with the terminal.
fn printable(text: &str) -> String {
    text.chars().fold(String::new(), |mut safe, char| {
        if char.is_control() {
            for byte in char.to_string().bytes() {
                let _ = write!(safe, "\\x{byte:02x}");
            }
        } else {
            safe.push(char);
        }
        safe
    })
}

fn screen_width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    match size.map(|size| size.ws_col) {
        Ok(0) | Err(_) => 80,
        Ok(columns) => columns.into(),
    }
}

struct Printer<'a> {
    args: &'a Args,
    tree: Option<Column>,
    widths: Vec<usize>,
    /// How wide a terminal is.
    screen: Option<usize>,
    coloured: bool,
}

impl Printer<'_> {
    fn line(&self, out: &mut String, texts: &[String], kind: Option<Kind>) {
        let mut used = 0;
        let last = texts.len().saturating_sub(1);
        for (at, (text, &column)) in texts.iter().zip(&self.args.columns).enumerate() {
            let mut text = text.clone();
            if let Some(screen) = self.screen
                && column == Column::Command
                && self.args.truncate
                && at == last
            {
                text = text.chars().take(screen.saturating_sub(used)).collect();
            }
            let width = self.widths[at];
            let is_right = column.is_right() && self.tree != Some(column);
            let padding = width.saturating_sub(text.chars().count());
            let (left, right) = match (is_right, at == last) {
                (true, _) => (padding, 0),
                (false, true) => (0, 0),
                (false, false) => (0, padding),
            };
            let colour = kind
                .filter(|_| self.coloured && column == Column::Type)
                .map(colour);
            let (on, off) = match (colour, kind) {
                (Some(colour), _) => (colour, "\x1b[0m"),
                (None, None) if self.coloured => ("\x1b[1m", "\x1b[0m"),
                _ => ("", ""),
            };
            let _ = write!(out, "{:left$}{on}{text}{off}{:right$}", "", "");
            used += width + 1;
            out.push(if at == last { '\n' } else { ' ' });
        }
    }
}

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "\x1b[1;33m",
        Kind::Pid => "\x1b[1;32m",
        Kind::Mount => "\x1b[36m",
        Kind::Net => "\x1b[1;34m",
        Kind::Uts => "\x1b[35m",
        Kind::Ipc => "\x1b[32m",
        Kind::Cgroup => "\x1b[34m",
        Kind::Time => "\x1b[33m",
    }
}

pub(crate) fn raw(args: &Args, rows: &[Row]) -> String {
    let tree = tree_column(args);
    let mut text = String::new();
    let lines = lines(rows);
    if args.headings && !lines.is_empty() {
        let names: Vec<_> = args.columns.iter().map(|column| column.name()).collect();
        let _ = writeln!(text, "{}", names.join(" "));
    }
    for line in lines {
        let cells = args.columns.iter().map(|&column| {
            let branch = if tree == Some(column) {
                line.branch.as_str()
            } else {
                ""
            };
            let value = line.row.cell(column).replace('\n', ",");
            escaped(&format!("{branch}{value}"))
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join(" "));
    }
    text
}

/// Without blanks and what is not printable ASCII.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut safe, byte| {
        match byte {
            b'\\' | b' ' | 0..32 | 127.. => {
                let _ = write!(safe, "\\x{byte:02x}");
            }
            _ => safe.push(char::from(byte)),
        }
        safe
    })
}
