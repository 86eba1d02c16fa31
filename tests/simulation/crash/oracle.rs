//! What the standard and WILLS.md say of a run: nothing that was promised is gone, and nothing happens twice.

use crate::crash::operating::Operator;
use crate::crash::run::{ACTORS, Attempt, NEVER, Part, Posted, Receipt, Run};
use std::collections::BTreeMap;
use std::time::Duration;
use willowmq::codec::{QoS, ReasonCode};
use willowmq::shard::WillFate;
use willowmq::timer::{Moment, Tick};

/// What must have become of a will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Published once, not before this moment.
    Published(Moment),
    /// Published once or never, not before this moment.
    Open(Moment),
    Unpublished,
}

/// When a will could be published: what happened shortly before a crash may have been lost with it, so there are two answers.
#[derive(Debug, Clone, Copy)]
struct Due {
    earliest: Moment,
    latest: Moment,
}

/// Everything that is wrong with a run.
pub(crate) fn complaints(run: &Run) -> Vec<String> {
    let mut complaints = Vec::new();
    sessions(run, &mut complaints);
    deliveries(run, &mut complaints);
    order(run, &mut complaints);
    retained(run, &mut complaints);
    wills(run, &mut complaints);
    complaints
}

/// A Session that was promised is there when its client comes back; who is connected at the end has had everything acknowledged.
fn sessions(run: &Run, complaints: &mut Vec<String>) {
    for (actor, client) in ACTORS.iter().enumerate() {
        let mut is_promised = false;
        let mut before = 0;
        for attempt in run.attempts.iter().filter(|attempt| attempt.actor == actor) {
            // An operator may have ended it between this connection and the one before.
            if let Some(opened) = run.sim.history(attempt.link).opened {
                let meanwhile = before..opened.event;
                is_promised &=
                    !run.operations.ended.iter().any(|(of, event)| *of == actor && meanwhile.contains(event));
                before = opened.event;
            }
            match attempt.answered {
                Some((at, ReasonCode::Success, present)) => {
                    if is_promised && !attempt.clean_start && !present {
                        complaints.push(format!("the Session of {} was lost, as it hears at {at:?}", client.name));
                    }
                    is_promised = attempt.expiry == NEVER;
                }
                // It may have been applied, or not.
                None if attempt.clean_start => is_promised = false,
                _ => {}
            }
        }
        if let Some(attempt) = run.usable(actor) {
            let memory = &run.sim.client(run.attempts[attempt].link).memory;
            if !memory.unacknowledged.is_empty() {
                complaints.push(format!("{} waits for ever: {:?}", client.name, memory.unacknowledged));
            }
        }
    }
}

fn receipts_of(run: &Run, number: usize, is_heard: impl Fn(&Receipt) -> bool) -> Vec<&Receipt> {
    run.receipts.iter().filter(|receipt| receipt.number == number && is_heard(receipt)).collect()
}

/// How often a message was used by its receivers.
fn uses(receipts: &[&Receipt]) -> usize {
    receipts.iter().filter(|receipt| !receipt.received.is_repeated && !receipt.received.retain).count()
}

fn deliveries(run: &Run, complaints: &mut Vec<String>) {
    for (number, posted) in run.posted.iter().enumerate().filter(|(_, posted)| !posted.is_will) {
        for (actor, watcher) in ACTORS.iter().enumerate().filter(|(_, client)| client.part == Part::Watcher) {
            let heard = receipts_of(run, number, |receipt| receipt.actor == actor);
            let is_asked = run.subscribed.get(&actor).is_some_and(|subscribed| *subscribed < posted.sent);
            let must_arrive = watcher.is_persistent && is_asked && must_arrive(posted);
            check_delivery(watcher.name, watcher.level, number, posted, &heard, must_arrive, complaints);
        }
        let is_member = |actor: usize| ACTORS[actor].part == Part::Member;
        let heard = receipts_of(run, number, |receipt| is_member(receipt.actor));
        let members = run.subscribed.iter().filter(|(actor, _)| is_member(**actor));
        let is_asked = members.clone().any(|(_, subscribed)| *subscribed < posted.sent);
        let must_arrive = posted.message.topic.starts_with("s/") && is_asked && must_arrive(posted);
        check_delivery("the group", 2, number, posted, &heard, must_arrive, complaints);
    }
}

