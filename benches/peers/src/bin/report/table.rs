//! Tables of Markdown.

use crate::results::{Figure, Value, size, time};
use std::fmt::Write;

/// A row for each case and a column for each contender, with its ratio to the one called `base`.
pub(crate) fn of_figure(figure: &Figure<'_>, base: &str) -> String {
    let contenders = figure.contenders();
    let mut table = String::from("| |");
    for contender in &contenders {
        let _ = write!(table, " {contender} |");
    }
    table.push_str("\n|---|");
    table.push_str(&"---:|".repeat(contenders.len()));
    for case in figure.cases() {
        let _ = write!(table, "\n| {case} |");
        let base_value = figure.main(case, base);
        for contender in &contenders {
            let cell = figure.value(case, contender);
            let cell = cell.map_or_else(String::new, |value| {
                let ratio = base_value.filter(|_| *contender != base);
                shown(value, ratio.map(|base| value.main() / base))
            });
            let _ = write!(table, " {cell} |");
        }
    }
    table.push('\n');
    table
}

fn shown(value: Value, ratio: Option<f64>) -> String {
    let value = match value {
        Value::Time {
            quartile_ns,
            median_ns,
        } => {
            format!("{} / {}", time(quartile_ns), time(median_ns))
        }
        Value::Size { bytes } => size(bytes),
    };
    match ratio {
        Some(ratio) => format!("{value} ({})", times(ratio)),
        None => value,
    }
}

pub(crate) fn times(ratio: f64) -> String {
    match ratio {
        _ if ratio < 0.01 => format!("{ratio:.4} ×"),
        _ if ratio < 9.995 => format!("{ratio:.2} ×"),
        _ if ratio < 99.95 => format!("{ratio:.1} ×"),
        _ => format!("{ratio:.0} ×"),
    }
}

pub(crate) fn of_facts(facts: &[(String, String)]) -> String {
    let rows = facts
        .iter()
        .map(|(fact, value)| format!("| {fact} | {value} |\n"));
    let rows: String = rows.collect();
    format!("| | |\n|---|---|\n{rows}")
}
