//! A sandbox of any user that reaches the outside: here a server on the host's loopback address.
//!
//! `uplink COMMAND ARGUMENTS...` runs a program of yours instead, for which the host's loopback addresses stay out of
//! reach.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{ExitCode, ExitStatus};

use ringfence::net::{Uplink, UplinkBuilder};
use ringfence::{Bind, Command, IdMap, Sandbox, Step};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["inside", gateway, port] => inside(gateway, port.parse()?),
        [] => visit(),
        [program, arguments @ ..] => {
            let uplink = Uplink::installed();
            ended(uplink.and_then(|uplink| sandbox(&uplink, program).args(arguments).status()))
        }
    }
}

fn sandbox(uplink: &UplinkBuilder, program: impl AsRef<OsStr>) -> Command {
    Sandbox::new()
        .user()
        .user_map(IdMap::root())
        .net()
        .mount()
        .bind_data(uplink.resolv_conf(), "/etc/resolv.conf", 0o644, Bind::new())
        .uplink(uplink)
        .command(program)
}

/// Serves, and asks itself from inside.
fn visit() -> Result<ExitCode> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port().to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.write_all(b"hello from the host\n");
        }
    });
    let itself = std::env::current_exe()?;
    ended(Uplink::installed().and_then(|uplink| {
        let uplink = uplink.host_loopback();
        let gateway = uplink.gateway().map(|gateway| gateway.to_string());
        let asks = sandbox(&uplink, itself).arg("inside");
        asks.args(gateway).arg(port).status()
    }))
}

fn inside(gateway: &str, port: u16) -> Result<ExitCode> {
    let mut text = String::new();
    TcpStream::connect((gateway, port))?.read_to_string(&mut text)?;
    print!("{gateway}:{port}: {text}");
    print!("{}", std::fs::read_to_string("/etc/resolv.conf")?);
    Ok(ExitCode::SUCCESS)
}

fn ended(status: ringfence::Result<ExitStatus>) -> Result<ExitCode> {
    match status {
        // There is no helper, or it may not do its work.
        Err(error) if error.step() == Some(Step::Uplink) && error.hint().is_some() => {
            println!("no uplink here: {error:#}");
            Ok(ExitCode::SUCCESS)
        }
        status => {
            let code = status?.code().and_then(|code| u8::try_from(code).ok());
            Ok(code.unwrap_or(1).into())
        }
    }
}
