//! The broker as a whole: how it is, its log, reload and drain.

use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use ureq::http::{Method, StatusCode};

use super::output::{Column, Output, cell, right};
use super::overview::{Figures, Overview};
use super::parse_span;
use super::server::{Server, UNREACHABLE};
use super::text::{bytes, escaped, short, shown, span};
use crate::cli::{FAILURE, Failure, Outcome, SUCCESS};

const DRAIN: &str = "/api/v1/drain";
/// How often `drain --wait` looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const SHARD_COLUMNS: [Column; 6] = [
    right("shard", |item| cell(item, "shard")),
    right("connections", |item| cell(item, "connections")),
    right("sessions", |item| cell(item, "sessions")),
    right("turn p99", |item| item["turn_p99"].as_f64().map_or_else(|| "-".to_owned(), span)),
    right("stalls", |item| cell(item, "stalls")),
    right("journal backlog", |item| item["journal_backlog_bytes"].as_f64().map_or_else(|| "-".to_owned(), bytes)),
];

/// Says what the broker holds, and what has passed.
pub(super) fn status(server: &Server, out: &mut Output) -> Outcome {
    let answer = server.get("/api/v1/overview", &[])?;
    if out.is_json {
        return out.describe(&answer);
    }
    let overview = Overview::parse(&answer).map_err(|error| server.not_understood(&error))?;
    let Figures { wills, .. } = &overview.totals;
    let totals = &overview.totals;
    let lines = [
        ("version", escaped(&overview.version)),
        ("state", escaped(&overview.state)),
        ("up for", span(overview.uptime)),
        ("connections", totals.connections.to_string()),
        ("sessions", totals.sessions.to_string()),
        ("subscriptions", totals.subscriptions.to_string()),
        ("retained", totals.retained.to_string()),
        ("queued", format!("{} messages, {}", totals.queued_messages, bytes(totals.queued_bytes as f64))),
        (
            "received",
            format!("{} messages, {}", short(totals.messages_received as f64), bytes(totals.bytes_received as f64)),
        ),
        ("sent", format!("{} messages, {}", short(totals.messages_sent as f64), bytes(totals.bytes_sent as f64))),
        ("dropped", format!("{} messages", totals.messages_dropped)),
        ("wills", format!("{} armed, {} pending, {} due, {} held", wills.armed, wills.pending, wills.due, wills.held)),
        (
            "",
            format!(
                "{} published, {} discarded, 99 % late by at most {}",
                wills.published,
                wills.discarded,
                span(wills.lateness_p99)
            ),
        ),
        ("storms", wills.storms.to_string()),
    ];
    for (name, value) in lines {
        out.line(format!("{name:13}  {value}").trim_end())?;
    }
    out.line("")?;
    out.list(answer["shards"].as_array().map_or(&[], Vec::as_slice), &SHARD_COLUMNS)
}

/// Says whether the broker is well.
pub(super) fn health(server: &Server, out: &mut Output, live: bool) -> Outcome {
    let (status, answer) = server.ask_anyway(if live { "/health/live" } else { "/health/ready" })?;
    out.describe(&answer)?;
    Ok(if status == StatusCode::OK { SUCCESS } else { FAILURE })
}

/// Says what is logged, or changes it.
pub(super) fn log_level(server: &Server, out: &mut Output, level: Option<&str>) -> Outcome {
    const LOG: &str = "/api/v1/log";
    let answer = match level {
        Some(level) => server.ask(Method::PUT, LOG, &[], Some(&json!({ "level": level })))?,
        None => server.get(LOG, &[])?,
    };
    out.say(&answer, || level.map_or_else(|| cell(&answer, "level"), escaped))
}

/// Has everything read again, and says what changed.
pub(super) fn reload(server: &Server, out: &mut Output) -> Outcome {
    let answer = server.ask(Method::POST, "/api/v1/reload", &[], None)?;
    out.say(&answer, || difference(&answer))
}

/// What a reload has changed, for people.
fn difference(answer: &Value) -> String {
    let list = |key: &str| answer[key].as_array().into_iter().flatten();
    let mut lines = Vec::new();
    let change = |change| format!("{}: {} → {}", cell(change, "key"), cell(change, "old"), cell(change, "new"));
    lines.extend(list("changed").map(change));
    lines.extend(list("needs_restart").map(|waits| format!("{}, from the next start on", change(waits))));
    for files in list("reloaded") {
        lines.push(format!("{}: read again", shown(files)));
    }
    if lines.is_empty() { "nothing has changed".to_owned() } else { lines.join("\n") }
}

/// How to drain.
///
/// Without a flag the drain begins, and takes as long as drain.over of the configuration says.
#[derive(Args)]
pub(super) struct Drain {
    /// Over how long clients are handed away
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    over: Option<Duration>,
    /// Wait for the end, and say how far it is
    #[arg(long)]
    wait: bool,
    /// Stop a drain that goes on; those who are there may stay
    #[arg(long, conflicts_with_all = ["over", "wait", "status"])]
    cancel: bool,
    /// Say how far it is, and change nothing
    #[arg(long, conflicts_with_all = ["over", "wait"])]
    status: bool,
}

impl Drain {
    pub(super) fn run(self, server: &Server, out: &mut Output) -> Outcome {
        if self.cancel {
            let answer = server.ask(Method::DELETE, DRAIN, &[], None)?;
            return out.say(&answer, || "the drain is cancelled".to_owned());
        }
        if self.status {
            let progress = server.get(DRAIN, &[])?;
            return out.say(&progress, || progress_line(&progress));
        }
        let body = match self.over {
            Some(over) => json!({ "over_seconds": over.as_secs() }),
            None => json!({}),
        };
        let answer = server.ask(Method::POST, DRAIN, &[], Some(&body))?;
        out.say(&answer, || format!("the drain has begun: {}", progress_line(&answer)))?;
        if self.wait { wait(server, out) } else { Ok(SUCCESS) }
    }
}

/// Says how far the drain is until it is over: the broker ends then, so that it cannot be reached is what is waited for.
fn wait(server: &Server, out: &mut Output) -> Outcome {
    loop {
        thread::sleep(LOOK_EVERY);
        match server.get(DRAIN, &[]) {
            Ok(progress) => {
                out.say(&progress, || progress_line(&progress))?;
                if progress["state"] == "none" {
                    return Err(Failure::new("the drain has been cancelled", FAILURE));
                }
            }
            Err(failure) if failure.code == UNREACHABLE => {
                return out.say(&json!({"state": "ended"}), || "the broker has ended".to_owned());
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn progress_line(progress: &Value) -> String {
    if progress["state"] == "none" {
        return "no drain goes on".to_owned();
    }
    let of = |key| cell(progress, key);
    let line = format!("{} of {} clients left, until {}", of("clients_left"), of("clients"), of("until"));
    match progress["warning"].as_str() {
        Some(warning) => format!("{line}; {}", escaped(warning)),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_of_a_reload_names_every_change() {
        let answer = json!({"changed": [{"key": "log.level", "old": "info", "new": "debug\u{7}"}],
                            "needs_restart": [{"key": "shards", "old": null, "new": 4}], "reloaded": ["rights"]});
        let expected = "log.level: info → debug\\u{7}\nshards: - → 4, from the next start on\nrights: read again";
        assert_eq!(difference(&answer), expected);
        assert_eq!(difference(&json!({"changed": [], "needs_restart": [], "reloaded": []})), "nothing has changed");
    }
}
