//! The modules import only what the architecture lets them, and `unsafe` stays where it belongs.
//!
//! Both are read off the source: `crate::`, `super::` and `self::` paths, in `use` declarations and
//! anywhere else. Comments, literals and `#[cfg(test)]` modules do not count; any other module
//! written in braces is taken for a part of its file.
#![expect(
    clippy::unwrap_used,
    reason = "a source that cannot be read fails the test"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// What a module, and those below it, may name of this crate besides itself. A module without a
/// rule may name anything.
const RULES: &[Rule] = &[
    Rule {
        module: "sys",
        may_name: &[],
    },
    Rule {
        module: "error",
        may_name: &[],
    },
    Rule {
        module: "ns",
        may_name: &["error", "process", "sandbox", "sys"],
    },
    Rule {
        module: "sandbox",
        may_name: &["error", "lockdown", "mount", "ns", "plan", "process"],
    },
    Rule {
        module: "plan",
        may_name: &[
            "cgroup", "error", "lockdown", "mount", "ns", "process", "sandbox", "spawn", "sys",
        ],
    },
    Rule {
        module: "cgroup",
        may_name: &["error", "mount"],
    },
    Rule {
        module: "lockdown",
        may_name: &["error"],
    },
    Rule {
        module: "spawn::child",
        may_name: &[
            "plan",
            "spawn::inspect",
            "spawn::namespaces",
            "spawn::record",
            "spawn::root",
            "spawn::terminal",
            "sys",
        ],
    },
    Rule {
        module: "spawn::terminal",
        may_name: &[
            "error",
            "plan",
            "sandbox",
            "spawn::pass",
            "spawn::record",
            "sys",
        ],
    },
    Rule {
        module: "spawn::namespaces",
        may_name: &["spawn::pass", "spawn::record"],
    },
    Rule {
        module: "spawn::pass",
        may_name: &["spawn::record"],
    },
    Rule {
        module: "spawn::join",
        may_name: &["error", "ns", "plan", "process", "spawn::parent", "sys"],
    },
    Rule {
        module: "spawn::root",
        may_name: &["plan", "spawn::child", "spawn::record", "sys"],
    },
    Rule {
        module: "spawn::inspect",
        may_name: &["spawn::record"],
    },
    Rule {
        module: "spawn::record",
        may_name: &[],
    },
    Rule {
        module: "process",
        may_name: &[
            "error",
            "ns",
            "plan",
            "sandbox::attach",
            "spawn",
            "sys",
            "terminal",
        ],
    },
    Rule {
        module: "terminal",
        may_name: &["error", "sandbox", "sys"],
    },
    Rule {
        module: "inspect",
        may_name: &["diagnose", "error", "mount", "ns", "sandbox", "sys"],
    },
    Rule {
        module: "support",
        may_name: &[
            "diagnose", "error", "inspect", "mount", "ns", "plan", "sandbox", "sys",
        ],
    },
    Rule {
        module: "signals",
        may_name: &["error", "sys"],
    },
    Rule {
        module: "foreground",
        may_name: &["error", "process", "signals", "sys"],
    },
    Rule {
        module: "relay",
        may_name: &["error", "process", "signals", "terminal"],
    },
    Rule {
        module: "mount",
        may_name: &["error", "ns", "sandbox", "sys"],
    },
    Rule {
        module: "net",
        may_name: &["error", "ns", "process", "sandbox", "sys"],
    },
    Rule {
        module: "net::wire",
        may_name: &[],
    },
];

/// The modules that may hold `unsafe`, each with those below it.
const UNSAFE_IN: &[&str] = &["sys"];

struct Rule {
    module: &'static str,
    may_name: &'static [&'static str],
}

