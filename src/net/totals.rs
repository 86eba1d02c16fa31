//! The last lines of the log: all that was counted since the start.
//!
//! A line is about one subject, and the last one says in short what the broker has done.

use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::Counters;
use super::plan::Plan;
use super::report::ShardReport;
use crate::shard::{ConnectRefusal, DropReason, PublishOutcome, Stats};

/// Logs what the shards have counted, and what `plan` has for all of them.
pub(super) fn log(reports: &[ShardReport], plan: &Plan) {
    let mut counters = Counters::default();
    reports.iter().for_each(|report| counters.add(&report.counters));
    log_the_way_in(&counters, plan);
    log_bounds(reports, &counters);
    let sum = |of: fn(&Stats) -> u64| sum(reports, of);
    tracing::info!(
        accepted = counters.accepted,
        handed_over = counters.handed_over,
        connects = sum(|stats| stats.connects_accepted),
        connects_refused = sum(|stats| stats.connects_refused.total()),
        takeovers = sum(|stats| stats.takeovers),
        publishes_received = sum(|stats| stats.received.total().count),
        publishes_sent = sum(|stats| stats.sent.total().count),
        bytes_received = counters.bytes_received,
        bytes_sent = counters.bytes_sent,
        protocol_errors = sum(|stats| stats.protocol_errors),
        dropped = sum(|stats| stats.dropped.total()),
        read_back = sum(|stats| stats.read_back),
        checkpoints = sum(|stats| stats.checkpoints),
        wills_armed = sum(|stats| stats.wills.armed),
        wills_published = sum(|stats| stats.wills.published_total()),
        storms = sum(|stats| stats.wills.storms),
        wills_discarded = sum(|stats| stats.wills.discarded_total()),
        "WillowMQ has stopped"
    );
}

/// Connections that did not become clients.
fn log_the_way_in(counters: &Counters, plan: &Plan) {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (at_gate, checks) = (plan.gate.counters(), plan.authentication.totals());
    tracing::info!(
        turned_away = counters.turned_away + counters.shed,
        turned_away_memory = read(&at_gate.memory),
        turned_away_banned = read(&at_gate.banned),
        turned_away_source_connections = read(&at_gate.source_connections),
        turned_away_source_rate = read(&at_gate.source_rate),
        turned_away_identity_connections = read(&at_gate.identity_connections),
        listener_pauses = read(&at_gate.listener_pauses),
        tls_handshakes = counters.tls_handshakes,
        tls_faults = counters.layer_faults.tls,
        websocket_faults = counters.layer_faults.websocket,
        http_faults = counters.layer_faults.http,
        proxy_faults = counters.layer_faults.proxy,
        handshakes_refused = counters.handshakes_refused,
        handshakes_shed = counters.handshakes_shed,
        handshake_timeouts = counters.handshake_timeouts,
        connect_timeouts = counters.connect_timeouts,
        bad_first_packets = counters.bad_first_packets,
        authentications_granted = checks.granted,
        authentications_remembered = checks.remembered,
        authentications_busy = checks.busy,
        authentications_unavailable = checks.unavailable,
        authentications_refused = counters.authentications_refused,
        authentication_timeouts = counters.authentication_timeouts,
        authentication_failures = read(&at_gate.failures),
        bans = read(&at_gate.bans),
        memory_peak_bytes = read(&at_gate.memory_peak_bytes),
        "the way in"
    );
}

/// What came up against a bound, or was not allowed.
fn log_bounds(reports: &[ShardReport], counters: &Counters) {
    let sum = |of: fn(&Stats) -> u64| sum(reports, of);
    tracing::info!(
        connects_refused_other_user = sum(|stats| stats.connects_refused[ConnectRefusal::OtherUser]),
        connects_refused_sessions_max = sum(|stats| stats.connects_refused[ConnectRefusal::SessionsMax]),
        connects_refused_memory = sum(|stats| stats.connects_refused[ConnectRefusal::Memory]),
        refused_by_journal = sum(|stats| stats.refused_by_journal),
        publishes_refused_retained = sum(|stats| stats.publishes_refused_retained),
        subscriptions_refused = sum(|stats| stats.subscriptions_refused),
        filters_refused = sum(|stats| stats.filters_refused),
        dropped_output_full = sum(|stats| stats.dropped[DropReason::OutputFull]),
        dropped_wills_output_full = sum(|stats| stats.dropped[DropReason::WillOutputFull]),
        dropped_queue_full = sum(|stats| stats.dropped[DropReason::QueueFull]),
        dropped_memory = sum(|stats| stats.dropped[DropReason::Memory]),
        dropped_expired = sum(|stats| stats.dropped[DropReason::Expired]),
        dropped_too_old = sum(|stats| stats.dropped[DropReason::TooOld]),
        dropped_too_large = sum(|stats| stats.dropped[DropReason::TooLarge]),
        dropped_no_member = sum(|stats| stats.dropped[DropReason::NoMember]),
        dropped_retained = sum(|stats| stats.dropped[DropReason::Retained]),
        dropped_unreadable = sum(|stats| stats.dropped[DropReason::Unreadable]),
        pauses = sum(|stats| stats.pauses),
        letters_put_aside = sum(|stats| stats.letters_put_aside),
        yields = sum(|stats| stats.yields),
        presence_untold = sum(|stats| stats.presence_untold),
        publishes_abandoned = sum(|stats| stats.publishes_abandoned),
        pauses_rate = sum(|stats| stats.pauses_rate),
        pauses_memory = sum(|stats| stats.pauses_memory),
        pauses_choked = sum(|stats| stats.pauses_choked),
        slow_readers_disconnected = sum(|stats| stats.slow_readers_disconnected),
        write_timeouts = counters.write_timeouts,
        buffer_shortages = counters.buffer_shortages,
        "bounds"
    );
    tracing::info!(
        publishes_denied = sum(|stats| stats.received.with(PublishOutcome::Denied)),
        subscriptions_denied = sum(|stats| stats.subscriptions_denied),
        deliveries_denied = sum(|stats| stats.deliveries_denied),
        wills_refused = sum(|stats| stats.wills.refused),
        wills_denied = sum(|stats| stats.wills.denied),
        re_authentications = sum(|stats| stats.re_authentications),
        re_authentications_refused = sum(|stats| stats.re_authentications_refused),
        credentials_ended = sum(|stats| stats.credentials_ended),
        "rights"
    );
}

fn sum(reports: &[ShardReport], of: fn(&Stats) -> u64) -> u64 {
    reports.iter().map(|report| of(&report.stats)).sum()
}
