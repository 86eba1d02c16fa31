//! Messages: publishing, watching, and those that are retained.

use std::io::Read;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::clients::missed_line;
use super::output::{Column, Output, cell, left, right};
use super::server::Server;
use super::text::{bytes, escaped, json as json_text};
use crate::cli::{FAILURE, Failure, Outcome, SUCCESS};

const RETAINED: &str = "/api/v1/retained";
const RETAINED_MESSAGE: &str = "/api/v1/retained/message";

/// Where the payload of a message comes from. Without any of these it is empty.
#[derive(Args)]
struct Payload {
    /// Payload
    #[arg(conflicts_with_all = ["file", "stdin"], allow_hyphen_values = true)]
    payload: Option<String>,
    /// File with the payload
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    file: Option<PathBuf>,
    /// Read the payload from standard input
    #[arg(long)]
    stdin: bool,
}

impl Payload {
    fn read(self) -> Result<Vec<u8>, Failure> {
        if let Some(file) = self.file {
            return std::fs::read(&file)
                .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())));
        }
        if self.stdin {
            let mut payload = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut payload);
            read.map_err(|error| Failure::new(format!("cannot read from standard input: {error}"), FAILURE))?;
            return Ok(payload);
        }
        Ok(self.payload.unwrap_or_default().into_bytes())
    }
}

/// What else belongs to a message.
#[derive(Args)]
struct Properties {
    /// Quality of Service: 0, 1 or 2
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Content Type
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Response Topic
    #[arg(long, value_name = "TOPIC")]
    response_topic: Option<String>,
    /// A User Property; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_property)]
    user_property: Vec<(String, String)>,
    /// Message Expiry Interval in seconds
    #[arg(long, value_name = "SECONDS")]
    expiry: Option<u32>,
}

fn parse_property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a User Property is given as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A message as the API takes it.
fn message(payload: Vec<u8>, properties: &Properties) -> Map<String, Value> {
    let mut message = Map::new();
    match String::from_utf8(payload) {
        Ok(text) => message.insert("payload".to_owned(), text.into()),
        Err(error) => message.insert("payload_base64".to_owned(), STANDARD.encode(error.as_bytes()).into()),
    };
    message.insert("qos".to_owned(), properties.qos.into());
    let mut add = |key: &str, value: Option<Value>| value.map(|value| message.insert(key.to_owned(), value));
    add("content_type", properties.content_type.clone().map(Value::from));
    add("response_topic", properties.response_topic.clone().map(Value::from));
    add("message_expiry_seconds", properties.expiry.map(Value::from));
    let properties: Vec<_> = properties.user_property.iter().map(|(name, value)| json!([name, value])).collect();
    add("user_properties", (!properties.is_empty()).then(|| properties.into()));
    message
}

/// What to publish.
#[derive(Args)]
pub(super) struct Publish {
    /// Topic Name
    topic: String,
    #[command(flatten)]
    payload: Payload,
    /// Retain it
    #[arg(long)]
    retain: bool,
    #[command(flatten)]
    properties: Properties,
}

impl Publish {
    pub(super) fn run(self, server: &Server, out: &mut Output) -> Outcome {
        let mut message = message(self.payload.read()?, &self.properties);
        message.insert("topic".to_owned(), self.topic.clone().into());
        message.insert("retain".to_owned(), self.retain.into());
        let answer = server.ask(Method::POST, "/api/v1/publish", &[], Some(&message.into()))?;
        out.say(&answer, || format!("{}: published", escaped(&self.topic)))
    }
}