fn must_arrive(posted: &Posted) -> bool {
    let message = &posted.message;
    posted.acknowledged.is_some() && message.expiry.is_none() && !message.payload.is_empty()
}

fn check_delivery(
    who: &str,
    level: u8,
    number: usize,
    posted: &Posted,
    heard: &[&Receipt],
    must_arrive: bool,
    complaints: &mut Vec<String>,
) {
    if must_arrive && heard.is_empty() {
        complaints.push(format!("{who} never got {number}, which was acknowledged: {posted:?}"));
    }
    let counts_once = match posted.message.qos {
        QoS::AtMostOnce => true,
        QoS::AtLeastOnce => false,
        QoS::ExactlyOnce => level == 2,
    };
    if counts_once && uses(heard) > 1 {
        complaints.push(format!("{who} got {number} {} times: {posted:?}, {heard:?}", uses(heard)));
    }
}

/// What one client publishes to one topic with one QoS arrives in that order. [MQTT-4.6.0-5]
fn order(run: &Run, complaints: &mut Vec<String>) {
    let mut newest: BTreeMap<(usize, usize, &str, u8), usize> = BTreeMap::new();
    let mut known = std::collections::BTreeSet::new();
    for receipt in &run.receipts {
        let watcher = &ACTORS[receipt.actor];
        let posted = &run.posted[receipt.number];
        // What has expired in a queue lives anew when its author sends it again.
        let is_timeless = posted.message.expiry.is_none();
        let is_live = !posted.is_will && !receipt.received.retain;
        if watcher.part != Part::Watcher || !is_live || !is_timeless || may_have_been_refused(run, posted) {
            continue;
        }
        let stay = if watcher.is_persistent { 0 } else { receipt.attempt };
        if !known.insert((receipt.actor, stay, receipt.number)) {
            continue; // It was sent again.
        }
        let message = &posted.message;
        let line = (receipt.actor * 10_000 + stay, posted.actor, &*message.topic, message.qos.as_u8());
        if let Some(before) = newest.insert(line, receipt.number).filter(|before| *before > receipt.number) {
            complaints.push(format!("{} got {} after {before}: {posted:?}", watcher.name, receipt.number));
        }
    }
}

/// Whether the disk was failing while a message was not acknowledged: it may have been refused at first, and its turn came later.
fn may_have_been_refused(run: &Run, posted: &Posted) -> bool {
    let until = posted.acknowledged.map_or(u64::MAX, |at| at.event);
    run.trouble.iter().any(|event| (posted.sent.event..=until).contains(event))
}

/// A retained message is never older than one that was acknowledged before somebody asked.
fn retained(run: &Run, complaints: &mut Vec<String>) {
    for glimpse in &run.glimpses {
        let versions = run.posted.iter().enumerate();
        let versions = versions.filter(|(_, posted)| posted.message.retain && posted.message.topic == glimpse.topic);
        let versions: Vec<_> = versions.filter(|(_, posted)| posted.sent < glimpse.seen).collect();
        let is_settled = |posted: &Posted| posted.acknowledged.is_some_and(|at| at < glimpse.asked);
        let floor = versions.iter().rposition(|(_, posted)| is_settled(posted));
        let possible = &versions[floor.unwrap_or(0)..];
        let since = floor.map(|floor| versions[floor].1.sent);
        // What was not acknowledged then is sent again, and takes effect again if it has QoS 1 or was refused at first.
        let comes_again = |posted: &Posted| {
            let is_repeated = posted.message.qos == QoS::AtLeastOnce || may_have_been_refused(run, posted);
            is_repeated && posted.acknowledged.is_none_or(|at| since.is_none_or(|since| at > since))
        };
        let may_be_gone = |posted: &Posted| posted.message.payload.is_empty() || posted.message.expiry.is_some();
        let is_right = match glimpse.number {
            Some(number) => possible.iter().any(|(version, _)| *version == number) || comes_again(&run.posted[number]),
            None => {
                floor.is_none()
                    || possible.iter().any(|(_, posted)| may_be_gone(posted))
                    || versions.iter().any(|(_, posted)| may_be_gone(posted) && comes_again(posted))
            }
        };
        if !is_right {
            complaints.push(format!("{glimpse:?} was none of {possible:?}"));
        }
        let expired = glimpse.number.and_then(|number| {
            let posted = &run.posted[number];
            let interval = Duration::from_secs(posted.message.expiry?.into());
            (posted.acknowledged?.moment + interval + Tick::LENGTH < glimpse.asked.moment).then_some(posted)
        });
        if let Some(posted) = expired {
            complaints.push(format!("{glimpse:?} had expired: {posted:?}"));
        }
    }
}

