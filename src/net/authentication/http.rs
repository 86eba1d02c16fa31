//! An HTTP service that is asked who a client is.
//!
//! It gets a POST with a JSON object, and answers 200 with another one, in which everything but `result` may be left out:
//!
//! ```text
//! {"client_id": "lamp-1", "username": "lamp", "password": "secret", "source": "192.0.2.7:40000",
//!  "listener": "tls://0.0.0.0:8883", "protocol": "5.0", "certificate": {"cert.cn": "lamp"}, "process": {"uid": 7, "gid": 7, "pid": 70}}
//!
//! {"result": "allow", "username": "lamp", "client_id": "lamp-*", "rights": {"publish": ["lamps/#"]},
//!  "valid_for": 3600, "valid_until": 1790000000, "cache_for": 60}
//! ```
//!
//! `result` is `allow`, `deny`, or `ignore` for a client that is none of the service's; 401 and 403 are `deny`, too. What bounds a client,
//! `client_id` and `rights`, is left out or said: `null` is an error, as in a token. Nobody is let in for an answer of another kind:
//!
//! - another 4xx says that the service does not take what this client said. It is refused as if by `deny`, and nobody else suffers for it;
//! - 5xx, 408, 429, a 200 that is not understood, and no answer in time are failures of the service. The client hears that the server is
//!   unavailable, and a service that fails again and again is left alone for a while;
//! - any other status is no answer at all: the client hears that the server is unavailable.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, http};

use super::breaker::Breaker;
use super::loaded::Loaded;
use super::{Answer, Credentials, Proof, Refused};
use crate::codec::ProtocolVersion;
use crate::config::{self, ListenerKind};
use crate::net::logging::Seldom;
use crate::net::offload::Offload;
use crate::security::{Granted, is_username};
use crate::timer::Moment;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// A service, and whether it answers.
pub(super) struct Service {
    name: String,
    url: http::Uri,
    timeout: Duration,
    authorities: Option<Loaded<Vec<Certificate<'static>>>>,
    agent: RwLock<Agent>,
    breaker: Mutex<Breaker>,
    complaints: Mutex<Seldom>,
    /// As many threads as requests may be under way.
    pub(super) threads: Offload,
}

/// What the service says, and for how long we may believe it without asking again.
pub(super) struct Opinion {
    pub(super) answer: Answer,
    pub(super) cache_for: Duration,
}

#[derive(Deserialize)]
struct Reply {
    result: String,
    username: Option<String>,
    #[serde(default, deserialize_with = "said")]
    client_id: Option<Value>,
    #[serde(default, deserialize_with = "said")]
    rights: Option<Value>,
    valid_for: Option<u64>,
    valid_until: Option<u64>,
    cache_for: Option<u64>,
}