/// What to watch.
#[derive(Args)]
pub(super) struct Subscribe {
    /// Topic Filter
    filter: String,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl Subscribe {
    pub(super) fn run(self, server: &Server, out: &mut Output) -> Outcome {
        let mut left = self.count.unwrap_or(u64::MAX);
        server.lines("/api/v1/messages", &[("filter", Some(self.filter))], |message| {
            left -= u64::from(message["topic"].is_string());
            let line = if out.is_json { json_text(&message) } else { message_line(&message) };
            Ok(out.line(&line)? && left > 0)
        })?;
        Ok(SUCCESS)
    }
}

fn message_line(message: &Value) -> String {
    match message["missed"].as_u64() {
        Some(missed) => missed_line(missed, "messages"),
        None => format!("{} {}", cell(message, "topic"), payload_text(message)).trim_end().to_owned(),
    }
}

/// The payload as a person can read it: text, and where it is none, its length and its bytes in base64.
fn payload_text(message: &Value) -> String {
    if let Some(text) = message["payload"].as_str() {
        return escaped(text);
    }
    let base64 = message["payload_base64"].as_str().unwrap_or_default();
    format!("({} in base64) {}", bytes((base64.trim_end_matches('=').len() * 3 / 4) as f64), escaped(base64))
}

/// Which retained messages, or what to do with one.
#[derive(Args)]
pub(super) struct Retained {
    /// List those that this Topic Filter matches [default: #]
    filter: Option<String>,
    /// Most messages that are listed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(subcommand)]
    action: Option<RetainedAction>,
}

/// What to do with a retained message.
#[derive(Subcommand)]
enum RetainedAction {
    /// Print the payload as it is where no terminal reads it, and otherwise with escapes; with --json everything
    Get {
        /// Topic Name
        topic: String,
    },
    /// Store a message, and send it to those who have subscribed
    Set(Set),
    /// Delete one
    Delete {
        /// Topic Name
        topic: String,
    },
}

/// What to retain.
#[derive(Args)]
struct Set {
    /// Topic Name
    topic: String,
    #[command(flatten)]
    payload: Payload,
    #[command(flatten)]
    properties: Properties,
}

const RETAINED_COLUMNS: [Column; 4] = [
    left("topic", |item| cell(item, "topic")),
    right("qos", |item| cell(item, "qos")),
    right("bytes", |item| cell(item, "payload_bytes")),
    left("expires", |item| cell(item, "expires")),
];

impl Retained {
    pub(super) fn run(self, server: &Server, out: &mut Output) -> Outcome {
        let of = |topic: &str| [("topic", Some(topic.to_owned()))];
        match self.action {
            Some(_) if self.filter.is_some() || self.limit.is_some() => {
                Err(Failure::usage("a list is asked for, and something to be done with one message"))
            }
            None => out.pages(
                server,
                RETAINED,
                &[("filter", Some(self.filter.unwrap_or_else(|| "#".to_owned())))],
                self.limit,
                &RETAINED_COLUMNS,
            ),
            Some(RetainedAction::Get { topic }) => {
                let message = server.get(RETAINED_MESSAGE, &of(&topic))?;
                print_payload(out, &message)
            }
            Some(RetainedAction::Set(Set { topic, payload, properties })) => {
                let message = message(payload.read()?, &properties);
                let answer = server.ask(Method::PUT, RETAINED_MESSAGE, &of(&topic), Some(&message.into()))?;
                out.say(&answer, || format!("{}: retained", escaped(&topic)))
            }
            Some(RetainedAction::Delete { topic }) => {
                let answer = server.ask(Method::DELETE, RETAINED_MESSAGE, &of(&topic), None)?;
                out.say(&answer, || format!("{}: deleted", escaped(&topic)))
            }
        }
    }
}

/// A file or program gets the payload byte for byte, a terminal one that it can show.
fn print_payload(out: &mut Output, message: &Value) -> Outcome {
    if out.is_json || out.is_terminal() {
        return out.say(message, || payload_text(message));
    }
    let payload = match (message["payload"].as_str(), message["payload_base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, base64) => STANDARD
            .decode(base64.unwrap_or_default())
            .map_err(|error| Failure::new(format!("the payload is not understood: {error}"), FAILURE))?,
    };
    out.raw(&payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_that_are_no_text_go_in_base64() {
        let properties = Properties {
            qos: 1,
            content_type: Some("a/b".into()),
            response_topic: None,
            user_property: vec![("a".into(), "b".into())],
            expiry: Some(7),
        };
        let expected = json!({"payload": "é", "qos": 1, "content_type": "a/b", "message_expiry_seconds": 7,
                              "user_properties": [["a", "b"]]});
        assert_eq!(Value::from(message("é".into(), &properties)), expected);
        assert_eq!(message(vec![0xff, 0], &properties)["payload_base64"], "/wA=");
    }

    #[test]
    fn messages_are_shown_on_one_line() {
        let line = |message: Value| message_line(&message);
        assert_eq!(line(json!({"topic": "a\u{1b}b", "payload": "x\ny"})), "a\\u{1b}b x\\ny");
        assert_eq!(line(json!({"topic": "a", "payload_base64": "/wA="})), "a (2 B in base64) /wA=");
        assert_eq!(line(json!({"topic": "a", "payload": ""})), "a");
        assert!(line(json!({"missed": 7})).starts_with("… 7 messages left out"));
    }
}
