//! Whole shards in one thread: a virtual clock, simulated clients that speak real bytes, and a seeded order of everything that may
//! happen in more than one order. A failure prints its seed; `WILLOWMQ_SEED=n` replays it, `WILLOWMQ_SEEDS=n` runs more.

mod client;
mod crash;
mod simulation;
mod stories_announce;
mod stories_authentication;
mod stories_counting;
mod stories_drain;
mod stories_holds;
mod stories_inspect;
mod stories_limits;
mod stories_presence;
mod stories_pressure;
mod stories_retained;
mod stories_rights;
mod stories_sessions;
mod stories_settings;
mod stories_turns;
mod stories_wills;
mod wire;
