//! Networks that namespaces and sandboxes are connected to.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ringfence::net::{
    IpNet, Link, LinkChange, Member, Netlink, Network, Nft, OperState, Peer, Publish, Route,
    RouteKind, sysctl,
};
use ringfence::ns::{Namespace, Net};
use ringfence::{ErrorKind, Sandbox, Stdio, Step};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, mount_bind, mount_remount};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use rustix::thread::UnshareFlags;

use super::{address, both_ways, everything, ip, names, net, tcp, with_capabilities};
use crate::common::leaks::{Census, assert_same};
use crate::common::{require, sys};
use crate::support::signal;

/// A network namespace of the test's own, which it is then in.
pub(super) fn enter() -> Namespace<Net> {
    sys::unshare(UnshareFlags::NEWNET).unwrap();
    Netlink::current()
        .unwrap()
        .set(LinkChange::of("lo").up())
        .unwrap();
    Namespace::current().unwrap()
}

pub(super) fn lab() -> Network {
    Network::bridge("lab", net("10.9.0.0/24"))
        .and(net("fd00:9::/64"))
        .create()
        .unwrap()
}

pub(super) fn joined(network: &Network, name: &str) -> (Namespace<Net>, Member) {
    let namespace = Namespace::create().unwrap();
    let member = network.connect(&namespace, Some(name)).unwrap();
    (namespace, member)
}

fn first(member: &Member) -> String {
    member.addresses()[0].to_string()
}

#[test]
fn members_reach_each_other_and_the_host() {
    with_capabilities!({
        require!(netns, program("ip"));
        let host = enter();
        let before = everything(&host);
        let network = lab();
        assert_eq!(
            (network.name(), network.gateway()),
            ("lab", Some(address("10.9.0.1")))
        );
        let (web, web_member) = joined(&network, "web");
        let (db, db_member) = joined(&network, "db");
        assert_eq!(
            web_member.addresses(),
            [address("10.9.0.2"), address("fd00:9::2")]
        );
        assert_eq!(
            db_member.addresses(),
            [address("10.9.0.3"), address("fd00:9::3")]
        );
        both_ways(&web, "10.9.0.3", &db);
        both_ways(&db, "fd00:9::2", &web);
        both_ways(&web, "10.9.0.1", &host);
        both_ways(&host, "fd00:9::3", &db);
        let default = &ip(&web, "route show default")[0];
        assert_eq!(
            (default["gateway"].as_str(), default["dev"].as_str()),
            (Some("10.9.0.1"), Some("eth0"))
        );
        let shown = &ip(&host, &format!("link show {}", web_member.port()))[0];
        assert_eq!(shown["master"], "lab");

        let hosts = fs::read_to_string(network.hosts_path()).unwrap();
        for line in [
            "10.9.0.2\tweb",
            "fd00:9::2\tweb",
            "10.9.0.3\tdb",
            "127.0.0.1\tlocalhost",
        ] {
            assert!(hosts.lines().any(|found| found == line), "{hosts}");
        }
        assert_eq!(network.address_of("db"), Some(address("10.9.0.3")));
        drop(db_member);
        assert_eq!(network.address_of("db"), None);
        let hosts = fs::read_to_string(network.hosts_path()).unwrap();
        assert!(!hosts.contains("\tdb"), "{hosts}");
        let path = network.hosts_path();
        drop(web_member);
        drop(network);
        assert!(!path.exists());
        assert_eq!(everything(&host), before);
        assert_eq!(names(&Netlink::open(&web).unwrap()).unwrap(), ["lo"]);
    });
}

#[test]
fn published_ports_lead_to_members_and_go_with_them() {
    with_capabilities!({
        require!(netns, program("nft"));
        let host = enter();
        let network = lab();
        let (web, member) = joined(&network, "web");
        let (other, _other_member) = joined(&network, "other");
        let target = SocketAddr::new(network.address_of("web").unwrap(), 80);
        network.publish(Publish::tcp(8080, target)).unwrap();
        for from in [&host, &other, &web] {
            tcp(from, "10.9.0.1:8080".parse().unwrap(), &web, target);
        }
        tcp(&host, "127.0.0.1:8080".parse().unwrap(), &web, target);
        assert_eq!(sysctl::get(&host, "ipv4/ip_forward").unwrap(), "1");
        let rules = || super::run(&host, "nft", "list ruleset");
        assert!(rules().contains("dnat ip to 10.9.0.2:80"), "{}", rules());
        drop(member);
        assert!(!rules().contains("dnat ip"), "{}", rules());
        drop(network);
        drop(_other_member);
        assert_eq!(rules(), "");
    });
}

