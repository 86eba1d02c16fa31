//! Wills: for each that was accepted, published exactly once and never early, or discarded for a reason.

use super::subscriptions::{Audience, AudienceId, Subscriptions};
use super::{Counts, Fault, Grace, SURELY};
use crate::history::{Connecting, Moment, Receiving, Stamp, Who, Will};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Broker and clients measure with the same clock, but not in the same unit.
const ROUNDING: Duration = Duration::from_millis(20);
/// The grace of a client without Keep Alive.
const GRACE_WITHOUT_KEEP_ALIVE: Duration = Duration::from_secs(60);

/// ```text
/// Offered ─CONNACK─▶ Armed ─DISCONNECT─▶ Leaving ─the broker closes─▶ Left, after a while Discarded
///    └──────────kill───┴── cut, kill ──────┴─kill───▶ Due ─back in time─▶ Discarded
///                                                       └────seen────▶ Published
/// ```
#[derive(Clone, PartialEq, Debug)]
enum Fate {
    /// CONNECT was sent.
    Offered,
    /// CONNACK has come and the connection stands.
    Armed,
    /// DISCONNECT was sent.
    Leaving,
    /// The broker closed after DISCONNECT.
    Left(Moment),
    Due(Due),
    Published,
    Discarded,
}

/// Neither client nor connection is there: it is to be published some time.
#[derive(Clone, PartialEq, Debug)]
struct Due {
    earliest: Moment,
    latest: Moment,
    /// The broker was killed meanwhile: the grace of the present start counts.
    held: bool,
    /// It may have been published; `earliest` does not move any more.
    perhaps_published: bool,
    /// It was published for sure, and is only on its way: it cannot be discarded any more.
    published: bool,
    /// It may have been discarded.
    optional: bool,
}

struct Tracked {
    will: Will,
    expiry: Duration,
    grace: Duration,
    /// Subscriptions that it must reach.
    watchers: Vec<AudienceId>,
    fate: Fate,
    accepted: bool,
    seen: HashMap<AudienceId, Moment>,
}

pub(crate) struct Wills {
    grace: Grace,
    all: HashMap<Stamp, Tracked>,
    /// Wills of a client whose end is not known.
    undecided: HashMap<Who, Vec<Stamp>>,
    /// Clients that have sent DISCONNECT.
    leaving: HashSet<Who>,
    /// Since when a client has its connection.
    connected: HashMap<Who, Moment>,
    /// CONNECT was sent then, with this Clean Start.
    asking: HashMap<Who, (Moment, bool)>,
    /// The broker was killed before the answer to this CONNECT was read; it may still come.
    unanswered: HashMap<Who, Stamp>,
    kills: Vec<Moment>,
    /// Until then nobody listened.
    refused: Moment,
    listening: Option<Moment>,
}

impl Tracked {
    /// The Will Delay Interval, which ends with the session.
    fn delay(&self) -> Duration {
        self.will.delay.min(self.expiry)
    }

    fn due(&self, since: Moment, held: bool, optional: bool) -> Fate {
        let at = since + self.delay();
        let (perhaps_published, published) = (false, false);
        Fate::Due(Due { earliest: at, latest: at, held, perhaps_published, published, optional })
    }
}

impl Wills {
    pub(crate) fn new(grace: Grace) -> Self {
        Self {
            grace,
            all: HashMap::new(),
            undecided: HashMap::new(),
            leaving: HashSet::new(),
            connected: HashMap::new(),
            asking: HashMap::new(),
            unanswered: HashMap::new(),
            kills: Vec::new(),
            refused: Moment::ZERO,
            listening: None,
        }
    }

    pub(crate) fn connect(&mut self, at: Moment, who: Who, connecting: &Connecting, watchers: Vec<AudienceId>) {
        self.leaving.remove(&who);
        self.unanswered.remove(&who);
        self.asking.insert(who, (at, connecting.clean_start));
        self.each_due(who, |tracked, due, (earliest, latest)| {
            if connecting.clean_start {
                due.earliest = earliest.min(at); // The old session ends: published at once.
                due.perhaps_published = true;
            } else if latest.is_none_or(|latest| at <= latest + SURELY) && !due.published && !tracked.is_prompt(due) {
                due.optional = true; // Unless CONNACK settles it.
            }
        });
        let Some(will) = connecting.will.clone() else { return };
        let grace = match self.grace {
            Grace::Of(grace) => grace,
            Grace::KeepAlive if connecting.keep_alive.is_zero() => GRACE_WITHOUT_KEEP_ALIVE,
            Grace::KeepAlive => connecting.keep_alive * 3 / 2,
        };
        let stamp = Stamp::will(who, will.number);
        let (expiry, seen, fate) = (connecting.expiry, HashMap::new(), Fate::Offered);
        self.all.insert(stamp, Tracked { will, expiry, grace, watchers, fate, accepted: false, seen });
        self.undecided.entry(who).or_default().push(stamp);
    }