/// What stands there, be it `null`: who leaves a bound open by mistake is not to lift it.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Service {
    /// The service of `settings`, in front of which so many requests may wait.
    ///
    /// # Errors
    /// What is wrong with the settings or the file with authorities.
    pub(super) fn new(settings: &config::Authenticator, waiting_max: usize) -> Result<Self, String> {
        let url = parse_url(settings.url.as_deref().unwrap_or_default())?;
        let is_https = url.scheme() == Some(&http::uri::Scheme::HTTPS);
        let authorities = match &settings.authorities {
            Some(path) if is_https => Some(Loaded::new(path, parse_authorities)?),
            None if is_https => return Err("authorities must be given for https".to_owned()),
            _ => None,
        };
        let agent = agent(settings.timeout, settings.requests_max, authorities.as_ref().map(Loaded::get));
        let threads = Offload::new(&format!("ask-{}", settings.name), settings.requests_max as usize, waiting_max)
            .map_err(|error| format!("cannot start its threads: {error}"))?;
        Ok(Self {
            name: settings.name.clone(),
            url,
            timeout: settings.timeout,
            authorities,
            agent: RwLock::new(agent),
            breaker: Mutex::new(Breaker::new(settings.failures_max, settings.pause)),
            complaints: Mutex::default(),
            threads,
        })
    }

    /// The file with authorities, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.authorities.as_ref().map(Loaded::path)
    }

    /// Whether the file still says what is in force.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn is_current(&self) -> Result<bool, String> {
        self.authorities.as_ref().map_or(Ok(true), Loaded::is_current)
    }

    /// Reads the authorities again; whether they changed.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn reload(&self) -> Result<bool, String> {
        let Some(authorities) = &self.authorities else {
            return Ok(false);
        };
        let has_changed = authorities.reload()?;
        if has_changed {
            let mut current = self.agent.write().unwrap_or_else(PoisonError::into_inner);
            let idle_max = current.config().max_idle_connections() as u32;
            *current = agent(self.timeout, idle_max, Some(authorities.get()));
        }
        Ok(has_changed)
    }

    /// Whether it is worth to wait for a thread that asks.
    pub(super) fn is_available(&self, now: Moment) -> bool {
        self.breaker().would_admit(now)
    }

    /// Asks about a client, which takes as long as it takes. `now` is the time before and after.
    pub(super) fn ask(&self, credentials: &Credentials, listener: &str, now: &dyn Fn() -> Moment) -> Opinion {
        if !self.breaker().admit(now()) {
            return Opinion::no(Refused::UNAVAILABLE);
        }
        let result = self.request(credentials, listener, now);
        let now = now();
        match result {
            Ok(opinion) => {
                if self.breaker().on_answer() {
                    tracing::info!(authenticator = %self.name, "the authentication service answers again");
                }
                opinion.at(now)
            }
            Err(error) => {
                if self.breaker().on_failure(now) {
                    tracing::warn!(
                        authenticator = %self.name, %error,
                        "the authentication service has failed too often and is left alone for a while; its clients are refused meanwhile"
                    );
                } else {
                    tracing::debug!(authenticator = %self.name, %error, "the authentication service has failed");
                }
                Opinion::no(Refused::UNAVAILABLE)
            }
        }
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// A failure of the service, whoever the client is.
    fn request(
        &self,
        credentials: &Credentials,
        listener: &str,
        now: &dyn Fn() -> Moment,
    ) -> Result<Judgement, String> {
        let agent = self.agent.read().unwrap_or_else(PoisonError::into_inner).clone();
        let question = question(credentials, listener).to_string();
        let response = agent.post(&self.url).content_type("application/json").send(question);
        let mut response = response.map_err(|error| self.in_words(&error))?;
        match response.status().as_u16() {
            200 => {
                let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
                let body = body.map_err(|error| self.in_words(&error))?;
                judge(&body, credentials)
            }
            401 | 403 => Ok(Judgement::Other(Answer::No(Refused::WRONG))),
            status @ (408 | 429 | 500..) => Err(format!("its answer has the status {status}")),
            status => {
                // A wrong URL shows here, too. Any stranger may be able to bring it about, so it is told seldom.
                if self.complaints.lock().unwrap_or_else(PoisonError::into_inner).is_time(now()) {
                    tracing::warn!(authenticator = %self.name, status, "the authentication service does not answer about a client");
                }
                let refused = match status {
                    400..500 => {
                        Refused { why: "the authentication service does not take what it said", ..Refused::WRONG }
                    }
                    _ => Refused::UNAVAILABLE,
                };
                Ok(Judgement::Other(Answer::No(refused)))
            }
        }
    }

    fn in_words(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => format!("it has not answered within {:?}", self.timeout),
            other => other.to_string(),
        }
    }
}

impl Opinion {
    fn no(refused: Refused) -> Self {
        Self { answer: Answer::No(refused), cache_for: Duration::ZERO }
    }
}

/// What a reply means, before the time is looked at.
enum Judgement {
    Allow { proof: Proof, valid_for: Option<u64>, valid_until: Option<u64>, cache_for: u64 },
    Other(Answer),
}

impl Judgement {
    fn at(self, now: Moment) -> Opinion {
        match self {
            Self::Allow { mut proof, valid_for, valid_until, cache_for } => {
                let for_seconds = valid_for.map(|seconds| now + Duration::from_secs(seconds));
                let until = valid_until.map(|seconds| Moment::from_micros(seconds.saturating_mul(1_000_000)));
                proof.valid_until = for_seconds.into_iter().chain(until).min();
                if proof.valid_until.is_some_and(|until| until <= now) {
                    return Opinion::no(Refused { why: "what the service says has ended", ..Refused::WRONG });
                }
                Opinion { answer: Answer::Yes(Arc::new(proof)), cache_for: Duration::from_secs(cache_for) }
            }
            Self::Other(answer) => Opinion { answer, cache_for: Duration::ZERO },
        }
    }
}

fn judge(body: &[u8], credentials: &Credentials) -> Result<Judgement, String> {
    let reply: Reply =
        serde_json::from_slice(body).map_err(|error| format!("its answer is not understood: {error}"))?;
    match reply.result.as_str() {
        "allow" => {}
        "deny" => return Ok(Judgement::Other(Answer::No(Refused::WRONG))),
        "ignore" => return Ok(Judgement::Other(Answer::NotMine)),
        _ => return Err("its answer is not understood: the result is neither allow, deny nor ignore".to_owned()),
    }
    let granted = reply.rights.as_ref().map(Granted::from_json).transpose();
    let granted = granted.map_err(|error| format!("its answer is not understood: {error}"))?;
    let client_id = match reply.client_id {
        None => None,
        Some(Value::String(pattern)) => Some(pattern),
        Some(_) => return Err("its answer is not understood: the Client Identifier is no text".to_owned()),
    };
    // It may repeat what the client said, so this is no failure of the service.
    if reply.username.as_deref().is_some_and(|name| !name.is_empty() && !is_username(name)) {
        let refused = Refused { why: "the service gives it a User Name with control characters", ..Refused::WRONG };
        return Ok(Judgement::Other(Answer::No(refused)));
    }
    let username = reply.username.as_deref().or(credentials.username.as_deref()).filter(|name| !name.is_empty());
    let proof = Proof {
        username: username.map(Into::into),
        client_id: client_id.map(Into::into),
        granted: granted.map(Arc::new),
        ..Proof::default()
    };
    let Reply { valid_for, valid_until, cache_for, .. } = reply;
    Ok(Judgement::Allow { proof, valid_for, valid_until, cache_for: cache_for.unwrap_or(0) })
}

