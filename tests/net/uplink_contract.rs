//! What the helpers of uplinks are given, and what becomes of them, by scripts that stand for them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringfence::net::{Network, Uplink, UplinkBuilder};
use ringfence::ns::{Namespace, Net};
use ringfence::{ErrorKind, IdMap, Sandbox, Step};
use rustix::process::{
    Pid, Signal, WaitOptions, getegid, geteuid, getpid, kill_process, set_child_subreaper, wait,
};
use tempfile::TempDir;

use super::{net, with_capabilities};
use crate::common::leaks::{Census, assert_same};
use crate::common::{isolated_as_both, probe, require, sys};
use crate::support::Waiting;

/// Writes what it was given into the file `given` beside it: its arguments, its descriptors with where they lead
/// to, and its process id.
const RECORD: &str = r#"#!/bin/sh
given=$(
    printf '%s\n' "$@"
    for fd in /proc/$$/fd/[0-9]; do echo "${fd##*/} $(readlink "$fd")"; done
    echo "pid $$"
)
echo "$given" >"${0%/*}/given"
"#;
const SLIRP4NETNS_IS_READY: &str = "printf 1 >&5; exec 5>&-; read -r _ <&6\n";
/// It says that in its PID file, after a warning.
const PASTA_IS_READY: &str = r#"
while [ "$1" != --pid ]; do shift; done
echo "a warning" >&2
echo $$ >"$2"
exec sleep 1000
"#;

/// A directory with a script in it.
struct StandIn(TempDir);

impl StandIn {
    fn new(script: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("helper");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("helper")
    }

    fn given(&self) -> Given {
        Given::read(&self.0.path().join("given"))
    }
}

struct Given {
    arguments: Vec<String>,
    descriptors: Vec<(u32, String)>,
    pid: i32,
}

impl Given {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let (mut arguments, mut descriptors) = (Vec::new(), Vec::new());
        let mut pid = 0;
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("pid", number)) => pid = number.parse().unwrap(),
                Some((fd, target)) => descriptors.push((fd.parse().unwrap(), target.to_owned())),
                None => arguments.push(line.to_owned()),
            }
        }
        Self {
            arguments,
            descriptors,
            pid,
        }
    }

    fn leads_to(&self, fd: u32) -> &str {
        let found = self.descriptors.iter().find(|(number, _)| *number == fd);
        found.map_or("nothing", |(_, target)| target)
    }
}

/// What there is more when root runs it.
fn as_root(arguments: &[&str]) -> Vec<String> {
    let arguments: &[&str] = if geteuid().is_root() { arguments } else { &[] };
    arguments.iter().map(|&one| one.to_owned()).collect()
}

/// A program in a user and a network namespace of its own.
fn inside() -> Waiting {
    Waiting::start(&Sandbox::new().user().user_map(IdMap::root()).net())
}

#[test]
fn slirp4netns_gets_what_it_documents() {
    isolated_as_both(|| {
        require!(userns, netns);
        let helper = StandIn::new(&(RECORD.to_owned() + SLIRP4NETNS_IS_READY));
        let child = inside();
        let namespaces = child.namespaces().unwrap();
        let namespace = namespaces.net.unwrap();
        let uplink = Uplink::slirp4netns().program(helper.path());
        let attached = uplink
            .clone()
            .ipv6()
            .interface("-c")
            .mtu(1400)
            .attach(&namespace);
        let attached = attached.unwrap();
        let given = helper.given();
        let mut expected: Vec<String> = [
            "--configure",
            "--enable-seccomp",
            "--ready-fd=5",
            "--exit-fd=6",
            "--mtu=1400",
            "--cidr=10.0.2.0/24",
            "--disable-host-loopback",
            "--enable-ipv6",
        ]
        .map(String::from)
        .into();
        expected.extend(as_root(&["--enable-sandbox"]));
        expected.push("--userns-path=/proc/self/fd/4".into());
        expected.extend(["--netns-type=path", "--", "/proc/self/fd/3", "-c"].map(String::from));
        assert_eq!(given.arguments, expected);
        assert_eq!(given.leads_to(3), namespace.id().to_string());
        assert_eq!(given.leads_to(4), namespaces.user.unwrap().id().to_string());
        assert_eq!(
            (given.leads_to(0), given.leads_to(1)),
            ("/dev/null", "/dev/null")
        );
        assert!(
            given.leads_to(5).starts_with("pipe:"),
            "{}",
            given.leads_to(5)
        );
        assert!(
            given.leads_to(6).starts_with("pipe:"),
            "{}",
            given.leads_to(6)
        );
        // What is typed at the caller's terminal does not end it.
        let session = |pid: i32| probe::Process::read(pid).unwrap().session;
        assert_ne!(session(given.pid), session(getpid().as_raw_pid()));
        drop(attached);
        assert!(probe::Process::read(given.pid).is_none());

        let open = uplink.net(net("10.7.1.77/24")).host_loopback();
        drop(open.attach(&namespace).unwrap());
        let given = helper.given().arguments;
        assert!(
            given.contains(&"--cidr=10.7.1.0/24".to_owned()),
            "{given:?}"
        );
        for absent in ["--disable-host-loopback", "--enable-ipv6"] {
            assert!(!given.contains(&absent.to_owned()), "{given:?}");
        }
        assert!(!given.iter().any(|one| one.contains("api")), "{given:?}");
    });
}

