//! Who is it: credentials of a connection in, an identity or a refusal out.
//!
//! Every listener has a chain of authenticators. Each is asked in turn and says yes, no, or that the client is none of its; the
//! first yes or no counts. A client that none of them knows is anonymous where the listener allows that and the client claimed
//! nothing, and is refused otherwise.
//!
//! What costs little is answered at once, on the shard. The rest goes to threads beside the shards ([`Offload`]), and the answer
//! comes back as an errand.

mod authenticator;
mod breaker;
mod cache;
mod http;
mod loaded;
mod scram;
#[cfg(test)]
mod tests;
mod users;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::admission::Gate;
use super::clock::Clock;
use super::offload::Offload;
use super::sources::Source;
use super::startup::StartError;
pub(crate) use super::transport::PeerCertificate;
use crate::codec::{ProtocolVersion, ReasonCode};
use crate::config::{self, Config, Security};
use crate::security::{Granted, Identity};
use crate::session::ConnectionId;
use crate::shard::Enhanced;
use crate::timer::Moment;
use authenticator::{Authenticator, Kind, Place, check_client_id};
use cache::{Cache, Key};
pub(crate) use scram::Exchange;

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
#[derive(Clone)]
pub(crate) struct Credentials {
    /// The listener, by its place in the configuration.
    pub(crate) listener: u16,
    /// Where the client comes from, as PROXY tells it where that is spoken.
    pub(crate) source: Option<SocketAddr>,
    /// What its failures count against, and what may be banned for them; nothing where no address is known.
    pub(crate) counted: Option<Source>,
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

/// Without what is secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Credentials");
        fields.field("listener", &self.listener).field("source", &self.source).field("client_id", &self.client_id);
        fields.field("username", &self.username).finish_non_exhaustive()
    }
}

/// A process, as the kernel vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerProcess {
    /// Its user.
    pub(crate) uid: u32,
    /// Its group.
    pub(crate) gid: u32,
    /// Its number; 0 where it is in a namespace that we do not see into, as one outside of our container is.
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
    /// Whether it is counted against the address, and its answer held back: the credentials were wrong, which is not so where we were
    /// too busy to look.
    pub(crate) is_failure: bool,
    /// What a log says about it. It never holds what the client said.
    pub(crate) why: &'static str,
}

impl Refused {
    /// Credentials that are not right.
    const WRONG: Self =
        Self { reason: ReasonCode::BadUserNameOrPassword, is_failure: true, why: "wrong User Name or Password" };
    /// Nobody knows the client, and it did not say anything that could be right or wrong.
    const NO_CREDENTIALS: Self =
        Self { reason: ReasonCode::NotAuthorized, is_failure: false, why: "credentials are needed here" };
    /// A service that would know does not answer.
    const UNAVAILABLE: Self = Self {
        reason: ReasonCode::ServerUnavailable,
        is_failure: false,
        why: "the authentication service is not available",
    };
    /// There are too many checks already.
    const BUSY: Self = Self { reason: ReasonCode::ServerBusy, is_failure: false, why: "too many checks are waiting" };
    /// Its address has failed too often, be it while this client waited. It hears the same whether or not its credentials are right.
    const BANNED: Self =
        Self { reason: ReasonCode::Banned, is_failure: false, why: "its address has failed too often" };
    /// The Authentication Method is none of the listener's. [MQTT-4.12.0-1]
    const METHOD: Self = Self {
        reason: ReasonCode::BadAuthenticationMethod,
        is_failure: false,
        why: "the Authentication Method is not known here",
    };
    /// Whoever re-authenticates must remain who it was.
    const SOMEBODY_ELSE: Self =
        Self { reason: ReasonCode::NotAuthorized, is_failure: true, why: "it re-authenticates as somebody else" };
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

/// What an authenticator says.
enum Answer {
    /// It knows the client, and the credentials are right.
    Yes(Arc<Proof>),
    /// It knows the client, or should, and the credentials are not right.
    No(Refused),
    /// Let somebody else answer.
    NotMine,
}

/// What an authenticator has found out. It may be remembered.
#[derive(Debug, Default)]
struct Proof {
    username: Option<Arc<str>>,
    /// What the Client Identifier must fit.
    client_id: Option<Box<str>>,
    /// Facts beside those of the connection.
    fields: Vec<(Box<str>, Box<str>)>,
    granted: Option<Arc<Granted>>,
    valid_until: Option<Moment>,
}

impl Proof {
    fn of_user(username: &str) -> Self {
        Self { username: Some(username.into()), ..Self::default() }
    }
}

/// What has been decided so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Clients that proved who they are.
    pub(crate) granted: u64,
    /// Of those, how many without a check, as the same credentials had been found right before.
    pub(crate) remembered: u64,
    /// Anonymous clients.
    pub(crate) anonymous: u64,
    /// Clients with wrong credentials, or with none.
    pub(crate) refused: u64,
    /// Clients that were refused because too many checks were waiting.
    pub(crate) busy: u64,
    /// Clients that were refused because a service did not answer.
    pub(crate) unavailable: u64,
}

