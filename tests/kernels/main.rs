//! What the engine must do on every kernel, in every way of making the child.
//!
//! Needs nothing but a static shell, so that `tests/kernels/run` can try it on other kernels too. All
//! variants of a test are tried before it fails, so that one run shows all that a kernel lacks.

#[path = "../common/mod.rs"]
mod common;

mod cgroup;

use common::probe::{children, ends_within, namespace, status};
use common::{isolated, isolated_as_both, require, sys};
use ringfence::{
    Child, Command, Engine, Extent, IdMap, Kind, Namespaces, Rootfs, Sandbox, Stdio, Step,
};
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, getpid, kill_process, pidfd_open};
use std::fmt::Debug;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

const ENGINES: [Engine; 3] = [Engine::Clone3, Engine::Clone, Engine::Fork];
/// What must happen happens sooner; what does not fails the test.
const SOON: Duration = Duration::from_secs(20);

type Checked = Result<(), String>;

/// Runs a check for each variant, and fails with all that did not hold.
fn for_each<T: Debug>(
    variants: impl IntoIterator<Item = T>,
    check: impl Fn(&T) -> Result<(), String>,
) {
    let failed: Vec<_> = variants
        .into_iter()
        .filter_map(|variant| {
            let why = check(&variant).err()?;
            Some(format!("{variant:?}: {why}"))
        })
        .collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

fn equal<T: PartialEq + Debug>(what: &str, found: T, wanted: T) -> Checked {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{what} is {found:?}, not {wanted:?}"))
    }
}

fn shown(error: impl Debug) -> String {
    format!("{error:?}")
}

fn has(kind: Kind) -> bool {
    Path::new("/proc/self/ns").join(kind.proc_name()).exists()
}

/// All kinds that this kernel has.
fn all() -> Namespaces {
    Kind::ALL
        .into_iter()
        .filter(|&kind| has(kind))
        .fold(Namespaces::empty(), |set, kind| set | kind.into())
}

