//! The lines that the benches have kept.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Fact { fact: String, value: String },
    Measure(Measure),
}

/// One contender in one case.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Measure {
    pub(crate) figure: String,
    pub(crate) case: String,
    pub(crate) contender: String,
    #[serde(flatten)]
    pub(crate) value: Value,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Time { quartile_ns: f64, median_ns: f64 },
    Size { bytes: f64 },
}

impl Value {
    /// What charts show and ratios are made of: the steadier of the figures.
    pub(crate) fn main(self) -> f64 {
        match self {
            Self::Time { quartile_ns, .. } => quartile_ns,
            Self::Size { bytes } => bytes,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) facts: Vec<(String, String)>,
    pub(crate) measures: Vec<Measure>,
}

impl Results {
    pub(crate) fn parse(text: &str) -> serde_json::Result<Self> {
        let mut results = Self::default();
        for line in text.lines() {
            match serde_json::from_str(line)? {
                Line::Fact { fact, value } => results.facts.push((fact, value)),
                Line::Measure(measure) => results.measures.push(measure),
            }
        }
        Ok(results)
    }

    pub(crate) fn figure(&self, name: &str) -> Figure<'_> {
        let of_figure = |measure: &&Measure| measure.figure == name;
        Figure(self.measures.iter().filter(of_figure).collect())
    }
}

/// All measures of one figure, in the order in which they were made.
pub(crate) struct Figure<'a>(Vec<&'a Measure>);

impl<'a> Figure<'a> {
    pub(crate) fn cases(&self) -> Vec<&'a str> {
        distinct(self.0.iter().map(|measure| measure.case.as_str()))
    }

    pub(crate) fn contenders(&self) -> Vec<&'a str> {
        distinct(self.0.iter().map(|measure| measure.contender.as_str()))
    }

    pub(crate) fn value(&self, case: &str, contender: &str) -> Option<Value> {
        let found = self
            .0
            .iter()
            .find(|m| m.case == case && m.contender == contender);
        found.map(|measure| measure.value)
    }

    pub(crate) fn main(&self, case: &str, contender: &str) -> Option<f64> {
        self.value(case, contender).map(Value::main)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn largest(&self) -> f64 {
        self.0.iter().map(|m| m.value.main()).fold(0.0, f64::max)
    }

    pub(crate) fn smallest(&self) -> f64 {
        self.0
            .iter()
            .map(|m| m.value.main())
            .fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn is_of_sizes(&self) -> bool {
        matches!(self.0.first().map(|m| m.value), Some(Value::Size { .. }))
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

pub(crate) fn time(nanoseconds: f64) -> String {
    scaled(nanoseconds, 1000.0, &["ns", "µs", "ms", "s"])
}

pub(crate) fn size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB"])
}

/// Three digits, and the unit that needs no more.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut units = units.iter().peekable();
    let mut unit = units.next();
    while value >= 999.5 && units.peek().is_some() {
        value /= step;
        unit = units.next();
    }
    let unit = unit.unwrap_or(&"");
    match value {
        _ if value == value.trunc() || value >= 99.95 => format!("{value:.0} {unit}"),
        _ if value >= 9.995 => format!("{value:.1} {unit}"),
        _ => format!("{value:.2} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{size, time};

    #[test]
    fn three_digits_and_a_unit() {
        let times = [0.5, 999.0, 999.6, 1234.0, 56_780.0, 999_600.0, 2.5e9].map(time);
        let expected = [
            "0.50 ns", "999 ns", "1.00 µs", "1.23 µs", "56.8 µs", "1.00 ms", "2.50 s",
        ];
        assert_eq!(times, expected);
        assert_eq!(size(88.0 * 1024.0), "88 KiB");
    }
}
