//! One authenticator: what it says about a client, and where it is computed.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::http::Service;
use super::loaded::Loaded;
use super::users::Users;
use super::{Answer, Credentials, Proof, Refused};
use crate::codec::ReasonCode;
use crate::config::{self, AuthenticatorKind, CertificateName};
use crate::security::password::{PasswordFile, Scratch};
use crate::security::token::{self, Keys, Rules, Verdict};
use crate::security::wildcard;
use crate::timer::Moment;

/// Where the machine's users have their names.
const USERS_FILE: &str = "/etc/passwd";

/// An entry of `[[authenticators]]` at work.
pub(super) struct Authenticator {
    pub(super) name: String,
    pub(super) kind: Kind,
    settings: config::Authenticator,
    /// A number that no other authenticator has or had, nor this one before its files changed: what was found right before does not
    /// count afterwards.
    generation: AtomicU64,
}

fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::SeqCst)
}

/// How it tells who a client is.
pub(super) enum Kind {
    Password(Loaded<PasswordFile>),
    Certificate(CertificateName),
    Token { keys: Loaded<Keys>, rules: Rules },
    Http(Box<Service>),
    Process(Loaded<Users>),
}

/// Where an answer is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At once, on the shard.
    Shard,
    /// On the threads for checks.
    Checks,
    /// On the threads of the authenticator with this number.
    Service(usize),
}

impl Authenticator {
    /// The authenticator of `settings`, with the content of its files.
    ///
    /// # Errors
    /// What is wrong with its settings or files.
    pub(super) fn new(settings: &config::Authenticator, waiting_max: usize) -> Result<Self, String> {
        let kind = match settings.kind {
            AuthenticatorKind::Password => Kind::Password(Loaded::new(file(settings)?, |bytes, name| {
                PasswordFile::parse(bytes, name).map_err(|error| error.to_string())
            })?),
            AuthenticatorKind::Certificate => Kind::Certificate(settings.username_from),
            AuthenticatorKind::Jwt => {
                let algorithms = token::parse_algorithms(&settings.algorithms)?;
                let parse = move |bytes: &[u8], name: &str| Keys::parse(bytes, name, &algorithms);
                Kind::Token { keys: Loaded::new(file(settings)?, parse)?, rules: rules(settings) }
            }
            AuthenticatorKind::Http => Kind::Http(Box::new(Service::new(settings, waiting_max)?)),
            AuthenticatorKind::Peer => {
                Kind::Process(Loaded::new(Path::new(USERS_FILE), |bytes, _| Ok(Users::parse(bytes)))?)
            }
        };
        let generation = AtomicU64::new(next_generation());
        Ok(Self { name: settings.name.clone(), kind, settings: settings.clone(), generation })
    }

    /// The file that it reads.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match &self.kind {
            Kind::Password(file) => Some(file.path().to_owned()),
            Kind::Token { keys, .. } => Some(keys.path().to_owned()),
            Kind::Http(service) => service.file().map(Path::to_owned),
            Kind::Process(users) => Some(users.path().to_owned()),
            Kind::Certificate(_) => None,
        }
    }

    /// Reads its file again; whether it has changed.
    ///
    /// # Errors
    /// What is wrong with the file. What was there before stays in force.
    pub(super) fn reload(&self) -> Result<bool, String> {
        let has_changed = match &self.kind {
            Kind::Password(file) => file.reload(),
            Kind::Token { keys, .. } => keys.reload(),
            Kind::Http(service) => service.reload(),
            Kind::Process(users) => users.reload(),
            Kind::Certificate(_) => Ok(false),
        }?;
        if has_changed {
            self.generation.store(next_generation(), Ordering::SeqCst);
        }
        Ok(has_changed)
    }

    /// Whether it is what one made now from these settings would be.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub(super) fn is_current(&self, settings: &config::Authenticator) -> Result<bool, String> {
        let is_content_current = || match &self.kind {
            Kind::Password(file) => file.is_current(),
            Kind::Token { keys, .. } => keys.is_current(),
            Kind::Http(service) => service.is_current(),
            Kind::Process(users) => users.is_current(),
            Kind::Certificate(_) => Ok(true),
        };
        if self.settings == *settings { is_content_current() } else { Ok(false) }
    }

    /// See the field. Read before the content, so that a proof by old content never counts as one by new content.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Where its answer about a client is computed; `number` is its own.
    pub(super) fn place(&self, number: usize, credentials: &Credentials) -> Place {
        match &self.kind {
            Kind::Password(_) if credentials.username.is_some() && credentials.password.is_some() => Place::Checks,
            Kind::Token { .. } if credentials.password.as_deref().is_some_and(token::is_one) => Place::Checks,
            Kind::Http(_) => Place::Service(number),
            _ => Place::Shard,
        }
    }

    /// What its answer depends on, apart from its files. Passwords alone are the same for every Client Identifier and address.
    pub(super) fn depends_on<'a>(&self, credentials: &'a Credentials, scratch: &'a mut Vec<u8>) -> Vec<&'a [u8]> {
        let username = credentials.username.as_deref().unwrap_or_default().as_bytes();
        let password = credentials.password.as_deref().unwrap_or_default();
        match &self.kind {
            Kind::Http(_) => {
                // A service sees everything. The port of an address says nothing about a client.
                let address = credentials.source.map(|source| source.ip());
                let certificate = credentials.certificate.as_deref().map(|certificate| &certificate.fields);
                let is_given = (credentials.username.is_some(), credentials.password.is_some());
                let facts =
                    (credentials.listener, address, certificate, credentials.process, is_given, credentials.version);
                scratch.extend(format!("{facts:?}").into_bytes());
                vec![username, password, credentials.client_id.as_bytes(), scratch]
            }
            _ => vec![username, password],
        }
    }

    /// Its answer, and how long it may be remembered where it is a yes.
    pub(super) fn ask(
        &self,
        credentials: &Credentials,
        listener: &str,
        cache_time: Duration,
        now: &dyn Fn() -> Moment,
    ) -> (Answer, Duration) {
        match &self.kind {
            Kind::Password(file) => (by_password(&file.get(), credentials), cache_time),
            Kind::Token { keys, rules } => (by_token(&keys.get(), rules, credentials, now()), cache_time),
            Kind::Certificate(name) => (by_certificate(*name, credentials), Duration::ZERO),
            Kind::Process(users) => (by_process(&users.get(), credentials), Duration::ZERO),
            Kind::Http(service) => {
                let opinion = service.ask(credentials, listener, now);
                (opinion.answer, opinion.cache_for)
            }
        }
    }
}

