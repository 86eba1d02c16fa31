//! Wills: where they stand, what can be done to one, holds and storms.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use ureq::http::Method;

use super::Fate;
use super::output::{Column, Output, cell, left, right};
use super::server::{Server, path};
use super::text::{escaped, shown, span};
use crate::cli::{Failure, Outcome};

const WILLS: &str = "/api/v1/wills/";
const HOLDS: &str = "/api/v1/holds";

/// Which wills, or what to do with one.
#[derive(Args)]
pub(super) struct Wills {
    /// Only those that stand there
    #[arg(long)]
    state: Option<WillState>,
    /// Client Identifiers like this, where * stands for anything
    #[arg(long, value_name = "PATTERN")]
    client: Option<String>,
    /// Most wills that are listed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(subcommand)]
    action: Option<WillsAction>,
}

/// Where a will stands.
#[derive(Clone, Copy, ValueEnum)]
enum WillState {
    /// Its client is connected
    Armed,
    /// Its client has gone, and its delay goes on
    Pending,
    /// Its time has come
    Due,
    /// Its time has come, and a hold keeps it back
    Held,
}

/// What to do with a will.
#[derive(Subcommand)]
enum WillsAction {
    /// Say everything about one
    Show {
        /// Client Identifier
        id: String,
    },
    /// Publish one now, before its time
    Publish {
        /// Client Identifier
        id: String,
    },
    /// Discard one: it will not be published
    Discard {
        /// Client Identifier
        id: String,
    },
}

const WILL_COLUMNS: [Column; 7] = [
    left("client", |item| cell(item, "client_id")),
    left("state", |item| cell(item, "state")),
    left("due", |item| cell(item, "due")),
    left("topic", |item| cell(item, "topic")),
    right("qos", |item| cell(item, "qos")),
    left("retain", |item| cell(item, "retain")),
    right("delay", |item| duration(item, "delay_interval")),
];

/// Seconds of the API as people read them.
fn duration(item: &Value, key: &str) -> String {
    item[key].as_f64().map_or_else(|| shown(&item[key]), span)
}

impl Wills {
    pub(super) fn run(self, server: &Server, out: &mut Output) -> Outcome {
        let is_list = self.state.is_some() || self.client.is_some() || self.limit.is_some();
        match self.action {
            Some(_) if is_list => Err(Failure::usage("a list is asked for, and something to be done with one will")),
            None => {
                let state = self.state.and_then(|state| state.to_possible_value());
                let state = state.map(|state| state.get_name().to_owned());
                out.pages(
                    server,
                    "/api/v1/wills",
                    &[("state", state), ("client_id", self.client)],
                    self.limit,
                    &WILL_COLUMNS,
                )
            }
            Some(WillsAction::Show { id }) => out.describe(&server.get(&path(WILLS, &id, ""), &[])?),
            Some(WillsAction::Publish { id }) => {
                let answer = server.ask(Method::POST, &path(WILLS, &id, "/publish"), &[], None)?;
                out.say(&answer, || format!("{}: its will is published", escaped(&id)))
            }
            Some(WillsAction::Discard { id }) => {
                let answer = server.ask(Method::DELETE, &path(WILLS, &id, ""), &[], None)?;
                out.say(&answer, || format!("{}: its will is discarded", escaped(&id)))
            }
        }
    }
}

/// What to do with holds.
#[derive(Subcommand)]
pub(super) enum HoldAction {
    /// List the holds that are in force
    List,
    /// Hold wills back from now on
    Add(Scope),
    /// End a hold, and publish or discard what it has kept back
    Release {
        #[command(flatten)]
        scope: Scope,
        /// What becomes of the wills that fell due meanwhile
        #[arg(long, value_name = "FATE")]
        wills: Fate,
    },
}

/// Whose wills.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Scope {
    /// Those of all clients
    #[arg(long)]
    all: bool,
    /// Those of the clients of this listener; the first one is 0
    #[arg(long, value_name = "N")]
    listener: Option<u16>,
    /// Those of the clients whose Client Identifier begins like this
    #[arg(long, value_name = "PREFIX")]
    client_prefix: Option<String>,
}

impl Scope {
    fn to_json(&self) -> Value {
        match (self.listener, &self.client_prefix) {
            (Some(listener), _) => json!({"scope": "listener", "listener": listener}),
            (None, Some(prefix)) => json!({"scope": "client_id_prefix", "client_id_prefix": prefix}),
            (None, None) => json!({"scope": "all"}),
        }
    }
}

const HOLD_COLUMNS: [Column; 2] = [
    left("scope", |item| cell(item, "scope")),
    left("of", |item| cell(item, if item["listener"].is_null() { "client_id_prefix" } else { "listener" })),
];

impl HoldAction {
    pub(super) fn run(self, server: &Server, out: &mut Output) -> Outcome {
        match self {
            Self::List => out.list(items(&server.get(HOLDS, &[])?), &HOLD_COLUMNS),
            Self::Add(scope) => {
                let answer = server.ask(Method::POST, HOLDS, &[], Some(&scope.to_json()))?;
                out.say(&answer, || "wills are held back from now on".to_owned())
            }
            Self::Release { scope, wills } => {
                let mut body = scope.to_json();
                body["wills"] = wills.name().into();
                let answer = server.ask(Method::POST, &format!("{HOLDS}/release"), &[], Some(&body))?;
                out.say(&answer, || "the hold is released".to_owned())
            }
        }
    }
}

fn items(answer: &Value) -> &[Value] {
    answer["items"].as_array().map_or(&[], Vec::as_slice)
}

const STORM_COLUMNS: [Column; 5] = [
    right("shard", |item| cell(item, "shard")),
    left("begin", |item| cell(item, "begin")),
    right("duration", |item| duration(item, "duration")),
    right("wills", |item| cell(item, "wills")),
    right("latest by", |item| duration(item, "lateness_max")),
];

/// Lists recent storms.
pub(super) fn storms(server: &Server, out: &mut Output) -> Outcome {
    out.list(items(&server.get("/api/v1/storms", &[])?), &STORM_COLUMNS)
}
