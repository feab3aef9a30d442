//! `cargo +nightly fuzz run netlink`: no bytes make the reader of netlink messages panic or hang, and what it has
//! read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "a part of the file is for writing")]
#[path = "../../src/net/wire.rs"]
mod wire;

use wire::{Attributes, Hops, Message, Messages};

fuzz_target!(|bytes: &[u8]| {
    for message in Messages(bytes) {
        let _ = message.acknowledgement();
        for fixed in [4, 8, 12, 16] {
            let Some((header, attributes)) = message.split(fixed) else { continue };
            assert_eq!(header.len(), fixed);
            read(attributes, 0);
            write_again(message.kind, header, attributes);
        }
    }
});

fn read(attributes: Attributes<'_>, depth: usize) {
    for attribute in attributes {
        let _ = (attribute.u32(), attribute.i32(), attribute.str());
        for hop in Hops(attribute.value) {
            let _ = hop.attributes.get(1);
        }
        if attribute.nested && depth < 16 {
            read(attribute.attributes(), depth + 1);
        }
    }
}

fn write_again(kind: u16, header: &[u8], attributes: Attributes<'_>) {
    let mut written = Message::new(kind, 0, header);
    for attribute in attributes {
        written.bytes(attribute.kind, attribute.value);
    }
    let bytes = written.finish(1).expect("is no longer than what was read").to_vec();
    let again = Messages(&bytes).next().expect("is one message");
    let (_, again) = again.split(header.len()).expect("has the same header");
    for (position, (before, after)) in attributes.zip(again).enumerate() {
        assert_eq!((before.kind, before.value), (after.kind, after.value), "{position}");
    }
    for position in 0..bytes.len() {
        let _ = written.attribute_at(header.len(), position);
    }
}
