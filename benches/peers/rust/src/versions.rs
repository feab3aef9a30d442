//! Which crates these are, by the lock file that they were built with.

use crate::floor;

const LOCK: &str = include_str!("../Cargo.lock");

/// Keeps what the page says of them.
pub(crate) fn keep() {
    let crates = [("unshare", true), ("hakoniwa", cfg!(feature = "hakoniwa"))];
    for (name, measured) in crates {
        let value = match measured {
            true => version(name),
            false => "not installed, not measured".into(),
        };
        println!("crate {name}: {value}");
        floor::keep(&serde_json::json!({ "fact": format!("crate {name}"), "value": value }));
    }
}

/// With what `RINGFENCE_PEERS_NOTE` has to say if it is not the registry's.
fn version(name: &str) -> String {
    let package = LOCK
        .split("[[package]]")
        .find(|package| field(package, "name") == Some(name));
    let package = package.expect("it is linked, so it is locked");
    let version = field(package, "version").unwrap_or("unknown").to_owned();
    if field(package, "source").is_some() {
        return version;
    }
    let note = std::env::var("RINGFENCE_PEERS_NOTE");
    version + ", " + note.as_deref().unwrap_or("not the registry's")
}

fn field<'a>(package: &'a str, name: &str) -> Option<&'a str> {
    package.lines().find_map(|line| {
        let (key, value) = line.split_once(" = ")?;
        (key == name).then(|| value.trim_matches('"'))
    })
}
