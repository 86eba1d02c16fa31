//! Letters of peers that wait, since what follows from them would go to peers that are behind.
//!
//! A message that reaches a shard as one letter can leave it as thousands: one for each Shared Subscription that lives here and chooses a
//! Session elsewhere. Its publisher is at home on another shard and knows nothing of that. So while a channel from here is full, such
//! letters are put aside, and those behind them with them; where they become many, the peer they come from is told, and has its own
//! publishers pause.
//!
//! **Nothing waits in a circle.** Every letter is taken out of its channel, to be applied or to be put aside, whatever the state of this
//! shard; so channels always empty, and one from here that is full does not stay full. What is put aside waits for that alone: not for a
//! peer that is crowded, which only makes publishers wait, and not for a fence, which only makes replies wait. `Deliver` overtakes: it is what
//! the full channels are full of, and causes one letter at most, where its Session has ended.
//! No order that counts is lost by that: each Session gets what its groups send it in the order of the `Deliver`s, and a fence stands behind
//! all that it is about, whether that was applied in its place or before.

use super::peer::PeerMessage;
use super::{Shard, ShardId};
use crate::timer::Moment;
use std::collections::VecDeque;

/// What the letters of one peer may cause in one turn, once they need not wait any more.
const WORK_MAX: u64 = 64 * 1024;

/// The letters of one peer that wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Aside {
    letters: VecDeque<PeerMessage>,
    /// The peer was told that they are many.
    is_peer_told: bool,
}

/// Whether a letter may make this shard send others.
fn needs_room(letter: &PeerMessage) -> bool {
    matches!(letter, PeerMessage::Publish { deliver: true, .. } | PeerMessage::Return { .. })
}

impl Shard {
    /// A message from another shard.
    pub fn on_peer(&mut self, now: Moment, peer: ShardId, message: PeerMessage) {
        match message {
            PeerMessage::Crowded(is_crowded) => self.peers.note_crowded(peer, is_crowded),
            message if self.must_wait(peer, &message) => self.put_aside(peer, message),
            message => self.apply_step(now, peer, message),
        }
    }

    /// A shard without groups sends no more than it receives.
    fn must_wait(&self, peer: ShardId, message: &PeerMessage) -> bool {
        let overtakes = matches!(message, PeerMessage::Deliver { .. });
        let is_behind_others = !self.aside[peer.index()].letters.is_empty();
        let waits_for_room = || !self.groups.is_empty() && needs_room(message) && self.peers.is_full();
        !overtakes && (is_behind_others || waits_for_room())
    }

    fn put_aside(&mut self, peer: ShardId, message: PeerMessage) {
        let aside = &mut self.aside[peer.index()];
        aside.letters.push_back(message);
        self.stats.letters_put_aside += 1;
        if aside.letters.len() >= self.peers.backlog_max() && !std::mem::replace(&mut aside.is_peer_told, true) {
            self.peers.send(peer, PeerMessage::Crowded(true));
        }
    }

    /// Goes on with the letters that were put aside, as far as there is room for what they cause.
    pub(super) fn apply_aside(&mut self, now: Moment) {
        for peer in self.peers.others() {
            let begin = self.work();
            while self.work() - begin < WORK_MAX
                && self.can_apply_aside(peer)
                && let Some(letter) = self.aside[peer.index()].letters.pop_front()
            {
                self.apply_step(now, peer, letter);
            }
            let relieved_at = self.peers.backlog_max() / 2;
            let aside = &mut self.aside[peer.index()];
            if aside.is_peer_told && aside.letters.len() <= relieved_at {
                aside.is_peer_told = false;
                self.peers.send(peer, PeerMessage::Crowded(false));
            }
        }
    }

    fn can_apply_aside(&self, peer: ShardId) -> bool {
        let first = self.aside[peer.index()].letters.front();
        first.is_some_and(|first| !needs_room(first) || !self.peers.is_full())
    }

    /// Whether letters that were put aside need not wait any more.
    pub(super) fn can_apply_any_aside(&self) -> bool {
        self.peers.others().any(|peer| self.can_apply_aside(peer))
    }

    /// Letters of peers that were put aside.
    pub fn letters_aside(&self) -> usize {
        self.aside.iter().map(|aside| aside.letters.len()).sum()
    }
}
