//! Reads the data types of §1.5 from the front of a byte slice.

use super::{DecodeError, MalformedPacket, PacketId, ProtocolError};

/// The largest value of a variable byte integer: 268 435 455. [MQTT-1.5.5-1]
pub(super) const VARIABLE_BYTE_INTEGER_MAX: u32 = 0x0FFF_FFFF;

/// What is still unread of a packet. Every method takes from the front, and fails where too little is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails unless everything has been read.
    #[inline]
    pub(super) fn finish(self) -> Result<(), MalformedPacket> {
        if self.is_empty() { Ok(()) } else { Err(MalformedPacket::TrailingBytes) }
    }

    #[inline]
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], MalformedPacket> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(MalformedPacket::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedPacket> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(MalformedPacket::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, MalformedPacket> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, MalformedPacket> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, MalformedPacket> {
        self.array().map(u32::from_be_bytes)
    }

    /// A Packet Identifier. [MQTT-2.2.1-3]
    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        Ok(PacketId::new(self.u16()?).ok_or(ProtocolError::PacketIdZero)?)
    }

    /// Binary Data (§1.5.6).
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], MalformedPacket> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// A UTF-8 Encoded String. [MQTT-1.5.4-1] [MQTT-1.5.4-2]
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, MalformedPacket> {
        let bytes = self.binary()?;
        let string = std::str::from_utf8(bytes).map_err(|_| MalformedPacket::InvalidUtf8)?;
        if bytes.contains(&0) { Err(MalformedPacket::NullCharacter) } else { Ok(string) }
    }

    /// A variable byte integer in its shortest form. [MQTT-1.5.5-1]
    #[inline]
    pub(super) fn variable_byte_integer(&mut self) -> Result<u32, MalformedPacket> {
        let (value, length) = variable_byte_integer(self.rest)?.ok_or(MalformedPacket::Truncated)?;
        self.bytes(length)?;
        Ok(value)
    }

    /// Bytes behind a variable byte integer that gives their number: the shape of a property block.
    #[inline]
    pub(super) fn block(&mut self) -> Result<&'a [u8], MalformedPacket> {
        let length = self.variable_byte_integer()?;
        self.bytes(length as usize)
    }
}

/// The variable byte integer at the front of `bytes` and how many bytes it takes; `None` while it is incomplete.
#[inline]
pub(super) fn variable_byte_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, MalformedPacket> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let is_shortest = index == 0 || *byte != 0;
            return if is_shortest { Ok(Some((value, index + 1))) } else { Err(MalformedPacket::VariableByteInteger) };
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(MalformedPacket::VariableByteInteger) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_1_5_4_1_strings_are_utf_8_without_surrogates() {
        assert_eq!(Reader::new(&[0, 1, 0xFF]).string(), Err(MalformedPacket::InvalidUtf8));
        assert_eq!(Reader::new(&[0, 3, 0xED, 0xA0, 0x80]).string(), Err(MalformedPacket::InvalidUtf8)); // U+D800
    }

    #[test]
    fn mqtt_1_5_4_2_strings_do_not_contain_u_0000() {
        assert_eq!(Reader::new(&[0, 3, b'a', 0, b'b']).string(), Err(MalformedPacket::NullCharacter));
    }

    #[test]
    fn mqtt_1_5_4_3_a_byte_order_mark_is_kept() {
        assert_eq!(Reader::new(&[0, 3, 0xEF, 0xBB, 0xBF]).string(), Ok("\u{FEFF}"));
    }

    #[test]
    fn mqtt_1_5_5_1_variable_byte_integers_take_the_shortest_form() {
        for longer in [&[0x80, 0x00][..], &[0xFF, 0x80, 0x00], &[0xFF, 0xFF, 0xFF, 0x00]] {
            assert_eq!(variable_byte_integer(longer), Err(MalformedPacket::VariableByteInteger), "{longer:?}");
        }
        assert_eq!(variable_byte_integer(&[0xFF; 4]), Err(MalformedPacket::VariableByteInteger));
        assert_eq!(variable_byte_integer(&[0xFF; 3]), Ok(None));
        assert_eq!(variable_byte_integer(&[0xFF, 0xFF, 0xFF, 0x7F]), Ok(Some((VARIABLE_BYTE_INTEGER_MAX, 4))));
        assert_eq!(variable_byte_integer(&[0]), Ok(Some((0, 1))));
    }

    #[test]
    fn a_string_does_not_reach_beyond_its_packet() {
        assert_eq!(Reader::new(&[0, 4, b'a', b'b', b'c']).string(), Err(MalformedPacket::Truncated));
    }
}
