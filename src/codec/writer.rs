//! Appends the data types of §1.5 to a buffer.

use super::reader::VARIABLE_BYTE_INTEGER_MAX;

/// Appends Binary Data (§1.5.6).
///
/// # Panics
///
/// When `bytes` is longer than 65 535: what came from the network never is, and what is made here must not be.
#[inline]
pub(super) fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a field with a two byte length holds at most 65535 bytes");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a UTF-8 Encoded String (§1.5.4). Panics as [`binary`] does.
#[inline]
pub(super) fn string(out: &mut Vec<u8>, string: &str) {
    binary(out, string.as_bytes());
}

/// Appends a variable byte integer. [MQTT-1.5.5-1]
///
/// # Panics
///
/// When `value` exceeds 268 435 455, which four bytes cannot hold.
#[inline]
pub(super) fn variable_byte_integer(out: &mut Vec<u8>, value: usize) {
    assert!(value <= VARIABLE_BYTE_INTEGER_MAX as usize, "a variable byte integer is at most 268435455");
    let mut rest = value;
    while rest >= 0x80 {
        out.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes a variable byte integer takes.
#[inline]
pub(super) const fn variable_byte_integer_length(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends what `write` writes behind a variable byte integer that gives its length.
///
/// Most blocks are shorter than 128 bytes, so one byte is left for the length and what follows moves only when that was
/// too little.
pub(super) fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    if let Ok(length @ 0..0x80) = u8::try_from(length) {
        out[start] = length;
    } else {
        let mut prefix = Vec::with_capacity(4);
        variable_byte_integer(&mut prefix, length);
        out.splice(start..=start, prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reader, *};

    #[test]
    fn variable_byte_integers_survive_at_every_length() {
        for value in [0, 0x7F, 0x80, 0x3FFF, 0x4000, 0x1F_FFFF, 0x20_0000, 0x0FFF_FFFF] {
            let mut out = Vec::new();
            variable_byte_integer(&mut out, value);
            assert_eq!(out.len(), variable_byte_integer_length(value));
            assert_eq!(reader::variable_byte_integer(&out), Ok(Some((value as u32, out.len()))));
        }
    }

    #[test]
    fn a_long_block_moves_to_make_room_for_its_length() {
        let mut out = vec![0xAA];
        with_length(&mut out, |out| out.extend_from_slice(&[7; 300]));
        assert_eq!(out[..4], [0xAA, 0xAC, 0x02, 7]);
        assert_eq!(out.len(), 303);
    }
}
