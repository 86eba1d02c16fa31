//! An Application Message in JSON, as requests give it and as answers have it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::problem::Problem;
use crate::codec::{Forwarded, ForwardedBuilder, QoS};
use crate::topic::TopicName;

/// Longest text and binary data of a property (§1.5.4, §1.5.6).
const VALUE_BYTES_MAX: usize = 65_535;

/// Defines bodies that tell of a message to be published: fields of their own, and those that all of them have.
macro_rules! bodies {
    ($($(#[$meta:meta])* $Body:ident { $($(#[$of_field:meta])* $field:ident: $Type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Default, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $Body {
            $($(#[$of_field])* pub(super) $field: $Type,)*
            /// The payload as text. Neither this nor `payload_base64`: empty.
            payload: Option<String>,
            /// The payload as bytes in base64, instead of `payload`.
            #[schema(content_encoding = "base64")]
            payload_base64: Option<String>,
            #[serde(default)]
            #[schema(maximum = 2, default = 0)]
            qos: u8,
            #[schema(max_length = 65535)]
            content_type: Option<String>,
            /// A Topic Name.
            #[schema(min_length = 1, max_length = 65535)]
            response_topic: Option<String>,
            #[schema(content_encoding = "base64")]
            correlation_data_base64: Option<String>,
            /// Pairs of a name and a value.
            #[serde(default)]
            #[schema(value_type = Vec<Vec<String>>, max_items = 1000, example = json!([["name", "value"]]))]
            user_properties: Vec<(String, String)>,
            /// Seconds after which nobody is sent the message any more.
            message_expiry_seconds: Option<u32>,
            /// Payload Format Indicator.
            payload_is_utf8: Option<bool>,
        }

        impl $Body {
            /// Checks it.
            ///
            /// # Errors
            /// What MQTT does not allow.
            pub(super) fn ready(self) -> Result<Ready, Problem> {
                Content {
                    payload: self.payload,
                    payload_base64: self.payload_base64,
                    qos: self.qos,
                    content_type: self.content_type,
                    response_topic: self.response_topic,
                    correlation_data_base64: self.correlation_data_base64,
                    user_properties: self.user_properties,
                    message_expiry_seconds: self.message_expiry_seconds,
                    payload_is_utf8: self.payload_is_utf8,
                }
                .ready()
            }
        }
    )*};
}

bodies! {
    /// A message to be published.
    Publish {
        /// A Topic Name.
        #[schema(min_length = 1, max_length = 65535)]
        topic: String,
        /// Whether it is retained. An empty one removes what is.
        #[serde(default)]
        retain: bool,
    }

    /// A message to be retained.
    Retain {}
}

/// What a message to be published carries beside its topic.
struct Content {
    payload: Option<String>,
    payload_base64: Option<String>,
    qos: u8,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation_data_base64: Option<String>,
    user_properties: Vec<(String, String)>,
    message_expiry_seconds: Option<u32>,
    payload_is_utf8: Option<bool>,
}

/// A message to be published, checked.
pub(super) struct Ready {
    pub(super) payload: Vec<u8>,
    pub(super) qos: QoS,
    /// Its properties as they are forwarded.
    pub(super) forwarded: Vec<u8>,
    pub(super) message_expiry_interval: Option<u32>,
}

impl Content {
    fn ready(self) -> Result<Ready, Problem> {
        let payload = match (self.payload, self.payload_base64) {
            (Some(_), Some(_)) => return Err(Problem::refused("payload and payload_base64 are both given")),
            (Some(text), None) => text.into_bytes(),
            (None, Some(encoded)) => decode("payload_base64", &encoded)?,
            (None, None) => Vec::new(),
        };
        let qos = QoS::new(self.qos).ok_or_else(|| Problem::refused("qos has to be 0, 1 or 2"))?;
        let mut builder = ForwardedBuilder::new();
        if let Some(is_utf8) = self.payload_is_utf8 {
            if is_utf8 && std::str::from_utf8(&payload).is_err() {
                return Err(Problem::refused("payload_is_utf8 is said of a payload that is not"));
            }
            builder = builder.payload_format_is_utf8(is_utf8);
        }
        if let Some(content_type) = &self.content_type {
            builder = builder.content_type(text("content_type", content_type)?);
        }
        if let Some(topic) = &self.response_topic {
            builder = builder.response_topic(topic_name("response_topic", topic)?.as_str());
        }
        if let Some(encoded) = &self.correlation_data_base64 {
            let data = decode("correlation_data_base64", encoded)?;
            if data.len() > VALUE_BYTES_MAX {
                return Err(too_long("correlation_data_base64"));
            }
            builder = builder.correlation_data(&data);
        }
        for (name, value) in &self.user_properties {
            builder = builder.user_property(text("user_properties", name)?, text("user_properties", value)?);
        }
        let forwarded = builder.into_bytes();
        Ok(Ready { payload, qos, forwarded, message_expiry_interval: self.message_expiry_seconds })
    }
}

/// A text as MQTT has it. [MQTT-1.5.4-2]
fn text<'a>(field: &str, text: &'a str) -> Result<&'a str, Problem> {
    if text.contains('\0') {
        return Err(Problem::refused(format!("there is a null character in {field}, which MQTT does not allow")));
    }
    if text.len() > VALUE_BYTES_MAX {
        return Err(too_long(field));
    }
    Ok(text)
}

