//! The program: arguments, environment, and where to look for it.

use super::place::c_string;
use crate::error::{Error, Result};
use crate::sandbox::Command;
use crate::sys::exec::StringArray;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where execvp(3) looks when there is no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// No path that the kernel takes is as long.
const PATH_MAX: usize = libc::PATH_MAX.unsigned_abs() as usize;

#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) argv: StringArray,
    pub(crate) envp: StringArray,
    /// The paths to try, in this order.
    pub(crate) candidates: Vec<CString>,
}

impl Program {
    pub(crate) fn compile(command: &Command) -> Result<Self> {
        let string = |setter, text: &OsStr| {
            c_string(text.as_bytes()).map_err(|what| Error::invalid(setter, what))
        };
        let mut argv = vec![match &command.arg0 {
            Some(arg0) => string("arg0", arg0)?,
            None => string("command", &command.program)?,
        }];
        for arg in &command.args {
            argv.push(string("args", arg)?);
        }
        let env = environment(command)?;
        let mut envp = Vec::with_capacity(env.len());
        for (key, value) in &env {
            let mut line = key.clone();
            line.push("=");
            line.push(value);
            envp.push(string("env", &line)?);
        }
        let path = env.get(OsStr::new("PATH")).map(OsString::as_os_str);
        Ok(Self {
            candidates: candidates(&command.program, path)
                .map_err(|what| Error::invalid("command", what))?,
            argv: StringArray::new(argv),
            envp: StringArray::new(envp),
        })
    }
}

fn environment(command: &Command) -> Result<BTreeMap<OsString, OsString>> {
    let mut env: BTreeMap<_, _> = if command.env_clear {
        BTreeMap::new()
    } else {
        std::env::vars_os().collect()
    };
    for (key, value) in &command.env {
        let bytes = key.as_bytes();
        if bytes.is_empty() || bytes.contains(&b'=') {
            return Err(Error::invalid(
                "env",
                format!("{key:?} cannot be the name of a variable"),
            ));
        }
        match value {
            Some(value) => env.insert(key.clone(), value.clone()),
            None => env.remove(key),
        };
    }
    Ok(env)
}

fn candidates(program: &OsStr, path: Option<&OsStr>) -> Result<Vec<CString>, String> {
    let name = program.as_bytes();
    if name.is_empty() {
        return Err("the name of the program is empty".into());
    }
    if name.contains(&b'/') {
        return Ok(vec![c_string(name)?]);
    }
    path.unwrap_or_else(|| OsStr::new(DEFAULT_PATH))
        .as_bytes()
        .split(|&byte| byte == b':')
        // execve(2) would refuse it, which would end the search.
        .filter(|dir| dir.len() < PATH_MAX)
        .map(|dir| {
            // An empty element of PATH is the current directory.
            let dir = if dir.is_empty() { b"." } else { dir };
            let path = Path::new(OsStr::from_bytes(dir)).join(program);
            c_string(path.as_os_str().as_bytes())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[CString]) -> Vec<&str> {
        list.iter().map(|s| s.to_str().expect("ASCII")).collect()
    }

    #[test]
    fn looks_along_path_only_for_bare_names() {
        let find = |name: &str, path: Option<&str>| {
            candidates(OsStr::new(name), path.map(OsStr::new)).expect("valid")
        };
        assert_eq!(strings(&find("sh", Some("/a:/b/"))), ["/a/sh", "/b/sh"]);
        assert_eq!(
            strings(&find("sh", Some("/a::"))),
            ["/a/sh", "./sh", "./sh"]
        );
        assert_eq!(strings(&find("sh", None)), ["/bin/sh", "/usr/bin/sh"]);
        assert_eq!(strings(&find("./sh", Some("/a"))), ["./sh"]);
        let long = format!("/a:{}:/b", "/c".repeat(PATH_MAX / 2));
        assert_eq!(strings(&find("sh", Some(&long))), ["/a/sh", "/b/sh"]);
        assert!(candidates(OsStr::new(""), None).is_err());
    }

    #[test]
    fn environment_is_changed_as_std_changes_it() {
        let command = crate::Sandbox::new()
            .command("x")
            .env("B", "lost")
            .env_clear()
            .env("A", "1")
            .env("C", "2")
            .env_remove("C");
        let program = Program::compile(&command).expect("valid");
        assert_eq!(strings(program.envp.strings()), ["A=1"]);
        for bad in ["", "A=B", "A\0"] {
            let command = crate::Sandbox::new().command("x").env(bad, "1");
            let error = Program::compile(&command).expect_err("refused");
            assert_eq!(error.setter(), Some("env"));
        }
    }
}
