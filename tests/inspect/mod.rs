mod animal;
mod queries;
mod races;
mod unseen;
mod zoo;

use std::fmt::Display;
use std::fs;

/// The inode number of a namespace, by a link in `/proc/PID/ns`.
fn inode(pid: impl Display, link: &str) -> u64 {
    let path = format!("/proc/{pid}/ns/{link}");
    let link = fs::read_link(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let text = link.to_str().unwrap();
    let (_, number) = text.split_once(":[").unwrap();
    number.strip_suffix(']').unwrap().parse().unwrap()
}
