//! Rules between keys: what one asks of another, and what has no meaning beside it.

use std::collections::BTreeMap;

use super::error::{ConfigError, Fault, Origin};
use super::load::{Said, Saying};
use super::section::{Place, Section};
use super::{
    Admin, Authenticator, AuthenticatorKind, ClientCertificates, Config, Drain, Identities, Listener, ListenerKind,
    Presence,
};
use crate::topic::TopicName;

/// Algorithms of JSON Web Tokens, without the one that signs nothing.
const ALGORITHMS: [&str; 12] =
    ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// Room for a few servers in a Server Reference (§4.11).
const SERVER_REFERENCE_BYTES_MAX: usize = 1024;

/// Checks all rules between keys.
///
/// # Errors
/// The first that is broken.
pub(super) fn check(config: &Config, said: &Said) -> Result<(), ConfigError> {
    for index in 0..config.authenticators.len() {
        let item = Item { said, list: "authenticators", index };
        check_authenticator(&item, &config.authenticators)?;
    }
    if config.listeners.is_empty() {
        return Err(Item { said, list: "listeners", index: 0 }.missing("", "nobody could connect; add a [[listeners]]"));
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        let item = Item { said, list: "listeners", index };
        check_place(&item, &config.listeners)?;
        check_listener(&item, listener)?;
        check_who_may_connect(&item, listener, &config.authenticators)?;
    }
    for (index, Identities { users, .. }) in config.identities.iter().enumerate() {
        if users.is_empty() {
            let item = Item { said, list: "identities", index };
            return Err(item.missing("users", "it says whom the entry is about"));
        }
    }
    check_presence(&config.presence, said)?;
    check_drain(&config.drain, said)?;
    check_admin(&config.admin, said)
}

/// Whoever reaches the HTTP server from another machine has to say who it is, where nobody else can read that.
fn check_admin(admin: &Admin, said: &Said) -> Result<(), ConfigError> {
    // The error is shown where the setting stands that asks for the one which is absent.
    let absent = |because: &str, key: &str, reason: &str| {
        let origin = said.get(&format!("admin.{because}")).map_or(Origin::Default, |saying| saying.origin.clone());
        Err(ConfigError::new(origin, format!("admin.{key}"), Fault::Missing { reason: reason.to_owned() }))
    };
    if !admin.enabled {
        return Ok(());
    }
    match (&admin.certificate, &admin.key) {
        (Some(_), None) => return absent("certificate", "key", "the certificate needs its private key"),
        (None, Some(_)) => return absent("key", "certificate", "a private key needs its certificate"),
        _ => {}
    }
    if admin.client_authorities.is_some() && admin.certificate.is_none() {
        let reason = "clients can show certificates only inside TLS, which needs one of ours";
        return absent("client_authorities", "certificate", reason);
    }
    if admin.address.is_none_or(|address| address.ip().is_loopback()) {
        return Ok(());
    }
    if admin.token_file.is_none() && admin.client_authorities.is_none() {
        let reason = "admin.address is no loopback address: it must be said who may do what, by a token_file or client_authorities";
        return absent("address", "token_file", reason);
    }
    if admin.certificate.is_none() {
        let reason = "admin.address is no loopback address: tokens must not be sent in clear text";
        return absent("address", "certificate", reason);
    }
    Ok(())
}

fn check_presence(presence: &Presence, said: &Said) -> Result<(), ConfigError> {
    let key = "presence.root";
    let refused = |reason: String| {
        let (origin, value) = (Origin::Default, format!("{:?}", presence.root));
        let saying = said.get(key).cloned().unwrap_or(Saying { origin, key: key.to_owned(), value });
        Err(saying.refused(reason, "a Topic Name, such as \"$SYS/broker/presence\" or \"presence\""))
    };
    match TopicName::parse(&presence.root) {
        Ok(_) if presence.root.ends_with('/') => refused("it ends with a slash, and another one follows".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => refused(format!("this is no Topic Name: {error}")),
    }
}

/// The Server Reference stands in packets: a string of MQTT holds no U+0000 [MQTT-1.5.4-2], and one that few clients could take is none.
fn check_drain(drain: &Drain, said: &Said) -> Result<(), ConfigError> {
    let key = "drain.server_reference";
    let Some(reference) = &drain.server_reference else { return Ok(()) };
    let is_right = (1..=SERVER_REFERENCE_BYTES_MAX).contains(&reference.len()) && !reference.contains(char::is_control);
    if is_right {
        return Ok(());
    }
    let (origin, value) = (Origin::Default, format!("{reference:?}"));
    let saying = said.get(key).cloned().unwrap_or(Saying { origin, key: key.to_owned(), value });
    let reason = format!("it is empty, holds control characters, or is longer than {SERVER_REFERENCE_BYTES_MAX} bytes");
    Err(saying.refused(reason, "servers, such as \"other.example.org:1883\""))
}

/// One item of a list, for errors about it.
struct Item<'a> {
    said: &'a Said,
    list: &'static str,
    index: usize,
}

