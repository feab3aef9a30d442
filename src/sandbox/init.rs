/// How process 1 of a sandbox behaves, for [`Sandbox::init_with`](super::Sandbox::init_with).
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ringfence::{Init, Sandbox};
///
/// let sandbox = Sandbox::new().user().pid().init_with(Init::new().wait_for_all());
/// let command = sandbox.command("sh").args(["-c", "(sleep 0.1; echo late) & echo early"]);
/// let output = match command.output() {
///     Ok(output) => output,
///     # Err(error) if error.hint().is_some() => return Ok(()), // user namespaces are switched off here
///     Err(error) => return Err(error.into()),
/// };
/// assert_eq!(output.stdout, b"early\nlate\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct Init {
    pub(crate) wait_for_all: bool,
    pub(crate) signal_group: bool,
}

impl Init {
    /// Forwards signals to the program alone, and ends everything else when the program ends.
    pub fn new() -> Self {
        Self::default()
    }

    /// When the program ends, waits for all other processes of the sandbox instead of killing them.
    /// The status stays that of the program; signals go to all that are left.
    pub fn wait_for_all(mut self) -> Self {
        self.wait_for_all = true;
        self
    }

    /// Starts the program in a process group of its own, and forwards signals to that whole group.
    ///
    /// If the program's standard input is the caller's, that group is the
    /// [foreground](crate::Command::foreground) one of the caller's terminal: in the background the program might
    /// not read from it. With [`new_session`](crate::Command::new_session) the session's first group is meant.
    #[doc(alias = "setpgid")]
    pub fn signal_group(mut self) -> Self {
        self.signal_group = true;
        self
    }
}
