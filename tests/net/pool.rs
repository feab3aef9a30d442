//! Namespaces made ahead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ringfence::net::{Link, NetPool, Netlink};
use ringfence::{Error, ErrorKind, Result};

use super::{names, with_capabilities};
use crate::common::leaks::{Census, assert_same};
use crate::common::require;

#[test]
fn what_is_taken_is_new_and_set_up() {
    with_capabilities!({
        require!(netns);
        drop(NetPool::new(1).unwrap().take());
        let before = Census::take().without(&["maps", "threads"]);
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let pool = NetPool::with_setup(3, move |namespace| {
            count.fetch_add(1, Ordering::Relaxed);
            Netlink::open(namespace)?.add(Link::bridge("br0"))
        })
        .unwrap();
        assert_eq!(pool.fill().unwrap(), 3);
        assert_eq!(made.load(Ordering::Relaxed), 3, "it is bounded");
        let mut taken = Vec::new();
        for _ in 0..8 {
            taken.push(pool.take().unwrap());
        }
        for (position, namespace) in taken.iter().enumerate() {
            assert!(!namespace.is_current().unwrap());
            assert!(taken[..position].iter().all(|other| other != namespace));
            let netlink = Netlink::open(namespace).unwrap();
            assert_eq!(names(&netlink).unwrap(), ["lo", "br0"]);
            assert!(netlink.link("lo").unwrap().up);
        }
        assert_eq!(pool.fill().unwrap(), 3, "it is refilled");
        drop(pool);
        drop(taken);
        assert_same(&before, &Census::take().without(&["maps", "threads"]));
    });
}

#[test]
fn a_setup_that_fails_is_an_error_of_who_takes() {
    with_capabilities!({
        require!(netns);
        let works = Arc::new(AtomicBool::new(false));
        let setup = Arc::clone(&works);
        let pool = NetPool::with_setup(2, move |namespace| -> Result<()> {
            let error =
                |()| -> Result<(), Error> { Netlink::open(namespace)?.delete_link("nothing") };
            match setup.load(Ordering::Relaxed) {
                true => Ok(()),
                false => error(()),
            }
        })
        .unwrap();
        for failed in [
            pool.fill().map(drop),
            pool.take().map(drop),
            pool.fill().map(drop),
        ] {
            let error = failed.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
            assert!(error.to_string().contains("delete nothing"), "{error:?}");
        }
        assert_eq!(pool.ready(), 0);
        works.store(true, Ordering::Relaxed);
        pool.take().unwrap();
        // What was tried before may still have failed.
        assert_eq!(pool.fill().or_else(|_| pool.fill()).unwrap(), 2);
    });
}

#[test]
fn a_setup_that_panics_is_an_error_and_holds_nobody() {
    with_capabilities!({
        require!(netns);
        drop(NetPool::new(1).unwrap().take());
        let before = Census::take().without(&["maps", "threads"]);
        let turn = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&turn);
        let pool = NetPool::with_setup(2, move |_| -> Result<()> {
            match count.load(Ordering::Relaxed) {
                0 => panic!("no luck"),
                1 => panic!("no luck on turn {}", count.load(Ordering::Relaxed)),
                2 => std::panic::panic_any(7),
                _ => Ok(()),
            }
        })
        .unwrap();
        let all = ["no luck", "no luck on turn 1", "without words"];
        for (number, words) in all.iter().enumerate() {
            turn.store(number, Ordering::Relaxed);
            let error = pool.take().unwrap_err();
            assert!(error.to_string().contains(words), "{error:?}");
            // The first may be that of the turn before.
            let told = || pool.fill().unwrap_err().to_string().contains(words);
            assert!(told() || told(), "{words}");
        }
        turn.store(3, Ordering::Relaxed);
        pool.take().unwrap();
        assert_eq!(pool.fill().or_else(|_| pool.fill()).unwrap(), 2);
        drop(pool);
        assert_same(&before, &Census::take().without(&["maps", "threads"]));
    });
}
