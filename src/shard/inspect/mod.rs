//! What an operator asks a shard for, and tells it to do.
//!
//! Everything here answers from what the shard keeps anyway, and no call costs more than its slice: lists come page by page, and a
//! call looks at no more Sessions than it was told to, so a page may be empty and have a next one all the same.
//!
//! The times are those of the shard's clock; what they mean on a calendar is the caller's business.

mod actions;
mod clients;
mod packets;
mod publish;
mod retained;
mod subscriptions;
mod tap;
mod trace;
mod traffic;
mod wills;

pub use actions::{Outcome, Receipt};
pub use clients::{ClientDetail, ClientFilter, ClientSummary, ConnectionFacts, QueueFacts, SubscriptionFacts};
pub use packets::PacketFacts;
pub use publish::{OperatorMessage, PublishRefusal, Published};
pub use retained::RetainedSummary;
pub use subscriptions::{SubscriptionFilter, SubscriptionSummary};
pub(super) use tap::Taps;
pub use tap::{Draught, TapId, Tapped};
pub(super) use trace::Traces;
pub use trace::{TraceEvent, TraceId, Traced, WillChange};
pub use traffic::ConnectionTraffic;
pub(super) use traffic::Passed;
pub use wills::{WillDetail, WillFilter, WillPhase, WillSummary};

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C = u32> {
    /// What was found.
    pub items: Vec<T>,
    /// Where to go on; `None`: this was the end.
    pub next: Option<C>,
}

impl super::Shard {
    /// Looks at no more than `examine` slots of Sessions from `from` on; `judge` tells what it makes of one.
    fn page_of_sessions<T>(
        &self,
        from: u32,
        examine: usize,
        mut judge: impl FnMut(u32, &crate::session::Session) -> Option<T>,
    ) -> Page<T> {
        let (slots, is_end) = self.sessions.slots(from, examine);
        let items = slots.filter_map(|(index, session)| judge(index, session)).collect();
        Page { items, next: (!is_end).then(|| from.saturating_add(examine.try_into().unwrap_or(u32::MAX))) }
    }
}