#[test]
fn a_network_of_its_own_namespace_touches_no_other() {
    with_capabilities!({
        require!(netns, program("ip"));
        let host = enter();
        let before = everything(&host);
        let networks: Vec<_> = (0..2)
            .map(|_| {
                // The same subnet twice is no conflict there.
                let builder = Network::bridge("lab", net("10.9.0.0/24")).own_namespace();
                builder.masquerade().create().unwrap()
            })
            .collect();
        assert_eq!(everything(&host), before);
        let (one, _one) = joined(&networks[0], "one");
        let (two, _two) = joined(&networks[0], "two");
        let (far, _far) = joined(&networks[1], "one");
        both_ways(&one, "10.9.0.3", &two);
        assert_eq!(
            names(&Netlink::open(&far).unwrap()).unwrap(),
            ["lo", "eth0"]
        );
        assert_eq!(sysctl::get(&host, "ipv4/ip_forward").unwrap(), "0");
        assert_eq!(Nft::open(&host).unwrap().tables().unwrap(), [""; 0]);
    });
}

#[test]
fn what_contradicts_what_is_there_is_refused() {
    with_capabilities!({
        require!(netns, program("ip"));
        let host = enter();
        let network = lab();
        let made = everything(&host);
        // The same subnet twice, and part of it.
        for other in ["10.9.0.0/24", "10.9.0.128/25", "10.0.0.0/8", "fd00:9::/80"] {
            let error = Network::bridge("other", net(other)).create().unwrap_err();
            assert_eq!(
                (error.kind(), error.setter()),
                (ErrorKind::InvalidInput, Some("bridge")),
                "{other}"
            );
            assert!(error.to_string().contains("overlaps"), "{error}");
            assert!(error.to_string().ends_with(" on lab"), "{error}");
        }
        for nobodys in ["224.0.0.0/24", "127.9.0.0/16", "0.0.0.0/8", "ff02::/64"] {
            let error = Network::bridge("other", net(nobodys)).create().unwrap_err();
            assert_eq!(error.setter(), Some("bridge"), "{nobodys}: {error:?}");
        }
        for elsewhere in ["10.8.0.2:80", "[fd00:8::2]:80"] {
            let publish = Publish::tcp(8080, elsewhere.parse().unwrap());
            let error = network.publish(publish).unwrap_err();
            assert_eq!(error.setter(), Some("publish"), "{error:?}");
        }
        let twice = Network::bridge("other", net("10.8.0.0/24")).and(net("10.8.0.0/16"));
        assert_eq!(twice.create().unwrap_err().kind(), ErrorKind::InvalidInput);
        for small in [
            "10.8.0.0/30",
            "10.8.0.0/31",
            "10.8.0.1/32",
            "fd00:8::/127",
            "fd00:8::/128",
        ] {
            let result = Network::bridge("other", net(small)).create();
            assert_eq!(
                result.is_ok(),
                small == "10.8.0.0/30",
                "{small}: {result:?}"
            );
        }
        let error = Network::bridge("lab", net("10.8.0.0/24"))
            .create()
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
        let error = Network::bridge("sixteen-bytes-xy", net("10.8.0.0/24"))
            .create()
            .unwrap_err();
        assert_eq!(error.setter(), Some("name"));
        assert_eq!(everything(&host), made);

        let (web, _member) = joined(&network, "web");
        let inside = everything(&web);
        let made = everything(&host);
        for (name, setter) in [
            ("web", "connect"),
            ("", "connect"),
            ("a b", "connect"),
            ("a\n", "connect"),
        ] {
            let other = Namespace::create().unwrap();
            let error = network.connect(&other, Some(name)).unwrap_err();
            assert_eq!(error.setter(), Some(setter), "{error:?}");
        }
        // It has an eth0 already.
        let error = network.connect(&web, None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
        assert_eq!(everything(&web), inside);
        assert_eq!(everything(&host), made);
    });
}

/// Makes a file of /proc/sys read-only until the end of the test's mount namespace.
fn read_only(parameter: &str) {
    let file = format!("/proc/sys/net/{parameter}");
    mount_bind(&file, &file).unwrap();
    // What procfs is mounted with may not be taken away.
    let inert = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_remount(&file, MountFlags::BIND | MountFlags::RDONLY | inert, c"").unwrap();
}

#[test]
fn what_cannot_be_published_changes_nothing() {
    with_capabilities!({
        require!(netns, program("ip"), program("nft"));
        let host = enter();
        let before = everything(&host);
        sysctl::set(&host, "ipv4/ip_forward", "0").unwrap();
        let forwards = || {
            let names = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
            names.map(|name| sysctl::get(&host, name).unwrap())
        };
        read_only("ipv6/conf/all/forwarding");
        let both = Network::bridge("lab", net("10.9.0.0/24")).and(net("fd00:9::/64"));
        let error = both.clone().masquerade().create().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error:?}");
        assert_eq!(forwards(), ["0", "0"]);
        assert_eq!(everything(&host), before);
        assert_eq!(Nft::open(&host).unwrap().tables().unwrap(), [""; 0]);

        let network = both.create().unwrap();
        read_only("ipv4/conf/lab/route_localnet");
        let (_web, member) = joined(&network, "web");
        let rules = || super::run(&host, "nft", "list ruleset");
        let made = rules();
        for address in member.addresses() {
            let publish = Publish::tcp(8080, SocketAddr::new(address, 80));
            let error = network.publish(publish).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error:?}");
            assert_eq!(forwards(), ["0", "0"]);
            assert_eq!(rules(), made);
        }
    });
}

