//! What is done to a sandbox from outside while its program waits at the gate.

use crate::error::{Error, Result};
use crate::process::Child;
use std::fmt::Debug;
use std::sync::Arc;

/// What an attachment leaves, kept as long as the [`Child`].
pub(crate) type Attached = Box<dyn Debug + Send + Sync>;

pub(crate) trait Attach: Debug + Send + Sync {
    /// Attaches the child, which the sandbox gives this host name.
    fn attach(self: Arc<Self>, child: &Child, name: Option<&str>) -> Result<Attached>;

    /// What that is, for the printed plan.
    fn label(&self) -> String;

    /// The method of the sandbox that asked for it.
    fn setter(&self) -> &'static str;

    /// Whether it has the default route, and so cannot be one of several.
    fn is_alone(&self) -> bool {
        false
    }

    /// What can be refused before there is a child.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

pub(crate) fn check(all: &[Arc<dyn Attach>]) -> Result<()> {
    if all.len() > 1
        && let Some(alone) = all.iter().find(|one| one.is_alone())
    {
        let what = "the default route leads elsewhere already; an uplink of a network is NetworkBuilder::uplink";
        return Err(Error::invalid(alone.setter(), what));
    }
    all.iter().try_for_each(|one| one.check())
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
