//! Whole configurations: what they become can be loaded, and is what they meant.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use willowmq::config::{
    AuthenticatorKind, ClientCertificates, Config, Durability, File, ListenerKind, LogTarget, MemoryLimit,
    RightsFormat, Sources, TlsVersion,
};

use super::draft::{Draft, Weight};
use super::source::Source;

/// The draft of a text, and what loads of it.
fn migrated(text: &str) -> (Draft, Config) {
    let source = Source::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let draft = super::translate(&source);
    let toml = draft.to_toml("mosquitto.conf");
    let file = Some(File { name: "willowmq.toml", text: &toml });
    let config = Config::load(Sources { file, ..Sources::default() });
    (draft, config.unwrap_or_else(|error| panic!("{error}\n{toml}")))
}

fn notes(draft: &Draft, weight: Weight) -> Vec<String> {
    draft.notes_of(weight).map(ToString::to_string).collect()
}

fn lost(text: &str) -> Vec<String> {
    notes(&migrated(text).0, Weight::Lost)
}

fn addresses(config: &Config) -> Vec<String> {
    config.listeners.iter().map(|listener| listener.address.to_string()).collect()
}

const TLS: &str = "listener 8883\ncertfile /c.pem\nkeyfile /k.pem\n";

#[test]
fn without_a_listener_there_is_the_local_mode() {
    let (draft, config) = migrated("");
    assert_eq!(addresses(&config), ["127.0.0.1:1883", "[::1]:1883"]);
    assert!(config.listeners.iter().all(|listener| listener.anonymous));
    assert_eq!(config.durability, Durability::Memory);
    assert_eq!(notes(&draft, Weight::Lost), [""; 0]);
}

#[test]
fn with_a_listener_anonymous_clients_are_let_in_only_when_that_is_said() {
    let (draft, config) = migrated("listener 1883\n");
    assert_eq!(addresses(&config), ["0.0.0.0:1883", "[::]:1883"]);
    assert!(config.listeners.iter().all(|listener| !listener.anonymous));
    assert!(notes(&draft, Weight::Differs).iter().any(|note| note.contains("lets nobody in until there are users")));
    let (_, config) = migrated("port 1884\nallow_anonymous true\n");
    assert_eq!(addresses(&config), ["0.0.0.0:1884", "[::]:1884"]);
    assert!(config.listeners.iter().all(|listener| listener.anonymous));
    let (_, config) = migrated("allow_anonymous false\npassword_file /p\n");
    assert_eq!(addresses(&config), ["127.0.0.1:1883", "[::1]:1883"], "security alone is no listener");
    assert!(!config.listeners[0].anonymous);
}

#[test]
fn places_are_addresses_names_domains_and_paths() {
    let of = |text: &str| addresses(&migrated(&format!("allow_anonymous true\n{text}")).1);
    assert_eq!(of("listener 1 10.0.0.1\n"), ["10.0.0.1:1"]);
    assert_eq!(of("listener 1 ::1\n"), ["[::1]:1"]);
    assert_eq!(of("listener 1 localhost\n"), ["127.0.0.1:1", "[::1]:1"]);
    assert_eq!(of("listener 1\nsocket_domain ipv4\n"), ["0.0.0.0:1"]);
    assert_eq!(of("listener 1\nsocket_domain ipv6\n"), ["[::]:1"]);
    assert_eq!(of("bind_address 10.0.0.1\nlistener 2 10.0.0.2\n"), ["10.0.0.1:1883", "10.0.0.2:2"]);
    assert_eq!(of("listener 1 broker.example\n"), ["127.0.0.1:1"]);
    assert!(lost("listener 1 broker.example\n")[0].starts_with("mosquitto.conf:1: broker.example is a name"));
    let (_, config) = migrated("listener 0 /run/mosquitto.sock\nallow_anonymous true\n");
    assert_eq!(config.listeners[0].kind, ListenerKind::Unix);
    assert_eq!(config.listeners[0].path.as_deref(), Some("/run/mosquitto.sock".as_ref()));
}

