//! What an owner leaves that was killed.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use ringfence::net::{Network, NetworkBuilder, Nft, Publish};
use rustix::process::{Signal, getpid, kill_process};

use super::network::{enter, joined};
use super::{both_ways, everything, ip, net, run, with_capabilities};
use crate::common::{in_forked_child, require};

/// A process makes it, publishes a port of a member, and is killed. Its hosts file.
fn abandon(builder: &NetworkBuilder, directory: &Path) -> PathBuf {
    let told = directory.join("hosts");
    let status = in_forked_child(|| {
        let network = builder.create().unwrap();
        let (_web, member) = joined(&network, "web");
        let target = SocketAddr::new(member.addresses()[0], 80);
        network.publish(Publish::tcp(8080, target)).unwrap();
        fs::write(&told, network.hosts_path().to_str().unwrap()).unwrap();
        kill_process(getpid(), Signal::KILL).unwrap();
        unreachable!()
    });
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    let hosts = PathBuf::from(fs::read_to_string(told).unwrap());
    assert!(hosts.exists());
    hosts
}

#[test]
fn what_a_killed_owner_has_left_is_removed_and_nothing_else() {
    with_capabilities!({
        require!(netns, program("ip"));
        let host = enter();
        let live = Network::bridge("live", net("10.8.0.0/24"))
            .create()
            .unwrap();
        let own = Network::bridge("own", net("10.8.0.0/24")).own_namespace();
        let live_own = own.create().unwrap();
        let (one, _one) = joined(&live, "one");
        let (two, _two) = joined(&live, "two");
        let before = everything(&host);
        let tables = || Nft::open(&host).unwrap().tables().unwrap();
        let tables_before = tables();
        let directory = tempfile::tempdir().unwrap();

        let lab = Network::bridge("lab", net("10.9.0.0/24")).masquerade();
        let hosts = abandon(&lab, directory.path());
        let own_hosts = abandon(&own, directory.path());
        let error = Network::bridge("lab", net("10.7.0.0/24"))
            .create()
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error:?}");
        assert!(
            error.hint().unwrap().contains("remove_abandoned"),
            "{error:?}"
        );

        // A bridge that is not the one of the file.
        let mac = ip(&host, "link show lab")[0]["address"]
            .as_str()
            .unwrap()
            .to_owned();
        run(&host, "ip", "link set lab address 02:00:00:00:00:07");
        assert_eq!(Network::remove_abandoned().unwrap(), [""; 0]);
        assert!(hosts.exists() && !own_hosts.exists());
        run(&host, "ip", &format!("link set lab address {mac}"));

        assert_eq!(Network::remove_abandoned().unwrap(), ["lab"]);
        assert_eq!(everything(&host), before);
        assert_eq!(tables(), tables_before);
        assert!(!hosts.exists());
        for network in [&live, &live_own] {
            assert!(network.hosts_path().exists());
        }
        both_ways(&one, "10.8.0.3", &two);
        assert_eq!(Network::remove_abandoned().unwrap(), [""; 0]);
        lab.create().unwrap();
    });
}
