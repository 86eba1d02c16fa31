//! The checks: functions of what was read to what is said about it. Nothing here reads anything.

pub(super) mod disk;
pub(super) mod files;
pub(super) mod listeners;
pub(super) mod system;