#[derive(Default)]
struct Counters {
    granted: AtomicU64,
    remembered: AtomicU64,
    anonymous: AtomicU64,
    refused: AtomicU64,
    busy: AtomicU64,
    unavailable: AtomicU64,
}

/// All authenticators of the broker. A clone is the same.
#[derive(Clone)]
pub(crate) struct Authentication {
    current: Arc<RwLock<Arc<Inner>>>,
}

/// Authenticators that are ready to take the place of those in force.
pub(crate) struct Prepared(Arc<Inner>);

/// The authenticators as one set of settings has them. A client that is being checked stays with those that it began with.
struct Inner {
    means: Means,
    secret: [u8; 32],
    security: Security,
    authenticators: Vec<Arc<Authenticator>>,
    listeners: Vec<Listener>,
    cache: Arc<Cache>,
    counters: Arc<Counters>,
}

/// What authentication needs of the rest of the broker.
#[derive(Clone)]
pub(crate) struct Means {
    /// The time.
    pub(crate) clock: Clock,
    /// Threads for slow checks.
    pub(crate) checks: Arc<Offload>,
    /// Counts the failures of an address, and bans it.
    pub(crate) gate: Arc<Gate>,
    /// What no client knows, the same after a restart. Without it the salts that are made up for users who do not exist are others after
    /// each start, which tells such users from those that stay the same.
    pub(crate) secret: Option<[u8; 32]>,
    /// Takes the results of slow checks to a shard.
    pub(crate) deliver: Deliver,
}

/// What concerns us about a listener.
struct Listener {
    name: String,
    is_anonymous: bool,
    /// Whom it asks, in this order, by their places in [`Inner::authenticators`].
    chain: Vec<usize>,
}

/// A client on its way through the chain.
struct Check {
    asker: Asker,
    credentials: Credentials,
    /// How many have said that it is none of theirs.
    asked: usize,
}

impl Authentication {
    /// The authenticators that `config` names.
    ///
    /// # Errors
    /// What is wrong with a file that an authenticator needs.
    pub(crate) fn new(config: &Config, means: Means) -> Result<Self, StartError> {
        let authenticators = config.authenticators.iter().map(|settings| authenticator(settings, &config.security));
        let inner = Inner {
            secret: means.secret.unwrap_or_else(random),
            means,
            security: config.security.clone(),
            authenticators: authenticators.collect::<Result<_, _>>()?,
            listeners: config.listeners.iter().map(|listener| Listener::new(listener, config)).collect(),
            cache: Arc::new(Cache::new(config.security.cache_entries_max as usize)),
            counters: Arc::default(),
        };
        Ok(Self { current: Arc::new(RwLock::new(Arc::new(inner))) })
    }