#[test]
fn members_of_any_user_read_the_hosts_file() {
    with_capabilities!({
        require!(netns);
        enter();
        umask(Mode::from_bits_retain(0o077));
        let network = lab();
        let mode = fs::metadata(network.hosts_path()).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o644);
    });
}

#[test]
fn a_name_that_cannot_be_written_takes_no_address() {
    with_capabilities!({
        require!(netns);
        enter();
        let network = Network::bridge("lab", net("10.9.0.0/29")).create().unwrap();
        let namespace = Namespace::create().unwrap();
        let before = everything(&namespace);
        signal::ignore(libc::SIGXFSZ);
        let limit = getrlimit(Resource::Fsize);
        let nothing = Rlimit {
            current: Some(0),
            ..limit
        };
        setrlimit(Resource::Fsize, nothing).unwrap();
        let error = network.connect(&namespace, Some("web")).unwrap_err();
        setrlimit(Resource::Fsize, limit).unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{error:?}");
        assert_eq!(network.address_of("web"), None);
        assert_eq!(everything(&namespace), before);
        let member = network.connect(&namespace, Some("web")).unwrap();
        assert_eq!(first(&member), "10.9.0.2");
    });
}

#[test]
fn addresses_are_used_up_and_used_again() {
    with_capabilities!({
        require!(netns);
        enter();
        let network = Network::bridge("lab", net("10.9.0.0/29")).create().unwrap();
        let mut members: Vec<_> = (0..5).map(|n| joined(&network, &format!("m{n}"))).collect();
        let addresses: Vec<_> = members.iter().map(|(_, member)| first(member)).collect();
        assert_eq!(
            addresses,
            ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]
        );
        let spare = Namespace::create().unwrap();
        let error = network.connect(&spare, None).unwrap_err();
        assert_eq!(
            (error.kind(), error.step()),
            (ErrorKind::LimitReached, Some(Step::Network))
        );
        assert_eq!(names(&Netlink::open(&spare).unwrap()).unwrap(), ["lo"]);

        // The member is gone, but its namespace is not, and goes on using the address.
        let (still, member) = members.remove(1);
        drop(member);
        assert_eq!(
            network.connect(&spare, None).unwrap_err().kind(),
            ErrorKind::LimitReached
        );
        assert_eq!(
            names(&Netlink::open(&still).unwrap()).unwrap(),
            ["lo", "eth0"]
        );
        let (_other, member) = members.remove(2);
        member.disconnect().unwrap();
        let member = network.connect(&spare, Some("m3")).unwrap();
        assert_eq!(first(&member), "10.9.0.5");
    });
}

#[test]
fn what_fails_inside_leaves_nothing() {
    with_capabilities!({
        require!(netns, program("ip"));
        let host = enter();
        let network = lab();
        let made = everything(&host);
        let namespace = Namespace::<Net>::create().unwrap();
        let inside = Netlink::open(&namespace).unwrap();
        // The default route is taken.
        inside
            .add(Link::veth("other", Peer::new("peer")).up())
            .unwrap();
        inside.set(LinkChange::of("peer").up()).unwrap();
        inside
            .add(Route::to(net("0.0.0.0/0")).dev("other"))
            .unwrap();
        let before = everything(&namespace);
        let error = network.connect(&namespace, Some("web")).unwrap_err();
        assert_eq!(
            (error.step(), error.raw_os_error()),
            (Some(Step::Route), Some(libc::EEXIST)),
            "{error:?}"
        );
        assert_eq!(everything(&namespace), before);
        assert_eq!(everything(&host), made);
        assert_eq!(network.address_of("web"), None);
    });
}

