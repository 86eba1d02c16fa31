//! What clients wrote down: each thing they did and saw, in the order in which it happened.
//!
//! One thread runs all clients, so the order is one for all of them. What a client sends is written down before the first byte
//! leaves, what it receives after the last one has come.

use std::fmt;
use std::time::Duration;

/// Time since the history began.
pub(crate) type Moment = Duration;

/// Which client.
pub(crate) type Who = u16;

/// What the payload of a message says: who sent it, and which of their messages it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) kind: Kind,
    pub(crate) author: Who,
    /// Rises with every message, respectively will, of an author.
    pub(crate) number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Message,
    Will,
}

impl Stamp {
    pub(crate) fn message(author: Who, number: u64) -> Self {
        Self { kind: Kind::Message, author, number }
    }

    pub(crate) fn will(author: Who, number: u64) -> Self {
        Self { kind: Kind::Will, author, number }
    }

    /// A payload of at least `length` bytes that says this and its own length.
    pub(crate) fn payload(self, length: usize) -> String {
        format!("{self:?} {length} {:.<length$}", "")
    }

    /// The stamp of a payload that is exactly as [`Stamp::payload`] made it.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload).ok()?;
        let mut words = text.split(' ');
        let (kind, rest) = words.next()?.split_at_checked(1)?;
        let (author, number) = rest.split_once('.')?;
        let kind = if kind == "w" { Kind::Will } else { Kind::Message };
        let stamp = Self { kind, author: author.parse().ok()?, number: number.parse().ok()? };
        (stamp.payload(words.next()?.parse().ok()?) == text).then_some(stamp)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == Kind::Will { 'w' } else { 'm' };
        write!(formatter, "{kind}{}.{}", self.author, self.number)
    }
}

/// A Will Message as CONNECT carries it; its number is that of the CONNECT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Will {
    pub(crate) number: u64,
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) delay: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Connecting {
    pub(crate) clean_start: bool,
    /// How long the session outlives the connection, as both versions can say it.
    pub(crate) expiry: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) will: Option<Will>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Publishing {
    pub(crate) number: u64,
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Removes the retained message; there is no stamp in it.
    pub(crate) empty: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Receiving {
    pub(crate) packet_id: u16,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) topic: String,
    pub(crate) payload: Payload,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Payload {
    Empty,
    Stamp(Stamp),
    /// Nothing that any client sent.
    Foreign,
}

impl Payload {
    pub(crate) fn read(payload: &[u8]) -> Self {
        match payload {
            [] => Self::Empty,
            _ => Stamp::read(payload).map_or(Self::Foreign, Self::Stamp),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The broker gets SIGKILL now.
    Killed,
    /// The broker is started.
    Started,
    /// A connection was refused: nobody listens yet.
    Refused,
    /// The broker says that it listens.
    Listening,
    Client(Who, Did),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Did {
    /// CONNECT is sent.
    Connect(Connecting),
    /// CONNACK with success has come.
    Connack {
        session_present: bool,
    },
    /// CONNACK with another Reason Code has come.
    Refusal {
        reason: u8,
    },
    Subscribe {
        filter: String,
        qos: u8,
    },
    Suback {
        filter: String,
        reason: u8,
    },
    Unsubscribe {
        filter: String,
    },
    Unsuback {
        filter: String,
    },
    /// PUBLISH is sent for the first time.
    Publish(Publishing),
    /// PUBACK or PUBREC has come.
    Acknowledged {
        number: u64,
        reason: u8,
    },
    /// PUBLISH has come.
    Receive(Receiving),
    /// PUBREL has come.
    Release {
        packet_id: u16,
    },
    /// DISCONNECT is sent; `with_will` is Reason Code 0x04.
    Disconnect {
        with_will: bool,
    },
    /// The client ends the connection without a word.
    Cut,
    /// The broker has ended the connection.
    Closed,
    /// A subscriber that came to see the retained messages of its filter has waited long enough for them. `settled`: all had been
    /// quiet before it came.
    Looked {
        settled: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_only_if_it_is_whole() {
        let payload = Stamp::will(7, 12).payload(100);
        assert_eq!(Stamp::read(payload.as_bytes()), Some(Stamp::will(7, 12)));
        assert_eq!(Stamp::read(&payload.as_bytes()[1..]), None);
        assert_eq!(Stamp::read(&payload.as_bytes()[..99]), None);
        assert_eq!(Stamp::read(payload.replacen('.', ",", 2).as_bytes()), None);
    }
}
