//! Horizontal bars: a group for each case, a bar for each contender.

use crate::results::{Figure, size, time};
use crate::svg::{Anchor, CHARACTER, Svg, colour, width};

const WIDTH: f64 = 760.0;
const BAR: f64 = 16.0;
const BETWEEN_BARS: f64 = 2.0;
const BETWEEN_CASES: f64 = 14.0;
const MARGIN: f64 = 14.0;

pub(crate) fn draw(figure: &Figure<'_>, title: &str) -> Svg {
    let (cases, contenders) = (figure.cases(), figure.contenders());
    let names = cases.iter().map(|case| width(case)).fold(0.0, f64::max);
    let left = MARGIN + names + 10.0;
    // Room for the figure behind the longest bar.
    let scale = (WIDTH - MARGIN - left - 12.0 * CHARACTER) / figure.largest();

    let mut svg = Svg::new(WIDTH);
    svg.text(MARGIN, 26.0, Anchor::Start, title);
    let mut top = 62.0;
    if contenders.len() > 1 {
        top = svg.legend(MARGIN, 50.0, &contenders) + 20.0;
    }
    let first = top;
    for case in &cases {
        let start = top;
        for (number, contender) in contenders.iter().enumerate() {
            let Some(value) = figure.main(case, contender) else {
                continue;
            };
            svg.bar(left, top, value * scale, BAR, colour(number));
            let shown = match figure.is_of_sizes() {
                true => size(value),
                false => time(value),
            };
            svg.text(
                left + value * scale + 6.0,
                top + 12.5,
                Anchor::Start,
                &shown,
            );
            top += BAR + BETWEEN_BARS;
        }
        let middle = f64::midpoint(start, top - BETWEEN_BARS);
        svg.text(left - 10.0, middle + 4.5, Anchor::End, case);
        top += BETWEEN_CASES;
    }
    svg.grid((left, first - 6.0), (left, top - BETWEEN_CASES + 6.0));
    svg.end_at(top + 4.0)
}