fn question(credentials: &Credentials, listener: &str) -> Value {
    let mut question = json!({
        "client_id": credentials.client_id,
        "username": credentials.username,
        "source": credentials.source.as_ref().map(SocketAddr::to_string),
        "listener": listener,
        "protocol": match credentials.version {
            ProtocolVersion::V3_1 => "3.1",
            ProtocolVersion::V3_1_1 => "3.1.1",
            ProtocolVersion::V5 => "5.0",
        },
    });
    let mut add = |key: &str, value: Value| question[key] = value;
    match credentials.password.as_deref().map(|password| (std::str::from_utf8(password), password)) {
        Some((Ok(text), _)) => add("password", text.into()),
        // JSON has text alone.
        Some((Err(_), bytes)) => add("password_base64", STANDARD.encode(bytes).into()),
        None => add("password", Value::Null),
    }
    if let Some(certificate) = &credentials.certificate {
        let fields = certificate.fields.iter().map(|(name, value)| (name.to_string(), Value::from(&**value)));
        add("certificate", fields.collect::<Map<_, _>>().into());
    }
    if let Some(process) = &credentials.process {
        add("process", json!({"uid": process.uid, "gid": process.gid, "pid": process.pid}));
    }
    question
}

/// How a listener is called in questions: `tls://0.0.0.0:8883`, `unix:///run/willowmq.sock`, `systemd:mqtt`.
pub(super) fn listener_name(listener: &config::Listener) -> String {
    if let Some(name) = &listener.systemd {
        return format!("systemd:{name}");
    }
    let kind = match listener.kind {
        ListenerKind::Tcp => "tcp",
        ListenerKind::Tls => "tls",
        ListenerKind::Ws => "ws",
        ListenerKind::Wss => "wss",
        ListenerKind::Unix => {
            return format!("unix://{}", listener.path.as_deref().unwrap_or(Path::new("")).display());
        }
    };
    format!("{kind}://{}", listener.address)
}

fn parse_url(url: &str) -> Result<http::Uri, String> {
    let fail = |reason: &str| format!("url = {url:?}: {reason}");
    let parsed: http::Uri = url.parse().map_err(|error| fail(&format!("{error}")))?;
    let authority = parsed.authority().ok_or_else(|| fail("it names no host"))?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Err(fail("it begins with neither http:// nor https://"));
    }
    if authority.as_str().contains('@') {
        return Err(fail("it holds credentials, which are not sent"));
    }
    Ok(parsed)
}

fn parse_authorities(pem: &[u8], file: &str) -> Result<Vec<Certificate<'static>>, String> {
    let mut authorities = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| format!("{file}: {error}"))? {
            let number = authorities.len() + 1;
            let der = rustls::pki_types::CertificateDer::from(certificate.der().to_vec());
            let usable = rustls::RootCertStore::empty().add(der);
            usable.map_err(|error| format!("{file}: certificate {number} cannot be an authority: {error}"))?;
            authorities.push(certificate);
        }
    }
    if authorities.is_empty() { Err(format!("{file}: there is no certificate in it")) } else { Ok(authorities) }
}

/// What makes the requests. It goes where it was told to, and nowhere else: no proxy of the environment, no redirection.
fn agent(timeout: Duration, requests_max: u32, authorities: Option<Arc<Vec<Certificate<'static>>>>) -> Agent {
    let authorities = authorities.map_or_else(Vec::new, |authorities| authorities.to_vec());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(authorities))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .proxy(None)
        .user_agent(concat!("willowmq/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .accept_encoding("identity")
        .max_response_header_size(16 * 1024)
        .max_idle_connections(requests_max as usize)
        .max_idle_connections_per_host(requests_max as usize)
        .tls_config(tls)
        .build()
        .new_agent()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::tests::nobody;
    use super::*;

    #[test]
    fn that_a_service_does_not_answer_in_time_is_said_in_words() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Some(format!("http://{}/", silent.local_addr().unwrap()));
        let timeout = Duration::from_millis(50);
        let service = Service::new(&config::Authenticator { url, timeout, ..Default::default() }, 8).unwrap();
        let error = service.request(&nobody(), "tcp://127.0.0.1:1883", &|| Moment::ZERO).err();
        assert_eq!(error.as_deref(), Some("it has not answered within 50ms"));
    }
}
