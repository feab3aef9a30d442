//! The options about what is put into the sandbox.

use super::Reading;
use super::values::{descriptor_number, inside, octal, one, two};
use crate::setup::Setup;
use crate::tool::{Result, fail};
use lexopt::Parser;
use ringfence::Bind;

impl Reading {
    pub(super) fn bind(&mut self, name: &str, parser: &mut Parser) -> Result<bool> {
        let (kind, optional) = match name.strip_suffix("-try") {
            Some(kind) => (kind, true),
            None => (name, false),
        };
        let options = match kind {
            "--bind" | "--bind-fd" => Bind::new(),
            "--dev-bind" => Bind::new().allow_dev(),
            "--ro-bind" | "--ro-bind-fd" => Bind::new().read_only(),
            _ => return Ok(false),
        };
        let setup = match kind {
            "--bind-fd" | "--ro-bind-fd" if optional => return Ok(false),
            "--bind-fd" | "--ro-bind-fd" => {
                let (number, at) = two(name, parser)?;
                let fd = self.take(descriptor_number(&number)?)?;
                let at = inside(at);
                Setup::BindFd { fd, at, options }
            }
            _ => {
                let (source, at) = two(name, parser)?;
                Setup::Bind {
                    source: source.into(),
                    at: inside(at),
                    options,
                    optional,
                }
            }
        };
        self.options.setup.push(setup);
        Ok(true)
    }

    pub(super) fn content(&mut self, name: &str, parser: &mut Parser) -> Result<bool> {
        let setup = match name {
            "--proc" => Setup::Proc(inside(one(name, parser)?)),
            "--dev" => Setup::Dev(inside(one(name, parser)?)),
            "--mqueue" => Setup::Mqueue(inside(one(name, parser)?)),
            "--remount-ro" => Setup::RemountReadOnly(inside(one(name, parser)?)),
            "--tmpfs" => Setup::Tmpfs {
                at: inside(one(name, parser)?),
                mode: self.perms.take().unwrap_or(0o755),
                size: self.size.take(),
            },
            "--dir" => Setup::Dir {
                at: inside(one(name, parser)?),
                mode: self.perms.take().unwrap_or(0o755),
            },
            "--file" => {
                let (number, at) = two(name, parser)?;
                let number = descriptor_number(&number)?;
                let what = format!("Can't write data to file {}", at.display());
                Setup::File {
                    bytes: self.data(number, &what)?,
                    at: inside(at),
                    mode: self.perms.take().unwrap_or(0o666),
                }
            }
            "--bind-data" | "--ro-bind-data" => {
                let (number, at) = two(name, parser)?;
                let number = descriptor_number(&number)?;
                let what = format!("Can't write data to file {}", at.display());
                Setup::BindData {
                    bytes: self.data(number, &what)?,
                    at: inside(at),
                    mode: self.perms.take().unwrap_or(0o600),
                    read_only: name == "--ro-bind-data",
                }
            }
            "--symlink" => {
                let (target, at) = two(name, parser)?;
                Setup::Symlink {
                    target: target.into(),
                    at: inside(at),
                }
            }
            "--chmod" => {
                let (mode, at) = two(name, parser)?;
                Setup::Chmod {
                    mode: octal(name, &mode)?,
                    at: inside(at),
                }
            }
            _ => return Ok(false),
        };
        self.options.setup.push(setup);
        Ok(true)
    }

    pub(super) fn overlay(&mut self, name: &str, parser: &mut Parser) -> Result<bool> {
        let (at, upper, fewest) = match name {
            "--overlay-src" => {
                self.layers.push(one(name, parser)?.into());
                return Ok(true);
            }
            "--overlay" => {
                let values = (parser.value(), parser.value(), parser.value());
                let (Ok(upper), Ok(work), Ok(at)) = values else {
                    return fail("--overlay takes three arguments");
                };
                (at, Some((upper.into(), work.into())), 1)
            }
            "--tmp-overlay" => (one(name, parser)?, None, 1),
            "--ro-overlay" => (one(name, parser)?, None, 2),
            _ => return Ok(false),
        };
        let lowers = std::mem::take(&mut self.layers);
        if lowers.len() < fewest {
            let number = if fewest == 1 { "one" } else { "two" };
            return fail(format!("{name} requires at least {number} --overlay-src"));
        }
        self.options.setup.push(Setup::Overlay {
            lowers,
            upper,
            at: inside(at),
            throwaway: name == "--tmp-overlay",
        });
        Ok(true)
    }

    /// What an option says of the next one, that has to heed it.
    pub(super) fn check_modifiers(&self, name: &str) -> Result<()> {
        if ["--perms", "--size"].contains(&name) {
            return Ok(());
        }
        if self.perms.is_some() {
            return fail("--perms must be followed by an option that creates a file");
        }
        if self.size.is_some() {
            return fail("--size must be followed by --tmpfs");
        }
        let of_overlay = [
            "--overlay-src",
            "--overlay",
            "--tmp-overlay",
            "--ro-overlay",
        ];
        if !self.layers.is_empty() && !of_overlay.contains(&name) {
            return fail(
                "--overlay-src must be followed by another --overlay-src or one of --overlay, --tmp-overlay, or --ro-overlay",
            );
        }
        Ok(())
    }
}
