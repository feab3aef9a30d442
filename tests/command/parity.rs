//! The same commands by `std::process::Command` and by ours.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Output;

use ringfence::Sandbox;
use tempfile::TempDir;

use crate::common::leaks::Census;
use crate::common::{isolated, isolated_as_both, probe, require, sys};
use crate::support::{ENGINES, Waiting, signal};

/// The output by std and by each engine of ours, of a program and the methods called on it.
macro_rules! both {
    ($program:expr $(, $method:ident($($arg:expr),*))* $(,)?) => {{
        let mut std = std::process::Command::new($program);
        $(std.$method($($arg),*);)*
        let ours = ENGINES.map(|engine| {
            let command = Sandbox::new().engine(engine).command($program)$(.$method($($arg),*))*;
            command.output().map_err(io::Error::from)
        });
        (std.output(), ours)
    }};
}

#[track_caller]
fn assert_same((std, ours): (io::Result<Output>, [io::Result<Output>; 4])) -> io::Result<Output> {
    for (ours, engine) in ours.into_iter().zip(ENGINES) {
        match (&std, ours) {
            (Ok(std), Ok(ours)) => assert_eq!(*std, ours, "{engine:?}"),
            (Err(std), Err(ours)) => assert_eq!(std.kind(), ours.kind(), "{engine:?}"),
            (std, ours) => panic!("{engine:?}: std {std:?}, ours {ours:?}"),
        }
    }
    std
}

/// Compares, and fails the test unless the program wrote this.
macro_rules! same {
    ($written:expr; $($command:tt)*) => {{
        let output = assert_same(both!($($command)*)).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), $written);
    }};
}

/// Compares, and fails the test unless there is an error of this kind.
macro_rules! same_error {
    ($kind:ident; $($command:tt)*) => {{
        let error = assert_same(both!($($command)*)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::$kind);
    }};
}

const ARGV: &str = "cat /proc/$$/cmdline | tr '\\0' '|'";

#[test]
fn arguments() {
    isolated(|| {
        same!("one two\n"; "echo", arg("one"), arg("two"));
        same!("one  *  \n"; "echo", args(["one", "", "*", "", ""]));
        same!("a b\n"; "/bin/echo", args(["a"]), args(["b"]));
        same!("/bin/sh\n"; "/bin/sh", args(["-c", "echo $0"]));
        same!("name|-c|".to_owned() + ARGV + "|";
            "/bin/sh", arg0("name"), args(["-c", ARGV]));
        let bytes = std::ffi::OsStr::from_bytes(b"\xff\xfe");
        let output = assert_same(both!("printf", arg("%s"), arg(bytes))).unwrap();
        assert_eq!(output.stdout, b"\xff\xfe");
    });
}

#[test]
fn environment() {
    isolated(|| {
        let path = std::env::var("PATH").unwrap();
        same!("A=1\n"; "/usr/bin/env", env_clear(), env("A", "1"));
        same!("A=2\n"; "/usr/bin/env", env("B", "1"), env_clear(), env("A", "1"), env("A", "2"));
        same!("A=\nB=b=c\nC=\n";
            "/usr/bin/env", env_clear(), envs([("C", ""), ("B", "b=c"), ("A", "")]));
        same!(""; "/usr/bin/env", env_clear(), env("A", "1"), env_remove("A"));
        same!(format!("{path}\n"); "sh", args(["-c", "echo $PATH"]));
        same!("unset\n"; "/bin/sh", args(["-c", "echo ${HOME-unset}"]), env_remove("HOME"));
    });
}