#[test]
fn a_sandbox_starts_with_its_network_up() {
    with_capabilities!({
        require!(netns, program("ip"));
        let host = enter();
        let network = lab();
        let sandbox = Sandbox::new().net().uts().hostname("box").network(&network);
        let command = sandbox
            .clone()
            .command("ip")
            .args(["-o", "addr", "show", "dev", "eth0"]);
        let plan = command.compile().unwrap();
        assert!(
            plan.to_string().contains("connected to the network lab"),
            "{plan}"
        );
        for _ in 0..2 {
            let output = command.output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(
                text.contains("inet 10.9.0.") && text.contains("inet6 fd00:9::"),
                "{text}"
            );
        }
        let waits = sandbox
            .clone()
            .command("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = waits.spawn().unwrap();
        let inside = child.namespaces().unwrap().net.unwrap();
        let target = SocketAddr::new(network.address_of("box").unwrap(), 80);
        tcp(&host, target, &inside, target);
        // Of one name there is one.
        let again = waits.spawn().unwrap_err();
        assert_eq!(again.setter(), Some("connect"), "{again:?}");
        child.wait().unwrap();
        drop(child);
        assert_eq!(network.address_of("box"), None);
        // The program is not started if it cannot be connected, and nothing is left of it.
        let mark = tempfile::tempdir().unwrap().path().join("mark");
        // What led to those that have ended goes by and by.
        let census = || Census::take().without(&["maps", "links"]);
        let (before, links) = (census(), names(&Netlink::current().unwrap()).unwrap());
        let touch = Sandbox::new().net().uts().hostname("a b").network(&network);
        let error = touch.command("touch").arg(&mark).spawn().unwrap_err();
        assert_eq!(error.setter(), Some("connect"), "{error:?}");
        assert!(!Path::new(&mark).exists());
        assert_same(&before, &census());
        let left = names(&Netlink::current().unwrap()).unwrap();
        assert!(left.iter().all(|name| links.contains(name)), "{left:?}");
        let error = Sandbox::new()
            .network(&network)
            .command("true")
            .spawn()
            .unwrap_err();
        assert_eq!(error.setter(), Some("network"), "{error:?}");
    });
}

#[test]
fn five_hundred_namespaces_on_one_bridge() {
    with_capabilities!({
        require!(netns);
        let host = enter();
        let network = Network::bridge("lab", net("10.9.0.0/16")).create().unwrap();
        let members: Vec<_> = (0..500)
            .map(|n| joined(&network, &format!("m{n}")))
            .collect();
        let (last, member) = members.last().unwrap();
        assert_eq!(first(member), "10.9.1.245");
        both_ways(&members[0].0, "10.9.1.245", last);
        both_ways(&host, "10.9.0.2", &members[0].0);
    });
}

/// The first packet is not lost because the kernel has yet to notice that there is a carrier, which takes it long while
/// it takes namespaces down. It would be sent again after a second.
#[test]
fn members_can_be_reached_as_soon_as_they_are_connected() {
    with_capabilities!({
        require!(netns);
        let host = enter();
        let network = lab();
        let netlink = Netlink::open(&host).unwrap();
        for number in 0..30 {
            let (namespace, member) = joined(&network, &format!("m{number}"));
            // A list is not what has the kernel finish it.
            let links = netlink.links().unwrap();
            for name in ["lab", &*member.port()] {
                let link = links.iter().find(|link| link.name == name).unwrap();
                assert_eq!(link.operstate, OperState::Up, "{name} of {number}");
            }
            let inside = Netlink::open(&namespace).unwrap();
            for (netlink, own) in [
                (&inside, member.addresses()[1]),
                (&netlink, address("fd00:9::1")),
            ] {
                let is_own = |route: &Route| {
                    route.kind == RouteKind::Local && route.destination == IpNet::from(own)
                };
                assert!(
                    netlink.routes().unwrap().iter().any(is_own),
                    "{own} of {number}"
                );
            }
        }
    });
}
