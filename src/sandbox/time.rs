use std::fmt;
use std::time::Duration;

/// How far a clock in a new time namespace is ahead of the caller's, or behind it.
///
/// ```
/// use ringfence::TimeOffset;
/// use std::time::Duration;
///
/// let ahead = TimeOffset::from(Duration::from_secs(3600));
/// let behind = TimeOffset::behind(Duration::from_millis(1500));
/// assert_eq!(behind.to_string(), "-2 500000000");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeOffset {
    negative: bool,
    amount: Duration,
}

impl TimeOffset {
    /// The clock inside shows a later time.
    #[must_use]
    pub const fn ahead(amount: Duration) -> Self {
        Self {
            negative: false,
            amount,
        }
    }

    /// The clock inside shows an earlier time. The kernel refuses a clock that would be negative.
    #[must_use]
    pub const fn behind(amount: Duration) -> Self {
        Self {
            negative: true,
            amount,
        }
    }

    /// Whole seconds, in either direction.
    pub(crate) const fn seconds(self) -> u64 {
        self.amount.as_secs()
    }
}

impl From<Duration> for TimeOffset {
    fn from(amount: Duration) -> Self {
        Self::ahead(amount)
    }
}

impl fmt::Display for TimeOffset {
    /// Seconds and nanoseconds as `/proc/PID/timens_offsets` takes them: the nanoseconds always add.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanoseconds) = (
            i128::from(self.amount.as_secs()),
            self.amount.subsec_nanos(),
        );
        match (self.negative, nanoseconds) {
            (false, _) => write!(f, "{seconds} {nanoseconds}"),
            (true, 0) => write!(f, "{} 0", -seconds),
            (true, _) => write!(f, "{} {}", -seconds - 1, 1_000_000_000 - nanoseconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_the_kernel_takes() {
        for (offset, text) in [
            (TimeOffset::ahead(Duration::new(5, 7)), "5 7"),
            (TimeOffset::behind(Duration::new(5, 0)), "-5 0"),
            (TimeOffset::behind(Duration::new(0, 1)), "-1 999999999"),
            (
                TimeOffset::behind(Duration::new(5, 250_000_000)),
                "-6 750000000",
            ),
            (TimeOffset::behind(Duration::ZERO), "0 0"),
        ] {
            assert_eq!(offset.to_string(), text);
        }
    }
}
