//! What shells of tests have in common.

/// Says `ready`, and then takes signals until there is a line to read, which it does.
///
/// Not by `read` itself: a signal that comes after the shell has looked for one, and before the system call, would be
/// noticed with the next line. `wait` has no such gap.
/// The one in the background says that it is ready, for by then it ignores the keys of a terminal.
pub(crate) const READY_UNTIL_A_LINE: &str =
    "exec 3<&0; { echo ready; read x <&3; :; } & until wait $!; do :; done";
