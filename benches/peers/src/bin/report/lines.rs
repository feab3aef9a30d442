//! A line for each contender over all cases.

use crate::results::{Figure, time};
use crate::svg::{Anchor, Svg, colour};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 730.0;
const BOTTOM: f64 = 340.0;

/// What goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Up {
    /// The time, each power of ten as high as the others.
    Time,
    /// How many in a second.
    Rate,
}

impl Up {
    fn value(self, nanoseconds: f64) -> f64 {
        match self {
            Self::Time => nanoseconds,
            Self::Rate => 1e9 / nanoseconds,
        }
    }

    /// The values at which there is a line across, from the lowest to the highest.
    fn ticks(self, smallest: f64, largest: f64) -> Vec<f64> {
        match self {
            Self::Time => {
                let (low, high) = (smallest.log10().floor(), largest.log10().ceil());
                let number = (high - low) as i32;
                (0..=number)
                    .map(|up| 10_f64.powf(low + f64::from(up)))
                    .collect()
            }
            Self::Rate => {
                let step = 10_f64.powf(largest.log10().floor());
                let step = if largest / step < 4.0 {
                    step / 2.0
                } else {
                    step
                };
                let number = (largest / step).ceil() as i32;
                (0..=number).map(|up| f64::from(up) * step).collect()
            }
        }
    }

    fn shown(self, value: f64) -> String {
        match self {
            Self::Time => time(value),
            Self::Rate => format!("{value:.0} /s"),
        }
    }

    fn height(self, value: f64, ticks: &[f64]) -> f64 {
        let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        match self {
            Self::Time => (value / low).log10() / (high / low).log10(),
            Self::Rate => value / high,
        }
    }
}

pub(crate) fn draw(figure: &Figure<'_>, up: Up, title: &str, across: &str) -> Svg {
    let (cases, contenders) = (figure.cases(), figure.contenders());
    let (a, b) = (up.value(figure.smallest()), up.value(figure.largest()));
    let ticks = up.ticks(a.min(b), a.max(b));
    let mut svg = Svg::new(WIDTH);
    svg.text(14.0, 26.0, Anchor::Start, title);
    let top = svg.legend(14.0, 50.0, &contenders) + 24.0;
    let y = |value: f64| BOTTOM - up.height(value, &ticks) * (BOTTOM - top);
    let step = (RIGHT - LEFT) / cases.len() as f64;
    let x = |number: usize| LEFT + step * (number as f64 + 0.5);
    for tick in &ticks {
        svg.grid((LEFT, y(*tick)), (RIGHT, y(*tick)));
        svg.text(LEFT - 8.0, y(*tick) + 4.5, Anchor::End, &up.shown(*tick));
    }
    for (number, case) in cases.iter().enumerate() {
        svg.text(x(number), BOTTOM + 20.0, Anchor::Middle, case);
    }
    svg.text((LEFT + RIGHT) / 2.0, BOTTOM + 44.0, Anchor::Middle, across);
    // The first is drawn last, so that nothing hides it.
    for (number, contender) in contenders.iter().enumerate().rev() {
        let points: Vec<_> = cases
            .iter()
            .enumerate()
            .filter_map(|(n, case)| Some((x(n), y(up.value(figure.main(case, contender)?)))))
            .collect();
        svg.path(&points, colour(number));
    }
    svg.end_at(BOTTOM + 60.0)
}
