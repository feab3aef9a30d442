//! The pages in `docs` name what is there: tests, features of the kernel, other pages.
#![expect(
    clippy::unwrap_used,
    reason = "a page that cannot be read fails the test"
)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringfence::support::Report;
use ringfence::{IdMap, Sandbox};

/// Every lower-case path in backquotes in these is the name of a test.
const PAGES_THAT_NAME_TESTS: [&str; 2] = ["docs/security.md", "docs/kernel-features.md"];

/// Where known escapes are tried.
const ESCAPES: [&str; 3] = [
    "tests/escapes.rs",
    "tests/escapes_mount.rs",
    "tests/join/hostile.rs",
];

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = here().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is in backquotes, outside of blocks of code.
fn quoted(page: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// `binary::module::name`, all of it lower case.
fn is_test_name(text: &str) -> bool {
    let is_word = |part: &str| {
        let mut letters = part.chars();
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        !part.is_empty() && letters.all(lower)
    };
    text.contains("::") && text.split("::").all(is_word)
}

/// Whether there is such a test: the longest beginning that is a file of `tests`, modules in it, a function.
fn exists(name: &str) -> bool {
    let parts: Vec<_> = name.split("::").collect();
    (1..parts.len()).rev().any(|files| {
        let (files, rest) = parts.split_at(files);
        let Some((function, modules)) = rest.split_last() else {
            return false;
        };
        let base = here().join("tests").join(files.join("/"));
        let candidates = [
            base.with_extension("rs"),
            base.join("mod.rs"),
            base.join("main.rs"),
        ];
        candidates
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .any(|source| {
                let has_module = |name: &&str| source.contains(&format!("mod {name} {{"));
                modules.iter().all(has_module) && has_test(&source, function)
            })
    })
}

/// Whether the source has a function of this name with the attribute of a test, or in a macro that gives it one.
fn has_test(source: &str, function: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let head = format!("fn {function}()");
    let in_macro = source.contains("both_forms! {");
    lines.iter().enumerate().any(|(number, line)| {
        let attributes = lines.iter().take(number).rev();
        let mut attributes = attributes.take_while(|line| line.starts_with("#["));
        line.trim_start_matches("async ").starts_with(&head)
            && (in_macro || attributes.any(|line| line.contains("test")))
    })
}

#[test]
fn tests_that_pages_name_are_there() {
    let mut missing = Vec::new();
    for page in PAGES_THAT_NAME_TESTS {
        let text = read(page);
        let names: Vec<_> = quoted(&text)
            .into_iter()
            .filter(|text| is_test_name(text))
            .collect();
        assert!(names.len() > 20, "{page}: {names:?}");
        let gone = names.iter().filter(|name| !exists(name));
        missing.extend(gone.map(|name| format!("{page}: {name}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    for name in [
        "escapes::process_1_cannot_be_looked_into",
        "handles::pin::a_pin_survives_its_maker",
        "lockdown::container::preset::everything_is_locked_down",
        "init::reaping::ten_thousand_orphans",
        "kernels::cgroup::is_born_into_its_cgroup",
    ] {
        assert!(is_test_name(name) && exists(name), "{name}");
    }
    for name in [
        "escapes::process_1",
        "escapes::probed",
        "no_such_file::process_1_cannot_be_looked_into",
        "lockdown::container::everything_is_locked_down::x",
        "handles::pin::process_1_cannot_be_looked_into",
    ] {
        assert!(is_test_name(name) && !exists(name), "{name}");
    }
    for name in ["Sandbox::init", "clone3", "std::process::Command"] {
        assert!(!is_test_name(name), "{name}");
    }
}

#[test]
fn escapes_that_are_tried_are_in_their_page() {
    let page = read("docs/security.md");
    for file in ESCAPES {
        let source = read(file);
        for at in source.match_indices("CVE-").map(|(at, _)| at) {
            let number = source[at..].split([' ', ',', ':', ')', '.', '\n']).next();
            let number = number.unwrap();
            assert!(page.contains(number), "{file}: {number}");
        }
    }
}

#[test]
fn features_of_the_report_are_in_their_page() {
    let page = read("docs/kernel-features.md");
    for feature in Report::new().features {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| {} |", feature.name)))
            .unwrap_or_else(|| panic!("no row for {feature:?}"));
        let since = row.split('|').nth(2).unwrap().trim();
        let version = since.split([';', ' ']).next();
        assert_eq!(version, Some(feature.since), "{row}");
    }
}

/// The pages: the README and what is in `docs`.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md")];
    let mut directories = vec![PathBuf::from("docs")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(here().join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in pages() {
        let text = read(&page);
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = here().join(page.parent().unwrap()).join(target);
            assert!(path.exists(), "{}: {target}", page.display());
        }
    }
}

/// In the documentation they are modules, and the directories around them are not there.
#[test]
fn pages_that_the_documentation_shows_have_no_relative_links() {
    for included in read("src/guide.rs").split("include_str!(\"../").skip(1) {
        let page = included.split('"').next().unwrap();
        if page == "README.md" {
            continue; // compiled for its programs only
        }
        for link in read(page).split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            assert!(target.contains("://"), "{page}: {target}");
        }
    }
}

/// The first steps of the plan that the README prints.
#[test]
fn the_plan_of_the_readme_is_as_printed() {
    let sandbox = Sandbox::new().user().user_map(IdMap::root()).mount();
    let plan = sandbox.command("true").compile().unwrap().to_string();
    let uid = rustix::process::getuid().to_string();
    let page = read("README.md");
    let (_, printed) = page.split_once("new namespaces:").unwrap();
    let (steps, _) = printed.split_once("\n...").unwrap();
    let steps = steps.replace("1000", &uid);
    assert!(
        plan.starts_with(&format!("new namespaces:{steps}")),
        "{plan}"
    );
}

#[test]
fn files_that_pages_name_are_there() {
    for page in pages() {
        for name in quoted(&read(&page)) {
            let name = name.split([' ', ':']).next().unwrap();
            let in_tree = ["src/", "tests/", "examples/", "benches/", "docs/"];
            if !in_tree.iter().any(|top| name.starts_with(top)) || name.contains('*') {
                continue;
            }
            let path = here().join(name);
            let exists = path.exists() || path.with_extension("rs").exists();
            assert!(exists, "{}: {name}", page.display());
        }
    }
}

#[test]
fn chapters_are_listed_and_their_programs_run() {
    let (index, included) = (read("docs/guide/README.md"), read("src/guide.rs"));
    for chapter in pages() {
        let Ok(name) = chapter.strip_prefix("docs/guide") else {
            continue;
        };
        let name = name.to_str().unwrap();
        if name == "README.md" {
            continue;
        }
        assert!(
            index.contains(&format!("]({name})")),
            "{name} is not listed"
        );
        let include = format!("include_str!(\"../{}\")", chapter.display());
        assert!(included.contains(&include), "{name} is not included");
        // Links between chapters lead nowhere in the documentation that rustdoc makes.
        assert!(!read(&chapter).contains(".md)"), "{name} has such a link");
    }
}

#[test]
fn the_readme_leads_to_all_pages() {
    let (readme, guide) = (read("README.md"), Path::new("docs/guide"));
    for page in pages() {
        let is_chapter = page.starts_with(guide) && page != guide.join("README.md");
        let link = format!("]({})", page.display());
        let is_listed = is_chapter || page == Path::new("README.md") || readme.contains(&link);
        assert!(is_listed, "{link}");
    }
}

/// The lines of the library's sources.
fn source_lines() -> Vec<String> {
    let (mut lines, mut directories) = (Vec::new(), vec![here().join("src")]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                lines.extend(read(path).lines().map(|line| line.trim().to_owned()));
            }
        }
    }
    lines
}

fn leading_name(text: &str) -> &str {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_name(c)).next().unwrap_or_default()
}

