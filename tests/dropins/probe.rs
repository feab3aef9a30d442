//! What a program sees of where it is: told by a shell script, as facts with names.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;

use crate::common::sys;

/// The kinds, in the order of the descriptors that the caller hands on.
const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
const FIRST: i32 = 20;
const ROOT: i32 = 28;
/// Those of another process.
const FIRST_OF_TARGET: i32 = 30;

pub(super) type Facts = BTreeMap<String, String>;

/// Opens the caller's namespaces and root under the numbers that the script compares with.
pub(super) fn hand_on_references() {
    hand_on("self", FIRST);
    let root = File::open("/").unwrap();
    sys::dup_over(root.as_fd(), ROOT).unwrap();
}

/// As well the namespaces of a process that command lines are about.
pub(super) fn hand_on_target(pid: u32) {
    hand_on(&pid.to_string(), FIRST_OF_TARGET);
}

fn hand_on(process: &str, first: i32) {
    for (kind, number) in KINDS.iter().zip(first..) {
        let file = File::open(format!("/proc/{process}/ns/{kind}")).unwrap();
        sys::dup_over(file.as_fd(), number).unwrap();
    }
}

/// The script. It uses what the shell has built in alone: where a pid namespace is for children, the end of the first
/// would be the end of all. Each fact is `name=value`; several of one name are lines of one.
pub(super) fn script() -> String {
    let mut script = String::from("exec 2>&1\n");
    let numbers = (FIRST..).zip(FIRST_OF_TARGET..);
    for (kind, (own, other)) in KINDS.iter().zip(numbers) {
        for link in [kind.to_string(), format!("{kind}_for_children")] {
            script.push_str(&format!(
                "if [ -e /proc/self/ns/{link} ]; then \
                 if [ /proc/self/ns/{link} -ef /proc/self/fd/{own} ]; \
                 then echo 'ns {link}=same'; \
                 elif [ /proc/self/ns/{link} -ef /proc/self/fd/{other} ]; \
                 then echo 'ns {link}=target'; else echo 'ns {link}=new'; fi; fi\n"
            ));
        }
    }
    script.push_str(&format!(
        r#"
        if [ / -ef /proc/self/fd/{ROOT} ]; then echo root=same; else echo root=new; fi
        cd -P .; echo "cwd=$PWD"
        dump() {{ while IFS= read -r line; do echo "$1=$line"; done; }}
        for file in uid_map gid_map setgroups timens_offsets mountinfo; do
            [ -e /proc/self/$file ] && dump $file < /proc/self/$file
        done
        while read -r name value; do
            case $name in
            Uid:|Gid:|Groups:|Cap*|NoNewPrivs:|Seccomp:|SigIgn:|SigBlk:) echo "${{name%:}}=$value";;
            esac
        done < /proc/self/status
        [ $$ = 1 ] && echo pid=1 || echo pid=other
        echo "name=$0"
        echo "arguments=$*"
        up=down
        while read -r line; do case $line in *127.0.0.1*) up=up;; esac; done < /proc/self/net/fib_trie
        echo lo=$up
        for number in 3 4 5 6 7 8 9; do [ -e /proc/self/fd/$number ] && echo descriptor=$number; done
        export -p
        sh -c '[ $$ = 1 ] && echo child=1 || echo child=other'
        "#
    ));
    script
}

/// Reads what the script has written. Numbers that differ from run to run are left out.
pub(super) fn parse(text: &str) -> Facts {
    let mut facts = Facts::new();
    for line in text.lines() {
        let (name, value) = match line.strip_prefix("export ") {
            Some(variable) => ("env", variable),
            None => line.split_once('=').unwrap_or(("said", line)),
        };
        let value = match name {
            "mountinfo" => mount(value),
            "SigIgn" => ignored(value),
            _ => value.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let fact = facts.entry(name.to_owned()).or_default();
        if !fact.is_empty() {
            fact.push('\n');
        }
        fact.push_str(&value);
    }
    if let Some(env) = facts.get_mut("env") {
        let mut lines: Vec<_> = env.lines().collect();
        lines.sort_unstable();
        *env = lines.join("\n");
    }
    facts
}

/// Without the two signals that the C library has for itself.
fn ignored(set: &str) -> String {
    let set = u64::from_str_radix(set, 16).unwrap();
    format!("{:x}", set & !(0b11 << 31))
}

/// A line of mountinfo without ids, device numbers, peer groups, the numbers of namespaces, and the source, which is any
/// word for what has none.
fn mount(line: &str) -> String {
    let fields: Vec<&str> = line.split(' ').skip(3).collect();
    let end = fields.iter().position(|field| *field == "-").unwrap();
    let source = end + 2;
    let kept = fields.iter().enumerate().filter(|(at, _)| *at != source);
    let kept = kept.map(|(_, field)| match field.split_once(':') {
        Some((group @ ("shared" | "master" | "propagate_from"), _)) => group,
        Some((kind, number)) if number.starts_with('[') => kind,
        _ => field,
    });
    kept.collect::<Vec<_>>().join(" ")
}
