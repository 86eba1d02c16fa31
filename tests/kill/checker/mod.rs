//! Says what is wrong with a history. It knows the standard and what becomes of a will (Will Messages in the guide), and nothing of the
//! broker: no line of it is shared.
//!
//! Events are taken one by one. What must never happen is complained about at once; what must happen some time is owed until it does,
//! and [`Checker::finish`] complains about what is still owed. Where the standard leaves two outcomes open, because a kill came
//! between a question and its answer, either is right, but it must be one of the two.

mod messages;
mod retained;
mod sessions;
mod subscriptions;
#[cfg(test)]
mod tests;
mod wills;

use crate::history::{Did, Event, Kind, Moment, Payload, Receiving, Stamp, Who};
use messages::Messages;
use retained::Retained;
use sessions::Sessions;
use std::collections::HashSet;
use std::time::Duration;
use subscriptions::{Audience, Subscriptions};
use wills::Wills;

/// What has been true for so long before a kill has been handled by the broker and is on disk.
const SURELY: Duration = Duration::from_secs(1);

/// What is wrong, and when it was seen.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Complaint {
    pub(crate) at: Moment,
    pub(crate) fault: Fault,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// An acknowledged message has not reached a subscription that was there before it.
    Lost {
        audience: Audience,
        stamp: Stamp,
    },
    /// A message that is QoS 2 all the way was delivered twice.
    Doubled {
        audience: Audience,
        stamp: Stamp,
    },
    /// The first delivery of a message came after that of a later one of the same topic, author and QoS.
    OutOfOrder {
        client: Who,
        stamp: Stamp,
        after: u64,
    },
    /// A message came that nobody sent like this.
    Unknown {
        client: Who,
        topic: String,
    },
    /// A message that was sent after UNSUBACK, or to somebody who never subscribed, came.
    Uninvited {
        client: Who,
        stamp: Stamp,
    },
    /// A Packet Identifier was used for another message before PUBREL.
    PacketIdInUse {
        client: Who,
        packet_id: u16,
        stamp: Stamp,
    },
    /// CONNACK does not have the Session Present that follows from what was acknowledged.
    SessionPresent {
        client: Who,
        said: bool,
    },
    /// The broker refused what it has no reason to refuse.
    Refused {
        client: Who,
        reason: u8,
    },
    /// The broker, which was not killed, ended a connection.
    Closed {
        client: Who,
    },
    /// A retained message is older than the last one that was acknowledged: `number` came instead of `acknowledged`.
    RetainedWentBack {
        topic: String,
        number: u64,
        acknowledged: u64,
    },
    RetainedLost {
        topic: String,
        acknowledged: u64,
    },
    /// A will that had to be published has not come.
    WillLost {
        watcher: Audience,
        stamp: Stamp,
    },
    WillDoubled {
        watcher: Audience,
        stamp: Stamp,
    },
    /// A will came this long before it may have been due; `None` while the connection of its client stood.
    WillEarly {
        stamp: Stamp,
        early: Option<Duration>,
    },
    /// A will came that had been discarded.
    WillAfterAll {
        stamp: Stamp,
    },
}

/// How long after a start no will is published that a client has left behind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Grace {
    /// For all clients.
    Of(Duration),
    /// 1.5 × Keep Alive of each client, or 60 s.
    KeepAlive,
}

/// What was seen, for a summary.
#[derive(Default, Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) acknowledged: u64,
    pub(crate) received: u64,
    pub(crate) redelivered: u64,
    pub(crate) sessions_resumed: u64,
    pub(crate) wills_armed: u64,
    pub(crate) wills_published: u64,
    pub(crate) wills_discarded: u64,
    pub(crate) wills_open: u64,
    pub(crate) retained_checked: u64,
}

pub(crate) struct Checker {
    /// Clients with a connection.
    open: HashSet<Who>,
    /// Clients whose connection ended with the broker, but who have not seen that yet.
    orphaned: HashSet<Who>,
    sessions: Sessions,
    subscriptions: Subscriptions,
    messages: Messages,
    retained: Retained,
    wills: Wills,
    counts: Counts,
    complaints: Vec<Complaint>,
}

impl Checker {
    pub(crate) fn new(grace: Grace) -> Self {
        Self {
            open: HashSet::new(),
            orphaned: HashSet::new(),
            sessions: Sessions::default(),
            subscriptions: Subscriptions::default(),
            messages: Messages::default(),
            retained: Retained::default(),
            wills: Wills::new(grace),
            counts: Counts::default(),
            complaints: Vec::new(),
        }
    }

    pub(crate) fn observe(&mut self, at: Moment, event: &Event) {
        let mut faults = Vec::new();
        match event {
            Event::Killed => {
                self.orphaned.extend(self.open.drain());
                self.wills.killed(at);
            }
            Event::Started => self.wills.started(at),
            Event::Refused => self.wills.refused(at),
            Event::Listening => self.wills.listening(at),
            Event::Client(who, did) => self.client(at, *who, did, &mut faults),
        }
        self.complaints.extend(faults.into_iter().map(|fault| Complaint { at, fault }));
    }