    /// Makes the authenticators that `config` names ready. Those that it has as before, and whose files are as before, go on; `checks` are
    /// other threads for slow checks, where there are to be others.
    ///
    /// # Errors
    /// What is wrong with a file that an authenticator needs.
    pub(crate) fn prepare(&self, config: &Config, checks: Option<Arc<Offload>>) -> Result<Prepared, StartError> {
        let before = self.inner();
        let security = &config.security;
        let is_cache_same = (security.cache_time, security.cache_entries_max)
            == (before.security.cache_time, before.security.cache_entries_max);
        let authenticators = config.authenticators.iter().map(|settings| before.authenticator(settings, security));
        Ok(Prepared(Arc::new(Inner {
            authenticators: authenticators.collect::<Result<_, _>>()?,
            means: Means { checks: checks.unwrap_or_else(|| Arc::clone(&before.means.checks)), ..before.means.clone() },
            secret: before.secret,
            security: security.clone(),
            listeners: config.listeners.iter().map(|listener| Listener::new(listener, config)).collect(),
            cache: match is_cache_same {
                true => Arc::clone(&before.cache),
                false => Arc::new(Cache::new(security.cache_entries_max as usize)),
            },
            counters: Arc::clone(&before.counters),
        })))
    }

    /// Puts authenticators into force, for clients that begin from now on; whether they are others than before.
    pub(crate) fn put_in_force(&self, prepared: Prepared) -> bool {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, prepared.0);
        let pairs = before.authenticators.iter().zip(&current.authenticators);
        let is_same = before.authenticators.len() == current.authenticators.len()
            && pairs.into_iter().all(|(before, now)| Arc::ptr_eq(before, now));
        !is_same
    }

    fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins with the credentials of a CONNECT, or of an AUTH that re-authenticates.
    pub(crate) fn begin(&self, asker: Asker, credentials: Credentials) -> Step {
        let (inner, counted) = (self.inner(), credentials.counted);
        let step = match credentials.enhanced {
            _ if inner.is_banned(counted) => Step::Refused(Refused::BANNED),
            Some(_) => inner.begin_exchange(credentials),
            None => inner.go_through(Check { asker, credentials, asked: 0 }, Place::Shard),
        };
        inner.settle(counted, step)
    }

    /// Goes on with the data of the client's next AUTH.
    pub(crate) fn go_on(&self, exchange: Box<Exchange>, data: &[u8]) -> Step {
        let (inner, counted) = (self.inner(), exchange.counted());
        let step = inner.finish_exchange(*exchange, data);
        inner.settle(counted, step)
    }

    /// Files whose content matters.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.inner().authenticators.iter().filter_map(|authenticator| authenticator.file()).collect()
    }

    /// Reads the files again; whether anything changed. What cannot be used leaves the old in force, and the rest is used all the same.
    ///
    /// # Errors
    /// What is wrong, with file and line.
    pub(crate) fn reload(&self) -> Result<bool, String> {
        let (mut has_changed, mut errors) = (false, Vec::new());
        for authenticator in &self.inner().authenticators {
            match authenticator.reload() {
                Ok(of_this_one) => has_changed |= of_this_one,
                Err(error) => errors.push(format!("authenticator {}: {error}", authenticator.name)),
            }
        }
        if errors.is_empty() { Ok(has_changed) } else { Err(errors.join("; ")) }
    }

    /// What has been decided so far.
    pub(crate) fn totals(&self) -> Totals {
        let counters = &self.inner().counters;
        let [granted, remembered, anonymous, refused, busy, unavailable] = [
            &counters.granted,
            &counters.remembered,
            &counters.anonymous,
            &counters.refused,
            &counters.busy,
            &counters.unavailable,
        ]
        .map(|counter| counter.load(Ordering::Relaxed));
        Totals { granted, remembered, anonymous, refused, busy, unavailable }
    }
}

impl Listener {
    fn new(listener: &config::Listener, config: &Config) -> Self {
        let place = |name: &String| config.authenticators.iter().position(|authenticator| authenticator.name == *name);
        let chain = match &listener.authenticators {
            Some(names) => names.iter().filter_map(place).collect(), // Config has checked the names.
            None => (0..config.authenticators.len()).collect(),
        };
        Self { name: http::listener_name(listener), is_anonymous: listener.anonymous, chain }
    }
}

fn authenticator(settings: &config::Authenticator, security: &Security) -> Result<Arc<Authenticator>, StartError> {
    Authenticator::new(settings, security.checks_waiting_max as usize)
        .map(Arc::new)
        .map_err(|reason| StartError::Authenticator { name: settings.name.clone(), reason })
}