/// A program that ends when its input does, and changes nothing of what it is started with.
fn cat(sandbox: Sandbox) -> Command {
    sandbox
        .command("/bin/cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop()
}

/// Starts it and waits until it waits: until then its loader has files open.
fn start(command: &Command) -> Result<Child, String> {
    let mut child = command.spawn().map_err(shown)?;
    let stdin = child.stdin.as_mut().ok_or("no pipe")?;
    stdin.write_all(b"x").map_err(shown)?;
    let stdout = child.stdout.as_mut().ok_or("no pipe")?;
    stdout.read_exact(&mut [0]).map_err(shown)?;
    Ok(child)
}

/// Lets the program end in its own way; it must leave nothing.
fn finish(mut child: Child) -> Checked {
    let status = child.wait().map_err(shown)?;
    equal("exit status", status.code(), Some(0))?;
    equal("processes left", children(getpid().as_raw_pid()), vec![])
}

fn check_namespaces(child: &Child, wanted: Namespaces) -> Checked {
    for kind in Kind::ALL.into_iter().filter(|&kind| has(kind)) {
        let name = kind.proc_name();
        let inside = namespace(child.id(), name).map_err(shown)?;
        let own = namespace("self", name).map_err(shown)?;
        equal(name, inside != own, wanted.contains(kind.into()))?;
    }
    if has(Kind::Time) {
        let inside = namespace(child.id(), "time").map_err(shown)?;
        let for_children = namespace(child.id(), "time_for_children").map_err(shown)?;
        equal("time_for_children", for_children, inside)?;
    }
    Ok(())
}

/// What every program must find, whatever it is isolated from.
fn check_process(child: &Child, wanted: Namespaces) -> Checked {
    let pid = child.id();
    let field = |name| status(pid, name).unwrap_or_default();
    equal("parent", field("PPid"), getpid().as_raw_pid().to_string())?;
    equal("blocked signals", field("SigBlk"), "0".repeat(16))?;
    equal("ignored signals", field("SigIgn"), "0".repeat(16))?;
    let depth = 1 + usize::from(wanted.contains(Namespaces::PID));
    let pids = field("NSpid");
    equal("depth of pids", pids.split_whitespace().count(), depth)?;
    if depth == 2 {
        equal("own pid", pids.split_whitespace().last(), Some("1"))?;
    }
    let mut open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .map_err(shown)?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    open.sort();
    equal("descriptors", open, ["0", "1", "2"].map(Into::into).into())
}

/// Each way of making the child, and for root with and without a user namespace.
fn ways() -> Vec<(Engine, Namespaces)> {
    let mut ways = Vec::new();
    for engine in ENGINES {
        ways.push((engine, Namespaces::USER));
        if geteuid().is_root() {
            ways.push((engine, Namespaces::empty()));
        }
    }
    ways
}

#[test]
fn each_namespace_alone_is_new() {
    isolated_as_both(|| {
        let kinds = || Kind::ALL.into_iter().filter(|&kind| has(kind));
        let variants = ways()
            .into_iter()
            .flat_map(|(engine, with)| kinds().map(move |kind| (engine, with | kind.into())));
        for_each(variants, |&(engine, namespaces)| {
            let sandbox = Sandbox::new().engine(engine).namespaces(namespaces);
            let child = start(&cat(sandbox))?;
            check_namespaces(&child, namespaces)?;
            check_process(&child, namespaces)?;
            finish(child)
        });
    });
}

#[test]
fn all_namespaces_together_are_new() {
    isolated_as_both(|| {
        for_each(ways(), |&(engine, with)| {
            let namespaces = with | (all() - Namespaces::USER);
            let mut sandbox = Sandbox::new()
                .engine(engine)
                .namespaces(namespaces)
                .hostname("box");
            if with.contains(Namespaces::USER) {
                sandbox = sandbox.user_map(IdMap::root());
            }
            let child = start(&cat(sandbox))?;
            check_namespaces(&child, namespaces)?;
            check_process(&child, namespaces)?;
            let routes = fs::read_to_string(format!("/proc/{}/net/fib_trie", child.id()));
            let lo_up = routes.map_err(shown)?.contains("127.0.0.1");
            equal("loopback up", lo_up, true)?;
            finish(child)
        });
    });
}

/// The host's programs in a root of its own.
fn rootfs(mut sandbox: Sandbox) -> Sandbox {
    sandbox = sandbox.rootfs(Rootfs::tmpfs());
    for dir in ["/usr", "/bin", "/lib", "/lib64"].map(Path::new) {
        sandbox = match dir.read_link() {
            Ok(target) => sandbox.symlink(target, dir),
            Err(_) if dir.is_dir() => sandbox.bind_ro(dir, dir),
            Err(_) => sandbox,
        };
    }
    sandbox.proc("/proc").dev("/dev").tmpfs("/tmp")
}

#[test]
fn has_a_root_of_its_own() {
    isolated_as_both(|| {
        require!(new_proc);
        for_each(ENGINES, |&engine| {
            let sandbox = Sandbox::new().engine(engine).namespaces(all());
            let script = "cat /proc/sys/kernel/hostname; echo $$; echo x > /bin/x || \
                          echo x > /tmp/x && cat /tmp/x; echo y > /dev/null; ls /";
            let output = rootfs(sandbox.user_map(IdMap::root()).hostname("box"))
                .command("/bin/sh")
                .args(["-c", script])
                .output()
                .map_err(shown)?;
            let text = String::from_utf8_lossy(&output.stdout);
            let error = String::from_utf8_lossy(&output.stderr);
            equal("start", text.starts_with("box\n1\nx\n"), true)
                .and(equal(
                    "refusal",
                    error.contains("Read-only file system"),
                    true,
                ))
                .and(equal("home inside", text.contains("home"), false))
                .map_err(|why| format!("{why}: {text}{error}"))
        });
    });
}

/// Printed by the test binary itself when it is started as the program of a sandbox.
#[test]
fn prints_its_clocks() {
    use rustix::time::{ClockId, clock_gettime};
    if std::env::var_os("RINGFENCE_PRINT_CLOCKS").is_some() {
        let [monotonic, boottime] =
            [ClockId::Monotonic, ClockId::Boottime].map(|clock| clock_gettime(clock).tv_sec);
        println!("clocks: {monotonic} {boottime}");
    }
}

/// Seconds of the monotonic and the boottime clock, as a program of this sandbox reads them.
fn clocks(sandbox: Sandbox) -> Result<(i64, i64), String> {
    let output = sandbox
        .command("/proc/self/exe")
        .args(["prints_its_clocks", "--exact", "--nocapture"])
        .env("RINGFENCE_PRINT_CLOCKS", "1")
        .output()
        .map_err(shown)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text
        .split_once("clocks: ")
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).ok_or(text)
}

#[test]
fn clocks_are_offset() {
    isolated_as_both(|| {
        require!(timens);
        let with_pid = [Namespaces::empty(), Namespaces::PID, all()];
        let variants = ENGINES
            .into_iter()
            .flat_map(|engine| with_pid.map(|with| (engine, with)));
        for_each(variants, |&(engine, with)| {
            let sandbox = Sandbox::new()
                .engine(engine)
                .user()
                .time()
                .namespaces(with)
                .monotonic_offset(Duration::from_secs(5_000))
                .boottime_offset(Duration::from_secs(90_000));
            let (monotonic, boottime) = clocks(sandbox.clone())?;
            let (own_monotonic, own_boottime) = clocks(Sandbox::new())?;
            let near = |found: i64, wanted: i64| (found - wanted).abs() < 120;
            equal("monotonic", near(monotonic - own_monotonic, 5_000), true)?;
            equal("boottime", near(boottime - own_boottime, 90_000), true)?;
            let child = start(&cat(sandbox))?;
            check_process(&child, with)?;
            finish(child)
        });
    });
}

fn map_of(pid: u32, file: &str) -> Result<Vec<Vec<u32>>, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(shown)?;
    let numbers = |line: &str| line.split_whitespace().flat_map(str::parse).collect();
    Ok(text.lines().map(numbers).collect())
}

