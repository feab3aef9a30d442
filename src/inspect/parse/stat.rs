use super::{ParseError, number};

/// What `/proc/PID/stat` says of a process or a thread, as far as it is of use here.
///
/// See [proc_pid_stat(5)](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stat<'a> {
    /// The id of the process or thread.
    pub pid: u32,
    /// The name, of any bytes, parentheses and newlines among them.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::inspect::json::bytes")
    )]
    pub comm: &'a [u8],
    /// `R`, `S`, `D`, `Z` and the like.
    pub state: char,
    /// The id of the parent; 0 if it is in another pid namespace, or there is none.
    pub ppid: u32,
    /// How many threads the process has. A process whose first thread has ended while others go on is a zombie
    /// with more than one.
    pub threads: u32,
    /// When it was started, in clock ticks after the boot: tells it from another one that had the same id.
    pub start_time: u64,
}

impl<'a> Stat<'a> {
    /// Parses the text.
    ///
    /// The name ends at the last `)`, since nothing after it can hold one.
    ///
    /// # Errors
    /// [`ParseError`] if a field is missing or is not a number where it should be.
    pub fn parse(text: &'a [u8]) -> Result<Self, ParseError> {
        let error = |field| ParseError::new("stat", field);
        let open = text.iter().position(|&byte| byte == b'(');
        let close = text.iter().rposition(|&byte| byte == b')');
        let (Some(open), Some(close)) = (open, close) else {
            return Err(error("the name"));
        };
        let comm = text.get(open + 1..close).ok_or(error("the name"))?;
        let head = text.get(..open).and_then(|head| head.strip_suffix(b" "));
        let pid = head.and_then(number).ok_or(error("the pid"))?;
        let rest = text.get(close + 1..).unwrap_or_default().trim_ascii();
        let mut fields = rest.split(|&byte| byte == b' ');
        let state = match fields.next() {
            Some(&[state]) if state.is_ascii_alphabetic() => char::from(state),
            _ => return Err(error("the state")),
        };
        let ppid = fields.next().and_then(number);
        // Fields 20 and 22, the state being 3.
        let threads = fields.nth(15).and_then(number);
        let start_time = fields.nth(1).and_then(number);
        Ok(Self {
            pid,
            comm,
            state,
            ppid: ppid.ok_or(error("the parent"))?,
            threads: threads.ok_or(error("the number of threads"))?,
            start_time: start_time.ok_or(error("the start time"))?,
        })
    }

    /// Whether it has ended and was not reaped: it is in no namespace any more.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &[u8] =
        b" S 7 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 654321 8192 100 18446744073709551615 0\n";

    fn text(name: &[u8]) -> Vec<u8> {
        [b"12 (", name, b")", TAIL].concat()
    }

    #[test]
    fn names_hold_anything() {
        for name in [
            b"sh" as &[u8],
            b"",
            b"a) S 1",
            b"((",
            b"))",
            b") Z 99 (x",
            b"a\nb",
            b"\xff\0",
        ] {
            let text = text(name);
            let stat = Stat::parse(&text).unwrap();
            assert_eq!(stat.comm, name);
            assert_eq!((stat.pid, stat.ppid, stat.state), (12, 7, 'S'));
            assert_eq!((stat.threads, stat.start_time), (3, 654_321));
        }
    }

    #[test]
    fn is_that_of_this_process() {
        let text = std::fs::read("/proc/self/stat").unwrap();
        let stat = Stat::parse(&text).unwrap();
        assert_eq!(stat.pid, std::process::id());
        assert_eq!(stat.ppid, std::os::unix::process::parent_id());
        assert!(!stat.is_zombie());
    }

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            (b"" as &[u8], "the name"),
            (b"12 sh S 7", "the name"),
            (b")(", "the name"),
            (b"x (sh) S 7", "the pid"),
            (b"+1 (sh) S 7", "the pid"),
            (b"1(sh) S 7", "the pid"),
            (b"1 (sh)", "the state"),
            (b"1 (sh) SS 7", "the state"),
            (b"1 (sh) S", "the parent"),
            (b"1 (sh) S -7 1", "the parent"),
            (b"1 (sh) S 7 1 2 3", "the number of threads"),
            (
                b"1 (sh) S 7 12 12 0 -1 1 1 2 3 4 5 6 7 8 20 0 3 0",
                "the start time",
            ),
        ] {
            let error = Stat::parse(text).unwrap_err();
            assert_eq!(error.field(), field, "{text:?}");
            assert_eq!(error.file(), "stat");
        }
    }
}
