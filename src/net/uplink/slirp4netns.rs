//! What slirp4netns(1) is given.

use super::UplinkBuilder;
use super::api::Api;
use super::helper::{Launch, Namespaces, command, pipe};
use super::ready::Ready;
use crate::error::Result;
use crate::sandbox::Stdio;
use rustix::process::geteuid;

/// The helper's descriptors.
const NET: i32 = 3;
const USER: i32 = 4;
const READY: i32 = 5;
const EXIT: i32 = 6;
const API: i32 = 7;

pub(super) fn launch(builder: &UplinkBuilder, namespaces: Namespaces) -> Result<Launch> {
    let (ready, says_ready) = pipe()?;
    let (sees_exit, exit) = pipe()?;
    let mut command = command(builder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .descriptor(namespaces.net, NET)
        .descriptor(says_ready, READY)
        .descriptor(sees_exit, EXIT)
        .args(["--configure", "--enable-seccomp"])
        .arg(format!("--ready-fd={READY}"))
        .arg(format!("--exit-fd={EXIT}"))
        .arg(format!("--mtu={}", builder.mtu))
        .arg(format!("--cidr={}", builder.net));
    if !builder.host_loopback {
        command = command.arg("--disable-host-loopback");
    }
    if builder.ipv6 {
        command = command.arg("--enable-ipv6");
    }
    // Any other user could not become root in a user namespace that is given as a path.
    if geteuid().is_root() {
        command = command.arg("--enable-sandbox");
    }
    if let Some(user) = namespaces.user {
        command = command
            .descriptor(user, USER)
            .arg(format!("--userns-path=/proc/self/fd/{USER}"));
    }
    let api = match builder.published.is_empty() {
        true => None,
        false => Some(Api::create()?),
    };
    if let Some(api) = &api {
        command = command
            .descriptor(api.directory()?, API)
            .arg(format!("--api-socket={}", Api::socket(API)));
    }
    Ok(Launch {
        command: command
            .args(["--netns-type=path", "--"])
            .arg(format!("/proc/self/fd/{NET}"))
            .arg(&builder.interface),
        ready: Ready::Pipe(ready.into()),
        exit: Some(exit),
        api,
    })
}