    fn client(&mut self, at: Moment, who: Who, did: &Did, faults: &mut Vec<Fault>) {
        match did {
            Did::Connect(connecting) => {
                self.open.insert(who);
                if self.sessions.connect(who, connecting) {
                    self.end_of_session(who);
                }
                let watchers = connecting.will.as_ref().map(|will| self.subscriptions.matching(&will.topic));
                if let Some(will) = &connecting.will {
                    self.retained.offered(will);
                }
                self.wills.connect(at, who, connecting, watchers.unwrap_or_default());
            }
            Did::Connack { session_present } => {
                self.counts.sessions_resumed += u64::from(*session_present);
                faults.extend(self.sessions.connack(who, *session_present));
                if !session_present {
                    self.messages.forget_packet_ids(who);
                    self.retained.look_over(who);
                }
                self.wills.connack(at, who);
            }
            Did::Refusal { reason } => {
                self.wills.refusal(who);
                faults.push(Fault::Refused { client: who, reason: *reason });
            }
            Did::Subscribe { filter, qos } => {
                self.subscriptions.subscribe(who, filter, *qos);
                self.retained.subscribe(who, filter);
            }
            Did::Suback { reason, .. } if *reason > 2 => faults.push(Fault::Refused { client: who, reason: *reason }),
            Did::Suback { filter, .. } => self.subscriptions.suback(who, filter),
            Did::Unsubscribe { filter } => {
                let audience = self.subscriptions.unsubscribe(who, filter);
                self.messages.forgive(audience);
            }
            Did::Unsuback { filter } => self.subscriptions.unsuback(who, filter, self.messages.sent()),
            Did::Publish(publishing) => {
                if publishing.retain {
                    self.retained.publish(who, publishing);
                }
                self.messages.publish(who, publishing, self.subscriptions.matching(&publishing.topic));
            }
            Did::Acknowledged { reason, .. } if *reason >= 0x80 => {
                faults.push(Fault::Refused { client: who, reason: *reason });
            }
            Did::Acknowledged { number, .. } => {
                self.counts.acknowledged += 1;
                self.messages.acknowledged(&self.subscriptions, Stamp::message(who, *number));
                self.retained.acknowledged(who, *number);
            }
            Did::Receive(receiving) => {
                self.counts.received += 1;
                self.counts.redelivered += u64::from(receiving.dup);
                self.receive(at, who, receiving, faults);
            }
            Did::Release { packet_id } => self.messages.release(who, *packet_id),
            Did::Disconnect { with_will: false } => self.wills.disconnect(who),
            Did::Disconnect { with_will: true } => self.wills.cut(at, who),
            Did::Cut => {
                self.wills.cut(at, who);
                self.closed(who, false);
            }
            Did::Closed => {
                let is_orphan = self.orphaned.remove(&who);
                if !is_orphan && !self.wills.closed(at, who) {
                    self.wills.cut(at, who);
                    faults.push(Fault::Closed { client: who });
                }
                self.closed(who, !is_orphan);
            }
            Did::Looked { settled } => faults.extend(self.retained.looked(who, *settled, &mut self.counts)),
        }
    }

    fn closed(&mut self, who: Who, sure: bool) {
        self.open.remove(&who);
        self.orphaned.remove(&who);
        if self.sessions.closed(who, sure) {
            self.end_of_session(who);
        }
    }

    fn end_of_session(&mut self, who: Who) {
        for audience in self.subscriptions.end_of_session(who, self.messages.sent()) {
            self.messages.forgive(Some(audience));
        }
    }

    fn receive(&mut self, at: Moment, who: Who, receiving: &Receiving, faults: &mut Vec<Fault>) {
        let unknown = Fault::Unknown { client: who, topic: receiving.topic.clone() };
        let is_new = match self.messages.is_new(who, receiving) {
            Ok(is_new) => is_new,
            Err(fault) => return faults.push(fault),
        };
        let Some(audience) = self.subscriptions.audience(who, &receiving.topic) else { return faults.push(unknown) };
        self.retained.receive(who, receiving, faults);
        let Payload::Stamp(stamp) = receiving.payload else {
            if receiving.payload == Payload::Foreign {
                faults.push(unknown);
            }
            return;
        };
        if receiving.retain || !is_new {
            return; // A stored copy, or the same delivery once more.
        }
        match stamp.kind {
            Kind::Message => {
                faults.extend(self.messages.receive(&self.subscriptions, audience, who, receiving, stamp));
            }
            Kind::Will => {
                if let Some(will) = self.wills.receive(at, &self.subscriptions, audience, receiving, stamp, faults) {
                    self.retained.published(&will);
                } else {
                    faults.push(unknown);
                }
            }
        }
    }

    /// How much is owed: messages and wills that have not arrived.
    pub(crate) fn outstanding(&self) -> usize {
        self.messages.owed().count() + self.wills.owed(&self.subscriptions).count()
    }

    pub(crate) fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        self.wills.count(&mut counts);
        counts
    }

    /// All complaints, with those about what has not come until `at`.
    pub(crate) fn finish(mut self, at: Moment) -> Vec<Complaint> {
        let messages = self.messages.owed().map(|(audience, stamp)| {
            let audience = self.subscriptions.name(audience).clone();
            Fault::Lost { audience, stamp }
        });
        let wills = self.wills.owed(&self.subscriptions).map(|(watcher, stamp)| {
            let watcher = self.subscriptions.name(watcher).clone();
            Fault::WillLost { watcher, stamp }
        });
        let owed: Vec<_> = messages.chain(wills).map(|fault| Complaint { at, fault }).collect();
        self.complaints.extend(owed);
        self.complaints
    }
}