impl Inner {
    /// The authenticator of these settings: the one that there is, where nothing about it has changed.
    fn authenticator(
        &self,
        settings: &config::Authenticator,
        security: &Security,
    ) -> Result<Arc<Authenticator>, StartError> {
        let failed = |reason| StartError::Authenticator { name: settings.name.clone(), reason };
        if security.checks_waiting_max == self.security.checks_waiting_max {
            for one in self.authenticators.iter().filter(|one| one.name == settings.name) {
                if one.is_current(settings).map_err(failed)? {
                    return Ok(Arc::clone(one));
                }
            }
        }
        authenticator(settings, security)
    }

    /// Asks the rest of the chain, as far as it can be asked `here`. What has to be asked elsewhere goes there, and its answer is
    /// delivered.
    fn go_through(self: &Arc<Self>, mut check: Check, here: Place) -> Step {
        let listener = &self.listeners[usize::from(check.credentials.listener)];
        while let Some(&number) = listener.chain.get(check.asked) {
            let authenticator = &self.authenticators[number];
            let place = authenticator.place(number, &check.credentials);
            let key = (place != Place::Shard).then(|| self.key(number, &check.credentials));
            let now = self.means.clock.now();
            // Looked up again when its turn has come: many clients may wait with the same credentials.
            if let Some(proof) = key.as_ref().and_then(|key| self.cache.get(key, now)) {
                self.counters.remembered.fetch_add(1, Ordering::Relaxed);
                return self.grant(&proof, &check.credentials, now);
            }
            if place != Place::Shard && place != here {
                return self.send_to(place, check);
            }
            let clock = || self.means.clock.now();
            let (answer, cache_for) =
                authenticator.ask(&check.credentials, &listener.name, self.security.cache_time, &clock);
            match answer {
                Answer::Yes(proof) => {
                    let now = self.means.clock.now();
                    if let Some(key) = key.filter(|_| !cache_for.is_zero()) {
                        let until = now + cache_for;
                        self.cache.insert(
                            key,
                            Arc::clone(&proof),
                            proof.valid_until.map_or(until, |end| end.min(until)),
                        );
                    }
                    return self.grant(&proof, &check.credentials, now);
                }
                Answer::No(refused) => {
                    self.take_the_time_of_strangers(&check, &listener.chain);
                    return Step::Refused(refused);
                }
                Answer::NotMine => check.asked += 1,
            }
        }
        self.end_of_chain(listener, &check.credentials)
    }

    /// A stranger is looked up in every password file of the chain, and so is, for the sake of time, somebody who gave a wrong password:
    /// how long the answer takes must not tell who exists.
    fn take_the_time_of_strangers(&self, check: &Check, chain: &[usize]) {
        let Credentials { username: Some(username), password: Some(password), .. } = &check.credentials else { return };
        let is_password = |number: &usize| matches!(self.authenticators[*number].kind, Kind::Password(_));
        if !is_password(&chain[check.asked]) {
            return;
        }
        for &number in &chain[check.asked + 1..] {
            if let Kind::Password(file) = &self.authenticators[number].kind {
                std::hint::black_box(authenticator::verify(&file.get(), username, password));
            }
        }
    }

    /// Nobody knows the client. What it claimed and could not prove is refused, and never taken for nothing.
    fn end_of_chain(&self, listener: &Listener, credentials: &Credentials) -> Step {
        let asks_certificates =
            || listener.chain.iter().any(|&number| matches!(self.authenticators[number].kind, Kind::Certificate(_)));
        let claims_something = credentials.username.is_some()
            || credentials.password.is_some()
            || credentials.certificate.is_some() && asks_certificates();
        // Where nobody is ever asked, everybody is anonymous, whatever they say.
        if listener.is_anonymous && (!claims_something || listener.chain.is_empty()) {
            self.counters.anonymous.fetch_add(1, Ordering::Relaxed);
            return self.grant(&Proof::default(), credentials, self.means.clock.now());
        }
        Step::Refused(if claims_something { Refused::WRONG } else { Refused::NO_CREDENTIALS })
    }

