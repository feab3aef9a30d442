use super::*;

/// An NLMSG_ERROR for a message of this size, with a text and an offset.
fn refusal(flags: u16, original: &[u8]) -> Vec<u8> {
    let mut message = Message::new(2, flags, &(-22_i32).to_ne_bytes());
    message.bytes.extend_from_slice(original);
    message.pad();
    message.text(ACK_TEXT, "no such thing").u32(ACK_OFFSET, 36);
    message.finish(9).unwrap().to_vec()
}

fn one(bytes: &[u8]) -> Received<'_> {
    let mut messages = Messages(bytes);
    let message = messages.next().unwrap();
    assert_eq!(messages.next(), None);
    message
}

#[test]
fn what_is_written_is_read() {
    let mut message = Message::new(16, 5, &[1, 2, 3]);
    message
        .u8(1, 0xff)
        .u16(2, 0xabcd)
        .u32(3, 0xdead_beef)
        .be16(4, 0x0102)
        .be32(5, 0x0102_0304)
        .text(6, "eth0")
        .nest(7, |inner| {
            inner.u8(1, 7).nest_after(2, &[9; 6], |inner| {
                inner.text(3, "");
            });
        });
    assert_eq!(message.kind(), 16);
    let bytes = message.finish(77).unwrap().to_vec();
    assert_eq!(bytes.len() % 4, 0);
    let read = one(&bytes);
    assert_eq!((read.kind, read.flags, read.sequence), (16, 5, 77));
    let (fixed, attributes) = read.split(3).unwrap();
    assert_eq!(fixed, [1, 2, 3]);
    let kinds: Vec<_> = attributes.map(|attribute| attribute.kind).collect();
    assert_eq!(kinds, [1, 2, 3, 4, 5, 6, 7]);
    let get = |kind| attributes.get(kind).unwrap();
    assert_eq!(get(1).value, [0xff]);
    assert_eq!(get(2).value, 0xabcd_u16.to_ne_bytes());
    assert_eq!(get(3).u32(), Some(0xdead_beef));
    assert_eq!(get(4).value, [1, 2]);
    assert_eq!(get(5).value, [1, 2, 3, 4]);
    assert_eq!((get(6).str(), get(6).value), (Some("eth0"), &b"eth0\0"[..]));
    assert!(get(7).nested && !get(6).nested);
    let inner = get(7).attributes().get(2).unwrap();
    assert_eq!(&inner.value[..6], [9; 6]);
    assert_eq!(
        Attributes(&inner.value[8..]).get(3).unwrap().str(),
        Some("")
    );
}

#[test]
fn what_is_too_long_is_not_sent() {
    let longest = vec![0; usize::from(u16::MAX) - 4];
    let mut message = Message::new(16, 0, &[]);
    assert!(message.bytes(1, &longest).finish(1).is_ok());
    let mut message = Message::new(16, 0, &[]);
    message.bytes(1, &vec![0; longest.len() + 1]);
    assert_eq!(message.finish(1), Err(TooLong));
    let mut message = Message::new(16, 0, &[]);
    message.nest(1, |inner| {
        inner
            .bytes(2, &longest[..40_000])
            .bytes(2, &longest[..40_000]);
    });
    assert_eq!(message.finish(1), Err(TooLong));
}

#[test]
fn acknowledgements_are_read_with_and_without_the_message() {
    let done = Message::new(2, 0, &0_i32.to_ne_bytes())
        .finish(1)
        .unwrap()
        .to_vec();
    let acknowledgement = one(&done).acknowledgement().unwrap();
    assert_eq!((acknowledgement.errno, acknowledgement.text), (0, None));

    let mut request = Message::new(16, 0, &[0; 16]);
    let request = request.text(3, "eth0").finish(9).unwrap().to_vec();
    for (flags, original) in [
        (ACK_TLVS, &request[..]),
        (ACK_TLVS | CAPPED, &request[..HEADER]),
    ] {
        let bytes = refusal(flags, original);
        let found = one(&bytes).acknowledgement().unwrap();
        let expected = Acknowledgement {
            errno: 22,
            text: Some("no such thing"),
            offset: Some(36),
        };
        assert_eq!(found, expected);
    }
    // The end of a dump has no message in it.
    let mut end = Message::new(DONE, ACK_TLVS, &(-4_i32).to_ne_bytes());
    let end = end
        .text(ACK_TEXT, "interrupted")
        .finish(1)
        .unwrap()
        .to_vec();
    let found = one(&end).acknowledgement().unwrap();
    assert_eq!((found.errno, found.text), (4, Some("interrupted")));
    let short = Received {
        kind: 2,
        flags: 0,
        sequence: 1,
        body: &[0; 3],
    };
    assert_eq!(short.acknowledgement(), None);
}

#[test]
fn the_attribute_of_an_offset_is_found() {
    let mut message = Message::new(16, 0, &[0; 16]);
    message.text(3, "eth0").nest(18, |inner| {
        inner.text(1, "veth").nest(2, |data| {
            data.u32(1, 1);
        });
    });
    let path = |offset| message.attribute_at(16, offset);
    assert_eq!(path(32), [3]);
    assert_eq!(path(43), [3]);
    assert_eq!(path(44), [18]);
    assert_eq!(path(48), [18, 1]);
    assert_eq!(path(60), [18, 2]);
    assert_eq!(path(64), [18, 2, 1]);
    for outside in [0, 31, 72, usize::MAX] {
        assert!(path(outside).is_empty(), "{outside}");
    }
}

#[test]
fn what_is_cut_off_ends_the_list() {
    let mut message = Message::new(16, 0, &[0; 16]);
    let bytes = message
        .text(3, "eth0")
        .u32(4, 1500)
        .finish(1)
        .unwrap()
        .to_vec();
    for length in 0..bytes.len() {
        assert_eq!(Messages(&bytes[..length]).next(), None, "{length}");
        let found = Attributes(bytes.get(32..length).unwrap_or_default()).count();
        assert!(found < 2, "{length}");
    }
    // Lengths that the header itself does not fit in, or that go beyond the end.
    for length in [0_u32, 1, 15, u32::MAX] {
        let mut bytes = bytes.clone();
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(Messages(&bytes).next(), None);
    }
    for length in [0_u16, 3, u16::MAX] {
        let mut bytes = bytes[32..].to_vec();
        bytes[..2].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(Attributes(&bytes).next(), None);
    }
}
