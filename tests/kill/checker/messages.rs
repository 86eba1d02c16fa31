//! Messages of QoS 1 and 2: none lost, none twice where both ends are QoS 2, in order.

use super::Fault;
use super::subscriptions::{Audience, AudienceId, Subscriptions};
use crate::history::{Payload, Publishing, Receiving, Stamp, Who};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

struct Sent {
    topic: String,
    qos: u8,
    /// How many messages had been sent before it.
    before: u64,
    /// Subscriptions that were sure when it was sent; emptied by the acknowledgement, which makes it owed to them.
    audiences: Vec<AudienceId>,
}

#[derive(Default)]
pub(crate) struct Messages {
    sent: HashMap<Stamp, Sent>,
    owed: BTreeSet<(AudienceId, Stamp)>,
    /// How often each message was delivered.
    delivered: HashMap<(AudienceId, Stamp), u32>,
    /// The newest message by client, author, topic and QoS.
    newest: HashMap<(Who, Who, String, u8), u64>,
    /// QoS 2 deliveries before their PUBREL: what came with the Packet Identifier.
    unreleased: HashMap<(Who, u16), Receiving>,
}

impl Messages {
    /// How many messages have been sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.len() as u64
    }

    pub(crate) fn publish(&mut self, who: Who, publishing: &Publishing, audiences: Vec<AudienceId>) {
        let audiences = if publishing.empty || publishing.qos == 0 { Vec::new() } else { audiences };
        let sent = Sent { topic: publishing.topic.clone(), qos: publishing.qos, before: self.sent(), audiences };
        self.sent.insert(Stamp::message(who, publishing.number), sent);
    }

    pub(crate) fn acknowledged(&mut self, subscriptions: &Subscriptions, stamp: Stamp) {
        let Some(sent) = self.sent.get_mut(&stamp) else { return };
        for audience in std::mem::take(&mut sent.audiences) {
            if subscriptions.is_sure(audience) && !self.delivered.contains_key(&(audience, stamp)) {
                self.owed.insert((audience, stamp));
            }
        }
    }

    /// The subscription ends: what it has not got is not owed any more.
    pub(crate) fn forgive(&mut self, audience: Option<AudienceId>) {
        self.owed.retain(|(owed, _)| Some(*owed) != audience);
        self.sent.values_mut().for_each(|sent| sent.audiences.retain(|owed| Some(*owed) != audience));
    }

    /// A new session knows no Packet Identifiers.
    pub(crate) fn forget_packet_ids(&mut self, who: Who) {
        self.unreleased.retain(|(client, _), _| *client != who);
    }

    pub(crate) fn release(&mut self, who: Who, packet_id: u16) {
        self.unreleased.remove(&(who, packet_id));
    }

    /// Whether this is a delivery of its own; otherwise it repeats one of QoS 2 that has not been released (§4.3.3).
    pub(crate) fn is_new(&mut self, who: Who, receiving: &Receiving) -> Result<bool, Fault> {
        if receiving.qos < 2 {
            return Ok(true);
        }
        match self.unreleased.entry((who, receiving.packet_id)) {
            Entry::Vacant(entry) => {
                entry.insert(receiving.clone());
                Ok(true)
            }
            Entry::Occupied(entry) => match (entry.get().payload, receiving.payload) {
                (before, now) if before == now => Ok(false),
                (_, Payload::Stamp(stamp)) => {
                    Err(Fault::PacketIdInUse { client: who, packet_id: receiving.packet_id, stamp })
                }
                _ => Err(Fault::Unknown { client: who, topic: receiving.topic.clone() }),
            },
        }
    }

    pub(crate) fn receive(
        &mut self,
        subscriptions: &Subscriptions,
        audience: AudienceId,
        who: Who,
        receiving: &Receiving,
        stamp: Stamp,
    ) -> Vec<Fault> {
        let Some(sent) = self.sent.get(&stamp).filter(|sent| sent.topic == receiving.topic) else {
            return vec![Fault::Unknown { client: who, topic: receiving.topic.clone() }];
        };
        let mut faults = Vec::new();
        if subscriptions.is_uninvited(audience, sent.before) {
            faults.push(Fault::Uninvited { client: who, stamp });
        }
        let times = self.delivered.entry((audience, stamp)).or_default();
        *times += 1;
        if *times > 1 {
            if sent.qos == 2 && subscriptions.qos(audience) == 2 {
                faults.push(Fault::Doubled { audience: subscriptions.name(audience).clone(), stamp });
            }
            return faults;
        }
        self.owed.remove(&(audience, stamp));
        if matches!(subscriptions.name(audience), Audience::Group(_)) {
            return faults; // What is sent again may go to another member, who has newer ones.
        }
        let order = (who, stamp.author, receiving.topic.clone(), sent.qos);
        let newest = self.newest.entry(order).or_default();
        if *newest > stamp.number {
            faults.push(Fault::OutOfOrder { client: who, stamp, after: *newest });
        }
        *newest = stamp.number.max(*newest);
        faults
    }

    pub(crate) fn owed(&self) -> impl Iterator<Item = (AudienceId, Stamp)> {
        self.owed.iter().copied()
    }
}
