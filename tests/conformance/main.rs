//! The broker at its socket, held against the statements of the MQTT standards.
//!
//! Each test starts (or shares) the real binary and speaks to it through a client that has no code
//! in common with it. A test is named after the statement it checks: `mqtt_3_1_2_8` is
//! `[MQTT-3.1.2-8]` of MQTT 5.0, `v311_mqtt_3_1_2_24` is that of MQTT 3.1.1, and `will_` names a row
//! of the table of what happens to a will.

mod acknowledge;
mod admission;
mod announcements;
mod authentication;
mod configuration;
mod connect;
mod drain;
mod endings;
mod entrance;
mod errors;
mod flow_control;
mod hangup;
mod harness;
mod journal;
mod keep_alive;
mod limits;
mod listeners;
mod logs;
mod memory;
mod ping_disconnect_auth;
mod properties;
mod publish;
mod reload;
mod reload_settings;
mod rights;
mod sessions;
mod shared;
mod shutdown;
mod slow;
mod subscribe;
mod topics;
mod transports;
mod users;
mod watchdog;
mod wills;
