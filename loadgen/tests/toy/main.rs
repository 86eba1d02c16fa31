//! The load generator against a toy broker: a correct one passes, and everything that it is made to do wrong is found
//! out by the check that is meant for it.

mod bad;
mod broker;
mod chaos;
mod churn;
mod connect;
mod deliver;
mod entrance;
mod faults;
mod interrupt;
mod json;
mod net;
mod offline;
mod options;
mod publish;
mod retained;
mod run;
mod siege;
mod storm;
mod storm_faults;
mod transport;
