//! Comparing within a few per cent on a machine that drifts by more than that from one second to the
//! next.

use std::time::{Duration, Instant};

/// The times of one contender.
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
}

/// Runs the contenders in turn, so that each meets the same weather.
pub(crate) fn interleave<const N: usize>(
    rounds: usize,
    mut contenders: [&mut dyn FnMut(); N],
) -> [Times; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            contender();
            times.push(start.elapsed());
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        Times(times)
    })
}