impl Item<'_> {
    /// The setting of a key, or else what the item itself is said by.
    fn saying(&self, key: &str) -> Saying {
        let (list, index) = (self.list, self.index);
        let path = if key.is_empty() { list.to_owned() } else { format!("{list}.{index}.{key}") };
        let shown = if key.is_empty() { list.to_owned() } else { format!("{list}.{key}") };
        match self.said.get(&path) {
            Some(saying) => saying.clone(),
            None => {
                let of_item = self.said.get(&format!("{list}.{index}")).or_else(|| self.said.get(list));
                let origin = of_item.map_or(Origin::Default, |saying| saying.origin.clone());
                Saying { origin, key: shown, value: default_of(list, key) }
            }
        }
    }

    fn is_said(&self, key: &str) -> bool {
        self.said.get(&format!("{}.{}.{key}", self.list, self.index)).is_some()
    }

    fn refused(&self, key: &str, reason: impl Into<String>, allowed: &str) -> ConfigError {
        self.saying(key).refused(reason.into(), allowed)
    }

    fn missing(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        let Saying { origin, key, .. } = self.saying(key);
        ConfigError::new(origin, key, Fault::Missing { reason: reason.into() })
    }

    /// Refuses keys that `has_meaning` says no to, unless they are as they are by default.
    fn refuse_idle<T: Section + Default>(
        &self,
        item: &T,
        context: &str,
        has_meaning: impl Fn(&str) -> bool,
    ) -> Result<(), ConfigError> {
        let defaults = values(&T::default());
        for (key, value) in values(item) {
            if !has_meaning(&key) && defaults.get(&key) != Some(&value) {
                return Err(self.refused(&key, format!("this has no meaning {context}"), "nothing"));
            }
        }
        Ok(())
    }
}

/// The value that a key has in an item that does not say it.
fn default_of(list: &str, key: &str) -> String {
    let groups = Config::default().groups();
    let keys = groups.into_iter().filter(|group| group.place.path == list).flat_map(|group| group.keys);
    keys.into_iter().find(|of_item| of_item.name == key).and_then(|key| key.value).unwrap_or_else(|| "unset".to_owned())
}

/// All keys of an item with their values as they are printed.
fn values(item: &impl Section) -> BTreeMap<String, Option<String>> {
    let mut groups = Vec::new();
    item.describe(Place::default(), &[], &mut groups);
    let keys = groups.into_iter().flat_map(|group| {
        group.keys.into_iter().map(move |key| (group.place.key(key.name), key.value)).collect::<Vec<_>>()
    });
    keys.collect()
}

fn check_authenticator(item: &Item<'_>, all: &[Authenticator]) -> Result<(), ConfigError> {
    use AuthenticatorKind::{Certificate, Http, Jwt, Password};
    let authenticator = &all[item.index];
    if authenticator.name.is_empty() {
        return Err(item.missing("name", "listeners and the log call the authenticator by it"));
    }
    if authenticator.name.contains(char::is_control) {
        return Err(item.refused("name", "there is a control character in it", "text that a log can show"));
    }
    if all[..item.index].iter().any(|other| other.name == authenticator.name) {
        return Err(item.refused("name", "another authenticator has this name", "names that differ"));
    }
    let kind = authenticator.kind;
    item.refuse_idle(authenticator, &format!("for kind {}", named(kind)), |key| match key {
        "name" | "kind" => true,
        "file" => matches!(kind, Password | Jwt),
        "username_from" => kind == Certificate,
        "url" | "authorities" | "timeout" | "requests_max" | "failures_max" | "pause" => kind == Http,
        _ => kind == Jwt,
    })?;
    match kind {
        Password if authenticator.file.is_none() => {
            Err(item.missing("file", "kind \"password\" needs a password file"))
        }
        Jwt if authenticator.file.is_none() => Err(item.missing("file", "kind \"jwt\" needs a key or a key set")),
        Jwt => check_algorithms(item, &authenticator.algorithms),
        Http => check_service(item, authenticator),
        _ => Ok(()),
    }
}

