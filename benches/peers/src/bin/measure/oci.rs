//! Runtimes that take a bundle: crun, runc.

use crate::succeed;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A bundle as the runtime itself describes one, with our root and program.
pub(crate) struct Bundle(TempDir);

impl Bundle {
    pub(crate) fn new(runtime: &Path, root: &Path) -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
        succeed(
            Command::new(runtime)
                .arg("spec")
                .current_dir(directory.path()),
        );
        let path = directory.path().join("config.json");
        let text = std::fs::read(&path).expect("the runtime wrote it");
        let mut config: Value = serde_json::from_slice(&text).expect("it is JSON");
        config["root"]["path"] = json!(root);
        config["process"]["args"] = json!(["/tiny"]);
        config["process"]["terminal"] = json!(false);
        std::fs::write(&path, config.to_string()).expect("a file of our own");
        Self(directory)
    }
}

pub(crate) fn run(runtime: &Path, bundle: &Bundle) {
    let mut command = Command::new(runtime);
    command.arg("run").arg("--bundle").arg(bundle.0.path());
    succeed(command.arg("ringfence-bench"));
}
