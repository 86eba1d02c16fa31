//! Hands what some shards held to another number of shards.

use super::{Recovered, RecoveredSession};
use crate::journal::frame::Position;
use crate::journal::record::SessionNumber;

/// Brings together what the journals of all shards tell of numbers that each shard gives: none may be given twice.
///
/// To be called with what was recovered from all journals, before the first of them is used.
pub fn agree(recovered: &mut [Recovered]) {
    let mut published = std::collections::BTreeMap::new();
    for (shard, sequence) in recovered.iter().flat_map(|one| &one.published) {
        let highest = published.entry(*shard).or_default();
        *highest = (*sequence).max(*highest);
    }
    for one in recovered {
        one.publications = published.get(&one.shard).copied().unwrap_or(0);
        one.published.clone_from(&published);
    }
}

/// Hands Sessions and retained messages to `shards` shards with new, empty journals.
///
/// Sessions get new numbers. Publications keep theirs, so they name shards that may be no more; messages that are not in memory
/// keep a note of the old journal that holds them. All transactions are settled, so none goes along.
///
/// # Panics
///
/// When a home is not below `shards`.
pub fn distribute(
    mut old: Vec<Recovered>,
    shards: usize,
    home_of_client: impl Fn(&str) -> usize,
    home_of_topic: impl Fn(&str) -> usize,
) -> Vec<Recovered> {
    agree(&mut old);
    let mut new: Vec<Recovered> = (0..shards).map(|shard| empty(&old, shard as u8)).collect();
    for one in old {
        for session in one.sessions {
            let home = &mut new[home_of_client(&session.header.client_id)];
            take_in(home, session);
        }
        for message in one.retained {
            let topic = message.message.as_ref().expect("retained messages are in memory").topic();
            new[home_of_topic(topic)].retained.push(message);
        }
    }
    new
}

/// What a new journal begins with: nothing but what concerns the broker as a whole.
fn empty(old: &[Recovered], shard: u8) -> Recovered {
    let published = old.first().map(|one| one.published.clone()).unwrap_or_default();
    Recovered {
        shard,
        position: Position::default(),
        next_session: 0,
        publications: published.get(&shard).copied().unwrap_or(0),
        published,
        transactions: old.iter().flat_map(|one| &one.completes).map(|highest| highest.number).max().unwrap_or(0),
        // Without a word from all of them the broker did not stop in order.
        stopped: old.iter().map(|one| one.stopped).min().flatten(),
        clock: old.iter().map(|one| one.clock).max().unwrap_or_default(),
        ..Recovered::default()
    }
}

fn take_in(home: &mut Recovered, mut session: RecoveredSession) {
    session.header.session = SessionNumber(home.next_session);
    home.next_session += 1;
    home.sessions.push(session);
}
