//! What is left to be done when somebody ends a storm early.

use std::time::Duration;

use anyhow::Result;

use super::Session;
use crate::run::Run;

/// Wills of those that were cut shortly before are published, and retained, in this time.
const SETTLING: Duration = Duration::from_millis(500);
/// How long the removal of what is retained may take.
const REMOVAL: Duration = Duration::from_secs(3);

impl Session {
    /// Removes what the broker retained, now that everybody has parted; tells what was interrupted.
    pub(in crate::scenario::storm) fn clean_up(&mut self, run: &mut Run) -> Result<String> {
        let mut told = self.interrupted();
        run.progress.finish();
        if self.storm_began.is_none() || !self.storm.will_retain {
            return Ok(told);
        }
        run.fleet.ignore_interrupt(); // The next one ends the process.
        self.is_parting = true;
        self.traffic = None;
        self.next_cut = self.cuts_end;
        self.returns.clear();
        self.ramp.give_up();
        run.drive(self, run.now() + SETTLING, |_| false)?;
        self.is_late_watcher_gone = false;
        self.aftermath.begin_removal();
        self.ramp.extend([self.roles.late_watcher()]);
        let deadline = run.now() + REMOVAL;
        run.drive(self, deadline, |it| it.aftermath.is_removed() || it.is_late_watcher_gone)?;
        run.fleet.part();
        let (removed, all) = (self.aftermath.removed(), self.storm.clients);
        told += &format!("; {removed} of {all} topics of retained wills were emptied");
        Ok(told)
    }

    fn interrupted(&self) -> String {
        if self.storm_began.is_none() {
            return "interrupted before the storm: every client said goodbye, and no will is published".into();
        }
        let (cut, heard, expected) = (self.next_cut, self.wills.delivered, self.wills.expected());
        let mut told =
            format!("interrupted in the storm: {cut} clients were cut, {heard} of {expected} wills had come");
        if self.wills.last_due() > self.now {
            told += "; those that are due later will still be published";
        }
        told
    }
}
