//! What was to be reached, and whether it was.

use crate::results::{Figure, Results, time};
use crate::table::times;

struct Goal {
    what: &'static str,
    figure: &'static str,
    case: &'static str,
    /// Whose figure it is, and beside whose: the best of them.
    ours: &'static str,
    theirs: &'static [&'static str],
    limit: Limit,
}

enum Limit {
    /// At most this many times theirs.
    AtMost(f64),
    /// Theirs is at least this many times ours.
    Faster(f64),
    /// At most this many nanoseconds more.
    More(f64),
}

const FLOOR: &[&str] = &["floor"];
const STD: &[&str] = &["std with pre_exec"];
const RUST: &[&str] = &["std with pre_exec", "unshare", "hakoniwa"];
const WHOLE: &[&str] = &["bwrap", "unshare(1)", "crun", "runc"];

const GOALS: [Goal; 18] = [
    floor("Start without namespaces", "spawn", "no namespaces"),
    floor("Start with six namespaces", "spawn", "six namespaces"),
    floor("The same with a root of its own", "spawn", "minimal root"),
    floor("All eight namespaces, root, /dev", "spawn", "all eight"),
    caller("No namespaces, 2 GiB over 10 MiB", "no namespaces"),
    caller("Six namespaces, 2 GiB over 10 MiB", "six namespaces"),
    caller("Minimal root, 2 GiB over 10 MiB", "minimal root"),
    Goal {
        what: "Against std with pre_exec, 10 MiB",
        figure: "parent memory",
        case: "10 MiB",
        ours: "ringfence",
        theirs: STD,
        limit: Limit::Faster(4.0),
    },
    Goal {
        what: "Against std with pre_exec, 2 GiB",
        figure: "parent memory",
        case: "2 GiB",
        ours: "ringfence",
        theirs: STD,
        limit: Limit::Faster(80.0),
    },
    Goal {
        what: "Against the best Rust peer, 10 MiB",
        figure: "Rust peers",
        case: "five namespaces, 10 MiB",
        ours: "ringfence",
        theirs: RUST,
        limit: Limit::Faster(4.0),
    },
    Goal {
        what: "Against the best Rust peer, 2 GiB",
        figure: "Rust peers",
        case: "five namespaces, 2 GiB",
        ours: "ringfence",
        theirs: RUST,
        limit: Limit::Faster(80.0),
    },
    Goal {
        what: "A container from a running program, against the best of the tools",
        figure: "container",
        case: "one at a time",
        ours: "ringfence",
        theirs: WHOLE,
        limit: Limit::Faster(3.0),
    },
    Goal {
        what: "The drop-in for bwrap against bwrap, whole processes",
        figure: "container",
        case: "one at a time",
        ours: "the drop-in for bwrap",
        theirs: &["bwrap"],
        limit: Limit::AtMost(1.0),
    },
    Goal {
        what: "Process 1",
        figure: "process 1",
        case: "10 MiB",
        ours: "with process 1",
        theirs: &["without"],
        limit: Limit::More(150_000.0),
    },
    Goal {
        what: "All of lock-down",
        figure: "lock-down",
        case: "all",
        ours: "with",
        theirs: &["without"],
        limit: Limit::More(150_000.0),
    },
    Goal {
        what: "A veth pair, addresses, a route",
        figure: "network",
        case: "veth pair, addresses, route",
        ours: "ringfence",
        theirs: FLOOR,
        limit: Limit::AtMost(1.2),
    },
    Goal {
        what: "The same as a member of a network",
        figure: "network",
        case: "member of a bridge",
        ours: "ringfence",
        theirs: FLOOR,
        limit: Limit::AtMost(1.2),
    },
    Goal {
        what: "inspect::Scan against lsns(8)",
        figure: "inspect",
        case: "as lsns",
        ours: "ringfence",
        theirs: &["lsns"],
        limit: Limit::Faster(1.0),
    },
];

const fn floor(what: &'static str, figure: &'static str, case: &'static str) -> Goal {
    Goal {
        what,
        figure,
        case,
        ours: "ringfence",
        theirs: FLOOR,
        limit: Limit::AtMost(1.10),
    }
}

const fn caller(what: &'static str, case: &'static str) -> Goal {
    Goal {
        what,
        figure: "caller's memory",
        case,
        ours: "2 GiB resident",
        theirs: &["10 MiB resident"],
        limit: Limit::AtMost(1.15),
    }
}

impl Goal {
    /// The goal, what was measured, and whether that is enough.
    fn judge(&self, figure: &Figure<'_>) -> Option<(String, String, bool)> {
        let ours = figure.main(self.case, self.ours)?;
        let theirs = self
            .theirs
            .iter()
            .filter_map(|name| figure.main(self.case, name));
        let theirs = theirs.min_by(f64::total_cmp)?;
        Some(match self.limit {
            Limit::AtMost(limit) => {
                let ratio = ours / theirs;
                (
                    format!("at most {}", times(limit)),
                    beside(ratio, limit),
                    ratio <= limit,
                )
            }
            Limit::Faster(limit) => {
                let ratio = theirs / ours;
                (
                    format!("{} as fast", times(limit)),
                    beside(ratio, limit),
                    ratio >= limit,
                )
            }
            Limit::More(limit) => {
                let more = ours - theirs;
                (
                    format!("at most {} more", time(limit)),
                    format!("{} more", time(more.max(0.0))),
                    more <= limit,
                )
            }
        })
    }
}

/// Where rounding would make it the limit itself, with one digit more.
fn beside(ratio: f64, limit: f64) -> String {
    match times(ratio) {
        same if same == times(limit) => format!("{ratio:.3} ×"),
        shown => shown,
    }
}

pub(crate) fn table(results: &Results) -> String {
    let mut table = String::from("| | goal | measured | |\n|---|---|---|---|\n");
    for goal in &GOALS {
        if let Some((limit, measured, met)) = goal.judge(&results.figure(goal.figure)) {
            let verdict = if met { "met" } else { "**missed**" };
            table += &format!("| {} | {limit} | {measured} | {verdict} |\n", goal.what);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::results::Results;

    fn line(figure: &str, case: &str, contender: &str, ns: u64) -> String {
        format!(
            r#"{{"figure":"{figure}","case":"{case}","contender":"{contender}","quartile_ns":{ns},"median_ns":{ns}}}"#
        ) + "\n"
    }

    #[test]
    fn each_is_judged_by_its_kind_of_limit() {
        let text = line("spawn", "all eight", "ringfence", 1_104)
            + &line("spawn", "all eight", "floor", 1_000)
            + &line("container", "one at a time", "ringfence", 100)
            + &line("container", "one at a time", "bwrap", 900)
            + &line("container", "one at a time", "unshare(1)", 299)
            + &line("lock-down", "all", "with", 350_000)
            + &line("lock-down", "all", "without", 200_000);
        let table = table(&Results::parse(&text).unwrap());
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| All eight namespaces, root, /dev | at most 1.10 × | 1.104 × | **missed** |",
                "| A container from a running program, against the best of the tools | 3.00 × as fast | 2.99 × | **missed** |",
                "| All of lock-down | at most 150 µs more | 150 µs more | met |",
            ]
        );
    }
}