    pub(crate) fn connack(&mut self, at: Moment, who: Who) {
        let Some((_, clean_start)) = self.asking.remove(&who) else { return self.late_connack(who) };
        self.connected.insert(who, at);
        let mut discarded = Vec::new();
        self.each_due(who, |tracked, due, (earliest, _)| {
            if clean_start {
                due.published = true; // Death before birth.
            } else if at < earliest && !due.perhaps_published && !due.published && !tracked.expiry.is_zero() {
                discarded.push(Stamp::will(who, tracked.will.number));
            } else if !due.optional {
                due.published = true; // It was due before the CONNECT, so before CONNACK.
            }
        });
        for stamp in discarded {
            self.decide(stamp, Fate::Discarded);
        }
        self.change(who, |tracked| match tracked.fate {
            Fate::Offered => {
                tracked.accepted = true;
                Some(Fate::Armed)
            }
            _ => None,
        });
    }

    /// It was sent before the kill, so the will is armed after all.
    fn late_connack(&mut self, who: Who) {
        let tracked = self.unanswered.remove(&who).and_then(|stamp| self.all.get_mut(&stamp));
        if let Some(tracked) = tracked
            && let Fate::Due(due) = &mut tracked.fate
        {
            (tracked.accepted, due.optional) = (true, false);
        }
    }

    pub(crate) fn refusal(&mut self, who: Who) {
        self.asking.remove(&who);
        self.change(who, |tracked| (tracked.fate == Fate::Offered).then_some(Fate::Discarded));
    }

    pub(crate) fn disconnect(&mut self, who: Who) {
        self.leaving.insert(who);
        self.change(who, |tracked| (tracked.fate == Fate::Armed).then_some(Fate::Leaving));
    }

    /// The connection ends without DISCONNECT, or with one that wants the will.
    pub(crate) fn cut(&mut self, at: Moment, who: Who) {
        self.leaving.insert(who);
        self.connected.remove(&who);
        self.change(who, |tracked| match tracked.fate {
            Fate::Offered => Some(tracked.due(at, false, true)),
            Fate::Armed => Some(tracked.due(at, false, false)),
            _ => None,
        });
    }

    /// The broker, which is alive, has closed; whether the client had asked for that.
    pub(crate) fn closed(&mut self, at: Moment, who: Who) -> bool {
        self.connected.remove(&who);
        self.change(who, |tracked| (tracked.fate == Fate::Leaving).then_some(Fate::Left(at)));
        self.leaving.remove(&who)
    }

    pub(crate) fn killed(&mut self, at: Moment) {
        self.kills.push(at);
        self.connected.clear();
        self.asking.clear();
        for who in self.undecided.keys().copied().collect::<Vec<_>>() {
            self.each_due(who, |tracked, due, (earliest, latest)| {
                due.optional |= tracked.will.qos == 0 && earliest <= at; // It may have been on its way.
                due.published |= latest.is_some_and(|latest| latest + SURELY < at) && !due.optional;
                if !due.published {
                    due.perhaps_published |= earliest <= at;
                    due.earliest = if due.perhaps_published { earliest } else { due.earliest };
                    due.held = true;
                }
            });
            let offered = |stamp: &&Stamp| self.all[*stamp].fate == Fate::Offered;
            if let Some(stamp) = self.undecided[&who].iter().find(offered) {
                self.unanswered.insert(who, *stamp);
            }
            self.change(who, |tracked| match tracked.fate {
                Fate::Armed => Some(tracked.due(at, true, false)),
                Fate::Left(left) if left + SURELY < at => Some(Fate::Discarded),
                Fate::Offered | Fate::Leaving | Fate::Left(_) => Some(tracked.due(at, true, true)),
                _ => None,
            });
        }
    }

    pub(crate) fn started(&mut self, at: Moment) {
        (self.refused, self.listening) = (at, None);
    }

    pub(crate) fn refused(&mut self, at: Moment) {
        self.refused = at;
    }

    pub(crate) fn listening(&mut self, at: Moment) {
        self.listening = Some(at);
    }

