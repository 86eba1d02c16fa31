//! `willowmq ctl`: looks after a broker that runs, by its HTTP API.
//!
//! Tables for people, and with `--json` one JSON object a line for programs. Nothing of what clients choose reaches a terminal as it is.

mod broker;
mod clients;
mod messages;
mod output;
mod overview;
mod server;
mod table;
mod text;
mod top;
mod wills;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::Outcome;
use super::settings::File;
use output::Output;
use server::Place;

/// Which broker, and what to do.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Print JSON: one object a line, as the API gives them
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

/// What to do with the broker.
#[derive(Subcommand)]
enum Action {
    /// Say how the broker is: what it holds, and what passes
    Status,
    /// Watch the broker: rates, wills and shards, over and over again
    ///
    /// Keys: q quits, p pauses, s sorts the shards by another column, + and - change the interval.
    Top(top::Options),
    /// Say whether the broker is well; exits with 1 where it is not
    Health {
        /// Whether its shards are alive, even if clients should not come, as before the end of the start or in a drain
        #[arg(long)]
        live: bool,
    },
    /// List the clients
    Clients(clients::Filter),
    /// Say everything about a client: session, connection, subscriptions, queue, will, traffic
    Client {
        /// Client Identifier
        id: String,
    },
    /// Disconnect a client; its session stays
    Kick {
        /// Client Identifier
        id: String,
        /// What becomes of its will
        #[arg(long, value_name = "FATE", default_value = "publish")]
        will: Fate,
    },
    /// Look after sessions
    Sessions {
        #[command(subcommand)]
        action: clients::SessionsAction,
    },
    /// List subscriptions: those with a Topic Filter, or those that a topic reaches
    Subscriptions(clients::Subscriptions),
    /// List, read, set and delete retained messages
    Retained(messages::Retained),
    /// Publish a message
    Publish(messages::Publish),
    /// Print messages as they are published, until interrupted
    ///
    /// Prints topic and payload, with escapes for what a terminal must not see; with --json everything. It is no subscription: nothing
    /// is acknowledged, no client notices, and what is not read fast enough is left out, which is said.
    Subscribe(messages::Subscribe),
    /// List the wills, publish one now, or discard one
    Wills(wills::Wills),
    /// Hold wills back that fall due, as during planned maintenance
    Hold {
        #[command(subcommand)]
        action: wills::HoldAction,
    },
    /// List recent storms: bursts of wills
    Storms,
    /// Print every packet of a client for some time
    Trace(clients::Trace),
    /// Print what is logged, or change it until the next start
    LogLevel {
        /// error, warn, info, debug, trace, or directives such as "info,willowmq::net=debug"
        level: Option<String>,
    },
    /// Read the configuration and the files that it names again, and print what changed
    Reload,
    /// Hand the clients away before a stop, a few at a time
    Drain(broker::Drain),
}

/// What becomes of a will.
#[derive(Clone, Copy, ValueEnum)]
enum Fate {
    /// It is published, after its delay where it has one
    Publish,
    /// It is discarded
    Discard,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Discard => "discard",
        }
    }
}

/// Does it.
pub(super) fn run(options: Options, file: &File) -> Outcome {
    let server = options.place.server(file)?;
    let out = &mut Output::new(options.json);
    match options.action {
        Action::Status => broker::status(&server, out),
        Action::Top(options) => top::run(&options, server),
        Action::Health { live } => broker::health(&server, out, live),
        Action::Clients(filter) => filter.list(&server, out),
        Action::Client { id } => clients::show(&server, out, &id),
        Action::Kick { id, will } => clients::kick(&server, out, &id, will),
        Action::Sessions { action } => action.run(&server, out),
        Action::Subscriptions(options) => options.list(&server, out),
        Action::Retained(options) => options.run(&server, out),
        Action::Publish(options) => options.run(&server, out),
        Action::Subscribe(options) => options.run(&server, out),
        Action::Wills(options) => options.run(&server, out),
        Action::Hold { action } => action.run(&server, out),
        Action::Storms => wills::storms(&server, out),
        Action::Trace(options) => options.run(&server, out),
        Action::LogLevel { level } => broker::log_level(&server, out, level.as_deref()),
        Action::Reload => broker::reload(&server, out),
        Action::Drain(options) => options.run(&server, out),
    }
}

/// A time span such as `90s` or `5m`, as in the configuration; a bare number is seconds.
fn parse_span(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => willowmq::config::parse_span(text).map_err(|error| format!("{error}; such as 90s or 5m")),
    }
}