#[test]
fn search_path() {
    isolated(|| {
        let dir = TempDir::new().unwrap();
        let script = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(mode)).unwrap();
        };
        script("one/tool", "#!/bin/sh\necho one\n", 0o755);
        script("two/tool", "#!/bin/sh\necho two\n", 0o755);
        script("plain/tool", "#!/bin/sh\necho plain\n", 0o644);
        script("tool", "#!/bin/sh\necho here\n", 0o755);
        let at = |names: &str| {
            let dirs = names.split(' ').map(|name| dir.path().join(name));
            std::env::join_paths(dirs).unwrap()
        };
        // The PATH of the program counts, not that of the caller.
        same!("one\n"; "tool", env("PATH", at("one two")));
        same!("two\n"; "tool", env("PATH", at("none two one")));
        same!("two\n"; "tool", env("PATH", at("plain two")));
        same!("two\n"; "tool", env_clear(), env("PATH", at("one/tool two")));
        same_error!(PermissionDenied; "tool", env("PATH", at("none plain")));
        same_error!(NotFound; "tool", env("PATH", at("none")));
        same_error!(NotFound; "tool", env("PATH", "/nonexistent"));
        same_error!(NotFound; "tool", env_clear());
        same!("found\n"; "echo", arg("found"), env_remove("PATH"));
        // What is too long to be a path is passed over; what only becomes so by the name is not.
        let long = |length: usize| OsString::from("/".repeat(length));
        let after = |length: usize| std::env::join_paths([long(length), at("two")]).unwrap();
        same!("two\n"; "tool", env("PATH", after(5000)));
        same!("two\n"; "tool", env("PATH", after(4096)));
        same_error!(InvalidFilename; "tool", env("PATH", after(4095)));
        let long_only = std::env::join_paths([long(4096), "/nonexistent".into()]).unwrap();
        same_error!(NotFound; "tool", env("PATH", &long_only));
        let init = Sandbox::new().init().command("tool");
        let status = init.env("PATH", after(4096)).status().unwrap();
        assert!(status.success());
        // An empty element is the working directory, of the program.
        same!("here\n"; "tool", env("PATH", ":/nonexistent"), current_dir(dir.path()));
        same!("one\n"; "one/tool", current_dir(dir.path()));
        same!("one\n"; "./tool", current_dir(dir.path().join("one")));
    });
}

#[test]
fn working_directory() {
    isolated(|| {
        same!("/usr\n"; "pwd", current_dir("/usr"));
        same!("/usr\n"; "sh", args(["-c", "pwd -P"]), current_dir("/usr/bin/.."));
        std::env::set_current_dir("/usr").unwrap();
        same!("/usr\n"; "pwd");
        same!("/usr/bin\n"; "pwd", current_dir("bin"));
        same_error!(NotFound; "pwd", current_dir("/nonexistent"));
        same_error!(NotADirectory; "pwd", current_dir("/etc/passwd"));
    });
}

#[test]
fn standard_streams() {
    use ringfence::Stdio as Ours;
    isolated(|| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "from a file").unwrap();
        same!("from a file"; "cat", stdin(File::open(&path).unwrap()));
        same!("from a file"; "cat", stdin(OwnedFd::from(File::open(&path).unwrap())));
        // `output` gives null, and pipes.
        same!("/dev/null\n"; "readlink", arg("/proc/self/fd/0"));
        same!("out\n"; "sh", args(["-c", "echo out; echo err >&2"]));

        let script = ["-c", "echo out; echo err >&2"];
        for engine in ENGINES {
            let (out, err) = (dir.path().join("out"), dir.path().join("err"));
            let status = Sandbox::new()
                .engine(engine)
                .command("sh")
                .args(script)
                .stdin(Ours::null())
                .stdout(File::create(&out).unwrap())
                .stderr(File::create(&err).unwrap())
                .status()
                .unwrap();
            assert!(status.success());
            assert_eq!(fs::read_to_string(&out).unwrap(), "out\n");
            assert_eq!(fs::read_to_string(&err).unwrap(), "err\n");

            // One descriptor for both.
            let file = std::sync::Arc::new(OwnedFd::from(File::create(&out).unwrap()));
            let command = Sandbox::new().engine(engine).command("sh").args(script);
            let command = command.stdout(file.clone()).stderr(file.clone());
            assert!(command.status().unwrap().success());
            assert_eq!(fs::read_to_string(&out).unwrap(), "out\nerr\n");

            let command = Sandbox::new().engine(engine).command("sh").args(script);
            let output = command.stdout(Ours::null()).output().unwrap();
            assert_eq!((output.stdout, output.stderr), (vec![], b"err\n".to_vec()));
        }
    });
}

