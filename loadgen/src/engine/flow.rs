//! Packet Identifiers under way: those we chose for what we publish, and those of QoS 2 that the broker chose.

use willowmq::codec::PacketId;

/// What one of our publishes waits for (§4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Free,
    Puback(u64),
    Pubrec(u64),
    Pubcomp(u64),
}

/// What the next connection of a Session has to send again for a publish. [MQTT-4.4.0-1]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The PUBLISH with this tag, marked DUP.
    Publish(u64),
    /// The PUBREL: the broker has the message.
    Pubrel,
}

/// What we have published at QoS 1 or 2 and is not acknowledged. Each has a tag, by which its owner knows it again.
///
/// Identifiers are handed out in turn, so the slot of one is found by its low bits.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    slots: Vec<Slot>,
    last: u16,
    count: usize,
    maximum: usize,
}

impl Outgoing {
    /// Allows `maximum` publishes under way; forgets those of an earlier connection.
    pub(super) fn reset(&mut self, maximum: u16) {
        self.slots.clear();
        self.count = 0;
        self.maximum = usize::from(maximum);
    }

    /// Allows `maximum` publishes under way, those of an earlier connection among them: the Session goes on.
    pub(super) fn resume(&mut self, maximum: u16) {
        self.maximum = usize::from(maximum);
    }

    /// What an earlier connection left, in the order in which it was sent.
    pub(super) fn unfinished(&self) -> Vec<(PacketId, Unfinished)> {
        let identifiers = (0..self.slots.len() as u16).rev().map(|back| self.last.wrapping_sub(back));
        let unfinished = identifiers.filter_map(PacketId::new).filter_map(|id| match self.slots[self.slot(id.get())] {
            Slot::Free => None,
            Slot::Puback(tag) | Slot::Pubrec(tag) => Some((id, Unfinished::Publish(tag))),
            Slot::Pubcomp(_) => Some((id, Unfinished::Pubrel)),
        });
        unfinished.collect()
    }

    /// How many more may be published now. [MQTT-4.9.0-1]
    pub(super) fn room(&self) -> usize {
        self.maximum.saturating_sub(self.count)
    }

    /// How many are under way.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Takes an identifier for a publish; `None` while there is no room.
    pub(super) fn begin(&mut self, tag: u64, is_qos_2: bool) -> Option<PacketId> {
        if self.room() == 0 {
            return None;
        }
        if self.count == self.slots.len() {
            self.grow();
        }
        let id = PacketId::new(self.last.wrapping_add(1)).or(PacketId::new(1))?;
        let slot = self.slot(id.get());
        if self.slots[slot] != Slot::Free {
            return None; // The broker acknowledged later ones first; this one's turn comes.
        }
        self.last = id.get();
        self.slots[slot] = if is_qos_2 { Slot::Pubrec(tag) } else { Slot::Puback(tag) };
        self.count += 1;
        Some(id)
    }

    /// Applies a PUBACK; gives the tag, or `None` if nothing waited for it.
    pub(super) fn on_puback(&mut self, id: PacketId) -> Option<u64> {
        let slot = self.known_slot(id)?;
        let Slot::Puback(tag) = self.slots[slot] else { return None };
        self.free(slot);
        Some(tag)
    }

    /// Applies a PUBREC: `Ok` if a PUBREL is due, `Err` with the tag if the broker refused the message.
    pub(super) fn on_pubrec(&mut self, id: PacketId, is_error: bool) -> Option<Result<(), u64>> {
        let slot = self.known_slot(id)?;
        let Slot::Pubrec(tag) = self.slots[slot] else { return None };
        if is_error {
            self.free(slot);
            return Some(Err(tag)); // [MQTT-4.3.3-4]
        }
        self.slots[slot] = Slot::Pubcomp(tag);
        Some(Ok(()))
    }

    /// Applies a PUBCOMP; gives the tag, or `None` if nothing waited for it.
    pub(super) fn on_pubcomp(&mut self, id: PacketId) -> Option<u64> {
        let slot = self.known_slot(id)?;
        let Slot::Pubcomp(tag) = self.slots[slot] else { return None };
        self.free(slot);
        Some(tag)
    }

    fn free(&mut self, slot: usize) {
        self.slots[slot] = Slot::Free;
        self.count -= 1;
    }

    fn slot(&self, id: u16) -> usize {
        usize::from(id) & (self.slots.len() - 1)
    }

    fn known_slot(&self, id: PacketId) -> Option<usize> {
        (!self.slots.is_empty()).then(|| self.slot(id.get()))
    }