/// More than a pipe holds.
#[test]
fn what_a_helper_goes_on_to_say_neither_ends_nor_holds_it() {
    const LOGS: &str =
        "for _ in 1 2 3; do printf '%65536s' . >&2; done; echo >\"${0%/*}/logged\"\n";
    isolated_as_both(|| {
        require!(userns, netns);
        let slirp4netns = "#!/bin/sh\nprintf 1 >&5\n".to_owned() + LOGS;
        let pasta = "#!/bin/sh\necho $$ >&2\n".to_owned() + LOGS;
        let child = inside();
        let namespace = child.namespaces().unwrap().net.unwrap();
        let helpers = [
            (Uplink::slirp4netns(), slirp4netns),
            (Uplink::pasta(), pasta),
        ];
        for (uplink, script) in helpers {
            let helper = StandIn::new(&script);
            let attached = uplink.program(helper.path()).attach(&namespace).unwrap();
            assert!(probe::ends_within(&attached, Duration::from_secs(20)));
            assert!(helper.0.path().join("logged").exists());
        }
    });
}

#[test]
fn pasta_gets_what_it_documents() {
    isolated_as_both(|| {
        require!(userns, netns);
        let helper = StandIn::new(&(RECORD.to_owned() + PASTA_IS_READY));
        let child = inside();
        let namespaces = child.namespaces().unwrap();
        let namespace = namespaces.net.unwrap();
        let uplink = Uplink::pasta().program(helper.path());
        let attached = uplink.attach(&namespace).unwrap();
        let given = helper.given();
        let ids = format!("{}:{}", geteuid().as_raw(), getegid().as_raw());
        let expected = "--foreground --quiet --config-net --no-netns-quit --pid /proc/self/fd/2 \
            --ns-ifname tap0 --mtu 65520 --netmask 24 --address 10.0.2.100 --gateway 10.0.2.2 \
            --dns-forward 10.0.2.3 --tcp-ns none --udp-ns none --tcp-ports none --udp-ports none \
            --no-map-gw --ipv4-only";
        let mut expected: Vec<String> = expected.split_whitespace().map(String::from).collect();
        expected.extend(as_root(&["--runas", &ids]));
        expected.extend(["--userns", "/proc/self/fd/1"].map(String::from));
        expected.extend(["--netns", "/proc/self/fd/0"].map(String::from));
        assert_eq!(given.arguments, expected);
        assert_eq!(given.leads_to(0), namespace.id().to_string());
        assert_eq!(given.leads_to(1), namespaces.user.unwrap().id().to_string());
        assert!(
            given.leads_to(2).starts_with("pipe:"),
            "{}",
            given.leads_to(2)
        );
        drop(attached);
        assert!(probe::Process::read(given.pid).is_none());

        let outside = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let open = uplink
            .host_loopback()
            .ipv6()
            .publish_tcp(outside(8080), 80)
            .publish_tcp(outside(8443), 443);
        drop(open.attach(&namespace).unwrap());
        let given = helper.given().arguments;
        let ports = "--tcp-ports 127.0.0.1/8080:80 --tcp-ports 127.0.0.1/8443:443 --udp-ports none";
        assert!(given.join(" ").contains(ports), "{given:?}");
        for absent in ["--no-map-gw", "--ipv4-only"] {
            assert!(!given.contains(&absent.to_owned()), "{given:?}");
        }
    });
}