/// The caller's standard streams may be closed, or be each other's descriptors.
#[test]
fn standard_streams_out_of_order() {
    isolated(|| {
        let dir = TempDir::new().unwrap();
        let open = |name: &str| OwnedFd::from(File::create(dir.path().join(name)).unwrap());
        for engine in ENGINES {
            // Descriptor 1 becomes 2, and 2 becomes 1.
            let saved = [
                io::stdout().as_fd().try_clone_to_owned().unwrap(),
                io::stderr().as_fd().try_clone_to_owned().unwrap(),
            ];
            sys::dup_over(open("one"), 1).unwrap();
            sys::dup_over(open("two"), 2).unwrap();
            let (one, two) = (sys::own(1), sys::own(2));
            let command = Sandbox::new().engine(engine).command("sh");
            let plan = command
                .args(["-c", "echo out; echo err >&2"])
                .stdout(two)
                .stderr(one)
                .compile();
            let status = plan.as_ref().map(|plan| plan.spawn()?.wait());
            // The plan owns 1 and 2, which are closed with it.
            let status = format!("{:?}", status.map(|status| status.map(|s| s.success())));
            drop(plan);
            for (saved, number) in saved.iter().zip([1, 2]) {
                sys::dup_over(saved, number).unwrap();
            }
            assert_eq!(status, "Ok(Ok(true))");
            let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!((text("one"), text("two")), ("err\n".into(), "out\n".into()));
        }
    });
}

#[test]
fn exit_statuses() {
    isolated(|| {
        for status in 0..=255 {
            let script = format!("exit {status}");
            let ours = Sandbox::new().command("sh").args(["-c", &script]).status();
            assert_eq!(ours.unwrap().code(), Some(status));
        }
        for signal in ["TERM", "KILL", "SEGV", "USR1"] {
            let script = format!("ulimit -c 0; kill -{signal} $$");
            let output = assert_same(both!("sh", args(["-c", &script]))).unwrap();
            assert!(output.status.signal().is_some(), "{signal}");
        }
    });
}

#[test]
fn errors_of_exec() {
    isolated_as_both(|| {
        let dir = TempDir::new().unwrap();
        let file = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(mode)).unwrap();
            path
        };
        let (plain, odd) = (file("plain", "", 0o644), file("odd", "odd", 0o755));
        let lost = file("lost", "#!/no/such/interpreter\n", 0o755);
        same_error!(NotFound; "/nonexistent");
        same_error!(PermissionDenied; dir.path());
        same_error!(PermissionDenied; &plain);
        same_error!(NotFound; &lost);
        same_error!(NotADirectory; plain.join("x"));
        let errno = |error: io::Error| error.raw_os_error();
        let (std, ours) = both!(&odd);
        assert_eq!(errno(std.unwrap_err()), Some(libc::ENOEXEC));
        for ours in ours {
            let inner = ours.unwrap_err().into_inner().unwrap();
            let error: &ringfence::Error = inner.downcast_ref().unwrap();
            assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
        }
    });
}

/// std hands the caller's mask on, and resets SIGPIPE only.
#[test]
fn signals_are_as_a_program_expects_them() {
    isolated_as_both(|| {
        for number in [
            libc::SIGHUP,
            libc::SIGPIPE,
            libc::SIGUSR1,
            libc::SIGRTMIN() + 2,
        ] {
            signal::ignore(number);
        }
        signal::block_all();
        let before = Census::take();
        let blocked = probe::status("self", "SigBlk");
        for engine in ENGINES {
            let child = Waiting::start(&Sandbox::new().engine(engine));
            for set in ["SigBlk", "SigIgn", "SigCgt", "SigPnd"] {
                let bits = probe::status(child.id(), set).unwrap();
                assert_eq!(bits, "0000000000000000", "{engine:?} {set}");
            }
            drop(child);
            let command = Sandbox::new().engine(engine).command("sh");
            let status = command.args(["-c", "kill -PIPE $$"]).status().unwrap();
            assert_eq!(status.signal(), Some(libc::SIGPIPE), "{engine:?}");
        }
        let after = Census::take();
        assert_eq!(before.section("signals"), after.section("signals"));
        assert_eq!(probe::status("self", "SigBlk"), blocked);
    });
}

#[test]
fn ids() {
    isolated(|| {
        require!(root);
        same!("1000 1001\n";
            "sh", args(["-c", "echo $(id -u) $(id -g)"]), uid(1000), gid(1001));
        let groups = [4, 5, 6].map(rustix::process::Gid::from_raw);
        rustix::thread::set_thread_groups(&groups).unwrap();
        same!("0 7 4 5 6\n"; "sh", args(["-c", "echo $(id -u) $(id -G)"]), gid(7));
        same!("7 0\n"; "sh", args(["-c", "echo $(id -u) $(id -G)"]), uid(7));
    });
}
