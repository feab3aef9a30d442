//! What a subreaper does in the stead of a pid namespace: it finds its children, and ends them.

use super::calls;
use super::message::Usage;

/// Sends a signal to every child that may be signalled, and returns whether there was one.
///
/// `list` is the file in `/proc` that has their pids, with a space after each. More of them than are read at
/// once are for the next call.
pub(super) fn signal(list: i32, signal: u32) -> bool {
    let mut text = [0_u8; 4096];
    let length = calls::read_first(list, &mut text).unwrap_or(0);
    let mut reached = false;
    let mut pid = 0_i32;
    for &byte in text.get(..length).unwrap_or(&[]) {
        if byte.is_ascii_digit() {
            pid = pid
                .saturating_mul(10)
                .saturating_add(i32::from(byte - b'0'));
        } else {
            reached |= is_child(pid) && calls::kill(pid, signal).is_ok();
            pid = 0;
        }
    }
    reached
}

/// Nobody but this process reaps its children, so that a child's pid is its own until then.
fn is_child(pid: i32) -> bool {
    let mut usage: Usage = [0; 18];
    let look = calls::WEXITED | calls::WNOHANG | calls::WNOWAIT;
    pid > 0 && calls::wait(Some(pid), look, &mut usage).is_ok()
}
