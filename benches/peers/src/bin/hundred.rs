//! Starts a hundred containers in the root that is named, one after the other: `hundred ROOT`.

use ringfence::{Rootfs, Sandbox};

fn main() -> ringfence::Result<()> {
    let root = std::env::args_os().nth(1).unwrap_or_default();
    let container = Sandbox::container(Rootfs::dir(root))?;
    let plan = container.command("/tiny").env_clear().compile()?;
    for _ in 0..100 {
        let status = plan.spawn()?.wait()?;
        assert!(status.success());
    }
    Ok(())
}