fn file(settings: &config::Authenticator) -> Result<&Path, String> {
    settings.file.as_deref().ok_or_else(|| "file must be given".to_owned())
}

fn rules(settings: &config::Authenticator) -> Rules {
    Rules {
        issuer: settings.issuer.clone(),
        audience: settings.audience.clone(),
        leeway: settings.leeway,
        username_claim: settings.username_claim.clone(),
        client_id_claim: settings.client_id_claim.clone(),
        rights_claim: settings.rights_claim.clone(),
    }
}

/// A user whom the file does not know may be known to the next authenticator; one whom it knows must have the password.
fn by_password(file: &PasswordFile, credentials: &Credentials) -> Answer {
    let (Some(username), Some(password)) = (&credentials.username, &credentials.password) else {
        return Answer::NotMine;
    };
    match verify(file, username, password) {
        Some(true) => Answer::Yes(Arc::new(Proof::of_user(username))),
        Some(false) => Answer::No(Refused::WRONG),
        None => Answer::NotMine,
    }
}

/// See [`PasswordFile::verify`]. Each thread that checks passwords has memory of its own for it.
pub(super) fn verify(file: &PasswordFile, username: &str, password: &[u8]) -> Option<bool> {
    thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());
    SCRATCH.with_borrow_mut(|scratch| file.verify(username, password, scratch))
}

fn by_token(keys: &Keys, rules: &Rules, credentials: &Credentials, now: Moment) -> Answer {
    let Some(token) = &credentials.password else {
        return Answer::NotMine;
    };
    let claims = match token::judge(token, keys, rules, now) {
        Verdict::NotMine => return Answer::NotMine,
        Verdict::Refused(why) => return Answer::No(Refused { why, ..Refused::WRONG }),
        Verdict::Valid(claims) => *claims,
    };
    // Clients of 3.x cannot send a Password without a User Name, so an empty one says nothing.
    if credentials.username.as_deref().is_some_and(|name| !name.is_empty() && *name != claims.username) {
        return Answer::No(Refused { why: "the User Name is not that of the token", ..Refused::WRONG });
    }
    Answer::Yes(Arc::new(Proof {
        username: Some(claims.username.as_str().into()),
        client_id: claims.client_id.map(Into::into),
        fields: claims.fields,
        granted: claims.granted.map(Arc::new),
        valid_until: Some(claims.valid_until),
    }))
}

fn by_certificate(name: CertificateName, credentials: &Credentials) -> Answer {
    let field = match name {
        CertificateName::CommonName => "cert.cn",
        CertificateName::Dns => "cert.dns",
        CertificateName::Uri => "cert.uri",
        CertificateName::Email => "cert.email",
    };
    let certificate = credentials.certificate.as_deref();
    match certificate.and_then(|certificate| certificate.field(field)).filter(|name| !name.is_empty()) {
        Some(name) => Answer::Yes(Arc::new(Proof::of_user(name))),
        None => Answer::NotMine,
    }
}

fn by_process(users: &Users, credentials: &Credentials) -> Answer {
    match credentials.process {
        Some(process) => Answer::Yes(Arc::new(Proof::of_user(&users.name(process.uid)))),
        None => Answer::NotMine,
    }
}

/// Whether a Client Identifier is one that a proof allows.
///
/// # Errors
/// The refusal, where it is not.
pub(super) fn check_client_id(proof: &Proof, client_id: &str) -> Result<(), Refused> {
    match &proof.client_id {
        Some(pattern) if !wildcard::fits(pattern, client_id) => Err(Refused {
            reason: ReasonCode::ClientIdentifierNotValid,
            is_failure: true,
            why: "the Client Identifier is not one of this user's",
        }),
        _ => Ok(()),
    }
}
