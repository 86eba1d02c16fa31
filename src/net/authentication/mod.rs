//! Who is it: credentials of a connection in, an identity or a refusal out.
//!
//! Every listener has a chain of authenticators. Each is asked in turn and says yes, no, or that the client is none of its; the
//! first yes or no counts. A client that none of them knows is anonymous where the listener allows that and the client claimed
//! nothing, and is refused otherwise.
//!
//! What costs little is answered at once, on the shard. The rest goes to threads beside the shards ([`Offload`]), and the answer
//! comes back as an errand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::clock::Clock;
use super::offload::Offload;
use super::startup::StartError;
pub(crate) use super::transport::PeerCertificate;
use crate::codec::{ProtocolVersion, ReasonCode};
use crate::config::Config;
use crate::security::Identity;
use crate::session::ConnectionId;
use crate::shard::Enhanced;
use crate::timer::Moment;

/// Takes a step to the shard whose connection waits for it.
pub(crate) type Deliver = Arc<dyn Fn(usize, ConnectionId, Step) + Send + Sync>;

/// Who wants to know: the connection, and the shard that it is on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// The shard's number.
    pub(crate) shard: usize,
    /// The connection, as that shard names it.
    pub(crate) connection: ConnectionId,
}

/// All that a client shows of itself.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// The listener, by its place in the configuration.
    pub(crate) listener: u16,
    /// Where the client comes from, as PROXY tells it where that is spoken.
    pub(crate) source: Option<SocketAddr>,
    /// The version of MQTT it speaks.
    pub(crate) version: ProtocolVersion,
    /// Empty where it leaves the choice to us.
    pub(crate) client_id: Box<str>,
    /// The User Name of its CONNECT.
    pub(crate) username: Option<Box<str>>,
    /// The Password of its CONNECT.
    pub(crate) password: Option<Box<[u8]>>,
    /// The certificate it proved to own.
    pub(crate) certificate: Option<Arc<PeerCertificate>>,
    /// The process at the other end of a Unix socket.
    pub(crate) process: Option<PeerProcess>,
    /// Authentication Method and Authentication Data. (§4.12)
    pub(crate) enhanced: Option<(Box<str>, Vec<u8>)>,
    /// Who it was before, where it re-authenticates: it must remain the same. (§4.12.1)
    pub(crate) previous: Option<Identity>,
}

/// A process, as the kernel vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerProcess {
    /// Its user.
    pub(crate) uid: u32,
    /// Its group.
    pub(crate) gid: u32,
    /// Its number.
    pub(crate) pid: i32,
}

/// What comes next for a client that authenticates.
#[derive(Debug)]
pub(crate) enum Step {
    /// It is in.
    Granted(Box<Grant>),
    /// It is to be sent AUTH with this data, and its answer is to be given to [`Authentication::go_on`].
    Continue {
        /// Authentication Data.
        data: Vec<u8>,
        /// Where the exchange stands.
        exchange: Box<Exchange>,
    },
    /// It is not in.
    Refused(Refused),
    /// The answer comes later, by [`Deliver`].
    Waiting,
}

/// Why a client is not in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// What it is told.
    pub(crate) reason: ReasonCode,
    /// Whether it counts against the address: the credentials were wrong, which is not so where we were too busy to look.
    pub(crate) is_failure: bool,
    /// What a log says about it. It never holds what the client said.
    pub(crate) why: &'static str,
}

/// What a client is let in with.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    /// Who it is.
    pub(crate) identity: Identity,
    /// When its credentials end.
    pub(crate) valid_until: Option<Moment>,
    /// The enhanced authentication it went through.
    pub(crate) enhanced: Option<Enhanced>,
}

/// An enhanced authentication under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    credentials: Credentials,
}

impl Exchange {
    /// Its Authentication Method, which every AUTH must name. [MQTT-4.12.0-5]
    pub(crate) fn method(&self) -> &str {
        self.credentials.enhanced.as_ref().map_or("", |(method, _)| method)
    }
}

/// All authenticators of the broker. A clone is the same.
#[derive(Clone)]
pub(crate) struct Authentication {
    inner: Arc<Inner>,
}

struct Inner {
    _clock: Clock,
    _checks: Offload,
    _deliver: Deliver,
}

impl Authentication {
    /// The authenticators that `config` names. `checks` are the threads for slow checks; `deliver` takes their results to a shard.
    ///
    /// # Errors
    /// What is wrong with a file that an authenticator needs.
    pub(crate) fn new(config: &Config, clock: Clock, checks: Offload, deliver: Deliver) -> Result<Self, StartError> {
        let _ = config;
        Ok(Self { inner: Arc::new(Inner { _clock: clock, _checks: checks, _deliver: deliver }) })
    }

    /// Begins with the credentials of a CONNECT, or of an AUTH that re-authenticates.
    pub(crate) fn begin(&self, asker: Asker, credentials: Credentials) -> Step {
        let _ = (asker, &self.inner);
        match credentials.enhanced {
            Some(_) => Step::Refused(Refused {
                reason: ReasonCode::BadAuthenticationMethod, // [MQTT-4.12.0-1]
                is_failure: false,
                why: "unknown authentication method",
            }),
            None => Step::Granted(Box::new(Grant { identity: Identity::default(), valid_until: None, enhanced: None })),
        }
    }

    /// Goes on with the data of the client's next AUTH.
    pub(crate) fn go_on(&self, asker: Asker, exchange: Box<Exchange>, data: &[u8]) -> Step {
        let _ = (asker, exchange, data);
        Step::Refused(Refused { reason: ReasonCode::NotAuthorized, is_failure: true, why: "the exchange is over" })
    }

    /// Files whose content matters.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Reads the files again; whether anything changed. What cannot be used leaves the old in force.
    ///
    /// # Errors
    /// What is wrong, with file and line.
    pub(crate) fn reload(&self) -> Result<bool, String> {
        Ok(false)
    }
}