fn wills(run: &Run, complaints: &mut Vec<String>) {
    for (index, attempt) in run.attempts.iter().enumerate() {
        let Some((number, delay)) = attempt.will else { continue };
        let fate = fate(run, index, delay);
        let posted = &run.posted[number];
        let heard = receipts_of(run, number, |receipt| receipt.actor == 0 && !receipt.received.retain);
        // With QoS 1 it may come again after a crash, but it is one message: not twice on one connection, except with DUP.
        let new: Vec<_> = heard.iter().filter(|receipt| !receipt.received.dup).map(|receipt| receipt.attempt).collect();
        let most = new.iter().map(|attempt| new.iter().filter(|other| *other == attempt).count()).max();
        let used = if posted.message.qos == QoS::ExactlyOnce { uses(&heard) } else { most.unwrap_or(0) };
        let is_kept = posted.message.qos != QoS::AtMostOnce;
        let first = heard.iter().map(|receipt| receipt.at.moment).min();
        let is_wrong = match fate {
            Fate::Unpublished => !heard.is_empty(),
            Fate::Published(earliest) => {
                used > 1 || (is_kept && heard.is_empty()) || first.is_some_and(|first| first < earliest)
            }
            Fate::Open(earliest) => used > 1 || first.is_some_and(|first| first < earliest),
        };
        if is_wrong {
            let closed = run.sim.history(attempt.link).closed;
            complaints.push(format!(
                "the will {number} should have been {fate:?}, but {used} of {heard:?}; {attempt:?} closed {closed:?}; \
                 openings {:?}, ends {:?}, marks {:?}",
                run.sim.journals().openings,
                run.sim.journals().ends,
                run.marks,
            ));
        }
    }
}

/// How a later connection of the same client bears on a will.
enum Return<'a> {
    None,
    /// It may have been applied, or lost in a crash.
    Perhaps(Moment),
    Certain(&'a Attempt, Moment, u64),
}

/// The order in which the broker saw them counts: of two that arrive together either may be first.
fn next_of(run: &Run, index: usize) -> Return<'_> {
    let attempt = &run.attempts[index];
    let opened = |attempt: &Attempt| run.sim.history(attempt.link).opened;
    let own = opened(attempt);
    let same = run.attempts.iter().filter(|next| next.actor == attempt.actor);
    let mut later: Vec<_> = same.filter_map(|next| Some((opened(next)?, next))).collect();
    later.retain(|(at, _)| Some(*at) > own);
    later.sort_by_key(|(at, _)| *at);
    for (opened, next) in later {
        match next.answered {
            Some((_, ReasonCode::Success, _)) => return Return::Certain(next, opened.moment, opened.event),
            Some(_) => {}
            None => return Return::Perhaps(opened.moment),
        }
    }
    Return::None
}

/// What an operator has decided about a will. Two may have, where the broker died before the first was certain.
fn decided(run: &Run, attempt: &Attempt, opened: Moment) -> Option<Fate> {
    let (number, _) = attempt.will?;
    let about = || run.operations.decisions.iter().filter(|decision| decision.will == number);
    about().next()?;
    Some(match about().find(|decision| decision.is_certain) {
        Some(decision) if decision.fate == WillFate::Discard => Fate::Unpublished,
        // It is due, and might still be so when the broker dies: then its client may be back first.
        Some(decision) if decision.ends_session => Fate::Open(opened),
        Some(_) => Fate::Published(about().map(|decision| decision.at).min().unwrap_or(opened)),
        None => Fate::Open(opened),
    })
}

