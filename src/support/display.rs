//! The report as a table.

use super::{Effect, Helper, IdRange, Report};
use crate::ns::Kind;
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes_no = |yes| if yes { "yes" } else { "no" };
        let verdict = match (self.works(), self.maps_ranges()) {
            (false, _) => "no sandbox can be made",
            (true, false) => "sandboxes can be made, with the caller's own id mapped",
            (true, true) => "sandboxes can be made, with ranges of ids mapped",
        };
        line(f, "result", verdict)?;
        line(f, "kernel", &self.kernel)?;
        line(f, "namespaces", self.kinds)?;
        let missing = Kind::ALL
            .into_iter()
            .filter(|&kind| !self.kinds.contains(kind.into()));
        for kind in missing {
            line(f, "", format_args!("{kind} is missing from this kernel"))?;
        }
        line(f, "CAP_SYS_ADMIN", yes_no(self.privileged))?;
        match &self.user_namespaces {
            None => line(f, "user namespace", "tried, and works")?,
            Some(why) => line(f, "user namespace", why)?,
        }
        for (name, ranges) in [("subuid", &self.subuid), ("subgid", &self.subgid)] {
            line(f, name, list(ranges))?;
        }
        for (name, helper) in [
            ("newuidmap", &self.newuidmap),
            ("newgidmap", &self.newgidmap),
        ] {
            match helper {
                Helper::Usable { path } => line(f, name, path.display())?,
                Helper::Unusable { .. } => line(f, name, "cannot be used")?,
            }
        }
        writeln!(f)?;
        for feature in &self.features {
            let (name, since) = (feature.name, feature.since);
            match feature.available {
                true => writeln!(f, "  yes {name:<32} {since}")?,
                false => {
                    let fallback = feature.fallback;
                    writeln!(f, "  no  {name:<32} {since:<5} instead: {fallback}")?;
                }
            }
        }
        writeln!(f)?;
        for setting in &self.settings {
            let effect = match setting.effect {
                Effect::Fine => "fine",
                Effect::Limits => "limits",
                Effect::Forbids => "forbids",
            };
            let value = setting.value.as_deref().unwrap_or("-");
            writeln!(f, "  {effect:<7} {:<45} {value}", setting.name)?;
        }
        for (index, advice) in self.advice().enumerate() {
            if index == 0 {
                writeln!(f, "\nWhat would help:")?;
            }
            writeln!(f, "  {advice}")?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{name:<15} {value}")
}

fn list(ranges: &[IdRange]) -> String {
    if ranges.is_empty() {
        return "none".to_owned();
    }
    let ranges = ranges.iter();
    let texts: Vec<_> = ranges
        .map(|range| format!("{} from {} on", range.count, range.first))
        .collect();
    texts.join(", ")
}
