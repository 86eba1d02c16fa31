//! Packets, byte by byte, as the conformance tests write and read them.

#[path = "../conformance/harness/parse.rs"]
pub(crate) mod parse;
#[path = "../conformance/harness/property.rs"]
pub(crate) mod property;
#[path = "../conformance/harness/wire.rs"]
pub(crate) mod wire;
