//! Clients: lists, one in detail, their subscriptions, and what can be done to them.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use ureq::http::Method;

use super::output::{Column, Output, cell, left, right};
use super::server::{Server, path};
use super::text::{escaped, json as json_text, shown};
use super::{Fate, parse_span};
use crate::cli::{Outcome, SUCCESS};

const CLIENTS: &str = "/api/v1/clients/";
const SESSIONS: &str = "/api/v1/sessions/";

/// Which clients; of several conditions all must hold.
#[derive(Args)]
pub(super) struct Filter {
    /// Client Identifiers like this, where * stands for anything
    #[arg(value_name = "PATTERN")]
    client_id: Option<String>,
    /// User Names like this, where * stands for anything
    #[arg(long, value_name = "PATTERN")]
    user: Option<String>,
    /// Addresses that begin like this
    #[arg(long, value_name = "PREFIX")]
    address: Option<String>,
    /// Of this listener; the first one is 0
    #[arg(long, value_name = "N")]
    listener: Option<u16>,
    /// Only those that are connected
    #[arg(long, conflicts_with = "disconnected")]
    connected: bool,
    /// Only those that are not, but have a session
    #[arg(long)]
    disconnected: bool,
    /// Only those that have a will
    #[arg(long, conflicts_with = "without_will")]
    with_will: bool,
    /// Only those that have none
    #[arg(long)]
    without_will: bool,
    /// Most clients that are listed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

const CLIENT_COLUMNS: [Column; 9] = [
    left("client", |item| cell(item, "client_id")),
    left("user", |item| cell(item, "username")),
    left("address", |item| cell(item, "address")),
    left("version", |item| cell(item, "protocol")),
    left("since", |item| cell(item, "since")),
    right("subs", |item| cell(item, "subscriptions")),
    right("queued", |item| cell(item, "queued")),
    right("in flight", |item| cell(item, "in_flight")),
    left("will", |item| cell(item, "will")),
];

/// `true` or `false` where one of both was asked for.
fn either(yes: bool, no: bool) -> Option<String> {
    (yes || no).then(|| yes.to_string())
}

impl Filter {
    pub(super) fn list(self, server: &Server, out: &mut Output) -> Outcome {
        let query = [
            ("client_id", self.client_id),
            ("username", self.user),
            ("address", self.address),
            ("listener", self.listener.map(|listener| listener.to_string())),
            ("connected", either(self.connected, self.disconnected)),
            ("has_will", either(self.with_will, self.without_will)),
        ];
        out.pages(server, "/api/v1/clients", &query, self.limit, &CLIENT_COLUMNS)
    }
}

/// Everything about a client.
pub(super) fn show(server: &Server, out: &mut Output, id: &str) -> Outcome {
    out.describe(&server.get(&path(CLIENTS, id, ""), &[])?)
}

/// Disconnects a client.
pub(super) fn kick(server: &Server, out: &mut Output, id: &str, will: Fate) -> Outcome {
    let body = json!({ "will": will.name() });
    let answer = server.ask(Method::POST, &path(CLIENTS, id, "/disconnect"), &[], Some(&body))?;
    out.say(&answer, || format!("{}: disconnected", escaped(id)))
}

/// What to do with a session.
#[derive(Subcommand)]
pub(super) enum SessionsAction {
    /// Delete a session with its subscriptions and what waits for it; where its client is connected, it is disconnected
    Delete {
        /// Client Identifier
        id: String,
        /// What becomes of its will
        #[arg(long, value_name = "FATE", default_value = "publish")]
        will: Fate,
    },
}

impl SessionsAction {
    pub(super) fn run(self, server: &Server, out: &mut Output) -> Outcome {
        let Self::Delete { id, will } = self;
        let query = [("will", Some(will.name().to_owned()))];
        let answer = server.ask(Method::DELETE, &path(SESSIONS, &id, ""), &query, None)?;
        out.say(&answer, || format!("{}: deleted", escaped(&id)))
    }
}

/// Which subscriptions.
#[derive(Args)]
pub(super) struct Subscriptions {
    /// Those with exactly this Topic Filter
    #[arg(required_unless_present = "topic", conflicts_with = "topic")]
    filter: Option<String>,
    /// Those that a message with this Topic Name reaches
    #[arg(long)]
    topic: Option<String>,
    /// Most subscriptions that are listed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

const SUBSCRIPTION_COLUMNS: [Column; 4] = [
    left("client", |item| cell(item, "client_id")),
    left("filter", |item| cell(item, "filter")),
    right("qos", |item| cell(item, "qos")),
    left("options", subscription_options),
];

/// The options that differ from what is usual.
fn subscription_options(item: &Value) -> String {
    let mut options = Vec::new();
    for (key, name) in [("no_local", "no local"), ("retain_as_published", "retain as published")] {
        if item[key] == true {
            options.push(name.to_owned());
        }
    }
    if let Some(id) = item["subscription_identifier"].as_u64() {
        options.push(format!("identifier {id}"));
    }
    options.join(", ")
}

impl Subscriptions {
    pub(super) fn list(self, server: &Server, out: &mut Output) -> Outcome {
        let query = [("filter", self.filter), ("topic", self.topic)];
        out.pages(server, "/api/v1/subscriptions", &query, self.limit, &SUBSCRIPTION_COLUMNS)
    }
}

/// Which client to trace, and for how long.
#[derive(Args)]
pub(super) struct Trace {
    /// Client Identifier
    id: String,
    /// For how long
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = parse_span)]
    span: Duration,
}

impl Trace {
    pub(super) fn run(self, server: &Server, out: &mut Output) -> Outcome {
        let query = [("seconds", Some(self.span.as_secs().max(1).to_string()))];
        server.lines(&path(CLIENTS, &self.id, "/trace"), &query, |packet| {
            let line = if out.is_json { json_text(&packet) } else { packet_line(&packet) };
            out.line(&line)
        })?;
        Ok(SUCCESS)
    }
}

/// A packet on one line: when, in which direction, what, and the rest of it.
fn packet_line(packet: &Value) -> String {
    if let Some(missed) = packet["missed"].as_u64() {
        return missed_line(missed, "packets");
    }
    const FIRST: [&str; 4] = ["time", "direction", "event", "packet"];
    let first = FIRST.iter().filter(|key| !packet[**key].is_null()).map(|key| cell(packet, key));
    let members = packet.as_object().into_iter().flatten();
    let rest = members.filter(|(key, value)| !FIRST.contains(&key.as_str()) && !value.is_null());
    let rest = rest.map(|(key, value)| format!("{}={}", escaped(key), shown(value)));
    first.chain(rest).collect::<Vec<_>>().join(" ")
}

/// Says that we were too slow for some.
pub(super) fn missed_line(missed: u64, what: &str) -> String {
    format!("… {missed} {what} left out: they came faster than they were read")
}
