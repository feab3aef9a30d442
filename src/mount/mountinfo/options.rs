//! Lists of mount options.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::parse::unescape;

/// Mount options in the kernel's order: `rw,nosuid,size=4k`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Options(OsString);

/// One option, escapes undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOption<'a> {
    /// What stands before the first `=`.
    pub name: Cow<'a, OsStr>,
    /// What stands after it.
    pub value: Option<Cow<'a, OsStr>>,
}

impl Options {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self(OsString::from_vec(bytes.to_vec()))
    }

    /// The list as the kernel prints it, escapes and all.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// Each option in turn.
    pub fn iter(&self) -> impl Iterator<Item = MountOption<'_>> {
        let mut rest = Some(self.0.as_bytes());
        std::iter::from_fn(move || {
            let list = rest?;
            let end = end_of_first(list);
            rest = list.get(end + 1..);
            Some(MountOption::from_bytes(&list[..end]))
        })
    }

    /// The first option of this name.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<MountOption<'_>> {
        let name = name.as_ref();
        self.iter().find(|option| option.name == name)
    }

    /// Whether an option of this name is set, with a value or without.
    pub fn contains(&self, name: impl AsRef<OsStr>) -> bool {
        self.get(name).is_some()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a> MountOption<'a> {
    fn from_bytes(option: &'a [u8]) -> Self {
        let text = |bytes| match unescape(bytes) {
            Cow::Borrowed(bytes) => Cow::Borrowed(OsStr::from_bytes(bytes)),
            Cow::Owned(bytes) => Cow::Owned(OsString::from_vec(bytes)),
        };
        match option.iter().position(|byte| *byte == b'=') {
            None => Self {
                name: text(option),
                value: None,
            },
            Some(equals) => {
                let (name, value) = (&option[..equals], &option[equals + 1..]);
                let value = if is_context(name) {
                    unquote(value)
                } else {
                    value
                };
                Self {
                    name: text(name),
                    value: Some(text(value)),
                }
            }
        }
    }
}

fn end_of_first(list: &[u8]) -> usize {
    let comma = list
        .iter()
        .position(|byte| *byte == b',')
        .unwrap_or(list.len());
    let Some(equals) = list[..comma].iter().position(|byte| *byte == b'=') else {
        return comma;
    };
    if !is_context(&list[..equals]) || list.get(equals + 1) != Some(&b'"') {
        return comma;
    }
    let quoted = &list[equals + 2..];
    match quoted.iter().position(|byte| *byte == b'"') {
        Some(quote) if matches!(quoted.get(quote + 1), None | Some(b',')) => equals + 2 + quote + 1,
        _ => comma,
    }
}

/// SELinux contexts are the one value that the kernel quotes rather than escapes, for their commas.
fn is_context(name: &[u8]) -> bool {
    matches!(
        name,
        b"context" | b"fscontext" | b"defcontext" | b"rootcontext"
    )
}

fn unquote(value: &[u8]) -> &[u8] {
    value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<(String, Option<String>)> {
        let string = |text: Cow<'_, OsStr>| text.into_owned().into_string().unwrap();
        Options::from_bytes(text.as_bytes())
            .iter()
            .map(|option| (string(option.name), option.value.map(string)))
            .collect()
    }

    fn pair(name: &str, value: &str) -> (String, Option<String>) {
        (name.to_owned(), Some(value.to_owned()))
    }

    #[test]
    fn values_are_split_before_they_are_unescaped() {
        assert_eq!(
            list(r"rw,lowerdir=/a\054b:/c\040d,upperdir=/e=f"),
            [
                ("rw".to_owned(), None),
                pair("lowerdir", "/a,b:/c d"),
                pair("upperdir", "/e=f")
            ],
        );
    }

    #[test]
    fn a_quoted_context_keeps_its_comma() {
        let context = "system_u:object_r:tmp_t:s0:c1,c2";
        assert_eq!(
            list(&format!("rw,context=\"{context}\",size=4k")),
            [
                ("rw".to_owned(), None),
                pair("context", context),
                pair("size", "4k")
            ],
        );
        assert_eq!(
            list("context=a_u:b_r:c_t:s0,rw")[0],
            pair("context", "a_u:b_r:c_t:s0")
        );
    }

    #[test]
    fn a_quote_in_any_other_value_is_a_quote() {
        assert_eq!(list("lowerdir=\"/a,upperdir=/b\"").len(), 2);
        assert_eq!(list("context=\"open,rw").len(), 2);
    }

    #[test]
    fn names_are_found() {
        let options = Options::from_bytes(b"rw,size=4k,flag");
        assert!(options.contains("flag") && options.contains("size") && !options.contains("siz"));
        assert_eq!(
            options.get("size").unwrap().value.as_deref(),
            Some(OsStr::new("4k"))
        );
    }
}
