//! Values of options.

use crate::tool::{Result, fail};
use lexopt::Parser;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

pub(super) fn one(name: &str, parser: &mut Parser) -> Result<OsString> {
    let number = match name {
        "--chdir" | "--remount-ro" => "one",
        _ => "an",
    };
    let value = parser.value();
    value.or_else(|_| fail(format!("{name} takes {number} argument")))
}

pub(super) fn two(name: &str, parser: &mut Parser) -> Result<(OsString, OsString)> {
    match (parser.value(), parser.value()) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        _ => fail(format!("{name} takes two arguments")),
    }
}

/// A path inside, which needs no slash at its beginning.
pub(super) fn inside(path: OsString) -> PathBuf {
    PathBuf::from("/").join(path)
}

pub(super) fn descriptor_number(text: &OsStr) -> Result<i32> {
    let number = parsed(text, "fd")?;
    i32::try_from(number).or_else(|_| fail(format!("Invalid fd: {number}")))
}

pub(super) fn parsed(text: &OsStr, what: &str) -> Result<u32> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    match number {
        Some(number) => Ok(number),
        None => fail(format!("Invalid {what}: {}", text.display())),
    }
}

pub(super) fn octal(name: &str, text: &OsStr) -> Result<u32> {
    let mode = text
        .to_str()
        .and_then(|text| u32::from_str_radix(text, 8).ok());
    match mode.filter(|&mode| mode <= 0o7777) {
        Some(mode) => Ok(mode),
        None => fail(format!("{name} takes an octal argument <= 07777")),
    }
}