#[test]
fn a_namespace_of_the_callers_own_user_namespace_is_entered_from_there() {
    with_capabilities!({
        require!(netns);
        let namespace = Namespace::<Net>::create().unwrap();
        let slirp4netns = StandIn::new(&(RECORD.to_owned() + SLIRP4NETNS_IS_READY));
        let pasta = StandIn::new(&(RECORD.to_owned() + PASTA_IS_READY));
        let uplinks = [
            (
                Uplink::slirp4netns().program(slirp4netns.path()),
                &slirp4netns,
                3,
            ),
            (Uplink::pasta().program(pasta.path()), &pasta, 0),
        ];
        for (uplink, helper, fd) in uplinks {
            drop(uplink.attach(&namespace).unwrap());
            let given = helper.given();
            assert_eq!(given.leads_to(fd), namespace.id().to_string());
            let is_of_user = |argument: &String| argument.contains("--userns");
            assert!(
                !given.arguments.iter().any(is_of_user),
                "{:?}",
                given.arguments
            );
            let users = given
                .descriptors
                .iter()
                .filter(|(_, to)| to.starts_with("user:"));
            assert_eq!(users.count(), 0, "{:?}", given.descriptors);
        }
    });
}

/// This process, when the threads that have waited for the end of helpers have learnt of it.
fn census() -> Census {
    loop {
        let census = Census::take().without(&["maps"]);
        let waits = |thread: &String| thread.contains("ringfence-keepe");
        if !census.section("threads").iter().any(waits) {
            return Census::take().without(&["maps"]);
        }
        std::thread::yield_now();
    }
}

/// Attaches it twice, which fails, and compares the process before and after the second.
#[track_caller]
fn fails(uplink: &UplinkBuilder, namespace: &Namespace<Net>) -> ringfence::Error {
    drop(uplink.attach(namespace).unwrap_err());
    let before = census();
    let error = uplink.attach(namespace).unwrap_err();
    assert_same(&before, &census());
    assert!(probe::descendants(getpid().as_raw_pid()).len() <= 1);
    error
}

#[test]
fn a_helper_that_fails_leaves_its_words_and_nothing_else() {
    isolated_as_both(|| {
        require!(userns, netns);
        let child = inside();
        let namespace = child.namespaces().unwrap().net.unwrap();
        // What it has started goes with it, also what has left its session.
        for kind in [Uplink::slirp4netns(), Uplink::pasta()] {
            let ends = StandIn::new("#!/bin/sh\nsetsid sleep 1000 &\necho 'no way' >&2\nexit 3\n");
            let error = fails(&kind.clone().program(ends.path()), &namespace);
            assert_eq!(
                (error.kind(), error.step()),
                (ErrorKind::System, Some(Step::Uplink))
            );
            let text = error.to_string();
            assert!(text.contains("exit status: 3: no way"), "{text}");
            let tun = StandIn::new("#!/bin/sh\necho 'open(\"/dev/net/tun\"): no' >&2\nexit 1\n");
            let error = fails(&kind.clone().program(tun.path()), &namespace);
            assert!(error.hint().unwrap().contains("module tun"), "{error:?}");

            let never = StandIn::new("#!/bin/sh\necho 'wait a bit' >&2\nsleep 1000\n");
            let limit = Duration::from_millis(100);
            let uplink = kind.clone().program(never.path()).setup_timeout(limit);
            let error = fails(&uplink, &namespace);
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");

            let error = fails(&kind.clone().program("/nowhere/helper"), &namespace);
            assert_eq!(
                (error.kind(), error.step()),
                (ErrorKind::NotFound, Some(Step::Exec))
            );
            assert!(error.hint().unwrap().contains("package"), "{error:?}");
        }
    });
}

