//! Says whether sandboxes will work here, and what stands in the way: `doctor`. The exit status is 1 if they do
//! not.

use ringfence::support::Report;
use std::process::ExitCode;

fn main() -> ExitCode {
    let report = Report::new();
    print!("{report}");
    ExitCode::from(u8::from(!report.works()))
}
