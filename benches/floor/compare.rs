//! Comparing within a few per cent on a machine that drifts by more than that from one second to the
//! next.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

/// The times of one contender.
#[derive(Clone)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// The times of several blocks as one.
    pub(crate) fn merge(blocks: Vec<Self>) -> Self {
        let mut times: Vec<_> = blocks.into_iter().flat_map(|block| block.0).collect();
        times.sort_unstable();
        Self(times)
    }

    /// The steadier figure where the kernel tears down net namespaces beside the measurement.
    pub(crate) fn lower_quartile(&self) -> Duration {
        self.0[self.0.len() / 4]
    }

    pub(crate) fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// Of one, where each time is that of several.
    #[must_use]
    pub(crate) fn each_of(self, several: u32) -> Self {
        Self(self.0.into_iter().map(|time| time / several).collect())
    }
}

/// Prints what the contenders took and the ratio of the first to each other. Keeps it as lines of JSON in the
/// file that `RINGFENCE_RESULTS` names, of which `docs/performance.md` is made.
pub(crate) fn report(figure: &str, case: &str, contenders: &[(&str, &Times)]) {
    let [(ours, first), others @ ..] = contenders else {
        return;
    };
    print!("{figure}, {case}: {ours} {first}");
    for (name, times) in others {
        let ratio = |of: fn(&Times) -> Duration| of(first).as_secs_f64() / of(times).as_secs_f64();
        let (quartile, median) = (ratio(Times::lower_quartile), ratio(Times::median));
        print!(" = {quartile:.3} x {name} {times} ({median:.3} x at the median)");
    }
    println!();
    for (contender, times) in contenders {
        keep(&serde_json::json!({
            "figure": figure,
            "case": case,
            "contender": contender,
            "runs": times.0.len(),
            "quartile_ns": nanoseconds(times.lower_quartile()),
            "median_ns": nanoseconds(times.median()),
        }));
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Appends a line to the results, if they are wanted.
pub(crate) fn keep(line: &serde_json::Value) {
    let Some(path) = std::env::var_os("RINGFENCE_RESULTS") else {
        return;
    };
    let file = OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut file| writeln!(file, "{line}"));
    written.expect("the file of results can be written");
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} / {:?}", self.lower_quartile(), self.median())
    }
}

/// Runs the contenders in turn, so that each meets the same weather.
pub(crate) fn interleave<const N: usize>(
    rounds: usize,
    mut contenders: [&mut dyn FnMut(); N],
) -> [Times; N] {
    let mut times = in_turns(rounds, &mut contenders).into_iter();
    std::array::from_fn(|_| times.next().expect("one of each"))
}

/// In turns of many rounds, where what one leaves behind is not the other's to pay for, as the pages that a fork
/// has write-protected, or caches.
pub(crate) fn in_blocks(
    blocks: usize,
    rounds: usize,
    contenders: &mut [&mut dyn FnMut()],
) -> Vec<Times> {
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..blocks {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            times.extend(in_turns(rounds, &mut [contender]));
        }
    }
    times.into_iter().map(Times::merge).collect()
}

/// The same as [`interleave`] for as many as there are. Every other round goes backwards, so that nobody always meets
/// what the same other one has left, such as a processor that has fallen asleep.
pub(crate) fn in_turns(rounds: usize, contenders: &mut [&mut dyn FnMut()]) -> Vec<Times> {
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let number = match round % 2 {
                0 => turn,
                _ => contenders.len() - 1 - turn,
            };
            let start = Instant::now();
            contenders[number]();
            times[number].push(start.elapsed());
        }
    }
    let sorted = |mut times: Vec<Duration>| {
        times.sort_unstable();
        Times(times)
    };
    times.into_iter().map(sorted).collect()
}
