//! Builds the second stage: a small static program without a library, which the crate embeds.
//!
//! `$RUSTC` and the linker that comes with it are enough. Where it cannot be built, the crate does
//! without: only the cfg `ringfence_stage` is missing then.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SOURCE: &str = "src/sys/stage/main.rs";

/// Linkers to try, as values of `-C linker` and `-C linker-flavor`.
const LINKERS: [(&str, &str); 4] = [
    ("rust-lld", "ld.lld"),
    ("ld.lld", "ld.lld"),
    ("ld", "ld"),
    ("cc", "gcc"),
];

fn main() {
    println!("cargo::rerun-if-changed=src/sys/stage");
    println!("cargo::rerun-if-env-changed=RINGFENCE_NO_STAGE");
    println!("cargo::rustc-check-cfg=cfg(ringfence_stage)");
    if let Some(program) = wanted().then(build).flatten() {
        println!("cargo::rustc-cfg=ringfence_stage");
        println!("cargo::rustc-env=RINGFENCE_STAGE={}", program.display());
    }
}

fn wanted() -> bool {
    let is = |name: &str, value: &str| env::var_os(name).as_deref() == Some(OsStr::new(value));
    let supported = is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_POINTER_WIDTH", "64")
        && (is("CARGO_CFG_TARGET_ARCH", "x86_64") || is("CARGO_CFG_TARGET_ARCH", "aarch64"));
    let declined = ["CARGO_CFG_MIRI", "DOCS_RS", "RINGFENCE_NO_STAGE"]
        .into_iter()
        .any(|name| env::var_os(name).is_some());
    supported && !declined
}

fn build() -> Option<PathBuf> {
    let program = Path::new(&env::var_os("OUT_DIR")?).join("stage");
    let rustc = env::var_os("RUSTC")?;
    let target = env::var_os("TARGET")?;
    LINKERS
        .into_iter()
        .any(|linker| compile(&rustc, &target, &program, linker))
        .then_some(program)
}

fn compile(rustc: &OsStr, target: &OsStr, program: &Path, (linker, flavor): (&str, &str)) -> bool {
    let link_args: &[&str] = match flavor {
        "gcc" => &[
            "-nostdlib",
            "-nostartfiles",
            "-static",
            "-Wl,--build-id=none",
            "-Wl,-z,norelro",
            "-Wl,-z,noseparate-code",
            "-Wl,-e,_start",
        ],
        _ => &[
            "-nostdlib",
            "-static",
            "--build-id=none",
            "-znorelro",
            "-znoseparate-code",
            "-e",
            "_start",
        ],
    };
    let mut options = vec![
        "panic=abort".into(),
        "opt-level=s".into(),
        "codegen-units=1".into(),
        "strip=symbols".into(),
        "relocation-model=static".into(),
        "force-unwind-tables=no".into(),
        // Targets that bring a C library, such as musl's, would add its start-up code.
        "link-self-contained=no".into(),
        format!("linker={linker}"),
        format!("linker-flavor={flavor}"),
    ];
    options.extend(link_args.iter().map(|arg| format!("link-arg={arg}")));
    // Cargo's own settings are for the crate that is being built, not for this program.
    let mut command = Command::new(rustc);
    command
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=stage"])
        .args(["--cap-lints=allow", "--cfg=stage"])
        .args([OsStr::new("--target"), target, OsStr::new("-o")])
        .arg(program)
        .args(options.iter().flat_map(|option| ["-C", option]))
        .arg(SOURCE);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    match env::var_os("RINGFENCE_STAGE_VERBOSE") {
        Some(_) => quiet.stderr(Stdio::inherit()),
        None => quiet.stderr(Stdio::null()),
    };
    let built = command.status().is_ok_and(|status| status.success());
    built && is_program(program.as_os_str().to_owned())
}

/// A linker may succeed and have made something else.
fn is_program(path: OsString) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"))
}
