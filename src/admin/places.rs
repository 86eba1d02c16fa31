//! Places for connections, and who has to leave when there is none left.
//!
//! Anybody who reaches the address can open connections, and say nothing or ask for the health of the broker again and again. So a place is
//! kept only by requests of those who were let in, until they are answered, and by streams until they end. Everybody else may have to make
//! room for who comes next, those first who came first: they had time to say what they want.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// After an answer a connection rests for so long before it has to make room: the answer may still be on its way, and the next request, too.
const REST: Duration = Duration::from_secs(1);
/// Where nobody may be sent away, that is looked at again so often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The places of a server.
#[derive(Clone)]
pub(super) struct Places(Arc<Shared>);

struct Shared {
    free: Arc<Semaphore>,
    number: usize,
    guests: Mutex<Guests>,
    /// Connections that had to make room.
    given_up: AtomicU64,
}

#[derive(Default)]
struct Guests {
    next: u64,
    /// In the order of their coming.
    seated: BTreeMap<u64, Guest>,
}

/// A connection that has a place.
#[derive(Default)]
struct Guest {
    /// Since when it would have to make room; `None`: it would not.
    yields_from: Option<Instant>,
    /// Ends it, once that can be done.
    task: Option<AbortHandle>,
}

/// The place of one connection, which is free again when this is dropped.
pub(super) struct Place {
    places: Places,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// So many.
    pub(super) fn new(number: usize) -> Self {
        Self(Arc::new(Shared {
            free: Arc::new(Semaphore::new(number)),
            number,
            guests: Mutex::default(),
            given_up: AtomicU64::new(0),
        }))
    }

    /// A place, once there is one, or somebody has left for it.
    pub(super) async fn take(&self) -> Place {
        loop {
            if self.0.free.available_permits() == 0 {
                self.send_away(Instant::now());
            }
            // Nobody closes the semaphore.
            if let Ok(Ok(permit)) = timeout(LOOK_EVERY, Arc::clone(&self.0.free).acquire_owned()).await {
                let mut guests = self.guests();
                guests.next += 1;
                let number = guests.next;
                // Nobody need wait for somebody who has yet to say anything.
                guests.seated.insert(number, Guest { yields_from: Some(Instant::now()), task: None });
                return Place { places: self.clone(), number, _permit: permit };
            }
        }
    }

    /// Connections that had to make room for others.
    pub(super) fn given_up(&self) -> u64 {
        self.0.given_up.load(Ordering::Relaxed)
    }

    /// Waits until all are free.
    pub(super) async fn all_free(&self) {
        let all = u32::try_from(self.0.number).expect("the settings bound it");
        let _ = self.0.free.acquire_many(all).await;
    }

    /// Names the task whose end frees the place with this number.
    pub(super) fn seat(&self, number: u64, task: AbortHandle) {
        if let Some(guest) = self.guests().seated.get_mut(&number) {
            guest.task = Some(task);
        }
    }

    /// Ends the connection that has rested for longest, if any has to make room by now.
    fn send_away(&self, now: Instant) {
        let mut guests = self.guests();
        let resting = guests.seated.values_mut().filter(|guest| guest.yields_from.is_some_and(|from| from <= now));
        if let Some(guest) = resting.min_by_key(|guest| guest.yields_from)
            && let Some(task) = &guest.task
        {
            task.abort();
            self.0.given_up.fetch_add(1, Ordering::Relaxed);
            guest.yields_from = None; // One leaves for one who comes.
        }
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.0.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// For [`Places::seat`].
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Somebody was let in: nobody takes the place away.
    pub(super) fn keep(&self) {
        self.set(None);
    }

    /// The request is answered: others may have the place, if they need it, a moment later.
    pub(super) fn rest(&self) {
        self.set(Some(Instant::now() + REST));
    }

    fn set(&self, yields_from: Option<Instant>) {
        if let Some(guest) = self.places.guests().seated.get_mut(&self.number) {
            guest.yields_from = yields_from;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.guests().seated.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
    }

    /// A connection that does this with its place, and then nothing.
    async fn come(places: &Places, does: impl FnOnce(&Place) + Send + 'static) -> tokio::task::JoinHandle<()> {
        let place = places.take().await;
        let number = place.number();
        let task = tokio::spawn(async move {
            does(&place);
            pending::<()>().await;
        });
        places.seat(number, task.abort_handle());
        tokio::task::yield_now().await;
        task
    }

    #[test]
    fn who_has_rested_for_longest_makes_room() {
        run(async {
            let places = Places::new(3);
            let busy = come(&places, Place::keep).await;
            let answered = come(&places, Place::rest).await;
            let silent = come(&places, |_| {}).await;
            let second = come(&places, |_| {}).await;
            assert_eq!(places.given_up(), 1);
            assert!(silent.is_finished() && !answered.is_finished() && !busy.is_finished());
            let third = come(&places, Place::keep).await;
            assert!(second.is_finished() && !answered.is_finished() && !third.is_finished());
            // There are none but the one that was just answered, so the next one waits a moment.
            let fourth = come(&places, Place::keep).await;
            assert!(answered.is_finished() && !busy.is_finished() && !third.is_finished() && !fourth.is_finished());
        });
    }

    #[test]
    fn who_is_being_answered_keeps_the_place_and_others_wait() {
        run(async {
            let places = Places::new(1);
            let busy = come(&places, Place::keep).await;
            let wait = timeout(LOOK_EVERY * 3, places.take()).await;
            assert!(wait.is_err() && !busy.is_finished());
            busy.abort();
            drop(places.take().await);
            places.all_free().await;
        });
    }
}
