//! Deadlines: a hierarchical timer wheel, and the two units of time that it and its callers share.
//!
//! [`Moment`] is a point in time in microseconds, as the owner of a shard reads it from its clock. [`Tick`] is one
//! step of the [`Wheel`], 10 ms. Deadlines round up to a tick and the present rounds down, so nothing fires early.
//! There is no clock here: the time is an argument called `now`. A [`Bucket`] says how often something may happen.

mod bucket;
mod moment;
mod time_of_day;
mod wheel;

pub use bucket::Bucket;
pub use moment::{Moment, Tick};
pub use time_of_day::TimeOfDay;
pub use wheel::{TimerId, Wheel};
