//! What a run does: one file for each subcommand.

pub mod churn;
pub mod connect;
pub mod offline;
pub mod publish;
pub mod restart;
pub mod retained;
pub mod siege;
pub mod soak;
pub mod storm;
