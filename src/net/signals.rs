//! SIGTERM and SIGINT: the first asks for a clean stop, the second ends the process at once. SIGHUP: settings and files are
//! read again, and the file of the log is opened anew.

use std::process::exit;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use glommio::ExecutorJoinHandle;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use super::bind::notify;
use super::drain::Stop;
use super::logging::Control;
use super::plan::Plan;
use super::reload::Reloader;
use super::report::ShardReport;
use super::startup::StartError;

/// The shards keep to `shutdown_timeout` themselves; one that hangs is given so much more.
const GRACE: Duration = Duration::from_secs(2);
/// How long a log line has to be written before the process ends.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// Exit code after a second signal, or when the clean stop did not end in time.
const CUT_SHORT: i32 = 1;

/// The signals of the process. They are received on the main thread, which has nothing else to do.
pub(super) struct Signals {
    received: signal_hook::iterator::Signals,
    /// There was a hangup before the broker could reload anything.
    has_hung_up: bool,
}

impl Signals {
    /// Receives the signals from now on.
    ///
    /// # Errors
    /// [`StartError::System`] when the handlers cannot be installed.
    pub(super) fn register() -> Result<Self, StartError> {
        let failed = |error| StartError::System { what: "cannot receive signals", error };
        // Unless somebody takes it, it ends a process that writes beyond RLIMIT_FSIZE. The write fails as well, like one to a full disk.
        signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(failed)?;
        match signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]) {
            Ok(received) => Ok(Self { received, has_hung_up: false }),
            Err(error) => Err(failed(error)),
        }
    }

    /// Ends the process if a signal asks for it. Before the listeners open there is nobody to say goodbye to, and what a crash would leave
    /// behind is as good. A hangup is remembered: journals may take minutes to read, and the settings were read before them.
    pub(super) fn end_if_asked(&mut self) {
        let (hangups, ends): (Vec<_>, Vec<_>) = self.received.pending().partition(|&signal| signal == SIGHUP);
        self.has_hung_up |= !hangups.is_empty();
        if !ends.is_empty() {
            tracing::info!("a signal: ending before the start is complete");
            thread::sleep(LAST_WORDS);
            exit(0);
        }
    }

    /// Waits until all shards have ended, and stops them at the first signal that asks for it.
    ///
    /// # Errors
    /// [`StartError::Executor`] when a shard could not even begin.
    pub(super) fn serve(
        mut self,
        plan: &Plan,
        reloader: &Reloader,
        log: &Control,
        own_stop: &Stop,
        threads: Vec<ExecutorJoinHandle<Option<ShardReport>>>,
    ) -> Result<Vec<ShardReport>, StartError> {
        let handle = self.received.handle();
        let (stopping, stop) = channel::<()>();
        // Joining blocks, and so do signals: one of the two needs a thread of its own.
        let joining = thread::spawn(move || {
            let ends: Vec<_> = threads.into_iter().map(ExecutorJoinHandle::join).collect();
            handle.close();
            ends
        });
        let mut watchdog = Some(stop);
        let hang_up = || {
            log.reopen();
            reloader.order();
        };
        if self.has_hung_up {
            hang_up();
        }
        for signal in self.received.forever() {
            if signal == SIGHUP {
                hang_up();
                continue;
            }
            let is_ours = own_stop.is_asked();
            let Some(stop) = watchdog.take() else {
                if is_ours {
                    continue; // The drain ended just when somebody else stopped the broker.
                }
                tracing::warn!("a second signal: ending at once");
                exit(CUT_SHORT);
            };
            if !is_ours {
                tracing::info!("a signal: stopping cleanly, a second one ends at once");
            }
            let _ = notify("STOPPING=1"); // Whoever does not hear it waits for the end anyway.
            plan.mesh.stop();
            let shutdown_timeout = plan.config().shutdown_timeout;
            thread::spawn(move || watch(&stop, shutdown_timeout + GRACE));
        }
        let ends = joining.join().expect("a panic ends the process");
        drop(stopping);
        let reports = ends
            .into_iter()
            .enumerate()
            .map(|(shard, end)| end.map_err(|error| StartError::Executor { shard, message: error.to_string() }));
        Ok(reports.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

/// Ends the process when the shards do not.
fn watch(stopped: &std::sync::mpsc::Receiver<()>, patience: Duration) {
    let start = Instant::now();
    if stopped.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        tracing::error!("not stopped after {:?}: ending", start.elapsed());
        exit(CUT_SHORT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_as_large_as_files_may_be_does_not_end_the_process() {
        let _signals = Signals::register().unwrap();
        signal_hook::low_level::raise(SIGXFSZ).unwrap();
    }

    #[test]
    fn a_hangup_during_the_start_is_remembered() {
        let mut signals = Signals::register().unwrap();
        signals.end_if_asked();
        assert!(!signals.has_hung_up);
        signal_hook::low_level::raise(SIGHUP).unwrap();
        signals.end_if_asked();
        signals.end_if_asked();
        assert!(signals.has_hung_up);
    }
}
