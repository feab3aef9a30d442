//! Ports that several networks of one namespace would publish.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::sync::Barrier;
use std::thread;

use ringfence::net::{Member, Network, Nft, Publish, Table};
use ringfence::ns::{Namespace, Net};
use ringfence::{Error, ErrorKind};
use rustix::process::{Signal, getpid, kill_process};

use super::network::{enter, joined};
use super::{at, create, net, run, tcp, with_capabilities};
use crate::common::{in_forked_child, require};

/// A network of its own name and subnet, with one member.
struct One {
    network: Network,
    member: Member,
    inside: Namespace<Net>,
}

impl One {
    fn new(number: u8) -> Self {
        let subnet = net(&format!("10.{number}.0.0/24"));
        let builder = Network::bridge(format!("lab{number}"), subnet);
        let network = builder.and(net(&format!("fd00:{number}::/64"))).create();
        let network = network.unwrap();
        let (inside, member) = joined(&network, "web");
        Self {
            network,
            member,
            inside,
        }
    }

    /// Its port 80.
    fn target(&self) -> SocketAddr {
        SocketAddr::new(self.member.addresses()[0], 80)
    }

    fn target6(&self) -> SocketAddr {
        SocketAddr::new(self.member.addresses()[1], 80)
    }
}

#[track_caller]
fn is_taken(error: &Error, by: &str) {
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert_eq!(error.setter(), Some("publish"), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains(by) && text.contains("published already"),
        "{text}"
    );
}

#[test]
fn a_port_that_another_network_publishes_is_refused() {
    with_capabilities!({
        require!(netns, program("nft"));
        let host = enter();
        let (one, two) = (One::new(8), One::new(9));
        let first = Publish::tcp(8080..=8089, one.target());
        one.network.publish(first.clone()).unwrap();
        let bound = Publish::udp(53, one.target()).on([10, 8, 0, 1]);
        one.network.publish(bound).unwrap();

        let rules = || run(&host, "nft", "list ruleset");
        let made = rules();
        for taken in [
            Publish::tcp(8080, two.target()),
            Publish::tcp(8000..=8080, two.target()),
            Publish::tcp(8089..=9000, two.target()),
            Publish::tcp(8085, two.target()).on([10, 9, 0, 1]),
            Publish::tcp(8085, two.target()).iif("lab9"),
            Publish::udp(53, two.target()),
            Publish::udp(50..=60, two.target()).on([10, 8, 0, 1]),
        ] {
            let error = two.network.publish(taken).unwrap_err();
            is_taken(&error, "of the network lab8");
            assert!(
                error.hint().unwrap().contains("remove_abandoned"),
                "{error:?}"
            );
            assert_eq!(rules(), made);
        }
        // None of these has a port of the other.
        for free in [
            Publish::udp(8080, two.target()),
            Publish::tcp(8090, two.target()),
            Publish::tcp(8080, two.target6()),
            Publish::udp(53, two.target()).on([10, 9, 0, 1]),
        ] {
            two.network.publish(free).unwrap();
        }
        tcp(&host, at("10.8.0.1:8080"), &one.inside, one.target());

        // It is free when it is taken back, and when the member, or the network, has gone.
        let wanted = Publish::tcp(8080, two.target());
        one.network.unpublish(&first).unwrap();
        two.network.publish(wanted.clone()).unwrap();
        tcp(&host, at("10.9.0.1:8080"), &two.inside, two.target());
        is_taken(&one.network.publish(first.clone()).unwrap_err(), "lab9");
        let One {
            network, member, ..
        } = two;
        drop(member);
        one.network.publish(first).unwrap();
        is_taken(&network.publish(wanted.clone()).unwrap_err(), "lab8");
        drop(one);
        network.publish(wanted).unwrap();
    });
}

#[test]
fn another_namespace_has_ports_of_its_own() {
    with_capabilities!({
        require!(netns);
        let _host = enter();
        let one = One::new(8);
        one.network.publish(Publish::tcp(80, one.target())).unwrap();
        let own = Network::bridge("own", net("10.9.0.0/24")).own_namespace();
        let own = own.create().unwrap();
        let (_inside, member) = joined(&own, "web");
        let target = SocketAddr::new(member.addresses()[0], 80);
        own.publish(Publish::tcp(80, target)).unwrap();
    });
}

#[test]
fn the_other_may_be_of_another_process() {
    with_capabilities!({
        require!(netns);
        let _host = enter();
        let status = in_forked_child(|| {
            let one = One::new(8);
            one.network.publish(Publish::tcp(80, one.target())).unwrap();
            kill_process(getpid(), Signal::KILL).unwrap();
            unreachable!()
        });
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        let two = One::new(9);
        let publish = Publish::tcp(80, two.target());
        is_taken(&two.network.publish(publish.clone()).unwrap_err(), "lab8");
        assert_eq!(Network::remove_abandoned().unwrap(), ["lab8"]);
        two.network.publish(publish).unwrap();
    });
}

#[test]
fn of_all_that_want_a_port_at_once_one_has_it() {
    const NETWORKS: u8 = 4;
    with_capabilities!({
        require!(netns);
        let host = enter();
        let all: Vec<_> = (1..=NETWORKS).map(One::new).collect();
        for port in 1000..1025 {
            let barrier = Barrier::new(NETWORKS.into());
            let publish = |one: &One| {
                barrier.wait();
                one.network.publish(Publish::tcp(port, one.target()))
            };
            let results: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = all.iter().map(|one| scope.spawn(|| publish(one))).collect();
                threads.into_iter().map(|one| one.join().unwrap()).collect()
            });
            let (done, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
            assert_eq!(done.len(), 1, "{port}: {refused:?}");
            for error in refused {
                is_taken(&error.unwrap_err(), "of the network lab");
            }
        }
        drop(all);
        assert_eq!(Nft::open(&host).unwrap().tables().unwrap(), [""; 0]);
    });
}

#[test]
fn tables_are_told_apart_by_their_names() {
    with_capabilities!({
        require!(netns, program("nft"));
        let (namespace, _) = create();
        let (nft, other) = (
            Nft::open(&namespace).unwrap(),
            Nft::open(&namespace).unwrap(),
        );
        let table =
            |name: &str, port| Table::new(name).publish(Publish::tcp(port, at("10.9.0.2:80")));
        nft.install(&table("one", 80)).unwrap();
        // In its own place.
        nft.install(&table("one", 80)).unwrap();
        is_taken(&other.install(&table("two", 80)).unwrap_err(), "table one");
        other.install(&table("two", 81)).unwrap();
        is_taken(&nft.install(&table("one", 81)).unwrap_err(), "table two");
        let shown = || run(&namespace, "nft", "list ruleset");
        let made = shown();
        assert!(made.contains("comment \"tcp 80 to 10.9.0.2:80\""), "{made}");
        // What nft itself makes of the list is taken for the same.
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rules");
        fs::write(&file, format!("flush ruleset\n{made}")).unwrap();
        run(&namespace, "nft", &format!("-f {}", file.display()));
        assert_eq!(shown(), made);
        is_taken(
            &other.install(&table("three", 80)).unwrap_err(),
            "table one",
        );
        nft.remove("one").unwrap();
        other.install(&table("three", 80)).unwrap();
    });
}