#[test]
fn requests_to_slirp4netns_leave_no_socket() {
    isolated_as_both(|| {
        require!(userns, netns);
        let child = inside();
        let namespace = child.namespaces().unwrap().net.unwrap();
        let outside = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080);
        let helper = StandIn::new(&(RECORD.to_owned() + SLIRP4NETNS_IS_READY));
        let uplink = Uplink::slirp4netns()
            .program(helper.path())
            .publish_udp(outside, 80);
        // It does not listen.
        let error = fails(&uplink, &namespace);
        assert_eq!(
            (error.kind(), error.step()),
            (ErrorKind::NotFound, Some(Step::Uplink))
        );
        assert!(
            error.to_string().contains("udp 127.0.0.1:8080 to port 80"),
            "{error}"
        );
        let given = helper.given();
        let socket = "--api-socket=/proc/self/fd/7/api".to_owned();
        assert!(given.arguments.contains(&socket), "{:?}", given.arguments);
        let directory = Path::new(given.leads_to(7));
        assert!(
            directory.starts_with(std::env::temp_dir()),
            "{}",
            directory.display()
        );
        assert!(!directory.exists());
    });
}

#[test]
fn a_sandbox_whose_uplink_fails_does_not_start() {
    isolated_as_both(|| {
        require!(userns, netns);
        let directory = TempDir::new().unwrap();
        let mark = directory.path().join("mark");
        let ends = StandIn::new("#!/bin/sh\nexit 1\n");
        let uplink = Uplink::slirp4netns().program(ends.path());
        let sandbox = Sandbox::new().user().user_map(IdMap::root()).net();
        let touch = sandbox.uplink(&uplink).command("touch").arg(&mark);
        let text = touch.compile().unwrap().to_string();
        assert!(
            text.contains("connected to the outside by slirp4netns"),
            "{text}"
        );
        drop(touch.spawn().unwrap_err());
        let before = census();
        let error = touch.spawn().unwrap_err();
        assert_eq!(error.step(), Some(Step::Uplink), "{error:?}");
        assert_same(&before, &census());
        assert!(!mark.exists());
    });
}

#[test]
fn the_helper_lives_as_long_as_the_child() {
    isolated_as_both(|| {
        require!(userns, netns);
        let helper = StandIn::new(&(RECORD.to_owned() + SLIRP4NETNS_IS_READY));
        let uplink = Uplink::slirp4netns().program(helper.path());
        let sandbox = Sandbox::new().user().user_map(IdMap::root()).net();
        let child = Waiting::start(&sandbox.uplink(&uplink));
        let given = helper.given();
        let inside = child.namespaces().unwrap().net.unwrap();
        assert_eq!(given.leads_to(3), inside.id().to_string());
        assert!(probe::Process::read(given.pid).is_some());
        drop(child);
        assert!(probe::Process::read(given.pid).is_none());
    });
}

#[test]
fn the_helper_goes_with_a_caller_that_is_killed() {
    isolated_as_both(|| {
        require!(userns, netns);
        set_child_subreaper(Some(getpid())).unwrap();
        let child = inside();
        let namespace = child.namespaces().unwrap().net.unwrap();
        let scripts = [
            (Uplink::slirp4netns(), SLIRP4NETNS_IS_READY),
            (Uplink::pasta(), PASTA_IS_READY),
        ];
        for (uplink, ready) in scripts {
            let helper = StandIn::new(&(RECORD.to_owned() + ready));
            let uplink = uplink.program(helper.path());
            let (mut is_up, up) = std::io::pipe().unwrap();
            let Some(caller) = sys::fork().unwrap() else {
                let attached = uplink.attach(&namespace);
                let ok = [u8::from(attached.is_ok())];
                rustix::io::write(&up, &ok).unwrap();
                loop {
                    std::thread::park();
                }
            };
            drop(up);
            let mut ok = [0];
            std::io::Read::read_exact(&mut is_up, &mut ok).unwrap();
            assert_eq!(ok, [1]);
            let pid = helper.given().pid;
            assert!(probe::Process::read(pid).is_some());
            kill_process(Pid::from_raw(caller).unwrap(), Signal::KILL).unwrap();
            // All that it leaves comes here to be reaped, before it is reaped itself.
            while probe::children(getpid().as_raw_pid()).len() > 1 {
                wait(WaitOptions::empty()).unwrap();
            }
            assert!(probe::Process::read(pid).is_none());
        }
    });
}