#[test]
fn tls_has_certificates_versions_and_names() {
    let (_, config) = migrated(&format!(
        "allow_anonymous true\n{TLS}cafile /a.pem\nrequire_certificate true\ncrlfile /r.pem\ntls_version tlsv1.3\n\
         use_identity_as_username true\nsocket_domain ipv4\nmax_connections 100\n"
    ));
    let listener = &config.listeners[0];
    assert_eq!(listener.kind, ListenerKind::Tls);
    assert_eq!(
        (&listener.certificates[..], &listener.keys[..]),
        (&["/c.pem".to_owned()][..], &["/k.pem".to_owned()][..])
    );
    assert_eq!(listener.client_certificates, ClientCertificates::Required);
    assert_eq!(listener.client_authorities.as_deref(), Some("/a.pem".as_ref()));
    assert_eq!(listener.client_revocations, ["/r.pem"]);
    assert_eq!(listener.tls_version_min, TlsVersion::V1_3);
    assert_eq!(listener.connections_max, Some(100));
    assert!(!listener.anonymous, "who has no certificate does not come in");
    assert_eq!(config.authenticators[0].kind, AuthenticatorKind::Certificate);
    assert_eq!(listener.authenticators.as_deref(), Some(&["certificates".to_owned()][..]));
}

#[test]
fn what_tls_cannot_do_is_said_and_the_rest_loads() {
    let of = |text: &str| lost(&format!("{TLS}{text}")).join("\n");
    assert!(
        of("tls_version tlsv1.1\n").contains("mosquitto.conf:4: tls_version tlsv1.1: TLS 1.1 and older are broken")
    );
    assert!(of("ciphers ALL\n").contains("cipher suites"));
    assert!(of("require_certificate true\n").contains("neither cafile nor capath"));
    assert!(of("use_subject_as_username true\ncafile /a\n").contains("not its whole subject"));
    assert_eq!(of("cafile /a.pem\ndhparamfile /d\n"), "");
    let (draft, config) = migrated(&format!("{TLS}capath /certs/\nrequire_certificate true\nallow_anonymous true\n"));
    assert_eq!(config.listeners[0].client_authorities.as_deref(), Some("/certs/all.pem".as_ref()));
    assert!(notes(&draft, Weight::Differs).iter().any(|note| note.contains("cat /certs/*.pem > /certs/all.pem")));
    let (_, config) = migrated("use_identity_as_username true\nallow_anonymous true\nlistener 1\n");
    assert!(!config.listeners[0].anonymous, "a listener that nobody could use does not become open");
}

#[test]
fn listeners_that_cannot_be_are_left_out() {
    let psk = "listener 8884\npsk_hint hint\npsk_file /psk\n";
    let (draft, config) = migrated(psk);
    assert_eq!(addresses(&config), ["127.0.0.1:1883"]);
    assert!(!config.listeners[0].anonymous);
    let lost = notes(&draft, Weight::Lost);
    assert!(lost.iter().any(|note| note.starts_with("mosquitto.conf:2: psk_hint")), "{lost:?}");
    assert!(lost.iter().any(|note| note.starts_with("mosquitto.conf:3: psk_file")), "{lost:?}");
    assert!(lost.iter().any(|note| note.contains("no listener could be carried over")), "{lost:?}");
    let (_, config) = migrated(&format!("{psk}listener 1\nallow_anonymous true\n"));
    assert_eq!(addresses(&config), ["0.0.0.0:1", "[::]:1"]);
    assert_eq!(migrated("listener 1\nprotocol mqttsn\nlistener 2\n").1.listeners.len(), 2);
}

#[test]
fn websockets_are_open_to_any_page_only_where_credentials_are_needed() {
    let (draft, config) = migrated("listener 9001\nprotocol websockets\nallow_anonymous true\nhttp_dir /www\n");
    assert_eq!(config.listeners[0].kind, ListenerKind::Ws);
    assert!(config.listeners[0].websocket_origins.is_empty());
    let differs = notes(&draft, Weight::Differs);
    assert!(differs.iter().any(|note| note.contains("/mqtt")) && differs.iter().any(|note| note.contains("origin")));
    assert!(notes(&draft, Weight::Lost)[0].contains("serve the files by a web server"));
    let (_, config) = migrated(&format!("{TLS}protocol websockets\npassword_file /p\n"));
    assert_eq!(config.listeners[0].kind, ListenerKind::Wss);
    assert_eq!(config.listeners[0].websocket_origins, ["*"]);
}