#[test]
fn modules_name_only_what_they_may() {
    let mut breaches = Vec::new();
    for source in sources() {
        breaches.extend(forbidden_paths(&source));
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn unsafe_code_stays_where_it_belongs() {
    let holds_unsafe = |source: &Source| {
        let is_allowed = UNSAFE_IN
            .iter()
            .any(|module| is_within(&source.module, module));
        !is_allowed && source.tokens.iter().any(|token| token == "unsafe")
    };
    let breaches: Vec<_> = sources()
        .into_iter()
        .filter(holds_unsafe)
        .map(|s| s.module)
        .collect();
    assert!(
        breaches.is_empty(),
        "unsafe outside {UNSAFE_IN:?}: {breaches:?}"
    );
}

#[test]
fn every_rule_is_kept_in_a_text_that_keeps_it() {
    for (module, text) in [
        (
            "spawn::child",
            "use crate::plan::{Op, Plan}; use super::record; use crate::sys;",
        ),
        (
            "spawn::child",
            "use crate::{plan, spawn::record::{self, Record}, sys as calls};",
        ),
        (
            "spawn::child",
            "fn run(plan: &crate::plan::Plan) { self::run(plan); crate::sys::exit(0) }",
        ),
        (
            "spawn::child",
            "// use crate::error;\n/* crate::error /* */ */ const A: &str = \"crate::error\";",
        ),
        (
            "spawn::child",
            "pub(crate) fn a() {} pub(in crate::spawn) fn b() {} pub(super) fn c() {}",
        ),
        (
            "spawn::child",
            "#[cfg(test)] mod tests { use crate::sandbox::Sandbox; fn a() { {} } }",
        ),
        (
            "spawn::child::ops",
            "use super::Step; use super::super::record; use crate::plan;",
        ),
        (
            "sys",
            "use std::io; use rustix::fs; mod mount; pub use self::mount::open_tree;",
        ),
        (
            "sys::mount",
            "use super::check; use crate::sys::fd; const C: char = '\"'; fn f<'a>() {}",
        ),
        (
            "plan",
            "use crate::sandbox::Sandbox; use crate::error::Error;",
        ),
    ] {
        assert_eq!(
            forbidden_paths(&Source::new(module, text)),
            [""; 0],
            "{text}"
        );
    }
}

#[test]
fn every_breach_of_a_rule_is_found() {
    for (module, text, path) in [
        ("sys", "use crate::error::Error;", "error::Error"),
        ("sys", "fn a() -> crate::error::Error {}", "error::Error"),
        ("sys::mount", "use super::super::error;", "error"),
        ("sys::mount", "use super::super::*;", "*"),
        (
            "spawn::child",
            "use crate::{plan, sandbox::Sandbox};",
            "sandbox::Sandbox",
        ),
        (
            "spawn::child",
            "use crate::{plan::{Op, Plan}, spawn::{record, parent}};",
            "spawn::parent",
        ),
        ("spawn::child", "use super::parent;", "spawn::parent"),
        ("spawn::child", "use super::{record, *};", "spawn::*"),
        ("spawn::child", "use crate::*;", "*"),
        ("spawn::child", "use crate::planner::Plan;", "planner::Plan"),
        (
            "spawn::child",
            "const A: &str = r#\"\"\"#; use crate::error;",
            "error",
        ),
        (
            "spawn::child",
            "const A: u8 = b'\"'; const B: char = '\\''; use crate::error;",
            "error",
        ),
        (
            "spawn::child",
            "#[cfg(test)] mod tests { } use crate::error;",
            "error",
        ),
        (
            "spawn::child::ops",
            "use super::super::parent;",
            "spawn::parent",
        ),
    ] {
        let found = forbidden_paths(&Source::new(module, text));
        assert_eq!(found, [format!("{module} names {path}")], "{text}");
    }
}

#[test]
fn unsafe_is_found_and_words_like_it_are_not() {
    let has_unsafe = |text| {
        Source::new("", text)
            .tokens
            .iter()
            .any(|token| token == "unsafe")
    };
    assert!(has_unsafe("fn a() { unsafe { b() } }"));
    assert!(has_unsafe("unsafe impl Send for A {}"));
    assert!(!has_unsafe(
        "#![forbid(unsafe_code)] // unsafe {\nconst A: &str = \"unsafe {\";"
    ));
}

struct Source {
    /// The path of the module, without `crate`; empty for the root.
    module: String,
    tokens: Vec<String>,
}

impl Source {
    fn new(module: &str, text: &str) -> Self {
        Self {
            module: module.to_owned(),
            tokens: without_tests(tokens(text)),
        }
    }
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    find_rust_files(&src, &mut files);
    assert!(files.iter().any(|file| file.ends_with("lib.rs")));
    let read = |file: &PathBuf| {
        let mut names: Vec<_> = file
            .strip_prefix(&src)
            .unwrap()
            .with_extension("")
            .iter()
            .map(|name| name.to_str().unwrap().to_owned())
            .collect();
        names.pop_if(|name| matches!(name.as_str(), "mod" | "lib"));
        Source::new(&names.join("::"), &fs::read_to_string(file).unwrap())
    };
    files.iter().map(read).collect()
}

fn find_rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn forbidden_paths(source: &Source) -> Vec<String> {
    let rules = RULES
        .iter()
        .filter(|rule| is_within(&source.module, rule.module));
    let paths = paths(source);
    let mut found = Vec::new();
    for rule in rules {
        let is_allowed = |path: &&String| {
            let mut allowed = rule.may_name.iter().chain([&rule.module]);
            allowed.any(|module| is_within(path, module))
        };
        let forbidden = paths.iter().filter(|path| !is_allowed(path));
        found.extend(forbidden.map(|path| format!("{} names {path}", source.module)));
    }
    found
}

/// Every path that starts at this crate, made absolute, groups taken apart.
fn paths(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let tokens = &source.tokens;
    for at in 0..tokens.len() {
        let starts_path = matches!(tokens[at].as_str(), "crate" | "super" | "self")
            && tokens.get(at + 1).is_some_and(|next| next == "::");
        let before = at.checked_sub(1).map(|before| tokens[before].as_str());
        // Not the middle of a path, and not `pub(in crate::spawn)`.
        if starts_path && !matches!(before, Some("::" | "in")) {
            let mut base: Vec<String> = Vec::new();
            if tokens[at] != "crate" && !source.module.is_empty() {
                base = source.module.split("::").map(str::to_owned).collect();
            }
            let mut rest = &tokens[at..];
            while let [first, second, tail @ ..] = rest
                && second == "::"
                && matches!(first.as_str(), "crate" | "super" | "self")
            {
                if first == "super" {
                    base.pop();
                }
                rest = tail;
            }
            read_path(rest, &base, &mut found);
        }
    }
    found
}

/// Reads a path, or a group of them, at the start of `tokens`; returns what follows.
fn read_path<'a>(tokens: &'a [String], base: &[String], found: &mut Vec<String>) -> &'a [String] {
    let mut path = base.to_vec();
    let mut rest = tokens;
    while let Some((token, tail)) = rest.split_first() {
        if token == "{" {
            rest = tail;
            while let Some((token, tail)) = rest.split_first() {
                rest = match token.as_str() {
                    "}" => return tail,
                    "," => tail,
                    _ => read_path(rest, &path, found),
                };
            }
            return rest;
        }
        if token != "self" {
            path.push(token.clone());
        }
        rest = tail;
        match rest {
            [next, tail @ ..] if next == "::" => rest = tail,
            _ => break,
        }
    }
    found.push(path.join("::"));
    match rest {
        [word, _, tail @ ..] if word == "as" => tail,
        _ => rest,
    }
}

