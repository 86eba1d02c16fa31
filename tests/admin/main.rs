//! The HTTP server of the real binary, asked as operators and their programs ask it, and as nobody should.

#[allow(dead_code, unused_imports, reason = "the harness is that of all targets, and none uses all of it")]
#[path = "../conformance/harness/mod.rs"]
mod harness;

mod access;
mod clients;
mod http;
mod malformed;
mod messages;
mod schemathesis;
mod starting;
mod tls;
mod whole;
mod wills;
