//! The netlink wire format: headers and attributes, as bytes.
//!
//! Nothing is sent or received here, and nothing else of the crate is used, so that the fuzzer can take this
//! file alone. Numbers are in the byte order of the machine, unless a name has `be` in it.
//!
//! See [netlink(7)](https://man7.org/linux/man-pages/man7/netlink.7.html).

/// The size of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// The size of `struct nlattr`.
const ATTRIBUTE: usize = 4;

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`: without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;

/// `NLM_F_CAPPED`: an acknowledgement without the body of what it acknowledges.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: an acknowledgement with attributes.
const ACK_TLVS: u16 = 0x200;
/// `NLMSG_DONE`: the end of a dump, which begins as an acknowledgement does.
const DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG` and `NLMSGERR_ATTR_OFFS`.
const ACK_TEXT: u16 = 1;
const ACK_OFFSET: u16 = 2;

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// An attribute or a message is longer than its header can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// A message that is being written.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Message {
    /// A message of this type, with the fixed header of its family.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        let mut message = Self {
            bytes,
            too_long: false,
        };
        message.pad();
        message
    }

    fn pad(&mut self) {
        let length = aligned(self.bytes.len());
        self.bytes.resize(length, 0);
    }

    /// The type.
    pub(crate) fn kind(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[4], self.bytes[5]])
    }

    pub(crate) fn add_flags(&mut self, flags: u16) {
        let all = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags;
        self.bytes[6..8].copy_from_slice(&all.to_ne_bytes());
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.framed(kind, |message| message.bytes.extend_from_slice(value))
    }

    /// An attribute as it was received.
    pub(crate) fn copy(&mut self, attribute: Attribute<'_>) -> &mut Self {
        let nested = if attribute.nested { NESTED } else { 0 };
        self.bytes(attribute.kind | nested, attribute.value)
    }

    /// A text with the NUL at its end.
    pub(crate) fn text(&mut self, kind: u16, text: impl AsRef<[u8]>) -> &mut Self {
        self.framed(kind, |message| {
            message.bytes.extend_from_slice(text.as_ref());
            message.bytes.push(0);
        })
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    pub(crate) fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.framed(kind | NESTED, fill)
    }

    /// An attribute made of a fixed header and attributes, as that of a veth's peer.
    pub(crate) fn nest_after(
        &mut self,
        kind: u16,
        fixed: &[u8],
        fill: impl FnOnce(&mut Self),
    ) -> &mut Self {
        self.framed(kind, |message| {
            message.bytes.extend_from_slice(fixed);
            message.pad();
            fill(message);
        })
    }

    /// A `struct rtnexthop` and its attributes: it begins as an attribute does, but for two bytes in the place of
    /// the type. They stand in an attribute one after the other.
    pub(crate) fn hop(
        &mut self,
        flags: u8,
        share: u8,
        index: u32,
        fill: impl FnOnce(&mut Self),
    ) -> &mut Self {
        let kind = u16::from_ne_bytes([flags, share]);
        self.nest_after(kind, &index.to_ne_bytes(), fill)
    }

    fn framed(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.pad();
        self
    }

    /// The bytes to be sent, once they have a number.
    pub(crate) fn finish(&mut self, sequence: u32) -> Result<&[u8], TooLong> {
        let length = u32::try_from(self.bytes.len()).map_err(|_| TooLong)?;
        if self.too_long {
            return Err(TooLong);
        }
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Ok(&self.bytes)
    }

    /// The types of the attributes that a position leads to, from the outermost; `fixed` is the size
    /// of the fixed header. Empty if the position is not in an attribute.
    pub(crate) fn attribute_at(&self, fixed: usize, position: usize) -> Vec<u16> {
        let mut path = Vec::new();
        let mut start = HEADER + aligned(fixed);
        let mut level = Attributes(self.bytes.get(start..).unwrap_or_default());
        while let Some(attribute) = level.next() {
            let end = start + aligned(ATTRIBUTE + attribute.value.len());
            if (start..end).contains(&position) {
                path.push(attribute.kind);
                if !attribute.nested || position == start {
                    break;
                }
                start += ATTRIBUTE;
                level = attribute.attributes();
                continue;
            }
            start = end;
        }
        path
    }
}

/// A message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

impl<'a> Received<'a> {
    /// The fixed header of this size, and the attributes behind it.
    pub(crate) fn split(&self, fixed: usize) -> Option<(&'a [u8], Attributes<'a>)> {
        let header = self.body.get(..fixed)?;
        let rest = self.body.get(aligned(fixed)..).unwrap_or_default();
        Some((header, Attributes(rest)))
    }

