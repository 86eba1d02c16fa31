//! Enhanced authentication by SCRAM-SHA-256. (§4.12)
//!
//! The verifiers are those of the password files of the listener's chain. A step costs a few hashes, so it is taken on the shard.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::authenticator::Kind;
use super::{Credentials, Inner, Proof, Refused, Step};
use crate::codec::ReasonCode;
use crate::net::sources::Source;
use crate::security::password::PasswordFile;
use crate::security::scram::{self, ClientFirst, METHOD, ScramError};
use crate::shard::Enhanced;

/// An enhanced authentication under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    credentials: Credentials,
    scram: scram::Exchange,
}

impl Exchange {
    /// Its Authentication Method, which every AUTH must name. [MQTT-4.12.0-5]
    pub(crate) fn method(&self) -> &'static str {
        METHOD
    }

    /// See [`Credentials::counted`].
    pub(super) fn counted(&self) -> Option<Source> {
        self.credentials.counted
    }
}

impl Inner {
    /// Answers the first message of a client.
    pub(super) fn begin_exchange(&self, mut credentials: Credentials) -> Step {
        let (method, data) = credentials.enhanced.take().unwrap_or_default();
        let files = self.password_files(credentials.listener);
        let Some(with_scram) = files.iter().find(|file| file.has_scram()).filter(|_| *method == *METHOD) else {
            return Step::Refused(Refused::METHOD);
        };
        let first = match ClientFirst::parse(&data) {
            Ok(first) => first,
            Err(error) => return Step::Refused(refusal(error)),
        };
        let username = &first.username;
        // As for passwords that are sent, the first file that knows the user decides, be it that it has no verifier.
        let known = files.iter().find(|file| file.knows(username)).and_then(|file| file.scram(username).cloned());
        let verifier = known.unwrap_or_else(|| with_scram.scram_of_nobody(username, &self.secret));
        let nonce = STANDARD.encode(super::random::<24>());
        let (scram, server_first) = scram::Exchange::begin(first, verifier, &nonce);
        Step::Continue { data: server_first.into_bytes(), exchange: Box::new(Exchange { credentials, scram }) }
    }

    /// Judges the last message of a client.
    pub(super) fn finish_exchange(&self, exchange: Exchange, data: &[u8]) -> Step {
        let Exchange { credentials, scram } = exchange;
        let proof = Proof::of_user(scram.username());
        let server_final = match scram.finish(data) {
            Ok(server_final) => server_final,
            Err(error) => return Step::Refused(refusal(error)),
        };
        let mut step = self.grant(&proof, &credentials, self.means.clock.now());
        if let Step::Granted(grant) = &mut step {
            grant.enhanced = Some(Enhanced { method: METHOD.into(), data: server_final.into_bytes() });
        }
        step
    }

    fn password_files(&self, listener: u16) -> Vec<Arc<PasswordFile>> {
        let chain = &self.listeners[usize::from(listener)].chain;
        let file = |&number: &usize| match &self.authenticators[number].kind {
            Kind::Password(file) => Some(file.get()),
            _ => None,
        };
        chain.iter().filter_map(file).collect()
    }
}

fn refusal(error: ScramError) -> Refused {
    let (reason, why) = match error {
        ScramError::WrongProof => return Refused { why: "the proof of SCRAM is wrong", ..Refused::WRONG },
        ScramError::Malformed => (ReasonCode::NotAuthorized, "a message of SCRAM is malformed"),
        ScramError::Unsupported => {
            (ReasonCode::NotAuthorized, "the client insists on a part of SCRAM that we do not have")
        }
        ScramError::OtherIdentity => (ReasonCode::NotAuthorized, "the client wants to act for somebody else"),
        ScramError::Mismatch => (ReasonCode::NotAuthorized, "a message of SCRAM belongs to another exchange"),
    };
    Refused { reason, is_failure: true, why }
}
