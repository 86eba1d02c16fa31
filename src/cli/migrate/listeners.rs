//! Where clients connect, and what is spoken there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::access::{self, Users, Who};
use super::draft::{Draft, Entry, Table, Weight, list_of, quoted};
use super::source::{Section, Setting, Source};
use Weight::{Differs, Lost, Needless};

const HEADER: &str = "[[listeners]]";
const PORT: u16 = 1883;
/// What makes the name in a certificate the User Name.
pub(super) const NAMES_OF_CERTIFICATES: [&str; 2] = ["use_identity_as_username", "use_subject_as_username"];

/// Translates them.
pub(super) fn translate(source: &Source, draft: &mut Draft) {
    let listeners = listeners(source);
    let is_local = listeners.iter().all(|listener| listener.is_local);
    let per_listener = source.global.flag("per_listener_settings") == Some(true);
    let mut users = Users::default();
    let mut items = Vec::new();
    for listener in &listeners {
        let security = if per_listener { listener.section.clone() } else { all(source) };
        let who = access::who(listener, &security, is_local, &mut users, draft);
        items.extend(translate_one(listener, &who, draft));
    }
    if items.is_empty() {
        draft.note(
            Lost,
            None,
            "no listener could be carried over, so there is one on 127.0.0.1:1883 that waits for users",
        );
        let file = Entry::new("authenticators", list_of(users.missing())).because("Its file is yet to be made.");
        let address = Entry::new("address", quoted("127.0.0.1:1883"));
        let entries = vec![address, Entry::new("anonymous", false), file];
        items.push(Table { header: HEADER, comments: Vec::new(), entries });
    }
    items.into_iter().for_each(|item| draft.push(item));
    users.write(draft);
    let places: Vec<_> = match per_listener {
        true => listeners.iter().map(|listener| listener.section.clone()).collect(),
        false => vec![all(source)],
    };
    access::rights(&places, draft);
    access::client_ids(&places, draft);
    whole_broker(&listeners, draft);
}

/// A listener as Mosquitto has it.
pub(super) struct Listener {
    pub(super) section: Section,
    /// The line that it comes from, if there is one.
    pub(super) at: Option<Setting>,
    /// Whether Mosquitto is in its local mode: nothing says where to listen.
    is_local: bool,
}

/// All of them: the default one, if anything is said of it or there is no other, and those with lines of their own.
fn listeners(source: &Source) -> Vec<Listener> {
    let default = &source.default_listener;
    let is_about_place = |setting: &&Setting| !setting.is_security();
    let said = default.settings.iter().rfind(is_about_place);
    let mut all = Vec::new();
    if said.is_some() || source.listeners.is_empty() {
        let at = default.get("port").or(said).cloned();
        all.push(Listener { section: default.clone(), is_local: said.is_none(), at });
    }
    all.extend(source.listeners.iter().map(|section| Listener {
        section: section.clone(),
        at: section.opening.clone(),
        is_local: false,
    }));
    all
}

/// The settings about security, wherever they stand: without per_listener_settings they are about all listeners.
fn all(source: &Source) -> Section {
    let sections = std::iter::once(&source.default_listener).chain(&source.listeners);
    let settings = sections.flat_map(|section| &section.settings).filter(|setting| setting.is_security());
    Section { opening: None, settings: settings.cloned().collect() }
}

/// Where it listens: addresses, or the path of a Unix socket.
enum Location {
    Addresses(Vec<SocketAddr>),
    Path(String),
}

impl Listener {
    fn has_tls(&self) -> bool {
        self.section.get("certfile").is_some()
    }

    /// Whether clients have to show a certificate. Mosquitto does not ask for one without require_certificate, so where certificates are
    /// to be the names of users, nobody can come in; whoever wrote that meant them to be asked for.
    pub(super) fn asks_for_certificates(&self) -> bool {
        let is_on = |name| self.section.flag(name) == Some(true);
        let has_authorities = ["cafile", "capath"].iter().any(|name| self.section.get(name).is_some());
        self.has_tls()
            && (is_on("require_certificate") || has_authorities && NAMES_OF_CERTIFICATES.into_iter().any(is_on))
    }

    fn location(&self, draft: &mut Draft) -> Location {
        let port_of = |text: &str| text.parse().unwrap_or(PORT);
        let (port, host) = match &self.section.opening {
            Some(opening) => {
                let (port, host) = opening.value.split_once(char::is_whitespace).unwrap_or((&opening.value, ""));
                (port_of(port), Some(host.trim()).filter(|host| !host.is_empty()))
            }
            None => {
                let port = self.section.get("port").map_or(PORT, |setting| port_of(&setting.value));
                (port, self.section.get("bind_address").map(|setting| setting.value.as_str()))
            }
        };
        if let (0, Some(path)) = (port, host) {
            return Location::Path(path.to_owned());
        }
        let domain = self.section.get("socket_domain").map(|setting| setting.value.as_str());
        let both = |v4: Ipv4Addr, v6: Ipv6Addr| match domain {
            Some("ipv4") => vec![IpAddr::from(v4)],
            Some("ipv6") => vec![IpAddr::from(v6)],
            _ => vec![IpAddr::from(v4), IpAddr::from(v6)],
        };
        let hosts = match host {
            None if self.is_local => both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            None => both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
            Some("localhost") => both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            Some(host) => match host.parse() {
                Ok(address) => vec![address],
                Err(_) => {
                    let text = format!(
                        "{host} is a name, and WillowMQ listens on IP addresses: the listener is on 127.0.0.1, give it the right one"
                    );
                    draft.note(Lost, self.at.as_ref().map(|at| &at.at), text);
                    vec![Ipv4Addr::LOCALHOST.into()]
                }
            },
        };
        Location::Addresses(hosts.into_iter().map(|host| SocketAddr::new(host, port)).collect())
    }
}

