//! Opens many connections, some at a time and not faster than asked.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::engine::{Event, Index, Time};
use crate::ledger::Tally;
use crate::report::histogram;

/// Opens many connections, some at a time and not faster than asked.
pub struct Ramp {
    waiting: VecDeque<Index>,
    /// Being opened: a client stands here until its CONNACK.
    under_way: usize,
    is_under_way: Vec<bool>,
    concurrency: usize,
    interval: Duration,
    next: Time,
    /// How many have been accepted.
    pub accepted: usize,
    /// Those that were not.
    pub failed: Tally,
    /// From the beginning of the TCP connection to CONNACK, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Ramp {
    /// A ramp for a fleet of `clients`, of which none is asked for yet.
    pub fn new(clients: usize, concurrency: usize, rate: Option<f64>) -> Self {
        Self {
            waiting: VecDeque::new(),
            under_way: 0,
            is_under_way: vec![false; clients],
            concurrency,
            interval: rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate)),
            next: Time::default(),
            accepted: 0,
            failed: Tally::default(),
            latency: histogram(),
        }
    }

    /// Asks for `clients`.
    pub fn extend(&mut self, clients: impl IntoIterator<Item = Index>) {
        self.waiting.extend(clients);
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }

    /// The next client to be opened now, if it is anybody's turn.
    pub fn next_client(&mut self, now: Time) -> Option<Index> {
        if self.under_way >= self.concurrency || now < self.next {
            return None;
        }
        let client = self.waiting.pop_front()?;
        const FORGIVEN: u64 = 1_000_000_000;
        self.next = self.next.max(Time(now.0.saturating_sub(FORGIVEN))) + self.interval; // A pause is not made up for.
        self.under_way += 1;
        self.is_under_way[client] = true;
        Some(client)
    }

    /// Counts those that have not been accepted after all this time as failed.
    pub fn give_up(&mut self) {
        let unanswered = self.is_under_way.iter().enumerate().filter(|(_, is_under_way)| **is_under_way);
        for (client, _) in unanswered {
            self.failed.add(|| format!("client {client}: no CONNACK"));
        }
        let waiting = self.waiting.len() as u64;
        self.failed.add_many(waiting, || format!("{waiting} clients whose turn never came"));
        self.is_under_way.fill(false);
        self.waiting.clear();
        self.under_way = 0;
    }

    /// When it may be somebody's turn without anything else happening.
    pub fn next_time(&self) -> Time {
        if self.waiting.is_empty() || self.under_way >= self.concurrency { Time::NEVER } else { self.next }
    }

    /// Follows what happens to the clients; other events pass by.
    pub fn on_event(&mut self, client: Index, event: &Event<'_>) {
        if !self.is_under_way[client] {
            return;
        }
        match event {
            Event::Connected { took, .. } => {
                self.accepted += 1;
                self.latency.saturating_record(took.as_nanos() as u64);
            }
            Event::Refused(reason) => self.failed.add(|| format!("client {client}: CONNACK, {reason}")),
            Event::Closed { cause, .. } => self.failed.add(|| format!("client {client}: {cause}")),
            _ => return,
        }
        self.is_under_way[client] = false;
        self.under_way -= 1;
    }
}
