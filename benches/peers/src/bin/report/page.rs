//! What the page shows of the results, and where.

use crate::lines::Up;
use crate::results::{Figure, Results};
use crate::svg::Svg;
use crate::{bars, goals, lines, table};

/// A table for the place in the page that is marked with the name of the figure.
struct Section {
    figure: &'static str,
    /// Whose time the others are multiples of.
    base: &'static str,
    chart: Option<Chart>,
    /// What stands there if nothing was measured.
    otherwise: Option<&'static str>,
}

struct Chart {
    file: &'static str,
    title: &'static str,
    kind: Kind,
}

enum Kind {
    Bars,
    Lines { up: Up, across: &'static str },
}

const fn section(figure: &'static str, base: &'static str) -> Section {
    Section {
        figure,
        base,
        chart: None,
        otherwise: None,
    }
}

impl Section {
    const fn otherwise(mut self, text: &'static str) -> Self {
        self.otherwise = Some(text);
        self
    }

    const fn bars(mut self, file: &'static str, title: &'static str) -> Self {
        self.chart = Some(Chart {
            file,
            title,
            kind: Kind::Bars,
        });
        self
    }

    const fn lines(
        mut self,
        file: &'static str,
        title: &'static str,
        up: Up,
        across: &'static str,
    ) -> Self {
        let kind = Kind::Lines { up, across };
        self.chart = Some(Chart { file, title, kind });
        self
    }
}

const SECTIONS: [Section; 23] = [
    section("spawn", "floor").bars("spawn.svg", "Spawn and wait, lower quartile"),
    section("kinds", "floor").bars("kinds.svg", "Spawn and wait with one new namespace"),
    section("caller's memory", "10 MiB resident"),
    section("caller's descriptors", "few open"),
    section("parent memory", "ringfence").lines(
        "memory.svg",
        "Spawn and wait, five namespaces, logarithmic",
        Up::Time,
        "resident memory of the caller",
    ),
    section("Rust peers", "ringfence").otherwise("Not measured: the crates could not be had."),
    section("threads", "ringfence").lines(
        "threads.svg",
        "Spawns in a second, five namespaces",
        Up::Rate,
        "threads that spawn at once",
    ),
    section("container", "ringfence").bars("container.svg", "A container"),
    section("create", "floor").bars("create.svg", "A handle made and closed"),
    section("run_in", "floor"),
    section("join", "floor"),
    section("open", "floor"),
    section("held", "").bars("held.svg", "Memory of the kernel for one that is held"),
    section("binds", "floor"),
    section("mount calls", "mount(2)"),
    section("template", "fresh"),
    section("process 1", "without"),
    section("lock-down", "without")
        .bars("lockdown.svg", "Spawn and wait, with lock-down and without"),
    section("network", "floor"),
    section("network by ip", "ringfence").bars("network.svg", "A namespace connected"),
    section("ip netns", "ringfence"),
    section("pool", "made"),
    section("inspect", "ringfence").bars("inspect.svg", "A scan of a thousand processes"),
];

/// Replaces what is between `<!-- begin NAME -->` and `<!-- end NAME -->` for each name that there is.
pub(crate) fn fill(page: &str, results: &Results) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = page;
    while let Some((before, marked)) = rest.split_once("<!-- begin ") {
        let (name, _) = marked.split_once(" -->").ok_or("a marker without an end")?;
        let end = format!("<!-- end {name} -->");
        let (_, after) = marked.split_once(&end).ok_or(format!("no {end}"))?;
        let content = content(name, results).ok_or(format!("no results for {name}"))?;
        filled += &format!("{before}<!-- begin {name} -->\n{content}{end}");
        rest = after;
    }
    Ok(filled + rest)
}

fn content(name: &str, results: &Results) -> Option<String> {
    match name {
        "machine" => return Some(table::of_facts(&results.facts)),
        "goals" => return Some(goals::table(results)),
        _ => {}
    }
    let section = SECTIONS.iter().find(|section| section.figure == name)?;
    let figure = results.figure(name);
    if figure.is_empty() {
        return section.otherwise.map(|text| format!("{text}\n"));
    }
    let picture = section.chart.as_ref().map_or_else(String::new, |chart| {
        format!("![{}](performance/{})\n\n", chart.title, chart.file)
    });
    Some(picture + &table::of_figure(&figure, section.base))
}

pub(crate) fn charts(results: &Results) -> Vec<(&'static str, Svg)> {
    let charts = SECTIONS.iter().filter_map(|section| {
        let chart = section.chart.as_ref()?;
        let figure = results.figure(section.figure);
        (!figure.is_empty()).then(|| (chart.file, chart.draw(&figure)))
    });
    charts.collect()
}

impl Chart {
    fn draw(&self, figure: &Figure<'_>) -> Svg {
        match self.kind {
            Kind::Bars => bars::draw(figure, self.title),
            Kind::Lines { up, across } => lines::draw(figure, up, self.title, across),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{charts, fill};
    use crate::results::Results;

    const PAGE: &str = include_str!("../../../../../docs/performance.md");
    const RESULTS: &str = include_str!("../../../../../docs/performance/results.jsonl");

    #[test]
    fn the_page_and_its_charts_are_those_of_the_results() {
        let results = Results::parse(RESULTS).unwrap();
        assert_eq!(fill(PAGE, &results).unwrap(), PAGE);
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/performance");
        for (name, svg) in charts(&results) {
            let drawn = std::fs::read_to_string(format!("{directory}/{name}")).unwrap();
            assert_eq!(svg.finish(), drawn, "{name}");
        }
    }

    #[test]
    fn no_label_lies_on_another_or_outside() {
        for (name, svg) in charts(&Results::parse(RESULTS).unwrap()) {
            assert_eq!(svg.faults(), [""; 0], "{name}");
        }
    }

    #[test]
    fn what_is_marked_is_replaced_and_all_else_stays() {
        let results = r#"{"fact":"kernel","value":"6.18"}"#;
        let results = Results::parse(results).unwrap();
        let page = "above\n<!-- begin machine -->\nold\n<!-- end machine -->\nbelow\n";
        let filled = fill(page, &results).unwrap();
        let table = "| | |\n|---|---|\n| kernel | 6.18 |\n";
        assert_eq!(
            filled,
            format!("above\n<!-- begin machine -->\n{table}<!-- end machine -->\nbelow\n")
        );
        assert_eq!(fill(&filled, &results).unwrap(), filled);
        assert!(fill("<!-- begin spawn -->\n<!-- end spawn -->", &results).is_err());
        let page = "<!-- begin Rust peers -->\n<!-- end Rust peers -->";
        assert!(fill(page, &results).unwrap().contains("Not measured"));
    }
}