#[test]
fn the_parent_writes_id_maps() {
    isolated(|| {
        require!(root);
        let range: &[[u32; 3]] = &[[0, 100_000, 65_536]];
        let several: &[[u32; 3]] = &[[0, 0, 1], [1, 200_000, 10], [11, 300_000, 5]];
        let variants = ENGINES.into_iter().flat_map(|engine| {
            [range, several]
                .into_iter()
                .flat_map(move |map| [Namespaces::empty(), all()].map(|with| (engine, map, with)))
        });
        for_each(variants, |&(engine, map, with)| {
            let extents: IdMap = map
                .iter()
                .map(|&[inside, outside, count]| Extent {
                    inside,
                    outside,
                    count,
                })
                .collect();
            let sandbox = Sandbox::new()
                .engine(engine)
                .user()
                .namespaces(with)
                .user_map(extents.clone())
                .group_map(extents);
            let child = start(&cat(sandbox))?;
            let wanted: Vec<_> = map.iter().map(|extent| extent.to_vec()).collect();
            equal("uid_map", map_of(child.id(), "uid_map")?, wanted.clone())?;
            equal("gid_map", map_of(child.id(), "gid_map")?, wanted)?;
            check_namespaces(&child, with | Namespaces::USER)?;
            finish(child)
        });
    });
}

#[test]
fn dies_with_the_process_but_not_with_the_thread() {
    isolated_as_both(|| {
        let variants = ENGINES
            .into_iter()
            .flat_map(|engine| [Namespaces::USER, all()].map(|namespaces| (engine, namespaces)));
        for_each(variants, |&(engine, namespaces)| {
            let sandbox = Sandbox::new().engine(engine).namespaces(namespaces);
            let command = cat(sandbox).die_with_parent();
            let thread = std::thread::spawn({
                let command = command.clone();
                move || start(&command)
            });
            let child = thread.join().map_err(shown)??;
            // Were the death signal bound to that thread, it would have been sent when it was joined.
            finish(child)?;

            let (mut told, teller) = std::io::pipe().map_err(shown)?;
            let Some(parent) = sys::fork().map_err(shown)? else {
                drop(told);
                let child = command.spawn();
                let pid = child.as_ref().map_or(0, Child::id);
                let _ = (&teller).write_all(&pid.to_ne_bytes());
                loop {
                    std::thread::park();
                }
            };
            drop(teller);
            let mut pid = [0; 4];
            told.read_exact(&mut pid).map_err(shown)?;
            let parent = Pid::from_raw(parent).ok_or("no parent")?;
            let pid = i32::from_ne_bytes(pid);
            let pidfd = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
            kill_process(parent, Signal::KILL).map_err(shown)?;
            common::isolated::wait_for(parent.as_raw_pid());
            let pidfd = pidfd.ok_or("not spawned")?.map_err(shown)?;
            equal("ended", ends_within(&pidfd, SOON), true)?;
            // It was orphaned, and adopted by the process that runs this test.
            Ok(())
        });
    });
}

#[test]
fn a_program_that_cannot_be_executed_is_an_error_and_leaves_nothing() {
    isolated_as_both(|| {
        let variants = ENGINES
            .into_iter()
            .flat_map(|engine| [Namespaces::USER, all()].map(|namespaces| (engine, namespaces)));
        for_each(variants, |&(engine, namespaces)| {
            let sandbox = Sandbox::new().engine(engine).namespaces(namespaces);
            let error = match sandbox.command("/no/such/program").spawn() {
                Ok(_) => return Err("it was started".into()),
                Err(error) => error,
            };
            equal("step", error.step(), Some(Step::Exec))?;
            equal("errno", error.raw_os_error(), Some(libc::ENOENT))?;
            equal("processes left", children(getpid().as_raw_pid()), vec![])
        });
    });
}

#[test]
fn a_program_can_be_killed() {
    isolated_as_both(|| {
        for_each(ENGINES, |&engine| {
            let sandbox = Sandbox::new().engine(engine).namespaces(all());
            let mut child = start(&cat(sandbox))?;
            equal("ended", child.try_wait().map_err(shown)?, None)?;
            child.kill().map_err(shown)?;
            let status = child.wait_timeout(SOON).map_err(shown)?;
            let signal = status.and_then(|status| status.signal());
            equal("signal", signal, Some(libc::SIGKILL))
        });
    });
}

#[test]
fn threads_spawn_at_once() {
    isolated_as_both(|| {
        for_each(ENGINES, |&engine| {
            let plan = cat(Sandbox::new().engine(engine).namespaces(all()))
                .compile()
                .map_err(shown)?;
            let spawn = || -> Checked {
                let mut child = plan.spawn().map_err(shown)?;
                let status = child.wait().map_err(shown)?;
                equal("exit status", status.code(), Some(0))
            };
            let results = std::thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(|| (0..8).try_for_each(|_| spawn())));
                threads.map(|thread| thread.join().map_err(shown))
            });
            results
                .into_iter()
                .try_for_each(|result| result.and_then(|result| result))?;
            equal("processes left", children(getpid().as_raw_pid()), vec![])
        });
    });
}