#[test]
fn security_is_for_all_listeners_unless_it_is_said_otherwise() {
    let text = "allow_anonymous false\nlistener 1\nsocket_domain ipv4\npassword_file /a\nacl_file /acl\n\
                listener 2\nsocket_domain ipv4\nallow_anonymous true\n";
    let (_, config) = migrated(text);
    assert!(config.listeners.iter().all(|listener| listener.anonymous), "the last one counts");
    assert_eq!(config.authenticators.len(), 1);
    assert_eq!(config.security.rights_file.as_deref(), Some("/acl".as_ref()));
    assert_eq!(config.security.rights_format, RightsFormat::Mosquitto);

    let text = format!(
        "per_listener_settings true\n{text}password_file /b\nlistener 3\nsocket_domain ipv4\npassword_file /a\n"
    );
    let (draft, config) = migrated(&text);
    let of = |port: usize| (config.listeners[port].anonymous, config.listeners[port].authenticators.clone().unwrap());
    assert_eq!(addresses(&config), ["0.0.0.0:1", "0.0.0.0:2", "0.0.0.0:3"], "security alone is no listener");
    assert_eq!(of(0), (false, vec!["users".to_owned()]));
    assert_eq!(of(1), (true, vec!["users-2".to_owned()]));
    assert_eq!(of(2), (false, vec!["users".to_owned()]));
    assert!(notes(&draft, Weight::Differs).iter().any(|note| note.contains("clients of all listeners")));
}

#[test]
fn two_rights_files_are_one_and_the_other_is_named() {
    let text = "per_listener_settings true\nlistener 1\nallow_anonymous true\nacl_file /a\nlistener 2\nacl_file /b\nallow_anonymous true\n";
    assert!(lost(text).iter().any(|note| note.starts_with("mosquitto.conf:6: acl_file /b: rights are the same")));
}

#[test]
fn a_plugin_is_named_and_lets_nobody_in() {
    for name in ["plugin", "auth_plugin"] {
        let text = format!(
            "listener 1\n{name} /usr/lib/x.so\n{}_opt_host db\nallow_anonymous true\n",
            &name[..4].replace("plug", "plugin")
        );
        let (draft, config) = migrated(&text);
        assert!(config.listeners.iter().all(|listener| !listener.anonymous));
        assert!(
            notes(&draft, Weight::Lost)[0]
                .starts_with(&format!("mosquitto.conf:2: {name} /usr/lib/x.so: WillowMQ has no plugins"))
        );
    }
}

#[test]
fn bridges_are_named_one_by_one() {
    let text = "connection office\naddress a.example\ntopic # both\nremote_username u\nremote_password p w\n\
                connection field\naddress b.example:8883\nbridge_cafile /a\nbridge_insecure false\nclientid\n";
    let lost = lost(text);
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(lost[0].starts_with("mosquitto.conf:1: connection office: WillowMQ has no bridges"));
    assert!(lost[1].starts_with("mosquitto.conf:6: connection field"));
}

#[test]
fn what_is_kept_is_kept_where_it_was() {
    let (draft, config) =
        migrated("persistence true\npersistence_location /var/lib/mosquitto/\nautosave_interval 60\n");
    assert_eq!(config.durability, Durability::Sync);
    assert_eq!(config.data_dir, std::path::Path::new("/var/lib/willowmq"));
    assert!(notes(&draft, Weight::Differs).iter().any(|note| note.contains("mosquitto.db is not taken over")));
    assert!(notes(&draft, Weight::Needless)[0].starts_with("mosquitto.conf:3: autosave_interval 60"));
    let (_, config) = migrated("persistence false\npersistence_location /data/\n");
    assert_eq!(config.durability, Durability::Memory);
    assert_eq!(config.data_dir, std::path::Path::new("/data/willowmq"));
}