    /// What an `NLMSG_ERROR`, or the `NLMSG_DONE` of a dump, says.
    pub(crate) fn acknowledgement(&self) -> Option<Acknowledgement<'a>> {
        let code = i32::from_ne_bytes(array(self.body, 0)?);
        let mut found = Acknowledgement {
            errno: code.checked_neg().filter(|errno| *errno >= 0)?,
            text: None,
            offset: None,
        };
        if self.flags & ACK_TLVS == 0 {
            return Some(found);
        }
        let original = match self.kind {
            DONE => 0,
            _ if self.flags & CAPPED != 0 => HEADER,
            _ => usize::try_from(u32::from_ne_bytes(array(self.body, 4)?)).ok()?,
        };
        let start = 4_usize.checked_add(original)?.checked_next_multiple_of(4)?;
        for attribute in Attributes(self.body.get(start..).unwrap_or_default()) {
            match attribute.kind {
                ACK_TEXT => found.text = attribute.str(),
                ACK_OFFSET => found.offset = attribute.u32(),
                _ => {}
            }
        }
        Some(found)
    }
}

/// The kernel's answer to one message; the errno is 0 if it has done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement<'a> {
    pub(crate) errno: i32,
    pub(crate) text: Option<&'a str>,
    /// Where in the message the attribute is that was refused.
    pub(crate) offset: Option<u32>,
}

/// The messages of a datagram. Ends before the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Received<'a>;

    fn next(&mut self) -> Option<Received<'a>> {
        let length = u32::from_ne_bytes(array(self.0, 0)?);
        let length = usize::try_from(length).ok()?;
        let found = Received {
            kind: u16::from_ne_bytes(array(self.0, 4)?),
            flags: u16::from_ne_bytes(array(self.0, 6)?),
            sequence: u32::from_ne_bytes(array(self.0, 8)?),
            body: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(found)
    }
}

/// A run of attributes. Ends before the first that does not fit, as the kernel reads them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first of this type.
    pub(crate) fn get(self, kind: u16) -> Option<Attribute<'a>> {
        self.into_iter().find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16::from_ne_bytes(array(self.0, 0)?));
        let kind = u16::from_ne_bytes(array(self.0, 2)?);
        let found = Attribute {
            kind: kind & TYPE_MASK,
            nested: kind & NESTED != 0,
            value: self.0.get(ATTRIBUTE..length)?,
        };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(found)
    }
}

/// One `struct rtnexthop` that was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop<'a> {
    pub(crate) flags: u8,
    /// `rtnh_hops`: its weight less one.
    pub(crate) share: u8,
    /// The index of the interface.
    pub(crate) index: u32,
    pub(crate) attributes: Attributes<'a>,
}

/// What stands in `RTA_MULTIPATH`. Ends before the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hops<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Hops<'a> {
    type Item = Hop<'a>;

    fn next(&mut self) -> Option<Hop<'a>> {
        let length = usize::from(u16::from_ne_bytes(array(self.0, 0)?));
        let [flags, share] = array(self.0, 2)?;
        let found = Hop {
            flags,
            share,
            index: u32::from_ne_bytes(array(self.0, 4)?),
            attributes: Attributes(self.0.get(8..length)?),
        };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(found)
    }
}

/// One attribute that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) nested: bool,
    pub(crate) value: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(crate) fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    pub(crate) fn u16(&self) -> Option<u16> {
        array(self.value, 0).map(u16::from_ne_bytes)
    }

    pub(crate) fn be16(&self) -> Option<u16> {
        array(self.value, 0).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&self) -> Option<u32> {
        array(self.value, 0).map(u32::from_ne_bytes)
    }

    pub(crate) fn be32(&self) -> Option<u32> {
        array(self.value, 0).map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&self) -> Option<i32> {
        array(self.value, 0).map(i32::from_ne_bytes)
    }

    /// The text up to the first NUL; `None` if it is not UTF-8.
    pub(crate) fn str(&self) -> Option<&'a str> {
        str::from_utf8(self.text()).ok()
    }

    /// The bytes up to the first NUL.
    pub(crate) fn text(&self) -> &'a [u8] {
        let mut texts = self.value.split(|byte| *byte == 0);
        texts.next().unwrap_or_default()
    }

    /// Taken as attributes, whether it is flagged as such or not.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.value)
    }
}

/// The `N` bytes at a position.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
#[path = "wire/tests.rs"]
mod tests;
