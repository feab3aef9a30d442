//! The master is that of the sandbox's devpts, whatever somebody puts in its place.

use crate::common::{isolated, require};
use crate::{on_terminal, output};
use ringfence::{IdMap, Rootfs, Sandbox, Step};
use rustix::fs::{CWD, RenameFlags, fstatfs, renameat_with};
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// A root with the caller's programs that somebody else may write to.
fn hostile(root: &Path) -> Sandbox {
    let mut sandbox = Sandbox::new()
        .user()
        .user_map(IdMap::root())
        .pid()
        .mount()
        .rootfs(Rootfs::dir(root))
        .bind_ro("/usr", "/usr");
    for dir in ["bin", "sbin", "lib", "lib64"] {
        let path = Path::new("/").join(dir);
        if let Ok(target) = path.read_link() {
            symlink(target, root.join(dir)).unwrap();
        } else if path.is_dir() {
            sandbox = sandbox.bind_ro(&path, &path);
        }
    }
    sandbox
}

/// What is put where a multiplexer is expected.
fn impostors(pts: &Path) -> [Box<dyn Fn() + '_>; 4] {
    let ptmx = pts.join("ptmx");
    let at = move || ptmx.clone();
    let (link, file, fifo, dir) = (at.clone(), at.clone(), at.clone(), at);
    [
        Box::new(move || symlink("/dev/ptmx", link()).unwrap()),
        Box::new(move || fs::write(file(), "untouched").unwrap()),
        Box::new(move || {
            let mode = rustix::fs::Mode::RWXU;
            rustix::fs::mknodat(CWD, fifo(), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }),
        Box::new(move || fs::create_dir(dir()).unwrap()),
    ]
}

#[test]
fn something_else_in_its_place_is_an_error() {
    isolated(|| {
        require!(userns, new_proc);
        let dir = tempfile::tempdir().unwrap();
        let (root, pts) = (dir.path().join("root"), dir.path().join("pts"));
        fs::create_dir(&root).unwrap();
        let sandbox = hostile(&root)
            .proc("/proc")
            .dev("/dev")
            .bind(&pts, "/dev/pts");
        for put in impostors(&pts) {
            fs::create_dir(&pts).unwrap();
            put();
            let error = on_terminal(sandbox.clone().command("/bin/true"))
                .spawn()
                .unwrap_err();
            assert_eq!(error.step(), Some(Step::Stdio), "{error:?}");
            let found = pts.join("ptmx");
            if fs::symlink_metadata(&found).is_ok_and(|found| found.is_file()) {
                assert_eq!(fs::read(found).unwrap(), b"untouched");
            }
            fs::remove_dir_all(&pts).unwrap();
        }
    });
}

/// `/dev` is mounted on a directory of the root, which somebody outside exchanges for another one.
#[test]
fn exchanged_while_it_is_opened() {
    const ROUNDS: usize = 300;
    isolated(|| {
        require!(userns, new_proc);
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let (dev, evil) = (root.join("dev"), root.join("evil"));
        fs::create_dir(&dev).unwrap();
        let pts = evil.join("pts");
        fs::create_dir_all(&pts).unwrap();
        let [.., fifo, _] = impostors(&pts);
        fifo();
        let sandbox = hostile(root).proc("/proc").dev("/dev");
        let command = on_terminal(sandbox.command("/bin/sh").args(["-c", "echo x"]));
        let plan = command.compile().unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let exchanged = renameat_with(CWD, &dev, CWD, &evil, RenameFlags::EXCHANGE);
                    exchanged.unwrap();
                }
            });
            let mut started = 0;
            for _ in 0..ROUNDS {
                let Ok(mut child) = plan.spawn() else {
                    continue;
                };
                let master = child.pty.as_ref().unwrap();
                let kind = fstatfs(master).unwrap().f_type;
                assert_eq!(u64::try_from(kind), Ok(DEVPTS_SUPER_MAGIC));
                assert_eq!(output(&mut child), "x\r\n");
                assert!(child.wait().unwrap().success());
                started += 1;
            }
            over.store(true, Ordering::Relaxed);
            println!("{started} of {ROUNDS} started");
        });
        let left = [evil.join("pts/ptmx"), dev.join("pts/ptmx")];
        let is_fifo = |path: &std::path::PathBuf| {
            fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_fifo())
        };
        assert!(left.iter().any(is_fifo));
    });
}