#[test]
fn a_network_that_is_refused_starts_no_helper() {
    with_capabilities!({
        require!(netns);
        let helper = StandIn::new(&(RECORD.to_owned() + SLIRP4NETNS_IS_READY));
        let uplink = Uplink::slirp4netns().program(helper.path());
        let both = Network::bridge("lab", net("10.9.0.0/24")).and(net("fd00::/56"));
        for network in [
            Network::bridge("lab", net("10.9.0.0/31")).uplink(&uplink),
            Network::bridge("lab", net("10.0.2.128/25")).uplink(&uplink),
            both.uplink(&uplink.clone().ipv6()),
        ] {
            let error = network.create().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
            assert_eq!(error.setter(), Some("bridge"), "{error:?}");
        }
        let ours = Network::bridge("lab", net("10.9.0.0/24")).uplink(&uplink.mtu(0));
        assert_eq!(ours.create().unwrap_err().setter(), Some("mtu"));
        assert!(!helper.0.path().join("given").exists());
    });
}

#[test]
fn a_network_does_not_overlap_what_pasta_brings_from_the_outside() {
    with_capabilities!({
        require!(netns, program("ip"), program("nsenter"));
        let brings = "nsenter --net=/proc/self/fd/0 ip address add 2001:db8:1::7/64 dev lo nodad";
        let helper = StandIn::new(&format!("{RECORD}{brings}{PASTA_IS_READY}"));
        let uplink = Uplink::pasta().program(helper.path()).ipv6();
        let lab = Network::bridge("lab", net("10.9.0.0/24")).uplink(&uplink);
        let error = lab.clone().and(net("2001:db8::/32")).create().unwrap_err();
        assert_eq!(error.setter(), Some("bridge"), "{error:?}");
        assert!(error.to_string().contains("2001:db8:1::7"), "{error}");
        assert!(probe::Process::read(helper.given().pid).is_none());
        lab.and(net("2001:db8:2::/64")).create().unwrap();
    });
}

#[test]
fn what_no_interface_or_helper_takes_is_refused_before_it_starts() {
    isolated_as_both(|| {
        let sandbox = Sandbox::new().user().user_map(IdMap::root()).net();
        let refused = |uplink: UplinkBuilder, setter: &str| {
            let command = sandbox.clone().uplink(&uplink).command("true");
            let error = command.compile().unwrap_err();
            assert_eq!(
                (error.kind(), error.setter()),
                (ErrorKind::InvalidInput, Some(setter)),
                "{error:?}"
            );
            let own = Namespace::<Net>::current().unwrap();
            assert_eq!(uplink.attach(&own).unwrap_err().setter(), Some(setter));
        };
        for uplink in [Uplink::slirp4netns(), Uplink::pasta()] {
            let uplink = uplink.program("/nowhere");
            for name in ["", "sixteen-bytes-xy", "a b", "a/b"] {
                refused(uplink.clone().interface(name), "interface");
            }
            for mtu in [0, 67, 65_521] {
                refused(uplink.clone().mtu(mtu), "mtu");
            }
            refused(uplink.clone().ipv6().mtu(1279), "mtu");
            let outside = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            refused(uplink.clone().publish_tcp(outside(0), 80), "publish_tcp");
            refused(uplink.clone().publish_udp(outside(80), 0), "publish_udp");
            for small in ["10.0.2.0/26", "0.0.0.0/0", "fd00::/64"] {
                let uplink = uplink.clone().net(net(small));
                assert_eq!(
                    (uplink.nameserver(), uplink.resolv_conf()),
                    (None, "".into())
                );
                refused(uplink, "net");
            }
        }
        let uplink = Uplink::slirp4netns();
        let error = Sandbox::new().uplink(&uplink).command("true").compile();
        assert_eq!(error.unwrap_err().setter(), Some("uplink"));
        let twice = sandbox.clone().uplink(&uplink).uplink(&uplink);
        let error = twice.command("true").compile().unwrap_err();
        assert_eq!(error.setter(), Some("uplink"), "{error:?}");
    });
}

#[test]
fn a_network_has_its_uplink_in_its_own_namespace() {
    with_capabilities!({
        require!(netns);
        let helper = StandIn::new(&(RECORD.to_owned() + SLIRP4NETNS_IS_READY));
        let uplink = Uplink::slirp4netns().program(helper.path());
        let host = Namespace::<Net>::current().unwrap();
        let network = Network::bridge("lab", net("10.9.0.0/24")).uplink(&uplink);
        let network = network.create().unwrap();
        assert_ne!(network.namespace(), &host);
        let given = helper.given();
        assert_eq!(given.leads_to(3), network.namespace().id().to_string());
        assert!(network.uplink().is_some());
        drop(network);
        assert!(probe::Process::read(given.pid).is_none());
    });
}