/// `Type::method` or `Type::Variant`, as far as the type is one of the crate's.
#[test]
fn methods_that_pages_name_are_there() {
    let lines = source_lines();
    let after = |words: &[&str]| -> HashSet<&str> {
        let starts = lines.iter().flat_map(|line| {
            let rests = words.iter().filter_map(|word| line.strip_prefix(word));
            rests.map(leading_name).collect::<Vec<_>>()
        });
        starts.collect()
    };
    let types = after(&["pub struct ", "pub enum "]);
    // Fields as well.
    let methods = after(&["pub fn ", "pub const fn ", "pub "]);
    let variants = after(&["", "pub const "]);
    let mut seen = 0;
    for page in pages() {
        for name in quoted(&read(&page)) {
            let Some((owner, member)) = name.split_once("::") else {
                continue;
            };
            let member = leading_name(member);
            if member.is_empty() || !types.contains(owner) {
                continue;
            }
            let is_method = member.starts_with(|c: char| c.is_ascii_lowercase());
            let known = if is_method { &methods } else { &variants };
            assert!(known.contains(member), "{}: {name}", page.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn examples_that_pages_run_are_there() {
    for page in pages() {
        let text = read(&page);
        for rest in text.split("--example ").skip(1) {
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            let example = here().join("examples").join(&name);
            let exists = example.is_dir() || example.with_extension("rs").exists();
            assert!(exists || name == "NAME", "{}: {name}", page.display());
        }
    }
}
