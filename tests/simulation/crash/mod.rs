//! The shards over a disk that fails and forgets, and a broker that dies at any moment and starts again on what is left.
//!
//! `WILLOWMQ_CRASH_SEED=n` runs one seed again, exactly; `WILLOWMQ_CRASH_SEEDS=n` runs so many.
//! `WILLOWMQ_CRASH_DUMP=1` tells what is in the journals whenever a broker starts.

pub(crate) mod broker;
pub(crate) mod disk;
mod drains;
mod drawn;
mod endings;
mod exhaustive;
mod operating;
mod operator;
mod oracle;
mod reference;
mod run;
mod stories;