fn check_algorithms(item: &Item<'_>, algorithms: &[String]) -> Result<(), ConfigError> {
    if algorithms.is_empty() {
        return Err(item.missing("algorithms", "a token must not choose by what it is checked"));
    }
    match algorithms.iter().find(|&algorithm| !ALGORITHMS.contains(&algorithm.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let reason = format!("{unknown:?} is not one of the algorithms");
            Err(item.refused("algorithms", reason, &ALGORITHMS.join(", ")))
        }
    }
}

fn check_service(item: &Item<'_>, authenticator: &Authenticator) -> Result<(), ConfigError> {
    let Some(url) = &authenticator.url else {
        return Err(item.missing("url", "kind \"http\" needs the address of its service"));
    };
    match url.split_once("://") {
        Some(("http", _)) if authenticator.authorities.is_some() => {
            Err(item.refused("authorities", "this has no meaning without TLS", "an https:// address in url"))
        }
        Some(("https", _)) if authenticator.authorities.is_none() => {
            Err(item.missing("authorities", "https needs the authorities that the service's certificate comes from"))
        }
        Some(("http" | "https", host)) if !host.is_empty() => Ok(()),
        _ => Err(item.refused("url", "this is no address of a service", "http://… or https://…")),
    }
}

/// Where it listens: no two at the same place, and each at one of the places that its kind can be at.
fn check_place(item: &Item<'_>, all: &[Listener]) -> Result<(), ConfigError> {
    let listener = &all[item.index];
    let before = &all[..item.index];
    let is_unix = listener.kind == ListenerKind::Unix;
    let is_passed = listener.systemd.is_some();
    let context = match is_passed {
        true => "beside systemd, which has opened the socket".to_owned(),
        false => format!("for kind {}", named(listener.kind)),
    };
    item.refuse_idle(listener, &context, |key| match key {
        "address" => listener.has_address(),
        "path" | "mode" | "owner" => is_unix && !is_passed,
        "backlog" => !is_passed,
        _ => true,
    })?;
    if is_unix && !is_passed && listener.path.is_none() {
        return Err(item.missing("path", "kind \"unix\" needs a path, or a socket of systemd"));
    }
    if let Some(owner) = &listener.owner
        && (owner.matches(':').count() > 1 || owner == ":")
    {
        return Err(item.refused("owner", "this names no owner", "\"user\", \"user:group\" or \":group\""));
    }
    let (differ, reason) = ("places that differ", |what: &str| format!("another listener has this {what}"));
    if listener.path.is_some() && before.iter().any(|other| other.path == listener.path) {
        return Err(item.refused("path", reason("path"), differ));
    }
    if is_passed && before.iter().any(|other| other.systemd == listener.systemd) {
        return Err(item.refused("systemd", reason("socket"), differ));
    }
    if listener.has_address() && before.iter().any(|other| other.has_address() && collide(other, listener)) {
        return Err(item.refused("address", reason("address"), differ));
    }
    Ok(())
}

/// Whether two addresses cannot be listened on at a time. Port 0 is a free one, another each time.
fn collide(one: &Listener, other: &Listener) -> bool {
    let [one, other] = [one.address, other.address];
    let covers = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || one.is_ipv4() == other.is_ipv4() && covers)
}

