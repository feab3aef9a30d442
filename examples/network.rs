//! Three sandboxes on a bridge. Each serves HTTP on port 80 of its own and reaches the others by name; a port of the
//! host leads to one of them.
//!
//! It works for any user, in a network namespace of its own, so that yours is left alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;

use ringfence::net::{LinkChange, Netlink, Network, Publish};
use ringfence::{Child, IdMap, Sandbox, Stdio};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const NAMES: [&str; 3] = ["web", "db", "cache"];
const PORT: u16 = 8080;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["member", name] => member(name)?,
        ["inside"] => inside()?,
        _ => {
            // The same program once more, where it is root and has a network namespace of its own.
            let sandbox = Sandbox::new().user().user_map(IdMap::root()).net().mount();
            let itself = sandbox.command(std::env::current_exe()?).arg("inside");
            let code = itself
                .status()?
                .code()
                .and_then(|code| u8::try_from(code).ok());
            return Ok(code.unwrap_or(1).into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn inside() -> Result {
    Netlink::current()?.set(LinkChange::of("lo").up())?;
    let network = Network::bridge("lab", "10.9.0.0/24".parse()?).create()?;
    let mut members: Vec<Child> = NAMES
        .iter()
        .map(|name| start(&network, name))
        .collect::<Result<_>>()?;
    let web = network.address_of("web").ok_or("web has no address")?;
    network.publish(Publish::tcp(PORT, (web, 80).into()))?;
    draw(&network);
    // Each says that it serves; when all do, their standard inputs are closed.
    let mut lines = Vec::new();
    for member in &mut members {
        let output = member.stdout.take().ok_or("no pipe")?;
        let mut output = BufReader::new(output).lines();
        output.next().ok_or("it has ended")??;
        lines.push(output);
    }
    for (member, output) in members.iter_mut().zip(&mut lines) {
        drop(member.stdin.take());
        for line in output.take(NAMES.len() - 1) {
            println!("{}", line?);
        }
    }
    let reply = get(("127.0.0.1", PORT))?;
    println!("host  -> 127.0.0.1:{PORT}: {reply}");
    for member in &mut members {
        member.kill()?;
        member.wait()?;
    }
    Ok(())
}

fn start(network: &Network, name: &str) -> Result<Child> {
    let sandbox = Sandbox::new()
        .net()
        .uts()
        .hostname(name)
        .mount()
        .bind_ro(network.hosts_path(), "/etc/hosts")
        .network(network);
    let itself = sandbox
        .command(std::env::current_exe()?)
        .args(["member", name]);
    let child = itself
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop();
    Ok(child.spawn()?)
}

/// One of the three: serves until it is killed, and asks the others once its standard input is closed.
fn member(name: &str) -> Result {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80))?;
    println!("serving");
    let asked = name.to_owned();
    let asks = std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let mut text = String::new();
        for other in NAMES.iter().filter(|other| **other != asked) {
            let reply = get((*other, 80)).unwrap_or_else(|error| error.to_string());
            text += &format!("{asked:<5} -> {other}: {reply}\n");
        }
        let _ = std::io::stdout().write_all(text.as_bytes());
    });
    for client in listener.incoming() {
        let mut client = client?;
        let mut request = BufReader::new(client.try_clone()?);
        request.read_line(&mut String::new())?;
        let body = format!("hello from {name}");
        write!(
            client,
            "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
    }
    let _ = asks.join();
    Ok(())
}

/// The body of what a server answers.
fn get(server: (&str, u16)) -> Result<String> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.rsplit("\r\n").next().unwrap_or_default().to_owned())
}

fn draw(network: &Network) {
    let net = network
        .nets()
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    println!("host:{PORT} ──▶ web:80");
    println!("  │");
    println!("[{}] {net}", network.name());
    for (position, name) in NAMES.iter().enumerate() {
        let branch = if position + 1 < NAMES.len() {
            "├"
        } else {
            "└"
        };
        let address = network.address_of(name).map(|address| address.to_string());
        println!("  {branch}── {name} {}", address.unwrap_or_default());
    }
}
