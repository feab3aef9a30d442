//! A program that cannot be executed is an error of the spawn, not a status.

use super::{both_forms, sandbox};
use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated, require};
use ringfence::{ErrorKind, Step};
use std::fs;
use std::os::unix::fs::PermissionsExt;

both_forms! {
    fn what_failed_is_told() {
        let _ = sandbox().command("/bin/true").status();
        let before = Census::take();
        let error = sandbox().command("/nonexistent").spawn().unwrap_err();
        assert_eq!((error.step(), error.syscall()), (Some(Step::Exec), Some("execve")));
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), "exec: /nonexistent");

        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let error = sandbox()
            .command(file("script", "#!/no/such/shell\n", 0o755))
            .spawn()
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert!(error.hint().is_some_and(|hint| hint.contains("/no/such/shell")), "{error:?}");

        let error = sandbox().command(file("data", "x", 0o644)).spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        assert!(error.hint().is_some_and(|hint| hint.contains("mode")), "{error:?}");

        let error = sandbox().command(file("text", "x", 0o755)).spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
        drop(dir);
        assert_same(&before, &Census::take());
    }

    fn set_up_errors_come_first() {
        let command = sandbox().mount().command("/bin/true").current_dir("/nonexistent");
        let error = command.spawn().unwrap_err();
        assert_eq!(error.step(), Some(Step::CurrentDir));
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    fn path_is_searched() {
        let output = sandbox()
            .command("echo")
            .env("PATH", "/nonexistent:/usr/bin:/bin")
            .arg("found")
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"found\n");
    }
}

#[test]
fn an_interpreter_of_an_elf_file_is_named() {
    isolated(|| {
        require!(userns);
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("program");
        let mut bytes = fs::read("/bin/true").unwrap();
        let at = bytes
            .windows(8)
            .position(|window| window.starts_with(b"/lib") && window.contains(&b'/'));
        bytes[at.unwrap() + 1] = b'X';
        fs::write(&copy, bytes).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        let error = sandbox().command(&copy).spawn().unwrap_err();
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains("/Xib"), "{error:?}");
    });
}