    fn send_to(self: &Arc<Self>, place: Place, check: Check) -> Step {
        let threads = match place {
            Place::Service(number) => match &self.authenticators[number].kind {
                Kind::Http(service) if service.is_available(self.means.clock.now()) => &service.threads,
                _ => return Step::Refused(Refused::UNAVAILABLE),
            },
            _ => &self.means.checks,
        };
        let source = check.credentials.source.map(|source| source.ip());
        let inner = Arc::clone(self);
        let job = move || {
            let (asker, counted) = (check.asker, check.credentials.counted);
            // It may have waited behind many others of its address.
            let step = match inner.is_banned(counted) {
                true => Step::Refused(Refused::BANNED),
                false => inner.go_through(check, place),
            };
            match inner.settle(counted, step) {
                Step::Waiting => {} // In another queue.
                step => (inner.means.deliver)(asker.shard, asker.connection, step),
            }
        };
        match threads.submit_for(source, job) {
            Ok(()) => Step::Waiting,
            Err(_busy) => Step::Refused(Refused::BUSY),
        }
    }

    fn is_banned(&self, counted: Option<Source>) -> bool {
        self.means.gate.is_banned(counted, self.means.clock.now())
    }

    /// Counts a step, and against its address if it is a failure: here, where it was found out, so that of many guesses at the same
    /// time no more than `security.failures_max` come to anything. What was found out for an address that is banned by now is not told:
    /// not even a failure, whose absence would say that the guess was right.
    fn settle(&self, counted: Option<Source>, step: Step) -> Step {
        let step = match step {
            Step::Waiting => step,
            _ if self.is_banned(counted) => Step::Refused(Refused::BANNED),
            _ => step,
        };
        if let Step::Refused(Refused { is_failure: true, .. }) = step {
            self.means.gate.note_failure(counted, self.means.clock.now());
        }
        self.counters.note(&step);
        step
    }

    fn key(&self, number: usize, credentials: &Credentials) -> Key {
        let authenticator = &self.authenticators[number];
        let generation = authenticator.generation().to_le_bytes();
        let mut scratch = Vec::new();
        let of_client = authenticator.depends_on(credentials, &mut scratch);
        self.cache.key([&generation[..]].into_iter().chain(of_client))
    }

    /// Lets a client in, if the proof covers its Client Identifier and its past.
    fn grant(&self, proof: &Proof, credentials: &Credentials, now: Moment) -> Step {
        if let Err(refused) = check_client_id(proof, &credentials.client_id) {
            return Step::Refused(refused);
        }
        if proof.valid_until.is_some_and(|end| end <= now) {
            return Step::Refused(Refused::WRONG);
        }
        let identity = Identity {
            username: proof.username.clone(),
            fields: fields(proof, credentials),
            granted: proof.granted.clone(),
        };
        if credentials.previous.as_ref().is_some_and(|previous| previous.username != identity.username) {
            return Step::Refused(Refused::SOMEBODY_ELSE);
        }
        Step::Granted(Box::new(Grant { identity, valid_until: proof.valid_until, enhanced: None }))
    }
}

impl Counters {
    fn note(&self, step: &Step) {
        let counter = match step {
            Step::Granted(grant) if grant.identity.username.is_none() => return, // Anonymous, or nameless to a service.
            Step::Granted(_) => &self.granted,
            Step::Refused(refused) => match refused.reason {
                ReasonCode::ServerBusy => &self.busy,
                ReasonCode::ServerUnavailable => &self.unavailable,
                _ => &self.refused,
            },
            Step::Waiting | Step::Continue { .. } => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// All facts about a client, in the order of their names.
fn fields(proof: &Proof, credentials: &Credentials) -> Arc<[(Box<str>, Box<str>)]> {
    let mut fields = proof.fields.clone();
    if let Some(certificate) = &credentials.certificate {
        fields.extend(certificate.fields.iter().cloned());
    }
    if let Some(process) = credentials.process {
        let PeerProcess { uid, gid, pid } = process;
        let of_process = [("peer.uid", uid.to_string()), ("peer.gid", gid.to_string()), ("peer.pid", pid.to_string())];
        fields.extend(of_process.map(|(name, value)| (name.into(), value.into())));
    }
    fields.sort();
    fields.dedup_by(|(later, _), (earlier, _)| later == earlier);
    fields.into()
}

/// Bytes that nobody could foresee.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    bytes
}
