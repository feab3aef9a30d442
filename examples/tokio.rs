//! Runs commands in sandboxes of their own, all at once, on one thread.
//!
//! ```text
//! cargo run --features tokio --example tokio -- 'sleep 1; echo a' 'sleep 1; echo b' 'exit 3'
//! ```
//!
//! A command that takes longer than ten seconds is killed.

use ringfence::{IdMap, Sandbox, Stdio};
use std::process::{ExitCode, Output};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// `None` if the command took too long: with the future goes the child, which is killed by that.
async fn run(script: &str) -> ringfence::Result<Option<Output>> {
    let child = Sandbox::new()
        .all()
        .user_map(IdMap::root())
        .command("/bin/sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop()
        .spawn()?
        .into_tokio()?;
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    output.ok().transpose()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let scripts: Vec<String> = std::env::args().skip(1).collect();
    if scripts.is_empty() {
        eprintln!("usage: tokio SCRIPT ...");
        return ExitCode::from(2);
    }
    let mut all = tokio::task::JoinSet::new();
    for script in scripts {
        all.spawn(async move {
            let result = run(&script).await;
            (script, result)
        });
    }
    let mut code = ExitCode::SUCCESS;
    while let Some(done) = all.join_next().await {
        match done {
            Ok((script, Ok(Some(output)))) => {
                let text = String::from_utf8_lossy(&output.stdout);
                println!("{script:?}: {}: {text:?}", output.status);
            }
            Ok((script, Ok(None))) => println!("{script:?}: killed after {LIMIT:?}"),
            Ok((script, Err(error))) => {
                eprintln!("{script:?}: {error:?}");
                code = ExitCode::FAILURE;
            }
            Err(error) => {
                eprintln!("{error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
