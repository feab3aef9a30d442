//! How names, paths and the types of other modules are written.

use crate::ns::{Kind, NamespaceId, NamespaceIds, Namespaces};
use crate::sandbox::Extent;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;

pub(crate) fn text<S: Serializer>(text: &OsStr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text.to_string_lossy())
}

pub(crate) fn texts<S: Serializer>(texts: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().map(|text| text.to_string_lossy()))
}

pub(crate) fn optional_texts<S: Serializer>(
    value: &Option<Vec<OsString>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => texts(value, serializer),
        None => serializer.serialize_none(),
    }
}

pub(crate) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    text(path.as_os_str(), serializer)
}

pub(crate) fn optional_path<S: Serializer>(
    value: &Option<Arc<Path>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => path(value, serializer),
        None => serializer.serialize_none(),
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.proc_name())
    }
}

impl Serialize for Namespaces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.kinds())
    }
}

impl Serialize for NamespaceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for NamespaceIds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Extent", 3)?;
        fields.serialize_field("inside", &self.inside)?;
        fields.serialize_field("outside", &self.outside)?;
        fields.serialize_field("count", &self.count)?;
        fields.end()
    }
}