/// The items of one listener: one for each address. None where it cannot be carried over.
fn translate_one(listener: &Listener, who: &Who, draft: &mut Draft) -> Vec<Table> {
    let section = &listener.section;
    let has_websocket = match section.get("protocol").map(|setting| (setting, setting.value.as_str())) {
        Some((_, "websockets")) => true,
        None | Some((_, "mqtt")) => false,
        Some((setting, _)) => {
            draft.note_of(Lost, setting, "WillowMQ speaks MQTT, over TCP or WebSocket; the listener is left out");
            return Vec::new();
        }
    };
    let has_tls = listener.has_tls();
    if let (false, Some(setting)) = (has_tls, section.get("psk_hint")) {
        let text = "WillowMQ has no TLS with pre-shared keys; the listener is left out. Give it a certificate";
        draft.note_of(Lost, setting, text);
        return Vec::new();
    }
    notes(section, draft);
    let location = listener.location(draft);
    let mut entries = Vec::new();
    let kind = match (&location, has_tls, has_websocket) {
        (Location::Path(_), false, false) => "unix",
        (Location::Path(path), ..) => {
            let text = format!(
                "{path}: over a Unix socket WillowMQ speaks MQTT alone, without TLS or WebSocket; it is left out"
            );
            draft.note(Lost, listener.at.as_ref().map(|at| &at.at), text);
            return Vec::new();
        }
        (_, false, false) => "tcp",
        (_, true, false) => "tls",
        (_, false, true) => "ws",
        (_, true, true) => "wss",
    };
    entries.push(Entry::new("kind", quoted(kind)));
    // Mosquitto has many connections mean "any number".
    if let Some(setting) = section.get("max_connections").filter(|setting| setting.number() > 0) {
        let number = setting.number().min(i64::from(u32::MAX));
        entries.push(Entry::from("connections_max", number, setting));
    }
    if has_tls {
        entries.extend(tls(section, who.certificates, draft));
    }
    if has_websocket {
        entries.extend(websocket(listener, who, draft));
    }
    let copy = |entry: &Entry| Entry { comments: entry.comments.clone(), value: entry.value.clone(), ..*entry };
    entries.extend([copy(&who.anonymous), copy(&who.authenticators)]);
    let comments = match &listener.at {
        Some(at) => vec![format!("{}: {} {}", at.at, at.name, at.value)],
        None => vec!["Mosquitto's default listener.".to_owned()],
    };
    let places: Vec<_> = match &location {
        Location::Path(path) => vec![Entry::new("path", quoted(path))],
        Location::Addresses(all) => all.iter().map(|one| Entry::new("address", quoted(&one.to_string()))).collect(),
    };
    if places.len() > 1 {
        let text = "listeners for IPv4 and IPv6 are two; remove those for IPv6 ([::]) where the machine has none";
        draft.note(Differs, None, text);
    }
    let items = places.into_iter().enumerate().map(|(index, place)| {
        let mut entries: Vec<_> = entries.iter().map(copy).collect();
        let mut comments = comments.clone();
        if index > 0 {
            comments = vec![format!("{} (the same for IPv6)", comments[0])];
            entries.iter_mut().for_each(|entry| entry.comments.clear());
        }
        entries.insert(1, place);
        Table { header: HEADER, comments, entries }
    });
    items.collect()
}

fn tls(section: &Section, asks: bool, draft: &mut Draft) -> Vec<Entry> {
    let mut entries = Vec::new();
    let certificate = section.get("certfile").expect("it has TLS");
    entries.push(Entry::from("certificates", list_of(&certificate.value), certificate));
    entries.push(match section.get("keyfile") {
        Some(key) => Entry::from("keys", list_of(&key.value), key),
        None => Entry::new("keys", list_of(&certificate.value))
            .because("There is no keyfile: the key may be in the same file."),
    });
    match section.get("tls_version") {
        Some(setting) if setting.value == "tlsv1.3" => {
            entries.push(Entry::from("tls_version_min", quoted("1.3"), setting));
        }
        Some(setting) if setting.value != "tlsv1.2" => {
            draft.note_of(Lost, setting, "TLS 1.1 and older are broken (RFC 8996); clients need 1.2");
        }
        _ => {}
    }
    if asks {
        let required = section.get("require_certificate").filter(|setting| setting.flag());
        entries.push(match required {
            Some(required) => Entry::from("client_certificates", quoted("required"), required),
            None => Entry::new("client_certificates", quoted("required")).because("Their names are the User Names."),
        });
        entries.push(authorities(section, draft));
        if let Some(list) = section.get("crlfile") {
            entries.push(Entry::from("client_revocations", list_of(&list.value), list));
        }
        return entries;
    }
    for name in ["cafile", "capath", "crlfile"] {
        if let Some(setting) = section.get(name) {
            let text = "it means nothing where clients show no certificates. Authorities of the broker's own certificate belong into \
                        its file, behind it";
            draft.note_of(Needless, setting, text);
        }
    }
    entries
}

