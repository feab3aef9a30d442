//! What pasta(1) is given.

use super::UplinkBuilder;
use super::helper::{Launch, Namespaces, command};
use super::ready::Ready;
use crate::sandbox::Stdio;
use rustix::process::{getegid, geteuid};
use std::net::IpAddr;

/// It closes all descriptors but the standard streams, so these lead to the namespaces. And it has no other sign of
/// being ready, in the foreground, than its PID file.
pub(super) fn launch(builder: &UplinkBuilder, namespaces: Namespaces) -> Launch {
    let mut command = command(builder)
        .stdin(namespaces.net)
        .stdout(Stdio::null())
        .args(["--foreground", "--quiet", "--config-net", "--no-netns-quit"])
        .args(["--pid", "/proc/self/fd/2"])
        .args(["--ns-ifname", &builder.interface])
        .args(["--mtu", &builder.mtu.to_string()])
        .args(["--netmask", &builder.net.prefix().to_string()]);
    let addresses = [
        ("--address", builder.address()),
        ("--gateway", builder.gateway()),
        ("--dns-forward", builder.nameserver()),
    ];
    for (option, address) in addresses {
        let address = address.as_ref().map(IpAddr::to_string);
        command = command.arg(option).args(address);
    }
    // All ports that somebody listens on would lead through, in both directions.
    command = command.args(["--tcp-ns", "none", "--udp-ns", "none"]);
    for (option, protocol) in [("--tcp-ports", "tcp"), ("--udp-ports", "udp")] {
        let mut ports = specifications(builder, protocol);
        if ports.is_empty() {
            ports.push("none".to_owned());
        }
        for port in ports {
            command = command.args([option, &port]);
        }
    }
    if !builder.host_loopback {
        command = command.arg("--no-map-gw");
    }
    if !builder.ipv6 {
        command = command.arg("--ipv4-only");
    }
    // As nobody, which it would become, it could not enter the namespaces.
    if geteuid().is_root() {
        let ids = format!("{}:{}", geteuid().as_raw(), getegid().as_raw());
        command = command.args(["--runas", &ids]);
    }
    if let Some(user) = namespaces.user {
        command = command.stdout(user).args(["--userns", "/proc/self/fd/1"]);
    }
    Launch {
        command: command.args(["--netns", "/proc/self/fd/0"]),
        ready: Ready::Pid,
        exit: None,
        api: None,
    }
}

/// The ports to publish, in pasta's form.
fn specifications(builder: &UplinkBuilder, protocol: &str) -> Vec<String> {
    let ports = builder.published.iter();
    let ports = ports.filter(|port| port.protocol == protocol);
    ports
        .map(|port| {
            let outside = port.outside;
            format!("{}/{}:{}", outside.ip(), outside.port(), port.inside)
        })
        .collect()
}