    /// A watcher has received it. The will, if there is such a one.
    pub(crate) fn receive(
        &mut self,
        at: Moment,
        subscriptions: &Subscriptions,
        audience: AudienceId,
        receiving: &Receiving,
        stamp: Stamp,
        faults: &mut Vec<Fault>,
    ) -> Option<Will> {
        let (refused, listening) = (self.refused, self.listening);
        let tracked = self.all.get_mut(&stamp).filter(|tracked| tracked.will.topic == receiving.topic)?;
        match &tracked.fate {
            Fate::Published => {}
            Fate::Offered | Fate::Armed => faults.push(Fault::WillEarly { stamp, early: None }),
            Fate::Leaving | Fate::Left(_) | Fate::Discarded => faults.push(Fault::WillAfterAll { stamp }),
            Fate::Due(due) => {
                let (earliest, _) = window(tracked, due, refused, listening);
                if at + ROUNDING < earliest {
                    faults.push(Fault::WillEarly { stamp, early: Some(earliest - at) });
                }
            }
        }
        if let Some(before) = tracked.seen.insert(audience, at) {
            // A repetition of QoS 1 is right if the acknowledgement of the first may have been lost.
            let end = self.kills.iter().find(|kill| **kill >= before);
            let is_repetition = receiving.dup || end.is_some_and(|end| *end < before + SURELY);
            if receiving.qos != 1 || !is_repetition {
                faults.push(Fault::WillDoubled { watcher: subscriptions.name(audience).clone(), stamp });
            }
        }
        let will = tracked.will.clone();
        self.decide(stamp, Fate::Published);
        Some(will)
    }

    /// Watchers and the wills that they must get.
    pub(crate) fn owed(&self, subscriptions: &Subscriptions) -> impl Iterator<Item = (AudienceId, Stamp)> {
        let owing = self.all.iter().filter(|(_, tracked)| match &tracked.fate {
            Fate::Published => true, // What one has seen all must see.
            Fate::Due(due) => !due.optional,
            _ => false,
        });
        owing.flat_map(move |(stamp, tracked)| {
            let watchers = tracked.watchers.iter().copied();
            let is_owed = |watcher: &AudienceId| {
                !tracked.seen.contains_key(watcher)
                    && subscriptions.is_sure(*watcher)
                    && (tracked.will.qos.min(subscriptions.qos(*watcher)) > 0
                        || self.was_connected(tracked, subscriptions.name(*watcher)))
            };
            watchers.filter(is_owed).map(|watcher| (watcher, *stamp)).collect::<Vec<_>>()
        })
    }

    pub(crate) fn count(&self, counts: &mut Counts) {
        for tracked in self.all.values() {
            counts.wills_armed += u64::from(tracked.accepted);
            match &tracked.fate {
                Fate::Published => counts.wills_published += 1,
                Fate::Leaving | Fate::Left(_) | Fate::Discarded => counts.wills_discarded += 1,
                Fate::Due(due) if due.optional => counts.wills_open += 1,
                _ => {}
            }
        }
    }

    /// Whether a will of QoS 0 found the watcher connected.
    fn was_connected(&self, tracked: &Tracked, watcher: &Audience) -> bool {
        let Fate::Due(due) = &tracked.fate else { return false };
        let Audience::Client(who) = watcher else { return false };
        let (earliest, _) = window(tracked, due, self.refused, self.listening);
        self.connected.get(who).is_some_and(|since| *since < earliest)
    }

    /// Calls `change` for each of the client's wills that is due, with its window of time.
    fn each_due(&mut self, who: Who, mut change: impl FnMut(&Tracked, &mut Due, (Moment, Option<Moment>))) {
        for stamp in self.undecided.get(&who).into_iter().flatten() {
            let Some(tracked) = self.all.get_mut(stamp) else { continue };
            if let Fate::Due(mut due) = tracked.fate.clone() {
                let window = window(tracked, &due, self.refused, self.listening);
                change(tracked, &mut due, window);
                tracked.fate = Fate::Due(due);
            }
        }
    }

    fn change(&mut self, who: Who, mut next: impl FnMut(&mut Tracked) -> Option<Fate>) {
        for stamp in self.undecided.get(&who).cloned().unwrap_or_default() {
            if let Some(fate) = self.all.get_mut(&stamp).and_then(&mut next) {
                self.decide(stamp, fate);
            }
        }
    }

    fn decide(&mut self, stamp: Stamp, fate: Fate) {
        if matches!(fate, Fate::Published | Fate::Discarded)
            && let Some(stamps) = self.undecided.get_mut(&stamp.author)
        {
            stamps.retain(|other| *other != stamp);
        }
        if let Some(tracked) = self.all.get_mut(&stamp) {
            tracked.fate = fate;
        }
    }
}

impl Tracked {
    /// A will without delay whose connection ended while the broker ran: nobody can come back in time. If it is the session that leaves
    /// no time, a new connection that overtakes the end of the old one may be in time.
    fn is_prompt(&self, due: &Due) -> bool {
        !due.held && self.will.delay.is_zero()
    }
}

/// The earliest and the latest moment at which the will falls due; the latest is not known before the broker listens.
fn window(tracked: &Tracked, due: &Due, refused: Moment, listening: Option<Moment>) -> (Moment, Option<Moment>) {
    let earliest = match due {
        Due { held: true, perhaps_published: false, .. } => due.earliest.max(refused + tracked.grace),
        _ => due.earliest,
    };
    let latest = if due.held {
        listening.map(|listening| listening + tracked.grace.max(tracked.delay()))
    } else {
        Some(due.latest)
    };
    (earliest, latest)
}