#[test]
fn limits_have_our_units_and_bounds() {
    let (_, config) = migrated(
        "max_queued_messages 500\nmax_queued_bytes 1000000\nmax_inflight_messages 40\nmax_packet_size 65536\nmax_keepalive 300\n\
         memory_limit 268435456\npersistent_client_expiration 14d\nretain_available false\nsys_interval 30\n\
         allow_zero_length_clientid false\nlistener 1\nmax_qos 1\nmax_topic_alias 5\nallow_anonymous true\n",
    );
    let Config { sessions, limits, features, .. } = &config;
    assert_eq!((sessions.queue_messages_max, sessions.queue_bytes_max), (500, 1_000_000));
    assert_eq!(sessions.expiry_3x, Some(Duration::from_secs(14 * 86_400)));
    assert_eq!(sessions.expiry_max, sessions.expiry_3x);
    assert_eq!((limits.inflight_max, limits.receive_maximum), (40, 40));
    assert_eq!((limits.packet_bytes_max, limits.keep_alive_max), (65_536, 300));
    assert_eq!((limits.maximum_qos, limits.topic_alias_maximum), (1, 5));
    assert_eq!((features.retain, features.assigned_client_ids), (false, false));
    assert_eq!(config.memory_limit, MemoryLimit::Bytes(256 << 20));
    assert_eq!(config.sys.interval, Duration::from_secs(30));
}

#[test]
fn zero_and_less_mean_any_number() {
    let text = "max_queued_messages 0\nmax_queued_bytes 0\nmax_inflight_messages 0\nmessage_size_limit 0\nmax_keepalive 0\n\
                memory_limit 0\nsys_interval 0\nmax_connections -1\nmax_packet_size 0\nmax_inflight_bytes 0\n";
    let (draft, config) = migrated(text);
    assert_eq!(config.sessions.queue_messages_max, u32::MAX);
    assert_eq!((config.limits.inflight_max, config.limits.keep_alive_max), (65_535, 65_535));
    assert_eq!(config.listeners[0].connections_max, None);
    assert_eq!(config.sys.interval, Duration::ZERO);
    assert_eq!(notes(&draft, Weight::Lost), [""; 0]);
}

#[test]
fn bounds_beyond_ours_are_cut_to_them() {
    let huge = "9223372036854775807";
    let text = format!(
        "max_queued_messages {huge}\nmax_queued_bytes {huge}\nmax_inflight_messages {huge}\nmessage_size_limit {huge}\n\
         max_keepalive {huge}\nmemory_limit 1000\nsys_interval {huge}\nmax_connections {huge}\nmax_qos 9\npersistent_client_expiration {huge}y\n"
    );
    let (draft, _) = migrated(&text);
    assert!(notes(&draft, Weight::Lost).iter().any(|note| note.contains("at least 64 MiB")));
    assert_eq!(migrated(&format!("memory_limit {huge}\n")).1.memory_limit, MemoryLimit::Bytes(1 << 50));
}

#[test]
fn the_log_goes_where_it_went() {
    let (_, config) = migrated("log_dest file /var/log/mosquitto/mosquitto.log\nlog_type error\nlog_type warning\n");
    assert_eq!(config.log.target, LogTarget::File);
    assert_eq!(config.log.file, std::path::Path::new("/var/log/willowmq/willowmq.log"));
    assert_eq!(config.log.level, "warn");
    let (draft, config) =
        migrated("log_dest topic\nlog_dest syslog\nlog_dest stdout\nlog_type all\nlog_timestamp true\n");
    assert_eq!((config.log.target, &*config.log.level), (LogTarget::Journald, "debug"));
    let lost = notes(&draft, Weight::Lost);
    assert!(lost[0].starts_with("mosquitto.conf:1: log_dest topic") && lost[1].contains("log_dest stdout"), "{lost:?}");
    assert_eq!(migrated("log_type none\n").1.log.level, "off");
}