fn too_long(field: &str) -> Problem {
    Problem::refused(format!("{field} has more than {VALUE_BYTES_MAX} bytes"))
}

/// A Topic Name.
///
/// # Errors
/// It is none.
pub(super) fn topic_name<'a>(field: &str, topic: &'a str) -> Result<TopicName<'a>, Problem> {
    TopicName::parse(topic).map_err(|error| Problem::refused(format!("{field} is no Topic Name: {error}")))
}

fn decode(field: &str, encoded: &str) -> Result<Vec<u8>, Problem> {
    STANDARD.decode(encoded).map_err(|error| Problem::refused(format!("{field} is no base64: {error}")))
}

/// What a message that exists carries beside its topic.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Carried {
    /// The payload, where it is text (UTF-8).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    payload: Option<String>,
    /// The payload in base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    payload_base64: Option<String>,
    payload_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    response_topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    correlation_data_base64: Option<String>,
    /// Pairs of a name and a value.
    #[schema(value_type = Vec<Vec<String>>)]
    user_properties: Vec<(String, String)>,
    /// Whether its Payload Format Indicator says so.
    payload_is_utf8: bool,
}

impl Carried {
    /// What is in the properties and the payload of a message.
    pub(super) fn new(forwarded: &[u8], payload: &[u8]) -> Self {
        let properties = Forwarded::from_encoded(forwarded);
        let text = std::str::from_utf8(payload).ok();
        let pairs = properties.user_properties();
        Self {
            payload: text.map(str::to_owned),
            payload_base64: text.is_none().then(|| STANDARD.encode(payload)),
            payload_bytes: payload.len(),
            content_type: properties.content_type().map(str::to_owned),
            response_topic: properties.response_topic().map(str::to_owned),
            correlation_data_base64: properties.correlation_data().map(|data| STANDARD.encode(data)),
            user_properties: pairs.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            payload_is_utf8: properties.payload_format_is_utf8(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(json: &str) -> Result<Ready, Problem> {
        serde_json::from_str::<Retain>(json).expect("the fields are those there are").ready()
    }

    #[test]
    fn what_was_given_is_what_is_carried() {
        let ready = ready(
            r#"{"payload_base64": "/w==", "qos": 2, "content_type": "a", "response_topic": "b/c", "correlation_data_base64": "AAE=",
                "user_properties": [["n", "1"], ["n", "2"]], "message_expiry_seconds": 9}"#,
        );
        let ready = ready.unwrap_or_else(|problem| panic!("{problem:?}"));
        assert_eq!((ready.qos, ready.message_expiry_interval), (QoS::ExactlyOnce, Some(9)));
        let carried = Carried::new(&ready.forwarded, &ready.payload);
        assert_eq!((carried.payload, carried.payload_base64.as_deref()), (None, Some("/w==")));
        assert_eq!(carried.response_topic.as_deref(), Some("b/c"));
        assert_eq!(carried.correlation_data_base64.as_deref(), Some("AAE="));
        let values: Vec<_> = carried.user_properties.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["1", "2"]);
        assert!(!carried.payload_is_utf8);
    }

    #[test]
    fn what_mqtt_does_not_allow_is_refused() {
        let long = format!(r#"{{"content_type": "{}"}}"#, "x".repeat(65_536));
        for json in [
            r#"{"payload": "a", "payload_base64": "YQ=="}"#,
            r#"{"payload_base64": "Y"}"#,
            r#"{"qos": 3}"#,
            r#"{"response_topic": "a/#"}"#,
            r#"{"response_topic": ""}"#,
            r#"{"content_type": "\u0000"}"#,
            r#"{"user_properties": [["\u0000", ""]]}"#,
            r#"{"payload_base64": "/w==", "payload_is_utf8": true}"#,
            &long,
        ] {
            assert!(ready(json).is_err(), "{json}");
        }
    }
}
