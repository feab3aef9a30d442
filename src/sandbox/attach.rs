//! What is done to a sandbox from outside while its program waits at the gate.

use crate::error::Result;
use crate::process::Child;
use std::fmt::Debug;
use std::sync::Arc;

/// What an attachment leaves, kept as long as the [`Child`].
pub(crate) type Attached = Box<dyn Debug + Send + Sync>;

pub(crate) trait Attach: Debug + Send + Sync {
    /// Attaches the child, which the sandbox gives this host name.
    fn attach(self: Arc<Self>, child: &Child, name: Option<&str>) -> Result<Attached>;

    /// For the printed plan.
    fn name(&self) -> &str;
}

/// All of them, in the order in which they were asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attachments {
    pub(crate) all: Vec<Arc<dyn Attach>>,
    pub(crate) name: Option<String>,
    /// Whether the program is to be held after that.
    pub(crate) hold: bool,
}

impl Attachments {
    /// Attaches a child that is held at the gate, and lets it go. If that fails, nothing is left of it.
    pub(crate) fn attach(&self, mut child: Child) -> Result<Child> {
        for attachment in &self.all {
            match Arc::clone(attachment).attach(&child, self.name.as_deref()) {
                Ok(attached) => child.keep(attached),
                Err(error) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(error);
                }
            }
        }
        if !self.all.is_empty() && !self.hold {
            child.release()?;
        }
        Ok(child)
    }
}