/// What its kind asks for.
fn check_listener(item: &Item<'_>, listener: &Listener) -> Result<(), ConfigError> {
    let kind = listener.kind;
    item.refuse_idle(listener, &format!("for kind {}", named(kind)), |key| match key {
        "certificates" | "keys" | "tls_version_min" | "client_certificates" => kind.has_tls(),
        "client_authorities" | "client_revocations" => kind.has_tls(),
        "websocket_path" | "websocket_origins" => kind.has_websocket(),
        "proxy_senders" => kind != ListenerKind::Unix,
        _ => true,
    })?;
    if kind.has_tls() {
        check_tls(item, listener)?;
    }
    if kind.has_websocket() && !listener.websocket_path.starts_with('/') {
        return Err(item.refused("websocket_path", "this does not begin with a slash", "such as \"/mqtt\""));
    }
    match (listener.proxy_protocol, listener.proxy_senders.is_empty()) {
        (true, true) if kind != ListenerKind::Unix => {
            Err(item.missing("proxy_senders", "with proxy_protocol, it must be said whose headers are believed"))
        }
        (false, false) => Err(item.refused(
            "proxy_senders",
            "this has no meaning without the PROXY protocol",
            "proxy_protocol = true",
        )),
        _ => Ok(()),
    }
}

fn check_tls(item: &Item<'_>, listener: &Listener) -> Result<(), ConfigError> {
    let kind = named(listener.kind);
    let (certificates, keys) = (listener.certificates.len(), listener.keys.len());
    if certificates == 0 {
        return Err(item.missing("certificates", format!("kind {kind} needs a certificate")));
    }
    if keys != certificates {
        let reason = format!("there are {certificates} certificates and {keys} keys");
        return Err(item.refused("keys", reason, "one key for each certificate, in the same order"));
    }
    let asks = listener.client_certificates != ClientCertificates::None;
    let needs = "this has no meaning as long as clients are not asked for certificates";
    let allowed = "client_certificates = \"optional\" or \"required\"";
    match (asks, &listener.client_authorities) {
        (true, None) => {
            let reason = "it must be said which authorities client certificates must come from";
            Err(item.missing("client_authorities", reason))
        }
        (false, Some(_)) => Err(item.refused("client_authorities", needs, allowed)),
        (false, None) if !listener.client_revocations.is_empty() => {
            Err(item.refused("client_revocations", needs, allowed))
        }
        _ => Ok(()),
    }
}

/// Somebody can connect, and what is to be asked of them can be asked.
fn check_who_may_connect(
    item: &Item<'_>,
    listener: &Listener,
    authenticators: &[Authenticator],
) -> Result<(), ConfigError> {
    for name in listener.authenticators.iter().flatten() {
        let Some(authenticator) = authenticators.iter().find(|authenticator| authenticator.name == *name) else {
            let names: Vec<_> = authenticators.iter().map(|authenticator| authenticator.name.as_str()).collect();
            let allowed = format!("names of [[authenticators]]; there are: {}", names.join(", "));
            return Err(item.refused("authenticators", format!("there is no authenticator {name:?}"), &allowed));
        };
        if !listener.can_ask(authenticator.kind) {
            let (reason, allowed) = match authenticator.kind {
                AuthenticatorKind::Peer => {
                    ("needs to know the process at the other end", "it on kind \"unix\", without proxy_protocol")
                }
                _ => ("needs client certificates", "it with client_certificates, or with proxy_protocol"),
            };
            return Err(item.refused("authenticators", format!("{name:?} {reason}"), allowed));
        }
    }
    if listener.anonymous || !listener.authenticators_of(authenticators).is_empty() {
        return Ok(());
    }
    let key = match listener.has_address() {
        _ if item.is_said("anonymous") => "anonymous",
        true if listener.proxy_protocol && listener.address.ip().is_loopback() => "proxy_protocol",
        true => "address",
        false => "kind",
    };
    let reason = "nobody could connect here: no authenticator can tell who its clients are, and without credentials they are let in \
                  only on a loopback address while there are no authenticators and no proxy, unless anonymous = true says otherwise";
    Err(item.refused(key, reason, "a listener with authenticators, or with anonymous = true"))
}