/// Leaves out `#[cfg(test)] mod name { ... }`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const START: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut kept = Vec::new();
    let mut rest = tokens.as_slice();
    while let Some((token, tail)) = rest.split_first() {
        if !rest
            .iter()
            .zip(START)
            .all(|(token, expected)| token == expected)
            || rest.len() < START.len()
        {
            kept.push(token.clone());
            rest = tail;
            continue;
        }
        let mut depth = 0;
        let end = rest.iter().position(|token| {
            match token.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(token.as_str(), "}" | ";")
        });
        rest = end.map_or(&[], |end| &rest[end + 1..]);
    }
    kept
}

/// Words, `::` and single other characters; comments and literals are left out.
fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = literal(rest) {
            length
        } else if first.is_whitespace() {
            first.len_utf8()
        } else {
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                _ => word,
            };
            found.push(rest[..length].to_owned());
            length
        };
        rest = &rest[length..];
    }
    found
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a string or character literal at the start, if there is one.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""];
    let prefix = prefix.iter().find(|prefix| {
        let rest = text
            .strip_prefix(**prefix)
            .map(|rest| rest.trim_start_matches('#'));
        rest.is_some_and(|rest| rest.starts_with(['"', '\'']))
    })?;
    let rest = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let body = rest[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + length);
    }
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let body = &rest[1..];
    // A lifetime has no closing quote after one character.
    let is_escaped = body.starts_with('\\');
    if quote == '\'' && !is_escaped && body.chars().nth(1) != Some('\'') {
        return None;
    }
    let mut escaped = false;
    let end = body.char_indices().find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    let length = end.map_or(body.len(), |(at, _)| at + 1);
    Some(prefix.len() + 1 + length)
}
