//! Wills: page by page, one in detail, and what an operator may do to one.

use super::Page;
use crate::codec::QoS;
use crate::security::wildcard;
use crate::session::Session;
use crate::session::message::Message;
use crate::session::will::{Closing, Will, WillState};
use crate::shard::Shard;
use crate::timer::Moment;
use std::sync::Arc;

/// Where a will stands, as an operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WillPhase {
    /// Its Network Connection is open.
    Armed,
    /// Its Network Connection has closed, and its due time lies ahead.
    Pending,
    /// Its time has come, and it stands in the line.
    Due,
    /// Its time has come, and a hold keeps it back.
    Held,
}

impl WillPhase {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Pending => "pending",
            Self::Due => "due",
            Self::Held => "held",
        }
    }
}

/// Which wills are asked for; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WillFilter {
    /// Where it stands.
    pub phase: Option<WillPhase>,
    /// A pattern of Client Identifiers, in which `*` stands for anything.
    pub client_id: Option<Box<str>>,
}

/// A will in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WillSummary {
    /// Whose it is.
    pub client_id: Arc<str>,
    /// The User Name of its client.
    pub username: Option<Arc<str>>,
    /// The listener that its client came in by.
    pub listener: u16,
    /// Where it stands.
    pub phase: WillPhase,
    /// The Will Topic.
    pub topic: Box<str>,
    /// The Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Bytes of the Will Payload.
    pub payload_bytes: usize,
    /// Will Delay Interval in seconds.
    pub delay_interval: u32,
    /// Message Expiry Interval in seconds.
    pub message_expiry_interval: Option<u32>,
    /// When it is due, or was; `None` while it is armed.
    pub due: Option<Moment>,
    /// How its Network Connection ended.
    pub closing: Option<Closing>,
}

/// A will in detail.
#[derive(Debug, Clone)]
pub struct WillDetail {
    /// What a list tells of it.
    pub summary: WillSummary,
    /// The message that it will be, shared with the Session.
    pub message: Arc<Message>,
}

/// The will in a state that has one, when it is due, and how its connection ended.
fn parts_of(state: &WillState) -> Option<(&Will, Option<Moment>, Option<Closing>)> {
    match state {
        WillState::None => None,
        WillState::Armed(will) => Some((will, None, None)),
        WillState::Pending { will, due, closing, .. } | WillState::Due { will, due, closing } => {
            Some((will, Some(*due), Some(*closing)))
        }
    }
}

impl Shard {
    /// The wills that `filter` asks for, as far as they are found in `examine` slots of Sessions from `from` on.
    pub fn wills(&self, from: u32, examine: usize, filter: &WillFilter) -> Page<WillSummary> {
        self.page_of_sessions(from, examine, |index, session| {
            let phase = self.will_phase(index, session)?;
            let is_wanted = filter.phase.is_none_or(|wanted| wanted == phase)
                && filter.client_id.as_ref().is_none_or(|pattern| wildcard::fits(pattern, &session.client_id));
            if is_wanted { self.will_summary(index, session) } else { None }
        })
    }

    /// The will of a client that is at home here.
    pub fn will(&self, client_id: &str) -> Option<WillDetail> {
        let index = self.sessions.find(client_id)?;
        self.will_detail(index, self.sessions.get(index)?)
    }

    pub(super) fn will_phase(&self, index: u32, session: &Session) -> Option<WillPhase> {
        match session.will {
            WillState::None => None,
            WillState::Armed(_) => Some(WillPhase::Armed),
            WillState::Pending { .. } => Some(WillPhase::Pending),
            WillState::Due { .. } if self.is_held(index) => Some(WillPhase::Held),
            WillState::Due { .. } => Some(WillPhase::Due),
        }
    }

    fn will_summary(&self, index: u32, session: &Session) -> Option<WillSummary> {
        let (will, due, closing) = parts_of(&session.will)?;
        Some(WillSummary {
            client_id: Arc::clone(&session.client_id),
            username: session.identity.username.clone(),
            listener: session.listener,
            phase: self.will_phase(index, session)?,
            topic: will.message.topic().into(),
            qos: will.message.qos,
            retain: will.message.retain,
            payload_bytes: will.message.payload().len(),
            delay_interval: will.delay_interval,
            message_expiry_interval: will.message_expiry_interval,
            due,
            closing,
        })
    }

    pub(super) fn will_detail(&self, index: u32, session: &Session) -> Option<WillDetail> {
        let (will, ..) = parts_of(&session.will)?;
        Some(WillDetail { summary: self.will_summary(index, session)?, message: Arc::clone(&will.message) })
    }
}
