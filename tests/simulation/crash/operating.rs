//! What an operator does in a drawn run, and what must follow from it.

use crate::crash::run::{ACTORS, Run};
use crate::simulation::Random;
use std::time::Duration;
use willowmq::shard::inspect::{Outcome, Receipt};
use willowmq::shard::{Hold, WillFate};
use willowmq::timer::Moment;

/// What kind of operator there is in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Operator {
    /// None.
    #[default]
    Absent,
    /// One who decides what becomes of wills and Sessions.
    Decides,
    /// One who holds wills back, and drains the broker.
    Plans,
}

/// An operator's word about a will.
#[derive(Debug)]
pub(crate) struct Decision {
    /// The number of the will.
    pub(crate) will: usize,
    pub(crate) fate: WillFate,
    pub(crate) at: Moment,
    /// The Session has ended with that.
    pub(crate) ends_session: bool,
    /// The operator has heard that it is done.
    pub(crate) is_certain: bool,
    receipt: (usize, Receipt),
    life: usize,
}

/// All of them, and the rest of what an operator has done.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    pub(crate) operator: Operator,
    pub(crate) decisions: Vec<Decision>,
    /// Sessions that were ended: of which client, and at which event.
    pub(crate) ended: Vec<(usize, u64)>,
    /// A hold has ended with its wills discarded.
    pub(crate) has_discarded: bool,
}

impl Run {
    /// Has the operator do something about a device.
    pub(crate) fn operate(&mut self, actor: usize, random: &mut Random) {
        match self.operations.operator {
            Operator::Absent => {}
            Operator::Decides => self.decide(actor, random),
            Operator::Plans => self.plan(random),
        }
    }

    fn decide(&mut self, actor: usize, random: &mut Random) {
        let name = ACTORS[actor].name;
        let home = self.sim.home(name);
        // Of which connection a will is tells its payload, which is its number.
        let detail = self.sim.shards()[home].will(name);
        let will = detail.map(|detail| String::from_utf8_lossy(detail.message.payload()).parse().expect("a number"));
        let fate = if random.one_in(2) { WillFate::Publish } else { WillFate::Discard };
        let ends_session = random.one_in(3);
        let at = self.sim.now();
        let outcome = self.sim.control(home, |shard, now| match fate {
            _ if ends_session => shard.end_session_of(now, name, fate),
            WillFate::Publish => shard.publish_will_now(now, name),
            WillFate::Discard => shard.discard_will(now, name),
        });
        let Outcome::Done(receipt) = outcome else { return };
        if ends_session {
            let event = self.sim.at().event;
            self.operations.ended.push((actor, event));
        }
        if let Some(will) = will {
            let (life, receipt) = (self.life(), (home, receipt));
            self.operations.decisions.push(Decision { will, fate, at, ends_session, is_certain: false, receipt, life });
        }
    }

    fn plan(&mut self, random: &mut Random) {
        let kind = random.below(5);
        let fate = if random.one_in(4) { WillFate::Discard } else { WillFate::Publish };
        self.operations.has_discarded |= kind == 1 && fate == WillFate::Discard;
        let over = Duration::from_millis([0, 500, 4000][random.below(3)]);
        for shard in 0..self.sim.shards().len() {
            self.sim.control(shard, |shard, now| match kind {
                0 => drop(shard.hold_wills(Hold::All)),
                1 => drop(shard.release_wills(&Hold::All, fate)),
                2 => shard.begin_drain(now, over),
                _ => shard.cancel_drain(now),
            });
        }
    }

    /// The planned work is over: clients may come, and what is held is published.
    pub(crate) fn end_of_work(&mut self) {
        for shard in 0..self.sim.shards().len() {
            self.sim.control(shard, |shard, now| {
                shard.release_wills(&Hold::All, WillFate::Publish);
                shard.cancel_drain(now);
            });
        }
    }

    /// Looks at which decisions are certain by now.
    pub(crate) fn await_decisions(&mut self) {
        let life = self.life();
        for decision in &mut self.operations.decisions {
            let (home, receipt) = decision.receipt;
            if decision.life == life && !decision.is_certain {
                decision.is_certain = self.sim.shards()[home].is_certain(receipt);
            }
        }
    }
}
