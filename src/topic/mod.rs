//! Topic Names and Topic Filters (§4.7), who subscribes to what, and which topics have a retained message.
//!
//! **Invariant**: the cost of a match does not depend on the subscriptions that do not match.

mod audience;
mod level;
mod name;
mod peers;
mod relation;
mod retained;
mod shared;
mod subscribers;
mod subscriptions;

pub use audience::Elsewhere;
pub use name::{TopicError, TopicFilter, TopicName};
pub use peers::PeerSet;
pub use relation::{covers, overlaps};
pub use retained::{Cursor, RetainedTopics};
pub use shared::Subscribed;
pub use subscriptions::{Inserted, Removed, SubscriptionTrie};