/// Which authorities client certificates must come from: one file.
fn authorities(section: &Section, draft: &mut Draft) -> Entry {
    match (section.get("cafile"), section.get("capath")) {
        (Some(file), folder) => {
            if let Some(folder) = folder {
                let text = format!("WillowMQ reads one file of authorities: add those of the folder to {}", file.value);
                draft.note_of(Lost, folder, &text);
            }
            Entry::from("client_authorities", quoted(&file.value), file)
        }
        (None, Some(folder)) => {
            let path = folder.value.trim_end_matches('/');
            let text =
                format!("WillowMQ reads one file of authorities: make it by `cat {path}/*.pem > {path}/all.pem`");
            draft.note_of(Differs, folder, &text);
            Entry::from("client_authorities", quoted(&format!("{path}/all.pem")), folder)
        }
        (None, None) => {
            let text = "there is neither cafile nor capath, so Mosquitto takes no certificate, and neither does this file until it has one";
            let file = "/etc/willowmq/authorities.pem";
            draft.note(Lost, section.get("require_certificate").map(|setting| &setting.at), text);
            Entry::new("client_authorities", quoted(file)).because("The file is yet to be made.")
        }
    }
}

/// Mosquitto looks neither at the path nor at the page that a WebSocket comes from.
fn websocket(listener: &Listener, who: &Who, draft: &mut Draft) -> Vec<Entry> {
    let at = listener.at.as_ref().map(|at| &at.at);
    draft.note(
        Differs,
        at,
        "Mosquitto takes a WebSocket at any path; here clients must ask for /mqtt, or what websocket_path says",
    );
    let mut entries = vec![Entry::new("websocket_path", quoted("/mqtt"))];
    if who.anonymous.value == "true" {
        let text = "Mosquitto lets pages of any origin connect. Here anybody's page could then use this broker without credentials, \
                    so only those of the same host may: name others in websocket_origins";
        draft.note(Differs, at, text);
    } else {
        let entry = Entry::new("websocket_origins", list_of("*"));
        entries
            .push(entry.because("Pages of any origin, as with Mosquitto; better name yours: \"https://example.org\"."));
    }
    entries
}

/// What listeners have in Mosquitto alone.
fn notes(section: &Section, draft: &mut Draft) {
    let lost = [
        ("mount_point", "topics are the same on all listeners"),
        ("bind_interface", "give the listener the address of that interface"),
        ("http_dir", "serve the files by a web server"),
        (
            "psk_hint",
            "WillowMQ has no TLS with pre-shared keys; clients of this listener need to check its certificate",
        ),
        ("ciphers", "the cipher suites are those that are safe, in TLS 1.2 with forward secrecy alone"),
        ("ciphers_tls1.3", "the cipher suites are those that are safe"),
        ("tls_engine", "keys are read from files (PEM)"),
        ("tls_engine_kpass_sha1", "keys are read from files (PEM), which are not encrypted"),
        ("tls_keyform", "keys are read from files (PEM)"),
    ];
    for (name, text) in lost {
        if let Some(setting) = section.get(name) {
            draft.note_of(Lost, setting, text);
        }
    }
    if let Some(setting) = section.get("use_username_as_clientid").filter(|setting| setting.flag()) {
        let text = "Client Identifiers are the client's own. A Session belongs to its user, though: nobody else can take it over";
        draft.note_of(Lost, setting, text);
    }
    if let Some(setting) = section.get("dhparamfile") {
        draft.note_of(Needless, setting, "keys are agreed on by elliptic curves");
    }
}

/// What Mosquitto has for each listener, and we have once: the most that any of them allows.
fn whole_broker(listeners: &[Listener], draft: &mut Draft) {
    for (name, key, default) in [("max_qos", "maximum_qos", 2), ("max_topic_alias", "topic_alias_maximum", 10)] {
        let said: Vec<_> = listeners.iter().filter_map(|listener| listener.section.get(name)).collect();
        let Some(most) = said.iter().max_by_key(|setting| setting.number()) else { continue };
        let number = if said.len() < listeners.len() { most.number().max(default) } else { most.number() };
        let number = number.clamp(0, if name == "max_qos" { 2 } else { 65_535 });
        draft.set("[limits]", Entry::from(key, number, most));
        for other in said.iter().filter(|other| other.number() < number) {
            draft.note_of(
                Lost,
                other,
                &format!("limits.{key} is the same for all listeners: the most that one of them allows"),
            );
        }
    }
}
