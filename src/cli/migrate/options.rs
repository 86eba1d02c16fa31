//! The options of Mosquitto 2.0: what they are about, and how their values are written.

/// What an option is about, and so which section it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The whole broker, wherever it stands.
    Global,
    /// The listener above it, or else the default listener.
    Listener,
    /// The whole broker, or with `per_listener_settings true` the listener above it.
    Security,
    /// The bridge above it.
    Bridge,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`; `1` and `0` are taken as well.
    Flag,
    /// A whole number.
    Number,
    /// The rest of the line.
    Text,
    /// The rest of the line, which may be missing.
    Anything,
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opt {
    pub(super) name: &'static str,
    pub(super) scope: Scope,
    pub(super) kind: Kind,
}

const fn opt(name: &'static str, scope: Scope, kind: Kind) -> Opt {
    Opt { name, scope, kind }
}

use Kind::{Anything, Flag, Number, Text};
use Scope::{Bridge, Global, Listener, Security};

/// All of them. Those that begin sections (`listener`, `connection`) and `include_dir` are among them, so that a typing error finds them.
pub(super) const OPTIONS: &[Opt] = &[
    opt("acl_file", Security, Text),
    opt("allow_anonymous", Security, Flag),
    opt("allow_duplicate_messages", Global, Flag),
    opt("allow_zero_length_clientid", Security, Flag),
    opt("auth_plugin", Security, Text),
    opt("auth_plugin_deny_special_chars", Security, Flag),
    opt("auto_id_prefix", Security, Text),
    opt("autosave_interval", Global, Number),
    opt("autosave_on_changes", Global, Flag),
    opt("bind_address", Listener, Text),
    opt("bind_interface", Listener, Text),
    opt("cafile", Listener, Text),
    opt("capath", Listener, Text),
    opt("certfile", Listener, Text),
    opt("check_retain_source", Global, Flag),
    opt("ciphers", Listener, Text),
    opt("ciphers_tls1.3", Listener, Text),
    opt("clientid_prefixes", Global, Text),
    opt("connection_messages", Global, Flag),
    opt("crlfile", Listener, Text),
    opt("dhparamfile", Listener, Text),
    opt("http_dir", Listener, Text),
    opt("include_dir", Global, Text),
    opt("keyfile", Listener, Text),
    opt("listener", Listener, Text),
    opt("log_dest", Global, Text),
    opt("log_facility", Global, Number),
    opt("log_timestamp", Global, Flag),
    opt("log_timestamp_format", Global, Text),
    opt("log_type", Global, Text),
    opt("max_connections", Listener, Number),
    opt("max_inflight_bytes", Global, Number),
    opt("max_inflight_messages", Global, Number),
    opt("max_keepalive", Global, Number),
    opt("max_packet_size", Global, Number),
    opt("max_qos", Listener, Number),
    opt("max_queued_bytes", Global, Number),
    opt("max_queued_messages", Global, Number),
    opt("max_topic_alias", Listener, Number),
    opt("memory_limit", Global, Number),
    opt("message_size_limit", Global, Number),
    opt("mount_point", Listener, Text),
    opt("password_file", Security, Text),
    opt("per_listener_settings", Global, Flag),
    opt("persistence", Global, Flag),
    opt("persistence_file", Global, Text),
    opt("persistence_location", Global, Text),
    opt("persistent_client_expiration", Global, Text),
    opt("pid_file", Global, Text),
    opt("plugin", Security, Text),
    opt("port", Listener, Number),
    opt("protocol", Listener, Text),
    opt("psk_file", Security, Text),
    opt("psk_hint", Listener, Text),
    opt("queue_qos0_messages", Global, Flag),
    opt("require_certificate", Listener, Flag),
    opt("retain_available", Global, Flag),
    opt("retry_interval", Global, Number),
    opt("set_tcp_nodelay", Global, Flag),
    opt("socket_domain", Listener, Text),
    opt("store_clean_interval", Global, Number),
    opt("sys_interval", Global, Number),
    opt("tls_engine", Listener, Text),
    opt("tls_engine_kpass_sha1", Listener, Text),
    opt("tls_keyform", Listener, Text),
    opt("tls_version", Listener, Text),
    opt("upgrade_outgoing_qos", Global, Flag),
    opt("use_identity_as_username", Listener, Flag),
    opt("use_subject_as_username", Listener, Flag),
    opt("use_username_as_clientid", Listener, Flag),
    opt("user", Global, Text),
    opt("websockets_headers_size", Global, Number),
    opt("websockets_log_level", Global, Number),
    opt("address", Bridge, Text),
    opt("addresses", Bridge, Text),
    opt("bridge_alpn", Bridge, Text),
    opt("bridge_attempt_unsubscribe", Bridge, Flag),
    opt("bridge_bind_address", Bridge, Text),
    opt("bridge_cafile", Bridge, Text),
    opt("bridge_capath", Bridge, Text),
    opt("bridge_certfile", Bridge, Text),
    opt("bridge_identity", Bridge, Text),
    opt("bridge_insecure", Bridge, Flag),
    opt("bridge_keyfile", Bridge, Text),
    opt("bridge_max_packet_size", Bridge, Number),
    opt("bridge_max_topic_alias", Bridge, Number),
    opt("bridge_outgoing_retain", Bridge, Flag),
    opt("bridge_protocol_version", Bridge, Text),
    opt("bridge_psk", Bridge, Text),
    opt("bridge_receive_maximum", Bridge, Number),
    opt("bridge_reload_type", Bridge, Text),
    opt("bridge_require_ocsp", Bridge, Flag),
    opt("bridge_session_expiry_interval", Bridge, Number),
    opt("bridge_tcp_keepalive", Bridge, Text),
    opt("bridge_tcp_user_timeout", Bridge, Number),
    opt("bridge_tls_use_os_certs", Bridge, Flag),
    opt("bridge_tls_version", Bridge, Text),
    opt("cleansession", Bridge, Flag),
    opt("clientid", Bridge, Anything),
    opt("connection", Bridge, Text),
    opt("idle_timeout", Bridge, Number),
    opt("keepalive_interval", Bridge, Number),
    opt("local_cleansession", Bridge, Flag),
    opt("local_clientid", Bridge, Anything),
    opt("local_password", Bridge, Anything),
    opt("local_username", Bridge, Anything),
    opt("notification_topic", Bridge, Text),
    opt("notifications", Bridge, Flag),
    opt("notifications_local_only", Bridge, Flag),
    opt("password", Bridge, Anything),
    opt("remote_clientid", Bridge, Anything),
    opt("remote_password", Bridge, Anything),
    opt("remote_username", Bridge, Anything),
    opt("restart_timeout", Bridge, Text),
    opt("round_robin", Bridge, Flag),
    opt("start_type", Bridge, Text),
    opt("threshold", Bridge, Number),
    opt("topic", Bridge, Text),
    opt("try_private", Bridge, Flag),
    opt("username", Bridge, Anything),
];

/// Options of plugins have names of the plugin's choice behind these.
const OF_PLUGINS: [Opt; 2] = [opt("auth_opt_", Security, Anything), opt("plugin_opt_", Security, Anything)];

/// The option called `name`.
pub(super) fn find(name: &str) -> Option<Opt> {
    let known = OPTIONS.iter().find(|option| option.name == name);
    known
        .or_else(|| OF_PLUGINS.iter().find(|option| name.len() > option.name.len() && name.starts_with(option.name)))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_is_there_twice() {
        for (index, option) in OPTIONS.iter().enumerate() {
            assert!(OPTIONS[..index].iter().all(|other| other.name != option.name), "{}", option.name);
        }
    }

    #[test]
    fn options_of_plugins_have_any_name() {
        assert_eq!(find("auth_opt_db_host").map(|option| option.name), Some("auth_opt_"));
        assert_eq!(find("plugin_opt_config_file").map(|option| option.name), Some("plugin_opt_"));
        assert!(find("auth_opt_").is_none() && find("acl_files").is_none());
    }
}
