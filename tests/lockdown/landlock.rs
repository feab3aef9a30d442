//! Landlock rulesets, by the kernel's own interface and by the crate landlock.

use super::{Stage, on_each};
use crate::common::{isolated_as_both, require};
use ringfence::lockdown::LandlockPaths;
use ringfence::{ErrorKind, Sandbox, Step};
use std::fs;

/// Landlock is an option of the kernel.
fn landlock() -> Result<(), String> {
    LandlockPaths::new()
        .ruleset()
        .map(drop)
        .map_err(|error| error.to_string())
}

macro_rules! require_landlock {
    () => {
        if let Err(why) = landlock() {
            let test = crate::common::test_name!();
            return crate::common::require::missing(test, "landlock", &why);
        }
    };
}

#[test]
fn only_what_is_allowed_is_open() {
    isolated_as_both(|| {
        require_landlock!();
        require!(userns);
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["read", "write", "closed"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), name).unwrap();
        }
        let open = |path: &std::path::Path| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        };
        open(dir.path());
        open(&at("write"));
        on_each(|way| {
            // A shared object that the program needs is read, too.
            let ruleset = LandlockPaths::new()
                .execute("/usr")
                .execute("/proc")
                .write("/dev/null")
                .read(at("read"))
                .write(at("write"));
            let sandbox = way.sandbox().landlock(ruleset.ruleset().unwrap());
            let script = "cat read/file; echo x > write/new && rm write/new && echo -written
                cat closed/file || echo closed; ls . || echo hidden; (echo x > read/new) || echo kept";
            let mut child = way
                .command(sandbox, "/bin/sh")
                .args(["-c", &format!("exec 2>/dev/null; {script}")])
                .current_dir(dir.path())
                .stdout(ringfence::Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{way:?}: {error:?}"));
            if way.stage == Stage::Gate {
                child.release().unwrap();
            }
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(said, "read-written\nclosed\nhidden\nkept\n", "{way:?}");
        });
    });
}

#[test]
fn what_is_no_ruleset_is_an_error() {
    isolated_as_both(|| {
        require_landlock!();
        let file = std::os::fd::OwnedFd::from(fs::File::open("/dev/null").unwrap());
        let error = Sandbox::new().landlock(file).command("/bin/true").status();
        let error = error.unwrap_err();
        assert_eq!(error.step(), Some(Step::Landlock), "{error:?}");
        assert_eq!(error.raw_os_error(), Some(libc::EBADFD), "{error:?}");
        let error = LandlockPaths::new().read("/nonexistent").ruleset();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    });
}