/// What becomes of a will, with holds and drains considered: whoever comes back later than a will was due may find it held yet.
fn fate(run: &Run, index: usize, delay: u32) -> Fate {
    match undisturbed_fate(run, index, delay) {
        Fate::Published(earliest) if run.operations.operator == Operator::Plans => {
            let is_back = !matches!(next_of(run, index), Return::None);
            // What a hold has kept back may have been discarded, too, at the end of that.
            if is_back || run.operations.has_discarded { Fate::Open(earliest) } else { Fate::Published(earliest) }
        }
        fate => fate,
    }
}

fn undisturbed_fate(run: &Run, index: usize, delay: u32) -> Fate {
    let attempt = &run.attempts[index];
    let history = run.sim.history(attempt.link);
    let Some(opened) = history.opened else { return Fate::Unpublished };
    match attempt.answered {
        Some((_, ReasonCode::Success, _)) => {}
        Some(_) => return Fate::Unpublished,
        None => return Fate::Open(opened.moment), // Whether it was armed, nobody knows.
    }
    if let Some(fate) = decided(run, attempt, opened.moment) {
        return fate;
    }
    let next = next_of(run, index);
    let closed = match next {
        Return::Certain(_, _, event) => history.closed.filter(|closed| closed.event < event),
        Return::None | Return::Perhaps(_) => history.closed,
    };
    let is_last_life = attempt.life == run.life();
    let is_certain = closed.is_some_and(|closed| {
        is_last_life || run.marks.get(&attempt.life).is_some_and(|mark| mark.event > closed.event)
    });
    if attempt.goodbye.is_some_and(|end| end <= history.bytes_arrived) {
        // What the broker heard, it may have forgotten.
        return if is_certain { Fate::Unpublished } else { Fate::Open(opened.moment) };
    }
    let due = due(run, attempt, closed.map(|closed| closed.moment), is_certain, delay);
    let after = |moment: Moment| Fate::Published(moment);
    match next {
        Return::None if due.latest + Tick::LENGTH + Tick::LENGTH < run.now() => after(due.earliest),
        Return::None => Fate::Open(due.earliest),
        Return::Perhaps(opened) => Fate::Open(due.earliest.min(opened)),
        Return::Certain(_, opened, _) if due.latest + Tick::LENGTH < opened => after(due.earliest),
        Return::Certain(next, opened, _) if opened < due.earliest => {
            let is_takeover = next.life == attempt.life && closed.is_none();
            let is_discarded = !next.clean_start && (!is_takeover || (delay > 0 && attempt.expiry > 0));
            if is_discarded { Fate::Unpublished } else { after(opened) }
        }
        Return::Certain(_, opened, _) => Fate::Open(due.earliest.min(opened)),
    }
}

fn due(run: &Run, attempt: &Attempt, closed: Option<Moment>, is_certain: bool, delay: u32) -> Due {
    let journals = run.sim.journals();
    let delay = Duration::from_secs(delay.min(attempt.expiry).into());
    let grace = match attempt.keep_alive {
        0 => Duration::from_secs(60),
        keep_alive => Duration::from_millis(1500 * u64::from(keep_alive)),
    };
    let end = |life: usize| journals.ends.get(life).copied();
    let opening = |life: usize| journals.openings.get(life).copied();
    let first = attempt.life;
    let mut due = match (closed, end(first).zip(opening(first + 1))) {
        (Some(closed), _) => Due { earliest: closed + delay, latest: closed + delay },
        (None, Some((ended, opened))) => {
            Due { earliest: (ended + delay).max(opened + grace), latest: (opened + delay).max(opened + grace) }
        }
        (None, None) => Due { earliest: Moment::MAX, latest: Moment::MAX },
    };
    for life in first..run.life() {
        let (Some(ended), Some(opened)) = (end(life), opening(life + 1)) else { break };
        if closed.is_none() && life == first {
            continue;
        }
        let has_closed = life > first || is_certain;
        if due.earliest > ended {
            due.earliest = due.earliest.max(opened + grace);
        }
        let mark = run.marks.get(&life).map(|mark| mark.moment);
        let is_published = has_closed && mark.is_some_and(|mark| mark >= due.latest + Tick::LENGTH);
        if !is_published {
            let counted_anew = if has_closed { due.latest } else { opened + delay };
            due.latest = due.latest.max(counted_anew).max(opened + grace);
        }
    }
    due
}
