//! The load generator: scenarios that load an MQTT broker, measure how it copes, and check every delivery.
//!
//! In reading order: the [`engine`] moves packets for many clients in one thread; a [`stamp`] makes every payload tell
//! whose it is; the [`ledger`] judges what arrives; a [`scenario`] decides what happens; a [`report`] is what comes out.
//! To [`compare`] brokers, scenarios are run against each of them in turn.

pub mod bins;
pub mod compare;
pub mod disk;
pub mod engine;
pub mod gauge;
pub mod kernel;
pub mod ledger;
pub mod options;
pub mod process;
pub mod progress;
pub mod ramp;
pub mod report;
pub mod run;
pub mod scenario;
pub mod stamp;
pub mod traffic;
