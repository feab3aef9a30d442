//! The ports that tables lead elsewhere, as the kernel has them.

use super::publish::TAKEN;
use super::{Publish, SUBSYSTEM, TABLE, Table, message};
use crate::error::Error;
use crate::net::wire::{Message, Received};

/// The chain that all of a table is in.
pub(super) const CHAIN: &str = "published";

// <linux/netfilter/nf_tables.h>, and the type by which nft(8) knows a comment.
const RULE_CHAIN: u16 = 2;
const RULE_USERDATA: u16 = 7;
const COMMENT: u8 = 0;

/// One port, or a range of them, of a table.
#[derive(Debug)]
pub(super) struct Published {
    table: String,
    publish: Publish,
}

impl Published {
    /// The request for those of all tables.
    pub(super) fn dump() -> Message {
        message(libc::NFT_MSG_GETRULE, 0)
    }

    /// `None` for other rules.
    pub(super) fn parse(message: &Received<'_>) -> Option<Self> {
        let (_, attributes) = message.split(4)?;
        let is_one = message.kind == SUBSYSTEM << 8 | libc::NFT_MSG_NEWRULE as u16
            && attributes.get(RULE_CHAIN)?.str() == Some(CHAIN);
        let text = comment(attributes.get(RULE_USERDATA)?.value).filter(|_| is_one)?;
        Some(Self {
            table: attributes.get(TABLE)?.str()?.to_owned(),
            publish: Publish::read(text)?,
        })
    }
}

/// Writes what a rule publishes as its comment: for people, and for [`Published::parse`].
pub(super) fn put_comment(rule: &mut Message, publish: &Publish) {
    let text = publish.to_string();
    // nft(8) counts the NUL, and takes no more than 128 bytes. The longest has as many.
    if let Ok(length) = u8::try_from(text.len() + 1) {
        let value = [&[COMMENT, length], text.as_bytes(), &[0]].concat();
        rule.bytes(RULE_USERDATA, &value);
    }
}

/// The comment in what nft(8) puts beside a rule: types and lengths of one byte, and values.
fn comment(mut data: &[u8]) -> Option<&str> {
    loop {
        let [kind, length, rest @ ..] = data else {
            return None;
        };
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            return str::from_utf8(value.strip_suffix(&[0])?).ok();
        }
        data = rest;
    }
}

/// Why a table cannot be installed beside what others publish, if it cannot be. `name` says whose a table is.
pub(super) fn conflict(
    table: &Table,
    all: &[Published],
    name: impl Fn(&str) -> String,
) -> Option<Error> {
    let others = all.iter().filter(|other| other.table != table.name);
    let mut pairs = others.flat_map(|other| table.publishes.iter().map(move |own| (own, other)));
    let (own, other) = pairs.find(|(own, other)| own.is_of_same(&other.publish))?;
    let by = format!("{} of {}", other.publish, name(&other.table));
    let left = "what a killed process has left Network::remove_abandoned removes";
    let hint = format!("{TAKEN}; {left}");
    Some(own.is_published_already(&by).with_hint(Some(hint)))
}

#[cfg(test)]
mod tests {
    use super::{comment, put_comment};
    use crate::net::Publish;
    use crate::net::wire::{Message, Messages};

    fn target(text: &str) -> std::net::SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_published_is_read_as_it_was_written() {
        let long = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535";
        let longest = Publish::udp(10000..=65535, target(long))
            .on([0x9999; 8])
            .iif("fifteen-bytes-x");
        assert_eq!(longest.to_string().len(), 127);
        for publish in [
            longest,
            Publish::tcp(80, target("10.9.0.2:8080")),
            Publish::udp(80..=80, target("[::1]:8080")),
            Publish::tcp(80, target("10.9.0.2:80")).on([192, 0, 2, 1]),
            Publish::tcp(1..=9, target("10.9.0.2:80")).iif("by"),
        ] {
            let mut message = Message::new(0, 0, &[0; 4]);
            put_comment(&mut message, &publish);
            let bytes = message.finish(1).unwrap();
            let (_, attributes) = Messages(bytes).next().unwrap().split(4).unwrap();
            let text = comment(attributes.get(7).unwrap().value).unwrap();
            assert_eq!(text, publish.to_string());
            assert_eq!(Publish::read(text), Some(publish));
        }
    }

    #[test]
    fn other_comments_are_passed_over() {
        for text in [
            "",
            "tcp",
            "tcp 80",
            "tcp 80 to",
            "tcp 80 to 10.9.0.2",
            "tcp 80 to 10.9.0.2:80 or so",
            "sctp 80 to 10.9.0.2:80",
            "tcp 80-x to 10.9.0.2:80",
            "tcp by 80 to 10.9.0.2:80",
            "tcp 192.0.2.1: to 10.9.0.2:80",
            "web server of the lab",
        ] {
            assert_eq!(Publish::read(text), None, "{text}");
        }
        for data in [&b""[..], b"\0", b"\0\x05ab", b"\0\x02ab", b"\x01\x01a"] {
            assert_eq!(comment(data), None, "{data:?}");
        }
        assert_eq!(comment(b"\x01\x02xx\0\x03ab\0"), Some("ab"));
    }
}