/// The name of a kind as the file has it.
fn named<T: super::section::Named>(kind: T) -> String {
    T::NAMES.iter().find(|(choice, _)| *choice == kind).map_or(String::new(), |(_, name)| format!("{name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{File, Sources};

    fn load(text: &str) -> Result<Config, ConfigError> {
        Config::load(Sources { file: Some(File { name: "f", text }), ..Sources::default() })
    }

    fn message(text: &str) -> String {
        load(text).err().map_or_else(|| panic!("taken: {text}"), |error| error.to_string())
    }

    /// Every one of `cases` is refused with a message that begins as it says.
    fn assert_refused(cases: &[(&str, &str)]) {
        for (text, begins) in cases {
            let message = message(text);
            assert!(message.starts_with(begins), "{message}\n{text}");
        }
    }

    const PASSWORDS: &str = "[[authenticators]]\nname = 'staff'\nfile = 'passwords'\n";
    const TLS: &str = "[[listeners]]\nkind = 'tls'\nanonymous = true\ncertificates = ['c']\nkeys = ['k']\n";
    const UNIX: &str = "[[listeners]]\nkind = 'unix'\nanonymous = true\npath = '/run/a'\n";

    #[test]
    fn a_server_reference_has_to_fit_a_packet() {
        let of = |reference: &str| format!("[drain]\nserver_reference = {reference}\n");
        load(&of("'other.example.org:1883 [2001:db8::1]:1883'")).unwrap();
        let long = format!("'{}'", "x".repeat(SERVER_REFERENCE_BYTES_MAX + 1));
        for wrong in ["''", "\"a\\u0000b\"", &long] {
            assert!(message(&of(wrong)).contains("drain.server_reference"), "{wrong}");
        }
    }

    #[test]
    fn who_says_nothing_lets_anonymous_clients_in_on_loopback_without_authenticators() {
        let anonymous = |text: &str| load(text).unwrap().listeners[0].anonymous;
        assert!(anonymous(""));
        assert!(anonymous("[[listeners]]\naddress = '[::1]:1883'\n"));
        assert!(!anonymous(PASSWORDS));
        assert!(!anonymous(&format!("[[listeners]]\naddress = '0.0.0.0:1883'\n{PASSWORDS}")));
        assert!(anonymous(&format!("[[listeners]]\nauthenticators = []\n{PASSWORDS}")), "nobody is asked there");
        assert!(!anonymous(&format!("[[listeners]]\nkind = 'unix'\npath = 'a'\n{PASSWORDS}")));
        // What is said is taken, wherever the listener is.
        assert!(anonymous("[[listeners]]\naddress = '0.0.0.0:1883'\nanonymous = true\n"));
        assert!(!anonymous(&format!("[[listeners]]\nanonymous = false\n{PASSWORDS}")));
        assert!(anonymous(&format!("[[listeners]]\nanonymous = true\n{PASSWORDS}")));
    }

    #[test]
    fn a_listener_that_nobody_could_connect_to_is_refused() {
        assert_eq!(
            message("[[listeners]]\n[[listeners]]\naddress = '0.0.0.0:1884'\n"),
            "f:3: listeners.address = '0.0.0.0:1884': nobody could connect here: no authenticator can tell who its clients are, \
             and without credentials they are let in only on a loopback address while there are no authenticators and no \
             proxy, unless anonymous = true says otherwise; allowed: a listener with authenticators, or with anonymous = true"
        );
        assert_refused(&[
            ("[[listeners]]\nanonymous = false\n", "f:2: listeners.anonymous = false: nobody could connect"),
            ("[[listeners]]\npath = 'a'\nkind = 'unix'\n", "f:3: listeners.kind = 'unix': nobody could connect"),
            ("[[listeners]]\nsystemd = 'mqtt'\n", "f:1: listeners.kind = \"tcp\": nobody could connect"),
            ("listeners = []", "f:1: listeners is not set: nobody could connect; add a [[listeners]]"),
            (
                "[[authenticators]]\nname = 'uid'\nkind = 'peer'\n[[listeners]]\naddress = '0.0.0.0:1'\n",
                "f:5: listeners.address = '0.0.0.0:1': nobody could connect",
            ),
            // Behind a proxy on the same machine is the world.
            (
                "[[listeners]]\nproxy_protocol = true\nproxy_senders = ['127.0.0.1']\n",
                "f:2: listeners.proxy_protocol = true: nobody could connect",
            ),
            // What cannot tell anything about a listener does not open it either.
            (
                "[[authenticators]]\nname = 'uid'\nkind = 'peer'\n[[listeners]]\n",
                "f:4: listeners.address = \"127.0.0.1:1883\": nobody could connect",
            ),
        ]);
    }

    #[test]
    fn presence_is_told_below_a_topic_name() {
        assert_refused(&[
            (
                "[presence]\nroot = 'a/+'\n",
                "f:2: presence.root = 'a/+': this is no Topic Name: a Topic Name contains no wildcard",
            ),
            ("[presence]\nroot = ''\n", "f:2: presence.root = '': this is empty"),
            ("[presence]\nroot = 'a/'\n", "f:2: presence.root = 'a/': it ends with a slash"),
        ]);
        assert!(load("[presence]\nroot = 'a/b'\n").is_ok());
    }

    #[test]
    fn no_two_listeners_are_at_one_place() {
        let two = |one: &str, other: &str| format!("[[listeners]]\n{one}\n[[listeners]]\n{other}\n");
        assert_eq!(
            message(&two("address = '127.0.0.1:5'", "address = '127.0.0.1:5'")),
            "f:4: listeners.address = '127.0.0.1:5': another listener has this address; allowed: places that differ"
        );
        assert!(
            message(&two("address = '127.0.0.1:1883'", "")).contains("listeners.address = \"127.0.0.1:1883\": another")
        );
        let everywhere = two("address = '127.0.0.1:5'", "address = '0.0.0.0:5'\nanonymous = true");
        assert!(message(&everywhere).contains("another listener has this address"));
        let unix = |path| format!("kind = 'unix'\nanonymous = true\npath = '{path}'");
        assert!(message(&two(&unix("/a"), &unix("/a"))).contains("listeners.path = '/a': another"));
        let passed = |name| format!("systemd = '{name}'\nanonymous = true");
        assert!(message(&two(&passed("a"), &passed("a"))).contains("listeners.systemd = 'a': another"));

        assert!(load(&two("address = '127.0.0.1:0'", "address = '127.0.0.1:0'")).is_ok());
        assert!(load(&two("address = '0.0.0.0:5'\nanonymous = true", "address = '[::]:5'\nanonymous = true")).is_ok());
        assert!(load(&two(&unix("/a"), &unix("/b"))).is_ok());
        assert!(load(&two(&passed("a"), &passed("b"))).is_ok());
        assert!(load(&two(&passed("a"), "")).is_ok());
    }

    #[test]
    fn a_place_belongs_to_a_kind() {
        assert_refused(&[
            ("[[listeners]]\nkind = 'unix'\n", "f:1: listeners.path is not set: kind \"unix\" needs a path"),
            ("[[listeners]]\npath = '/a'\n", "f:2: listeners.path = '/a': this has no meaning for kind \"tcp\""),
            ("[[listeners]]\nmode = '0600'\n", "f:2: listeners.mode = '0600': this has no meaning"),
            ("[[listeners]]\nowner = 'a'\n", "f:2: listeners.owner = 'a': this has no meaning"),
            (&format!("{UNIX}address = '127.0.0.1:2'\n"), "f:5: listeners.address = '127.0.0.1:2': this has no"),
            (&format!("{UNIX}systemd = 'a'\n"), "f:4: listeners.path = '/run/a': this has no meaning beside systemd"),
            (&format!("{UNIX}owner = 'a:b:c'\n"), "f:5: listeners.owner = 'a:b:c': this names no owner"),
            ("[[listeners]]\nsystemd = 'a'\naddress = '127.0.0.1:2'\n", "f:3: listeners.address"),
        ]);
        for good in ["owner = 'a'", "owner = 'a:b'", "owner = ':b'", "mode = '0600'"] {
            load(&format!("{UNIX}{good}\n")).unwrap();
        }
        load("[[listeners]]\nkind = 'unix'\nanonymous = true\nsystemd = 'a'\n").unwrap();
    }

    #[test]
    fn tls_needs_certificates_with_keys_and_nobody_else_does() {
        let tls = "[[listeners]]\nkind = 'tls'\n";
        let asking = format!("{TLS}client_certificates = 'required'\n");
        assert_refused(&[
            (tls, "f:1: listeners.certificates is not set: kind \"tls\" needs a certificate"),
            (
                &format!("{tls}certificates = ['a', 'b']\nkeys = ['k']\n"),
                "f:4: listeners.keys = ['k']: there are 2 certificates and 1 keys; allowed: one key for each",
            ),
            ("[[listeners]]\ncertificates = ['a']\n", "f:2: listeners.certificates = ['a']: this has no meaning"),
            ("[[listeners]]\nkind = 'ws'\ntls_version_min = '1.3'\n", "f:3: listeners.tls_version_min = '1.3': this"),
            (&asking, "f:1: listeners.client_authorities is not set"),
            (&format!("{TLS}client_authorities = 'a'\n"), "f:6: listeners.client_authorities = 'a': this has no"),
            (&format!("{TLS}client_revocations = ['a']\n"), "f:6: listeners.client_revocations = ['a']: this has"),
            (&format!("{tls}tls_version_min = '1.1'\n"), "f:3: listeners.tls_version_min = '1.1': it is broken"),
        ]);
        load(TLS).unwrap();
        load(&format!("{asking}client_authorities = 'a'\nclient_revocations = ['b']\n")).unwrap();
    }

    #[test]
    fn keys_of_websocket_and_the_proxy_protocol_belong_together() {
        assert_refused(&[
            ("[[listeners]]\nwebsocket_path = '/a'\n", "f:2: listeners.websocket_path = '/a': this has no meaning"),
            (&format!("{TLS}websocket_origins = ['*']\n"), "f:6: listeners.websocket_origins = ['*']: this has no"),
            (
                "[[listeners]]\nkind = 'ws'\nwebsocket_path = 'mqtt'\n",
                "f:3: listeners.websocket_path = 'mqtt': this does not begin with a slash",
            ),
            ("[[listeners]]\nproxy_senders = ['::1']\n", "f:2: listeners.proxy_senders = ['::1']: this has no meaning"),
            ("[[listeners]]\nproxy_protocol = true\n", "f:1: listeners.proxy_senders is not set: with proxy_protocol"),
            (&format!("{UNIX}proxy_protocol = true\nproxy_senders = ['::1']\n"), "f:6: listeners.proxy_senders"),
        ]);
        load("[[listeners]]\nkind = 'ws'\nwebsocket_path = '/a'\nwebsocket_origins = ['*']\n").unwrap();
        load("[[listeners]]\nanonymous = true\nproxy_protocol = true\nproxy_senders = ['::1']\n").unwrap();
        load(&format!("{UNIX}proxy_protocol = true\n")).unwrap();
    }

    #[test]
    fn an_authenticator_has_a_name_of_its_own_and_the_keys_of_its_kind() {
        let kind = |kind: &str, keys: &str| format!("[[authenticators]]\nname = 'a'\nkind = '{kind}'\n{keys}\n");
        assert_refused(&[
            ("[[authenticators]]\nfile = 'a'\n", "f:1: authenticators.name is not set"),
            ("[[authenticators]]\nname = \"a\\u0000\"\nfile = 'a'\n", "f:2: authenticators.name = "),
            (&format!("{PASSWORDS}{PASSWORDS}"), "f:5: authenticators.name = 'staff': another authenticator"),
            (&kind("password", ""), "f:1: authenticators.file is not set: kind \"password\" needs"),
            (
                &kind("password", "file = 'a'\nurl = 'http://a'"),
                "f:5: authenticators.url = 'http://a': this has no meaning for kind \"password\"",
            ),
            (&kind("jwt", "algorithms = ['RS256']"), "f:1: authenticators.file is not set"),
            (&kind("jwt", "file = 'a'"), "f:1: authenticators.algorithms is not set"),
            (&kind("jwt", "file = 'a'\nalgorithms = ['none']"), "f:5: authenticators.algorithms = ['none']: \"none\""),
            (&kind("http", ""), "f:1: authenticators.url is not set"),
            (&kind("http", "url = 'ftp://a'"), "f:4: authenticators.url = 'ftp://a': this is no address"),
            (&kind("http", "url = 'https://a'"), "f:1: authenticators.authorities is not set"),
            (
                &kind("http", "url = 'http://a'\nauthorities = 'b'"),
                "f:5: authenticators.authorities = 'b': this has no",
            ),
            (&kind("peer", "username_from = 'dns'"), "f:4: authenticators.username_from = 'dns': this has no meaning"),
            (&kind("certificate", "file = 'a'"), "f:4: authenticators.file = 'a': this has no meaning"),
            ("[[identities]]\nconnections_max = 3\n", "f:1: identities.users is not set"),
        ]);
        for good in [
            kind("certificate", "username_from = 'dns'"),
            kind("jwt", "file = 'a'\nalgorithms = ['ES256', 'EdDSA']\nissuer = 'b'\nleeway = '5s'"),
            kind("http", "url = 'https://a/b'\nauthorities = 'c'\ntimeout = '1s'\npause = '3s'"),
            kind("peer", ""),
        ] {
            load(&format!("[[listeners]]\nanonymous = true\n{good}")).unwrap();
        }
    }

    #[test]
    fn a_listener_names_authenticators_that_exist_and_can_tell_something() {
        let authenticators = format!(
            "{PASSWORDS}[[authenticators]]\nname = 'tls'\nkind = 'certificate'\n[[authenticators]]\nname = 'uid'\nkind = 'peer'\n"
        );
        let with = |listener: &str| format!("{listener}{authenticators}");
        assert_refused(&[
            (
                &with("[[listeners]]\nauthenticators = ['stuff']\n"),
                "f:2: listeners.authenticators = ['stuff']: there is no authenticator \"stuff\"; allowed: names of \
                 [[authenticators]]; there are: staff, tls, uid",
            ),
            (
                &with("[[listeners]]\nauthenticators = ['tls']\n"),
                "f:2: listeners.authenticators = ['tls']: \"tls\" needs",
            ),
            (&with(&format!("{TLS}authenticators = ['tls']\n")), "f:6: listeners.authenticators = ['tls']: \"tls\""),
            (&with("[[listeners]]\nauthenticators = ['uid']\n"), "f:2: listeners.authenticators = ['uid']: \"uid\""),
            // The process at the other end is the proxy's, for everybody who comes through it.
            (
                &with(&format!("{UNIX}proxy_protocol = true\nauthenticators = ['uid']\n")),
                "f:6: listeners.authenticators = ['uid']: \"uid\" needs",
            ),
        ]);
        for good in [
            format!("{TLS}client_certificates = 'optional'\nclient_authorities = 'a'\nauthenticators = ['tls']\n"),
            "[[listeners]]\nproxy_protocol = true\nproxy_senders = ['::1']\nauthenticators = ['tls']\n".to_owned(),
            format!("{UNIX}authenticators = ['uid', 'staff']\n"),
        ] {
            load(&with(&good)).unwrap();
        }
    }

    #[test]
    fn who_names_no_authenticator_has_all_that_can_tell_something() {
        let text = format!("[[listeners]]\n{UNIX}{PASSWORDS}[[authenticators]]\nname = 'uid'\nkind = 'peer'\n");
        let config = load(&text).unwrap();
        let names = |listener: &Listener| {
            let asked = listener.authenticators_of(&config.authenticators);
            asked.into_iter().map(|authenticator| authenticator.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&config.listeners[0]), ["staff"]);
        assert_eq!(names(&config.listeners[1]), ["staff", "uid"]);
    }

    #[test]
    fn whoever_comes_to_the_http_server_from_elsewhere_has_to_say_who_it_is() {
        let admin = |keys: &str| format!("[admin]\n{keys}\n");
        let near =
            "f:2: admin.token_file is not set: admin.address is no loopback address: it must be said who may do what";
        assert_refused(&[
            (&admin("address = '0.0.0.0:8080'"), near),
            (&admin("address = '10.0.0.1:8080'\ncertificate = 'c'\nkey = 'k'"), near),
            (
                &admin("address = '[::]:8080'\ntoken_file = 't'"),
                "f:2: admin.certificate is not set: admin.address is no loopback address: tokens must not be sent in clear",
            ),
            (&admin("certificate = 'c'"), "f:2: admin.key is not set: the certificate needs its private key"),
            (&admin("key = 'k'"), "f:2: admin.certificate is not set: a private key needs its certificate"),
            (
                &admin("client_authorities = 'a'"),
                "f:2: admin.certificate is not set: clients can show certificates only",
            ),
        ]);
        for good in [
            "",
            "address = '[::1]:8080'",
            "address = '127.0.0.1:8080'\ntoken_file = 't'",
            "certificate = 'c'\nkey = 'k'",
            "address = '0.0.0.0:8443'\ncertificate = 'c'\nkey = 'k'\ntoken_file = 't'",
            "address = '0.0.0.0:8443'\ncertificate = 'c'\nkey = 'k'\nclient_authorities = 'a'",
            "enabled = false\naddress = '0.0.0.0:8080'",
        ] {
            load(&admin(good)).unwrap();
        }
    }
}
