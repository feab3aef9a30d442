//! Contenders in turns.

use crate::floor;
use std::process::Command;

/// One of those that are compared, by its name.
pub(crate) type Contender<'a> = (&'a str, Box<dyn FnMut() + 'a>);

/// The rounds of a contender are in as many blocks, so that one does not pay for the forks of another.
const BLOCKS: usize = 4;

/// Runs them in turns and reports.
pub(crate) fn race(figure: &str, case: &str, rounds: usize, contenders: Vec<Contender<'_>>) {
    let (names, mut runs): (Vec<_>, Vec<_>) = contenders.into_iter().unzip();
    let mut runs: Vec<&mut dyn FnMut()> = runs.iter_mut().map(|run| &mut **run as _).collect();
    let times = floor::in_blocks(BLOCKS, rounds / BLOCKS, &mut runs);
    let report: Vec<_> = names.into_iter().zip(&times).collect();
    floor::report(figure, case, &report);
}

pub(crate) fn succeed(command: &mut Command) {
    let status = command.status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{command:?} fails"
    );
}
