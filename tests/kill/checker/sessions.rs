//! Session Present, and which sessions there must be.

use super::Fault;
use crate::history::{Connecting, Who};
use std::collections::HashMap;
use std::time::Duration;

/// Whether the broker has a session for a client.
#[derive(Clone, Copy, PartialEq)]
enum There {
    No,
    Perhaps,
    Yes,
}

struct Session {
    there: There,
    /// What CONNACK can say to the CONNECT that is on its way.
    expected: There,
    /// Whether the session of this connection outlives it.
    persistent: bool,
}

#[derive(Default)]
pub(crate) struct Sessions {
    all: HashMap<Who, Session>,
}

impl Sessions {
    /// Whether this CONNECT ends a session.
    pub(crate) fn connect(&mut self, who: Who, connecting: &Connecting) -> bool {
        let session =
            self.all.entry(who).or_insert(Session { there: There::No, expected: There::No, persistent: false });
        let before = session.there;
        session.expected = if connecting.clean_start { There::No } else { before };
        session.persistent = connecting.expiry > Duration::ZERO;
        // Until CONNACK comes, the CONNECT may or may not have been seen.
        session.there = match (session.persistent, before) {
            (true, There::Yes) => There::Yes, // The old or the new one.
            (false, There::No) => There::No,
            _ => There::Perhaps,
        };
        connecting.clean_start && before != There::No
    }

    pub(crate) fn connack(&mut self, who: Who, session_present: bool) -> Option<Fault> {
        let session = self.all.get_mut(&who)?;
        session.there = There::Yes;
        let right = match session.expected {
            There::No => !session_present,
            There::Perhaps => true,
            There::Yes => session_present,
        };
        (!right).then_some(Fault::SessionPresent { client: who, said: session_present })
    }

    /// Whether the session ends with its connection. `sure` if it was the broker that closed: one that was
    /// killed may keep it for its will, and one whose client is gone may see that after the next CONNECT.
    pub(crate) fn closed(&mut self, who: Who, sure: bool) -> bool {
        let Some(session) = self.all.get_mut(&who).filter(|session| !session.persistent) else { return false };
        session.there = if sure && session.there != There::Perhaps { There::No } else { There::Perhaps };
        true
    }
}
