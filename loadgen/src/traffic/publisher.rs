//! One publisher: what it has sent, what is on its way, and what it may send.

use super::Pace;

/// One publisher: its messages are numbered, and those from `base` on are on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Publisher {
    pub(super) base: u64,
    pub(super) next: u64,
    /// Where an open loop's schedule is.
    pub(super) allowed: u64,
    /// Deliveries and acknowledgements that each message from `base` on still waits for, in a ring.
    awaited: Vec<u32>,
}

impl Publisher {
    fn slot(&self, sequence: u64) -> usize {
        sequence as usize & (self.awaited.len() - 1)
    }

    /// Notes that a message is sent, and waits for `count` deliveries and acknowledgements.
    pub(super) fn sent(&mut self, count: u32) {
        if (self.next - self.base) as usize == self.awaited.len() {
            self.grow();
        }
        let slot = self.slot(self.next);
        self.awaited[slot] = count;
        self.next += 1;
    }

    fn grow(&mut self) {
        let mut awaited = vec![0; (self.awaited.len() * 2).max(16)];
        let mask = awaited.len() - 1;
        for sequence in self.base..self.next {
            awaited[sequence as usize & mask] = self.awaited[self.slot(sequence)];
        }
        self.awaited = awaited;
    }

    /// Notes one delivery or acknowledgement; says whether `base` moved.
    pub(super) fn arrived(&mut self, sequence: u64) -> bool {
        if sequence < self.base || sequence >= self.next {
            return false;
        }
        let slot = self.slot(sequence);
        self.awaited[slot] = self.awaited[slot].saturating_sub(1);
        let before = self.base;
        while self.base < self.next && self.awaited[self.slot(self.base)] == 0 {
            self.base += 1;
        }
        self.base != before
    }

    /// How many may be published now at this pace.
    pub(super) fn allowance(&self, pace: Pace) -> u64 {
        match pace {
            Pace::Window(window) => (self.base + window as u64).saturating_sub(self.next),
            Pace::Rate(_) => self.allowed.saturating_sub(self.next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_goes_on_when_the_oldest_message_has_arrived_everywhere() {
        let mut publisher = Publisher::default();
        let pace = Pace::Window(20);
        while publisher.allowance(pace) > 0 {
            publisher.sent(2);
        }
        assert_eq!(publisher.next, 20);
        for sequence in 1..20 {
            assert!(!publisher.arrived(sequence) && !publisher.arrived(sequence));
        }
        assert!(!publisher.arrived(0));
        assert!(publisher.arrived(0));
        assert_eq!(publisher.allowance(pace), 20);
        assert!(!publisher.arrived(0), "long gone");
    }
}
