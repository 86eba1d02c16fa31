//! What became of the strangers.

use super::attack::Attack;
use super::attacker::{Attacker, Ending};
use crate::ledger::Tally;
use crate::report::Report;

/// What became of those who did one thing.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    begun: u64,
    accepted: u64,
    refused: u64,
    closed: u64,
    reset: u64,
    left: u64,
    answered: u64,
}

impl Counts {
    fn ended_by_broker(&self) -> u64 {
        self.refused + self.closed + self.reset
    }
}

/// What became of the strangers.
#[derive(Clone, Debug, Default)]
pub struct Toll {
    by_attack: [Counts; Attack::ALL.len()],
    /// Passwords that nobody has, and that the broker took.
    pub let_in: Tally,
    /// How many were due when as many as may be were connected.
    pub skipped: u64,
    /// Those that this machine kept from being begun.
    pub not_begun: Tally,
}

impl Toll {
    pub(super) fn begin(&mut self, attack: Attack) {
        self.by_attack[attack as usize].begun += 1;
    }

    /// Counts a connection that was refused as soon as it was begun.
    pub(super) fn refuse(&mut self, attack: Attack) {
        self.begin(attack);
        self.by_attack[attack as usize].refused += 1;
    }

    pub(super) fn end(&mut self, attacker: &Attacker, ending: Ending) {
        let counts = &mut self.by_attack[attacker.attack as usize];
        counts.accepted += u64::from(attacker.is_accepted || matches!(ending, Ending::Closed | Ending::Reset));
        counts.answered += u64::from(attacker.is_answered);
        match ending {
            Ending::Refused => counts.refused += 1,
            Ending::Closed => counts.closed += 1,
            Ending::Reset => counts.reset += 1,
            Ending::Left => counts.left += 1,
            Ending::LetIn => {
                counts.left += 1;
                self.let_in.add(|| "CONNACK, success, to a password that nobody has".into());
            }
        }
    }

    /// How many connections strangers began.
    pub fn begun(&self) -> u64 {
        self.by_attack.iter().map(|counts| counts.begun).sum()
    }

    /// Adds the counts to `report`.
    pub fn tell(&self, report: &mut Report) {
        let sum = |part: fn(&Counts) -> u64| self.by_attack.iter().map(part).sum::<u64>() as f64;
        let mut figure = |name: &str, title: &str, value| report.figure(name, title, value, "");
        figure("attacks", "connections of strangers", sum(|it| it.begun));
        figure("attacks_accepted", "… that TCP accepted", sum(|it| it.accepted));
        figure("attacks_refused", "… that TCP refused", sum(|it| it.refused));
        figure("attacks_closed", "… that the broker closed", sum(|it| it.closed));
        figure("attacks_reset", "… that the broker reset", sum(|it| it.reset));
        figure("attacks_answered", "… that had an answer, handshakes aside", sum(|it| it.answered));
        figure("attacks_left", "… that were open when their stranger left", sum(|it| it.left));
        for (attack, counts) in Attack::ALL.into_iter().zip(&self.by_attack).filter(|(_, counts)| counts.begun > 0) {
            let (name, title) = (attack.name().replace('-', "_"), attack.title());
            figure(&format!("attack_{name}"), title, counts.begun as f64);
            figure(
                &format!("attack_{name}_ended"),
                &format!("{title}: ended by the broker"),
                counts.ended_by_broker() as f64,
            );
            figure(&format!("attack_{name}_answered"), &format!("{title}: answered"), counts.answered as f64);
        }
    }
}
