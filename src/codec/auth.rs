//! AUTH (§3.15), which 5.0 alone has.

use super::{
    DecodeError, PacketKind, PropertyId, ProtocolError, ReasonCode, UserProperties,
    ack::{decode_reason, encode_reason_properties},
    hidden::Hidden,
    properties::{Accepted, Property, decode_properties},
    reader::Reader,
    writer,
};
use std::fmt;

const PROPERTIES: Accepted =
    Accepted::once(&[PropertyId::AuthenticationMethod, PropertyId::AuthenticationData, PropertyId::ReasonString]);

/// One step of an extended authentication (§4.12).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// The method that CONNECT named; absent only from the empty packet, which stands for success.
    pub authentication_method: Option<&'a str>,
    /// What the method makes of it.
    pub authentication_data: Option<&'a [u8]>,
    /// An explanation for a log.
    pub reason_string: Option<&'a str>,
    /// Anything else.
    pub user_properties: UserProperties<'a>,
}

/// All of it but the data, which may be a password or a token.
impl fmt::Debug for Auth<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, authentication_method, authentication_data, reason_string, user_properties } = self;
        f.debug_struct("Auth")
            .field("reason", reason)
            .field("authentication_method", authentication_method)
            .field("authentication_data", &Hidden(*authentication_data))
            .field("reason_string", reason_string)
            .field("user_properties", user_properties)
            .finish()
    }
}

impl<'a> Auth<'a> {
    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let mut auth = Self::default();
        if !reader.is_empty() {
            auth.reason = decode_reason(PacketKind::Auth, &mut reader)?;
            auth.decode_properties(&mut reader)?;
        }
        reader.finish()?;
        Ok(auth)
    }

    fn decode_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        let block = decode_properties(reader, PROPERTIES, |property| match property {
            Property::AuthenticationMethod(value) => self.authentication_method = Some(value),
            Property::AuthenticationData(value) => self.authentication_data = Some(value),
            Property::ReasonString(value) => self.reason_string = Some(value),
            _ => {}
        })?;
        if self.authentication_method.is_none() {
            return Err(ProtocolError::NoAuthenticationMethod.into()); // §3.15.2.2.2
        }
        self.user_properties = UserProperties::from_block(block);
        Ok(())
    }

    /// Appends the packet in its shortest form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(PacketKind::Auth.first_byte());
        writer::with_length(out, |out| {
            if *self != Self::default() {
                out.push(self.reason.as_u8());
                writer::with_length(out, |out| self.encode_properties(out));
            }
        });
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        if let Some(value) = self.authentication_method {
            Property::AuthenticationMethod(value).encode(out);
        }
        if let Some(value) = self.authentication_data {
            Property::AuthenticationData(value).encode(out);
        }
        encode_reason_properties(self.reason_string, &self.user_properties, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{MalformedPacket, ProtocolVersion, decode};

    #[test]
    fn an_auth_that_says_something_names_its_method() {
        let expected = ProtocolError::NoAuthenticationMethod;
        assert_eq!(decode(&[0xF0, 2, 0x18, 0], ProtocolVersion::V5), Err(expected.into()));
    }

    #[test]
    fn a_reason_code_alone_is_malformed() {
        assert_eq!(decode(&[0xF0, 1, 0x18], ProtocolVersion::V5), Err(MalformedPacket::Truncated.into()));
    }
}
