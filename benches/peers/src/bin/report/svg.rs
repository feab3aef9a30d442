//! Just as much of SVG as charts need.

use std::fmt::Write;

/// Distinct for those who do not see all colours, and visible on light and on dark.
const COLOURS: [&str; 6] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9",
];

const STYLE: &str = "\
svg{font:13px sans-serif}\
.back{fill:#fff}.text{fill:#24292f}.grid{stroke:#d0d7de}.line{fill:none;stroke-width:2}\
@media(prefers-color-scheme:dark){.back{fill:#0d1117}.text{fill:#e6edf3}.grid{stroke:#30363d}}";

/// A character at most, at the size in [`STYLE`]; sans-serif fonts are narrower on average.
pub(crate) const CHARACTER: f64 = 7.5;
const TEXT_HEIGHT: f64 = 14.0;

/// Where a text is relative to its point.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// What a text covers.
struct Label {
    text: String,
    left: f64,
    right: f64,
    baseline: f64,
}

pub(crate) struct Svg {
    width: f64,
    height: f64,
    body: String,
    labels: Vec<Label>,
}

pub(crate) fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

pub(crate) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

impl Svg {
    pub(crate) fn new(width: f64) -> Self {
        Self {
            width,
            height: 0.0,
            body: String::new(),
            labels: Vec::new(),
        }
    }

    /// The picture ends here.
    pub(crate) fn end_at(mut self, height: f64) -> Self {
        self.height = height;
        self
    }

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    pub(crate) fn text(&mut self, x: f64, baseline: f64, anchor: Anchor, text: &str) {
        let (name, left) = match anchor {
            Anchor::Start => ("start", x),
            Anchor::Middle => ("middle", x - width(text) / 2.0),
            Anchor::End => ("end", x - width(text)),
        };
        self.labels.push(Label {
            text: text.to_owned(),
            left,
            right: left + width(text),
            baseline,
        });
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.element(format_args!(
            r#"<text class="text" x="{x:.1}" y="{baseline:.1}" text-anchor="{name}">{text}</text>"#
        ));
    }

    pub(crate) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        self.element(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        ));
    }

    pub(crate) fn grid(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.element(format_args!(
            r#"<line class="grid" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    /// With a dot at each point.
    pub(crate) fn path(&mut self, points: &[(f64, f64)], colour: &str) {
        let list: Vec<_> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let list = list.join(" ");
        self.element(format_args!(
            r#"<polyline class="line" stroke="{colour}" points="{list}"/>"#
        ));
        for (x, y) in points {
            self.element(format_args!(
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{colour}"/>"#
            ));
        }
    }

    /// Which colour is whose, in as many rows as it takes; where the last ends.
    pub(crate) fn legend(&mut self, x: f64, baseline: f64, names: &[&str]) -> f64 {
        const SWATCH: f64 = 12.0;
        let (mut left, mut baseline) = (x, baseline);
        for (number, name) in names.iter().enumerate() {
            let needed = SWATCH + 6.0 + width(name) + 18.0;
            if left > x && left + needed > self.width {
                (left, baseline) = (x, baseline + 20.0);
            }
            self.bar(left, baseline - 10.5, SWATCH, SWATCH, colour(number));
            self.text(left + SWATCH + 6.0, baseline, Anchor::Start, name);
            left += needed;
        }
        baseline
    }

    pub(crate) fn finish(self) -> String {
        let Self {
            width,
            height,
            body,
            ..
        } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height:.0}\" \
             width=\"{width}\" height=\"{height:.0}\">\n<style>{STYLE}</style>\n\
             <rect class=\"back\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n"
        )
    }

    /// Texts that leave the picture or lie on another.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (number, label) in self.labels.iter().enumerate() {
            let is_inside = label.left >= 0.0
                && label.right <= self.width
                && label.baseline - TEXT_HEIGHT >= 0.0
                && label.baseline <= self.height;
            if !is_inside {
                faults.push(format!("{:?} is outside", label.text));
            }
            for other in &self.labels[..number] {
                let beside = label.left >= other.right || other.left >= label.right;
                if !beside && (label.baseline - other.baseline).abs() < TEXT_HEIGHT {
                    faults.push(format!("{:?} on {:?}", label.text, other.text));
                }
            }
        }
        faults
    }
}