#[test]
fn the_file_says_where_each_setting_comes_from() {
    let (draft, _) = migrated("\nmax_queued_messages 500\nmount_point a/\n");
    let toml = draft.to_toml("mosquitto.conf");
    assert!(toml.contains("# mosquitto.conf:2: max_queued_messages 500\nqueue_messages_max = 500\n"), "{toml}");
    assert!(toml.contains("# Not carried over:\n# - mosquitto.conf:3: mount_point a/: topics are the same"), "{toml}");
    let summary = super::summary(&draft, Some("willowmq.toml".as_ref()));
    assert!(summary.contains("\n  mosquitto.conf:3: mount_point a/: "), "{summary}");
    assert!(summary.ends_with("willowmq doctor --config willowmq.toml\n"), "{summary}");
}

/// Every option at once, each with a value that Mosquitto takes: all are either carried over or named.
#[test]
fn every_option_is_carried_over_or_named() {
    use super::options::{Kind, OPTIONS, Scope};
    let mut silent = Vec::new();
    for option in OPTIONS.iter().filter(|option| option.name != "include_dir" && option.scope != Scope::Bridge) {
        let value = match (option.kind, option.name) {
            (_, "per_listener_settings") => continue,
            (
                _,
                "protocol"
                | "listener"
                | "port"
                | "socket_domain"
                | "log_dest"
                | "tls_version"
                | "persistent_client_expiration",
            ) => continue,
            (Kind::Flag, _) => {
                if option.name == "check_retain_source" {
                    "false"
                } else {
                    "true"
                }
            }
            (Kind::Number, _) => "100",
            _ => "/x",
        };
        let before = "allow_anonymous true\nlistener 1\ncertfile /c\nkeyfile /k\ncafile /a\nrequire_certificate true\n";
        let text = format!("{before}{} {value}\n", option.name);
        let toml = migrated(&text).0.to_toml("f");
        if !toml.lines().any(|line| line.contains(&format!("mosquitto.conf:7: {}", option.name))) {
            silent.push(option.name);
        }
    }
    assert_eq!(silent, [""; 0], "these leave no trace");
}

/// Values of all kinds, for options that take them or do not.
const VALUES: [&str; 22] = [
    "true",
    "false",
    "0",
    "1",
    "-1",
    "100",
    "70000",
    "4294967296",
    "9223372036854775807",
    "websockets",
    "mqtt",
    "mqttsn",
    "tlsv1.1",
    "tlsv1.3",
    "ipv4",
    "/a b/\"c\"\\d",
    "1883 localhost",
    "8883",
    "0 /run/a.sock",
    "14d",
    "\u{7}\u{e9}#",
    "file /var/log/mosquitto/a\tb.log",
];

proptest! {
    /// Whatever Mosquitto could understand becomes a configuration that can be loaded, and never one that lets in more than it did. All
    /// that can be wrong with it is what Mosquitto would stumble over as well: two listeners at one place.
    #[test]
    fn whatever_can_be_read_can_be_loaded(lines in vec((0..super::options::OPTIONS.len(), 0..VALUES.len()), 0..20)) {
        let mut text = String::new();
        for (option, value) in lines {
            let line = format!("{} {}\n", super::options::OPTIONS[option].name, VALUES[value]);
            if !line.starts_with("include_dir") && Source::parse(&format!("{text}{line}")).is_ok() {
                text += &line;
            }
        }
        let source = Source::parse(&text).expect("each line was tried");
        let toml = super::translate(&source).to_toml("mosquitto.conf");
        let file = Some(File { name: "willowmq.toml", text: &toml });
        match Config::load(Sources { file, ..Sources::default() }) {
            Err(error) => prop_assert!(error.to_string().contains("another listener has this"), "{error}\n{text}\n{toml}"),
            Ok(config) if config.listeners.iter().any(|listener| listener.anonymous) => {
                let is_local = !text.contains("listener ") && !text.contains("allow_anonymous false");
                let is_said = ["allow_anonymous true", "allow_anonymous 1"].iter().any(|line| text.contains(line));
                prop_assert!(is_local || is_said, "{text}\n{toml}");
            }
            Ok(_) => {}
        }
    }
}