    /// Doubles the slots, which are all taken, so that each identifier is found at its new place.
    fn grow(&mut self) {
        let length = self.slots.len().max(8) * 2;
        let mut slots = vec![Slot::Free; length];
        for back in 0..self.slots.len() as u16 {
            // All slots are taken by the identifiers handed out last, one after another.
            let id = self.last.wrapping_sub(back);
            slots[usize::from(id) & (length - 1)] = self.slots[self.slot(id)];
        }
        self.slots = slots;
    }
}

/// Identifiers of QoS 2 messages that were received and not yet released.
///
/// A bit each, allocated with the first: a subscriber may have thousands under way.
#[derive(Debug, Default)]
pub(super) struct Incoming(Option<Box<[u64; 1024]>>);

impl Incoming {
    /// Notes a received PUBLISH; `false` if its identifier was there already, so that it is a repetition. [MQTT-4.3.3-10]
    pub(super) fn receive(&mut self, id: PacketId) -> bool {
        let word = &mut self.0.get_or_insert_with(|| Box::new([0; 1024]))[usize::from(id.get() >> 6)];
        let bit = 1 << (id.get() & 63);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Notes a PUBREL. [MQTT-4.3.3-11]
    pub(super) fn release(&mut self, id: PacketId) {
        if let Some(words) = &mut self.0 {
            words[usize::from(id.get() >> 6)] &= !(1 << (id.get() & 63));
        }
    }

    /// Forgets everything: the session is a new one.
    pub(super) fn reset(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    #[test]
    fn each_identifier_is_found_again_while_the_slots_grow_and_the_numbers_wrap() {
        let mut outgoing = Outgoing::default();
        outgoing.reset(1000);
        let mut under_way = std::collections::VecDeque::new();
        for tag in 0..200_000_u64 {
            while outgoing.room() == 0 || under_way.len() > (tag as usize / 7) % 1000 {
                let (id, tag) = under_way.pop_front().unwrap();
                assert_eq!(outgoing.on_puback(id), Some(tag));
                assert_eq!(outgoing.on_puback(id), None, "once");
            }
            let id = outgoing.begin(tag, false).unwrap();
            assert!(!under_way.iter().any(|(other, _)| *other == id));
            under_way.push_back((id, tag));
            assert_eq!(outgoing.count(), under_way.len());
        }
    }

    #[test]
    fn an_identifier_in_use_is_waited_for() {
        let mut outgoing = Outgoing::default();
        outgoing.reset(16);
        let first = outgoing.begin(0, false).unwrap();
        for tag in 1..16 {
            let id = outgoing.begin(tag, false).unwrap();
            outgoing.on_puback(id).unwrap();
        }
        assert_eq!(outgoing.begin(16, false), None, "the slot of the first is taken");
        assert_eq!(outgoing.on_puback(first), Some(0));
        assert!(outgoing.begin(16, false).is_some());
    }

    #[test]
    fn qos_2_goes_its_four_steps() {
        let mut outgoing = Outgoing::default();
        outgoing.reset(1);
        let one = outgoing.begin(5, true).unwrap();
        assert_eq!(outgoing.begin(6, true), None, "the window is full");
        assert_eq!(outgoing.on_puback(one), None);
        assert_eq!(outgoing.on_pubrec(one, false), Some(Ok(())));
        assert_eq!(outgoing.on_pubcomp(one), Some(5));
        let two = outgoing.begin(6, true).unwrap();
        assert_eq!(outgoing.on_pubrec(two, true), Some(Err(6)));
        assert_eq!(outgoing.room(), 1);
    }

    #[test]
    fn what_an_earlier_connection_left_is_known_in_its_order() {
        let mut outgoing = Outgoing::default();
        outgoing.reset(100);
        outgoing.last = u16::MAX - 2;
        let ids: Vec<_> = (0..5).map(|tag| outgoing.begin(tag, tag > 1).unwrap()).collect();
        assert_eq!(ids.iter().map(|id| id.get()).collect::<Vec<_>>(), [u16::MAX - 1, u16::MAX, 1, 2, 3]);
        outgoing.on_puback(ids[0]).unwrap();
        outgoing.on_pubrec(ids[2], false).unwrap().unwrap();
        outgoing.resume(1);
        assert_eq!(outgoing.room(), 0, "the broker takes fewer now");
        let expected = [
            (ids[1], Unfinished::Publish(1)),
            (ids[2], Unfinished::Pubrel),
            (ids[3], Unfinished::Publish(3)),
            (ids[4], Unfinished::Publish(4)),
        ];
        assert_eq!(outgoing.unfinished(), expected);
    }

    #[test]
    fn a_repeated_qos_2_message_is_known_until_it_is_released() {
        let mut incoming = Incoming::default();
        incoming.release(id(3));
        assert!(incoming.receive(id(3)) && incoming.receive(id(u16::MAX)));
        assert!(!incoming.receive(id(3)));
        incoming.release(id(3));
        assert!(incoming.receive(id(3)));
    }
}
