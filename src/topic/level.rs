//! One level of a Topic Filter, kept in place where it is short, as nearly all are.

/// Bytes that fit in place.
const INLINE: usize = 22;

/// The text of one level.
#[derive(Debug)]
pub(super) enum Level {
    Short(u8, [u8; INLINE]),
    Long(Box<[u8]>),
}

impl Level {
    pub(super) fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        if bytes.len() > INLINE {
            return Self::Long(bytes.into());
        }
        let mut inline = [0; INLINE];
        inline[..bytes.len()].copy_from_slice(bytes);
        Self::Short(bytes.len() as u8, inline)
    }

    /// Its bytes: levels are compared and hashed, never printed.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}
