//! The properties that may occur many times in one packet.

use std::fmt;

use super::{
    properties::{Properties, Property},
    reader::VARIABLE_BYTE_INTEGER_MAX,
};

/// Where a list comes from: a validated property block, or a slice to encode.
#[derive(Clone, Copy)]
enum Source<'a, T> {
    Block(&'a [u8]),
    Slice(&'a [T]),
}

/// User Properties: pairs of a name and a value, in order; names may repeat.
#[derive(Clone, Copy)]
pub struct UserProperties<'a>(Source<'a, (&'a str, &'a str)>);

impl<'a> UserProperties<'a> {
    /// The pairs in `pairs`.
    #[must_use]
    pub const fn from_slice(pairs: &'a [(&'a str, &'a str)]) -> Self {
        Self(Source::Slice(pairs))
    }

    /// Those in a validated property block, among other properties.
    pub(super) const fn from_block(block: &'a [u8]) -> Self {
        Self(Source::Block(block))
    }

    /// The pairs in order. They are read from the packet on the way.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (block, pairs) = match self.0 {
            Source::Block(block) => (block, &[][..]),
            Source::Slice(pairs) => (&[][..], pairs),
        };
        let encoded = Properties::new(block).filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        });
        encoded.chain(pairs.iter().copied())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|(name, value)| Property::UserProperty(name, value).encode(out));
    }
}

impl Default for UserProperties<'_> {
    fn default() -> Self {
        Self::from_block(&[])
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Subscription Identifiers of a PUBLISH, one for each subscription that matched (§3.3.2.3.8).
///
/// A client must not send any: the receiver of a PUBLISH checks with [`Self::is_empty`]. [MQTT-3.3.4-6]
#[derive(Clone, Copy)]
pub struct SubscriptionIdentifiers<'a>(Source<'a, u32>);

impl<'a> SubscriptionIdentifiers<'a> {
    /// The largest Subscription Identifier; the least is 1.
    pub const VALUE_MAX: u32 = VARIABLE_BYTE_INTEGER_MAX;

    /// The identifiers in `identifiers`, each from 1 to [`Self::VALUE_MAX`].
    #[must_use]
    pub const fn from_slice(identifiers: &'a [u32]) -> Self {
        Self(Source::Slice(identifiers))
    }

    /// Those in a validated property block, among other properties.
    pub(super) const fn from_block(block: &'a [u8]) -> Self {
        Self(Source::Block(block))
    }

    /// The identifiers in order. They are read from the packet on the way.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (block, identifiers) = match self.0 {
            Source::Block(block) => (block, &[][..]),
            Source::Slice(identifiers) => (&[][..], identifiers),
        };
        let encoded = Properties::new(block).filter_map(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(identifier),
            _ => None,
        });
        encoded.chain(identifiers.iter().copied())
    }

    /// Whether there are none. Takes no time: a packet without any keeps no block here.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            Source::Block(block) => block.is_empty(),
            Source::Slice(identifiers) => identifiers.is_empty(),
        }
    }
}

impl Default for SubscriptionIdentifiers<'_> {
    fn default() -> Self {
        Self::from_block(&[])
    }
}

impl PartialEq for SubscriptionIdentifiers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIdentifiers<'_> {}

impl fmt::Debug for SubscriptionIdentifiers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
