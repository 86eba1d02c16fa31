//! The properties of an Application Message that a server hands on.

use std::fmt;

use super::{
    UserProperties,
    properties::{Properties, Property},
};

/// The properties that a server passes on unaltered and in order: Payload Format Indicator, Content Type, Response
/// Topic, Correlation Data and User Properties. [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17]
/// [MQTT-3.3.2-18] [MQTT-3.3.2-20]
///
/// They stay encoded, because a server has no use for them but to send them again.
#[derive(Clone, Copy)]
pub struct Forwarded<'a> {
    /// Validated properties, without the length in front.
    block: &'a [u8],
    /// Whether the block holds nothing that stays behind.
    is_pure: bool,
}

impl<'a> Forwarded<'a> {
    /// The properties in `encoded`, which [`Self::write_to`] or [`Self::as_bytes`] gave. They are not checked again.
    #[must_use]
    pub const fn from_encoded(encoded: &'a [u8]) -> Self {
        Self { block: encoded, is_pure: true }
    }

    /// Those among the properties of a validated block; `is_pure` says that it holds no others.
    pub(super) const fn from_block(block: &'a [u8], is_pure: bool) -> Self {
        Self { block, is_pure }
    }

    /// The encoded properties without copying; `None` where others stand among them, which [`Self::write_to`] leaves
    /// out.
    #[must_use]
    pub const fn as_bytes(&self) -> Option<&'a [u8]> {
        if self.is_pure { Some(self.block) } else { None }
    }

    /// Appends the encoded properties, without a length in front.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match self.as_bytes() {
            Some(bytes) => out.extend_from_slice(bytes),
            None => self.parts().for_each(|part| out.extend_from_slice(part)),
        }
    }

    /// How many bytes [`Self::write_to`] appends.
    #[must_use]
    pub fn encoded_length(&self) -> usize {
        self.as_bytes().map_or_else(|| self.parts().map(<[u8]>::len).sum(), <[u8]>::len)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts().next().is_none()
    }

    /// Whether the payload is declared to be UTF-8 (Payload Format Indicator 1).
    #[must_use]
    pub fn payload_format_is_utf8(&self) -> bool {
        Properties::new(self.block).any(|property| property == Property::PayloadFormatIndicator(true))
    }

    /// The Content Type.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a str> {
        Properties::new(self.block).find_map(|property| match property {
            Property::ContentType(value) => Some(value),
            _ => None,
        })
    }

    /// The Response Topic, which has no wildcards. [MQTT-3.3.2-14]
    #[must_use]
    pub fn response_topic(&self) -> Option<&'a str> {
        Properties::new(self.block).find_map(|property| match property {
            Property::ResponseTopic(value) => Some(value),
            _ => None,
        })
    }

    /// The Correlation Data.
    #[must_use]
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        Properties::new(self.block).find_map(|property| match property {
            Property::CorrelationData(value) => Some(value),
            _ => None,
        })
    }

    /// The User Properties.
    #[must_use]
    pub const fn user_properties(&self) -> UserProperties<'a> {
        UserProperties::from_block(self.block)
    }

    /// The bytes of each property, in order.
    fn parts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut properties = Properties::new(self.block);
        std::iter::from_fn(move || {
            loop {
                let (property, encoded) = properties.next_encoded()?;
                if is_forwarded(&property) {
                    return Some(encoded);
                }
            }
        })
    }
}

/// Whether a server passes the property on.
pub(super) const fn is_forwarded(property: &Property<'_>) -> bool {
    matches!(
        property,
        Property::PayloadFormatIndicator(_)
            | Property::ContentType(_)
            | Property::ResponseTopic(_)
            | Property::CorrelationData(_)
            | Property::UserProperty(..)
    )
}

impl Default for Forwarded<'_> {
    fn default() -> Self {
        Self::from_encoded(&[])
    }
}

impl PartialEq for Forwarded<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.parts().eq(other.parts())
    }
}

impl Eq for Forwarded<'_> {}

impl fmt::Debug for Forwarded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forwarded = Properties::new(self.block).filter(is_forwarded);
        f.debug_list().entries(forwarded).finish()
    }
}

/// Builds [`Forwarded`] properties, for a message that is made here. Call each method at most once, except for
/// [`Self::user_property`]. Values are at most 65 535 bytes long.
#[derive(Clone, Debug, Default)]
pub struct ForwardedBuilder {
    encoded: Vec<u8>,
}

impl ForwardedBuilder {
    /// No properties yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { encoded: Vec::new() }
    }

    /// Adds a Payload Format Indicator.
    #[must_use]
    pub fn payload_format_is_utf8(self, is_utf8: bool) -> Self {
        self.with(Property::PayloadFormatIndicator(is_utf8))
    }

    /// Adds a Content Type.
    #[must_use]
    pub fn content_type(self, content_type: &str) -> Self {
        self.with(Property::ContentType(content_type))
    }

    /// Adds a Response Topic, a Topic Name without wildcards.
    #[must_use]
    pub fn response_topic(self, topic: &str) -> Self {
        self.with(Property::ResponseTopic(topic))
    }

    /// Adds Correlation Data.
    #[must_use]
    pub fn correlation_data(self, data: &[u8]) -> Self {
        self.with(Property::CorrelationData(data))
    }

    /// Adds a User Property behind those already there.
    #[must_use]
    pub fn user_property(self, name: &str, value: &str) -> Self {
        self.with(Property::UserProperty(name, value))
    }

    /// What has been built.
    #[must_use]
    pub fn forwarded(&self) -> Forwarded<'_> {
        Forwarded::from_encoded(&self.encoded)
    }

    /// The encoded properties, for [`Forwarded::from_encoded`].
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.encoded
    }

    fn with(mut self, property: Property<'_>) -> Self {
        property.encode(&mut self.encoded);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_that_stay_behind_are_left_out() {
        let mut block = Vec::new();
        Property::UserProperty("a", "1").encode(&mut block);
        Property::MessageExpiryInterval(9).encode(&mut block);
        Property::ContentType("text").encode(&mut block);
        let forwarded = Forwarded::from_block(&block, false);
        let expected = ForwardedBuilder::new().user_property("a", "1").content_type("text");
        let mut written = Vec::new();
        forwarded.write_to(&mut written);
        assert_eq!(forwarded.as_bytes(), None);
        assert_eq!(written, expected.clone().into_bytes());
        assert_eq!(forwarded.encoded_length(), written.len());
        assert_eq!(forwarded, expected.forwarded());
    }

    #[test]
    fn getters_find_what_was_built() {
        let built = ForwardedBuilder::new()
            .payload_format_is_utf8(true)
            .response_topic("re/ply")
            .correlation_data(&[1, 2])
            .user_property("n", "v")
            .user_property("n", "w");
        let forwarded = built.forwarded();
        assert!(forwarded.payload_format_is_utf8());
        assert_eq!(forwarded.content_type(), None);
        assert_eq!(forwarded.response_topic(), Some("re/ply"));
        assert_eq!(forwarded.correlation_data(), Some(&[1, 2][..]));
        assert_eq!(forwarded.user_properties(), UserProperties::from_slice(&[("n", "v"), ("n", "w")]));
    }
}
