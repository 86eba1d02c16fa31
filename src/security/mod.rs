//! Who a client is, and what it may do.
//!
//! Authentication is the shell's; what it finds out reaches the shard as an [`Identity`]. The shard asks [`Rights`] before
//! it routes or stores anything on a client's behalf, and before it sends anything to it.
//!
//! **Invariant**: a decision is a pure function of the rules, the identity and the topic, so it can be repeated when a
//! will is published long after its CONNECT.

#[cfg(feature = "server")]
mod granted;
mod identity;
#[cfg(feature = "server")]
pub mod password;
pub mod rights;
#[cfg(feature = "server")]
pub mod scram;
#[cfg(feature = "server")]
pub mod token;
pub mod wildcard;

pub use identity::{Granted, Identity, is_username};
pub use rights::{Action, Rights, RightsError, Who};
