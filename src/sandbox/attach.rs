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

    /// The interface that it makes inside.
    fn interface(&self) -> &str;

    /// Whether the default route leads there.
    fn has_default_route(&self) -> bool;

    /// What can be refused before there is a child.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

pub(crate) fn check(all: &[Arc<dyn Attach>]) -> Result<()> {
    for (position, one) in all.iter().enumerate() {
        one.check()?;
        for before in &all[..position] {
            let what = if before.interface() == one.interface() {
                format!("there is a second interface {}", one.interface())
            } else if before.has_default_route() && one.has_default_route() {
                "the default route leads elsewhere already".to_owned()
            } else {
                continue;
            };
            return Err(Error::invalid(one.setter(), what).with_hint(Some(SEVERAL.into())));
        }
    }
    Ok(())
}

const SEVERAL: &str = "network_with has Membership::interface and no_default_route for a second network; an uplink of a network is NetworkBuilder::uplink";

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
