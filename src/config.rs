//! Every setting: its default, unit, range, and why the default is what it is.
//!
//! A key is defined once, in this file. From that one definition come the field of [`Config`], its default, parsing,
//! the range check, the name of its environment variable, `--print-config` ([`Config::to_toml`]) and the reference
//! ([`reference()`]). The text above a key is what an operator reads in the last two.
//!
//! Nothing here reads a file or the environment: [`Sources`] hands the text in.

mod check;
mod difference;
mod error;
mod kind;
mod listener;
mod load;
mod names;
mod print;
mod section;
pub(crate) mod suggest;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use kind::{
    Choice, Count, Flag, Mode, Optional, OrKeepAlive, OrNever, Path, Size, SizeOrPercent, SocketAddress, Span, Text,
    Texts, TopicFilters, Word,
};
use section::{choices, section};

pub use difference::{Change, Setting, difference, needs_restart, pair};
pub use error::{ConfigError, Fault, Origin};
pub use kind::parse_span;
pub use listener::ListenerPlace;
pub use load::{File, Sources};
pub use print::reference;

/// Most shards that one broker can have: a set of peers is 128 bits.
pub const SHARDS_MAX: u16 = 128;
/// Largest MQTT Control Packet that the length encoding allows, in bytes with its fixed header (§1.5.5).
pub const PACKET_BYTES_CEILING: usize = 1 + 4 + 268_435_455;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: usize = 1024 * MIB;
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// 136 years: the longest interval that the wire (u32 seconds) and the timer wheel know.
const AGE: Duration = Duration::from_secs(u32::MAX as u64);

section! {
    /// The validated settings of the broker. [`Config::default`] is what an empty file gives.
    Config {
        /// Shards, one thread and one core each. Unset: every core the process may use.
        shards: Option<u16> = None, Optional(Count(1..=u64::from(SHARDS_MAX)));
        /// Directory for what the broker keeps: sessions, their messages, retained messages and wills. It belongs to one
        /// broker alone. Durability "memory" writes nothing there.
        data_dir: PathBuf = "willowmq-data".into(), Path;
        /// When a reply may say that something is kept. "sync": once it is on the disk, so that neither the end of the
        /// process nor that of the power loses it. "relaxed": once it is written to the file, so that only the end of the
        /// power loses anything, at most what was written within journal.sync_interval. "memory": at once, and nothing is kept.
        durability: Durability = Durability::Sync, Choice;
        /// How long a graceful stop may take before connections that are still open are cut.
        shutdown_timeout: Duration = 10 * SECOND, Span(Duration::ZERO..=3600 * SECOND);
        /// Memory that the broker may use: a size, or a percentage of what the machine or its control group has; at least 32 MiB, and
        /// 14 MiB for each shard. From 90 % on clients without a Session are refused, from 95 % on QoS 0 messages are dropped, and
        /// from 98 % on clients that publish are not read.
        memory_limit: MemoryLimit = MemoryLimit::Percent(75), SizeOrPercent(64 * MIB as u64..=1024 * 1024 * GIB as u64);
    }
    sections {
        /// What is logged, and how.
        log: Log,
        /// The journals in data_dir, one a shard. Without meaning with durability "memory".
        journal: Journal,
        /// What happens to Will Messages.
        wills: Wills,
        /// Session State, with or without a connection.
        sessions: Sessions,
        /// Bounds on what clients can make the broker hold. Reaching one is counted and, where the protocol has a
        /// Reason Code for it, reported.
        limits: Limits,
        /// Parts of MQTT that can be switched off.
        features: Features,
        /// Who clients are and what they may do, as far as it is not the matter of a listener or authenticator.
        security: Security,
        /// The HTTP server for operators: API, metrics, health.
        admin: Admin,
        /// What the broker tells of itself in topics below $SYS.
        sys: Sys,
        /// Messages that tell which clients are there.
        presence: Presence,
        /// How clients are handed away before a planned stop.
        drain: Drain,
    }
    lists {
        /// Where clients connect. Without any, the broker listens on 127.0.0.1:1883.
        listeners: Listener = vec![Listener::default()],
        /// How it is told who a client is.
        authenticators: Authenticator = Vec::new(),
        /// Bounds for some users.
        identities: Identities = Vec::new(),
    }
}

choices! {
    /// When a reply may say that something is kept.
    Durability {
        /// Once it is on the disk.
        Sync = "sync",
        /// Once it is written to the file, which is synced every `journal.sync_interval`.
        Relaxed = "relaxed",
        /// At once: all state is in memory, and ends with the process.
        Memory = "memory",
    }
    refused {}
}

section! {
    /// `[log]`
    Log {
        /// Least severity that is logged: "error", "warn", "info", "debug", "trace", or directives for modules such
        /// as "info,willowmq::net=debug".
        level: String = "info".into(), Text;
        /// "text" for people, "json" for machines: one object a line. Without meaning with target "journald".
        format: LogFormat = LogFormat::Text, Choice;
        /// Where the log goes: "stderr", "file", or "journald" with its fields.
        target: LogTarget = LogTarget::Stderr, Choice;
        /// With target "file": the file. A hangup opens it anew, so that other programs can move it away.
        file: PathBuf = "willowmq.log".into(), Path;
        /// With target "file": the size from which on a new file is begun. Older ones are named with .1, .2 and so on.
        file_bytes_max: usize = 100 * MIB, Size(64 * KIB as u64..=1024 * GIB as u64);
        /// With target "file": older files that are kept.
        files_max: u32 = 5, Count(0..=1000);
        /// Lines a second that one place in the code may write, with ten times as many at once; how many are left out is told. Zero: any
        /// number.
        lines_per_second_max: u32 = 10, Count(0..=1_000_000);
    }
}

choices! {
    /// Where the log goes.
    LogTarget {
        /// Standard error.
        Stderr = "stderr",
        /// A file that is rotated by its size.
        File = "file",
        /// The journal of systemd, with the fields of each line.
        Journald = "journald",
    }
    refused {}
}

choices! {
    /// How a log line is written.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
    refused {}
}

section! {
    /// `[journal]`
    Journal {
        /// Size of one file of a journal. Space is given back by whole files, so smaller ones come back sooner; each
        /// new one costs a few syncs.
        segment_bytes: usize = 64 * MIB, Size(MIB as u64..=4 * GIB as u64);
        /// With durability "relaxed": how often the files are synced, and so how much the end of the power may take.
        sync_interval: Duration = 100 * MILLISECOND, Span(MILLISECOND..=60 * SECOND);
        /// After a write or sync has failed, the disk is tried again so often. Meanwhile what needs to be kept is refused,
        /// and everything else goes on.
        retry_interval: Duration = SECOND, Span(10 * MILLISECOND..=3600 * SECOND);
        /// A checkpoint, which gives space back, is written when the files of a shard are so many times the size of what
        /// is still needed. Smaller saves space and time at the start, larger saves writing.
        size_ratio_max: u32 = 2, Count(2..=100);
        /// No checkpoint is written while the files of a shard are smaller than this.
        checkpoint_floor_bytes: usize = 64 * MIB, Size(64 * KIB as u64..=1024 * GIB as u64);
        /// Bytes of a checkpoint written in one go before other work has its turn. Smaller keeps the latency of ordinary
        /// traffic lower, larger finishes the checkpoint sooner.
        checkpoint_slice_bytes: usize = 64 * KIB, Size(4 * KIB as u64..=16 * MIB as u64);
        /// Bytes of a shard that wait for the disk. Above it, clients that add to them are not read until there is room
        /// again.
        backlog_bytes_max: usize = 64 * MIB, Size(MIB as u64..=16 * GIB as u64);
        /// Messages that a shard reads back from its files at a time, for sessions whose queue is longer than
        /// sessions.queue_memory_bytes_max.
        reads_max: u32 = 32, Count(1..=1024);
    }
}

section! {
    /// `[[listeners]]`
    Listener {
        /// What the listener speaks: MQTT over TCP ("tcp"), over TLS ("tls"), over WebSocket ("ws"), over WebSocket in TLS ("wss"), or
        /// over a Unix socket ("unix").
        kind: ListenerKind = ListenerKind::Tcp, Choice;
        /// IP address and port. The address `0.0.0.0` is every IPv4 address of the machine, `[::]` every IPv6 address. Without meaning
        /// with path or systemd.
        address: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)), SocketAddress;
        /// Path of the Unix socket, for kind "unix". A socket that is left over from an earlier run is replaced.
        path: Option<PathBuf> = None, Optional(Path);
        /// Permissions of the Unix socket, octal.
        mode: u32 = 0o660, Mode;
        /// Owner of the Unix socket, as "user", "user:group" or ":group". Unset: whom the broker runs as.
        owner: Option<String> = None, Optional(Text);
        /// Name of the socket that systemd has opened for us (FileDescriptorName= of the socket unit), instead of an address or path.
        systemd: Option<String> = None, Optional(Text);
        /// Whether clients need no credentials. Unset: true on a loopback address as long as there is no authenticator and no
        /// proxy_protocol, false otherwise. Anonymous clients have no User Name, whatever they say.
        anonymous: bool = true, Flag;
        /// Names of the authenticators that are asked about a client, in this order; the first answer wins. Unset: all, in the order of
        /// the file.
        authenticators: Option<Vec<String>> = None, Optional(Texts);
        /// Connections that the kernel queues before they are accepted. It caps this at net.core.somaxconn, whose
        /// usual value is our default.
        backlog: u32 = 4096, Count(1..=65_535);
        /// Most connections of this listener. Unset: limits.connections_max alone decides.
        connections_max: Option<u32> = None, Optional(Count(1..=u64::from(u32::MAX)));
        /// New connections a second that this listener takes in, with as many at once; those above it wait in the kernel's backlog.
        /// Unset: any number.
        connection_rate_max: Option<u32> = None, Optional(Count(1..=1_000_000));
        /// Files with the certificate chain (PEM), one for each name that clients may ask for (SNI). The first is for those who ask
        /// for none. For kinds "tls" and "wss".
        certificates: Vec<String> = Vec::new(), Texts;
        /// Files with the private keys (PEM), in the order of the certificates.
        keys: Vec<String> = Vec::new(), Texts;
        /// Oldest version of TLS that is spoken.
        tls_version_min: TlsVersion = TlsVersion::V1_2, Choice;
        /// Whether clients show a certificate: "none" does not ask, "optional" checks one that is shown, "required" turns those
        /// away who have none.
        client_certificates: ClientCertificates = ClientCertificates::None, Choice;
        /// File with the authorities (PEM) that client certificates must come from.
        client_authorities: Option<PathBuf> = None, Optional(Path);
        /// Files with lists of revoked client certificates (PEM).
        client_revocations: Vec<String> = Vec::new(), Texts;
        /// Path of the WebSocket, for kinds "ws" and "wss".
        websocket_path: String = "/mqtt".into(), Text;
        /// Origins of the pages that may connect, such as `https://example.org`; "*" is any. Empty: the page must come from the same
        /// host and port, and where clients need no credentials on a loopback address, by "localhost" or that address. Clients that
        /// are no browsers send no Origin, and are not held to this.
        websocket_origins: Vec<String> = Vec::new(), Texts;
        /// Whether connections begin with a header of the PROXY protocol, version 1 or 2, that tells where they come from.
        proxy_protocol: bool = false, Flag;
        /// Addresses or networks ("10.0.0.0/8") whose PROXY headers are believed; others are turned away. A Unix socket needs none.
        proxy_senders: Vec<String> = Vec::new(), Texts;
    }
    sections {
        /// Bounds on the clients of this listener, instead of those of limits and sessions.
        limits: ClientLimits,
    }
    lists {}
}

choices! {
    /// What a listener speaks.
    ListenerKind {
        /// MQTT over TCP.
        Tcp = "tcp",
        /// MQTT over TLS.
        Tls = "tls",
        /// MQTT over WebSocket.
        Ws = "ws",
        /// MQTT over WebSocket in TLS.
        Wss = "wss",
        /// MQTT over a Unix socket.
        Unix = "unix",
    }
    refused {}
}

choices! {
    /// A version of TLS.
    TlsVersion {
        /// RFC 5246.
        V1_2 = "1.2",
        /// RFC 8446.
        V1_3 = "1.3",
    }
    refused {
        "1.0" = "it is broken (RFC 8996)",
        "1.1" = "it is broken (RFC 8996)",
    }
}

choices! {
    /// Whether clients show a certificate.
    ClientCertificates {
        /// They are not asked for one.
        None = "none",
        /// One that is shown must be valid.
        Optional = "optional",
        /// Without one there is no connection.
        Required = "required",
    }
    refused {}
}

section! {
    /// `[[authenticators]]`
    Authenticator {
        /// Name by which listeners refer to it. Must be given, and differ from the others.
        name: String = String::new(), Word;
        /// How it tells who a client is: a password file ("password"), the TLS client certificate ("certificate"), a JSON Web Token
        /// as the Password ("jwt"), an HTTP service ("http"), or who is at the other end of the Unix socket ("peer").
        kind: AuthenticatorKind = AuthenticatorKind::Password, Choice;
        /// File with passwords, the key (PEM, or the secret itself for HS algorithms), or the key set (JWKS), for kinds "password" and
        /// "jwt". It is read again when it changes.
        file: Option<PathBuf> = None, Optional(Path);
        /// For kind "certificate": which name of the certificate is the User Name.
        username_from: CertificateName = CertificateName::CommonName, Choice;
        /// For kind "jwt": algorithms that are accepted, such as "RS256", "ES256", "EdDSA" or "HS256".
        algorithms: Vec<String> = Vec::new(), Texts;
        /// For kind "jwt": the claim with the User Name.
        username_claim: String = "sub".into(), Text;
        /// For kind "jwt": the claim with a pattern for the Client Identifier, in which * stands for anything. A token without it
        /// allows any.
        client_id_claim: String = "client_id".into(), Text;
        /// For kind "jwt": the claim with rights, an object with lists of Topic Filters under "publish", "subscribe", "receive" and
        /// "will". Where a token has it, it is all the client may do, within what the rights file allows.
        rights_claim: String = "mqtt".into(), Text;
        /// For kind "jwt": issuer that a token must name. Unset: any.
        issuer: Option<String> = None, Optional(Text);
        /// For kind "jwt": audience that a token must name. Unset: any.
        audience: Option<String> = None, Optional(Text);
        /// For kind "jwt": by how much the clocks of us and the issuer may differ.
        leeway: Duration = Duration::ZERO, Span(Duration::ZERO..=600 * SECOND);
        /// For kind "http": address of the service, "http://..." or "https://...".
        url: Option<String> = None, Optional(Text);
        /// For kind "http": file with the authorities (PEM) of the service's certificate. Must be given for https.
        authorities: Option<PathBuf> = None, Optional(Path);
        /// For kind "http": how long the service may take for its answer.
        timeout: Duration = 5 * SECOND, Span(10 * MILLISECOND..=60 * SECOND);
        /// For kind "http": requests at a time.
        requests_max: u32 = 16, Count(1..=1024);
        /// For kind "http": after so many failures in a row the service is left alone for pause.
        failures_max: u32 = 5, Count(1..=1000);
        /// For kind "http": how long the service is left alone; clients are told that the server is unavailable meanwhile.
        pause: Duration = 10 * SECOND, Span(10 * MILLISECOND..=3600 * SECOND);
    }
}

choices! {
    /// How an authenticator tells who a client is.
    AuthenticatorKind {
        /// By a file with hashes of passwords.
        Password = "password",
        /// By its TLS certificate.
        Certificate = "certificate",
        /// By a JSON Web Token.
        Jwt = "jwt",
        /// By asking an HTTP service.
        Http = "http",
        /// By the credentials of the process at the other end of a Unix socket.
        Peer = "peer",
    }
    refused {}
}

choices! {
    /// Which name of a certificate is the User Name.
    CertificateName {
        /// The Common Name of the subject.
        CommonName = "cn",
        /// The first DNS name among the Subject Alternative Names.
        Dns = "dns",
        /// The first URI among the Subject Alternative Names, as of SPIFFE.
        Uri = "uri",
        /// The first e-mail address among the Subject Alternative Names.
        Email = "email",
    }
    refused {}
}

section! {
    /// `[[identities]]`
    Identities {
        /// User Names that this is about; * stands for anything. The first entry that fits a client counts. Must be given.
        users: Vec<String> = Vec::new(), Texts;
        /// Most connections of each of these users. Unset: any number.
        connections_max: Option<u32> = None, Optional(Count(1..=u64::from(u32::MAX)));
    }
    sections {
        /// Bounds on the clients of these users, instead of those of the listener, limits and sessions.
        limits: ClientLimits,
    }
    lists {}
}

section! {
    /// `[listeners.limits]` and `[identities.limits]`: what is unset is as limits and sessions have it.
    ClientLimits {
        /// As limits.packet_bytes_max.
        packet_bytes_max: Option<usize> = None, Optional(Size(128..=PACKET_BYTES_CEILING as u64));
        /// As limits.publish_rate_max.
        publish_rate_max: Option<u32> = None, Optional(Count(1..=10_000_000));
        /// As limits.publish_bytes_rate_max.
        publish_bytes_rate_max: Option<usize> = None, Optional(Size(KIB as u64..=1024 * GIB as u64));
        /// As limits.topic_levels_max.
        topic_levels_max: Option<u16> = None, Optional(Count(1..=65_535));
        /// As limits.topic_bytes_max.
        topic_bytes_max: Option<u16> = None, Optional(Count(1..=65_535));
        /// As limits.subscriptions_per_session_max.
        subscriptions_per_session_max: Option<u32> = None, Optional(Count(1..=u64::from(u32::MAX)));
        /// As limits.receive_maximum.
        receive_maximum: Option<u16> = None, Optional(Count(1..=65_535));
        /// As limits.inflight_max.
        inflight_max: Option<u16> = None, Optional(Count(1..=65_535));
        /// As limits.keep_alive_max.
        keep_alive_max: Option<u16> = None, Optional(Count(1..=65_535));
        /// As limits.output_bytes_max.
        output_bytes_max: Option<usize> = None, Optional(Size(4 * KIB as u64..=GIB as u64));
        /// As limits.slow_reader.
        slow_reader: Option<SlowReader> = None, Optional(Choice);
        /// As sessions.queue_messages_max.
        queue_messages_max: Option<u32> = None, Optional(Count(1..=u64::from(u32::MAX)));
        /// As sessions.queue_bytes_max.
        queue_bytes_max: Option<usize> = None, Optional(Size(KIB as u64..=1024 * GIB as u64));
        /// As sessions.expiry_max.
        session_expiry_max: Option<Duration> = None, Optional(Span(Duration::ZERO..=AGE));
        /// Most topics on which each Session of these clients may have a Retained Message stored; a will above it is delivered and not
        /// kept. Unset: any number.
        retained_messages_max: Option<u32> = None, Optional(Count(0..=u64::from(u32::MAX)));
    }
}

choices! {
    /// What becomes of a client that does not read what it is sent.
    SlowReader {
        /// QoS 0 messages are dropped, others wait.
        Drop = "drop",
        /// It is disconnected.
        Disconnect = "disconnect",
    }
    refused {}
}

section! {
    /// `[security]`
    Security {
        /// File with the rights of clients. Unset: everybody may do everything but publish below $. It is read again when it changes.
        rights_file: Option<PathBuf> = None, Optional(Path);
        /// How the rights file is written: ours, or an acl_file of Mosquitto.
        rights_format: RightsFormat = RightsFormat::Willow, Choice;
        /// How often it is looked whether a file has changed: rights, passwords, keys, certificates. Zero: only on SIGHUP.
        reload_interval: Duration = SECOND, Span(Duration::ZERO..=DAY);
        /// Threads that check passwords and tokens, beside the shards and with less right to the processor.
        check_threads: u32 = 2, Count(1..=64);
        /// Threads that do the costly part of TLS handshakes, likewise.
        handshake_threads: u32 = 2, Count(1..=64);
        /// Checks that may wait for a thread; a client above it is told that the server is busy.
        checks_waiting_max: u32 = 4096, Count(1..=1_000_000);
        /// How long a password that was found right is not checked again for the same User Name. Zero: it is checked each time.
        cache_time: Duration = 300 * SECOND, Span(Duration::ZERO..=DAY);
        /// Most results that are remembered.
        cache_entries_max: u32 = 100_000, Count(0..=100_000_000);
        /// Whoever gave wrong credentials hears so this much later.
        failure_delay: Duration = SECOND, Span(Duration::ZERO..=60 * SECOND);
        /// After so many failures within failure_window an address is turned away for ban_time. Zero: never.
        failures_max: u32 = 20, Count(0..=1_000_000);
        /// See failures_max.
        failure_window: Duration = 60 * SECOND, Span(SECOND..=DAY);
        /// See failures_max.
        ban_time: Duration = 300 * SECOND, Span(SECOND..=365 * DAY);
    }
}

choices! {
    /// How the rights file is written.
    RightsFormat {
        /// TOML; see docs/SECURITY.md.
        Willow = "willowmq",
        /// An `acl_file` of Mosquitto.
        Mosquitto = "mosquitto",
    }
    refused {}
}

section! {
    /// `[wills]`
    Wills {
        /// When it is checked whether the client may publish its will: "connect" refuses the connection, "publish"
        /// checks when the will is due.
        acl: WillAcl = WillAcl::Connect, Choice;
        /// Longest Will Delay Interval; a longer one is shortened to it. Unset: as the client asks.
        max_delay: Option<Duration> = None, Optional(Span(Duration::ZERO..=AGE));
        /// What a graceful stop does to armed wills: "publish" sends them before the process ends, "hold" keeps them
        /// for the next start, which publishes those whose clients do not come back (see restart_grace). With durability
        /// "memory" nothing is kept, so "hold" ends them unpublished.
        on_shutdown: OnShutdown = OnShutdown::Hold, Choice;
        /// How long clients have to come back after a start before wills from before it are published, counted from
        /// when the listeners open. "keep-alive" is one and a half times the Keep Alive of each client, and 60s where that
        /// is 0.
        restart_grace: RestartGrace = RestartGrace::KeepAlive, OrKeepAlive(Span(Duration::ZERO..=DAY));
        /// Topic Filters of the wills that get User Properties saying when, why and for whom they were published.
        /// Empty: none.
        stamp: Vec<String> = Vec::new(), TopicFilters;
        /// Whether a retained will leaves the retained message of its topic alone where the same client has published
        /// that one on a newer connection.
        stale_guard: bool = false, Flag;
        /// Wills due within one second on one shard from which on it is logged and counted as a storm.
        storm_threshold_per_second: u32 = 1000, Count(1..=u64::from(u32::MAX));
        /// Wills published in one go before other work has its turn. Larger drains a storm with less overhead,
        /// smaller keeps the latency of ordinary traffic lower.
        slice: u32 = 64, Count(1..=65_536);
        /// Processor shares of the wills' queue while there is other work, against 1000 for the network.
        share: u32 = 250, Count(1..=1000);
    }
    sections {
        /// Which wills are accepted at CONNECT.
        allow: WillsAllow,
    }
    lists {}
}

choices! {
    /// When permission to publish a will is checked.
    WillAcl {
        /// At CONNECT: a client that may not publish its will is refused.
        Connect = "connect",
        /// When the will is due: it is then discarded and counted.
        Publish = "publish",
    }
    refused {}
}

choices! {
    /// What a graceful stop does to armed wills.
    OnShutdown {
        /// They stay armed where the durability keeps them; in memory they end with the process.
        Hold = "hold",
        /// They are published before the process ends.
        Publish = "publish",
    }
    refused {}
}

/// How much memory the broker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryLimit {
    /// So many bytes.
    Bytes(u64),
    /// So much of what the machine, or the control group of the process, has.
    Percent(u8),
}

/// How long clients have to come back after a start before their wills from before it are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestartGrace {
    /// One and a half times the client's own Keep Alive, or 60 s where that is 0.
    KeepAlive,
    /// So long, whoever it is.
    After(Duration),
}

section! {
    /// `[wills.allow]`
    WillsAllow {
        /// Topic Filters, one of which must match the Will Topic. Empty: any topic.
        topics: Vec<String> = Vec::new(), TopicFilters;
        /// Largest Will Payload. Unset: what fits into limits.packet_bytes_max.
        payload_bytes_max: Option<usize> = None, Optional(Size(0..=65_535));
        /// Highest Will QoS.
        qos_max: u8 = 2, Count(0..=2);
        /// Whether wills may ask to be retained.
        retain: bool = true, Flag;
    }
}

section! {
    /// `[sessions]`
    Sessions {
        /// Longest Session Expiry Interval; clients of MQTT 5.0 that ask for more are told this one. Unset: as the
        /// client asks, 0xFFFFFFFF being never.
        expiry_max: Option<Duration> = None, Optional(Span(Duration::ZERO..=AGE));
        /// How long sessions of MQTT 3.x clients with Clean Session 0 outlive the connection. "never" is what that
        /// standard says; a duration protects against clients that do not come back.
        expiry_3x: Option<Duration> = None, OrNever(Span(SECOND..=AGE));
        /// Most QoS 1 and 2 messages that wait for one session, wills excepted; queue_drop says which goes above it.
        /// Ten minutes of absence at 16 messages a second.
        queue_messages_max: u32 = 10_000, Count(1..=u64::from(u32::MAX));
        /// Most bytes that wait for one session, by the payloads and topics of its messages.
        queue_bytes_max: usize = 64 * MIB, Size(KIB as u64..=1024 * GIB as u64);
        /// Payload bytes of one session's queue that are kept in memory. What is behind them lies in the journal alone, and
        /// is read back when its turn comes. With durability "memory" all of the queue is in memory.
        queue_memory_bytes_max: usize = 256 * KIB, Size(0..=1024 * GIB as u64);
        /// Most QoS 1 and 2 messages that wait for all sessions of the broker, wills excepted. Each needs some 200 bytes of
        /// memory, wherever its payload is.
        queues_messages_max: u64 = 20_000_000, Count(1..=1 << 40);
        /// Most bytes that wait for all sessions of the broker, by the payloads and topics of their messages.
        queues_bytes_max: usize = 16 * GIB, Size(KIB as u64..=1024 * 1024 * GIB as u64);
        /// A message that has waited so long for a session is dropped, wills excepted. Unset: it waits as long as the
        /// session lives, or until it expires.
        queue_age_max: Option<Duration> = None, Optional(Span(SECOND..=AGE));
        /// Which message is dropped when the queue of a session is full: "newest" is the one that has just come, "oldest" the
        /// one that has waited longest. Wills are never dropped.
        queue_drop: QueueDrop = QueueDrop::Newest, Choice;
        /// Most sessions of the broker. New ones are refused with 0x97 above it (0x03 for 3.x).
        sessions_max: u32 = 2_000_000, Count(1..=u64::from(u32::MAX));
    }
}

choices! {
    /// Which message is dropped when a queue is full.
    QueueDrop {
        /// The one that has just come.
        Newest = "newest",
        /// The one that has waited longest.
        Oldest = "oldest",
    }
    refused {}
}

section! {
    /// `[limits]`
    Limits {
        /// Most connections of the broker. Unset: what the limit on open files (RLIMIT_NOFILE) leaves room for.
        connections_max: Option<u32> = None, Optional(Count(1..=u64::from(u32::MAX)));
        /// New connections a second from one address, with as many at once; those above it are closed. Unset: any number.
        connection_rate_per_source_max: Option<u32> = None, Optional(Count(1..=1_000_000));
        /// Most connections from one address; IPv6 addresses of one /64 network are one. Unset: any number.
        connections_per_source_max: Option<u32> = None, Optional(Count(1..=u64::from(u32::MAX)));
        /// Time from accepting a connection to the end of its PROXY, TLS and WebSocket handshakes.
        handshake_timeout: Duration = 10 * SECOND, Span(100 * MILLISECOND..=3600 * SECOND);
        /// Time from then to its complete CONNECT, and from that to the end of its authentication.
        connect_timeout: Duration = 10 * SECOND, Span(100 * MILLISECOND..=3600 * SECOND);
        /// Largest packet that a client may send, with its fixed header. 1 MiB is much for telemetry; firmware
        /// images need more. Each connection can make the broker hold as much.
        packet_bytes_max: usize = MIB, Size(128..=PACKET_BYTES_CEILING as u64);
        /// PUBLISH packets a second on one connection, with as many at once; above it the client is not read for a moment. A new connection begins
        /// anew. A client that goes meanwhile is read to its end at once, so that its will does not wait. Unset: any number.
        publish_rate_max: Option<u32> = None, Optional(Count(1..=10_000_000));
        /// Bytes of PUBLISH packets a second on one connection, likewise. Unset: any number.
        publish_bytes_rate_max: Option<usize> = None, Optional(Size(KIB as u64..=1024 * GIB as u64));
        /// Longest Client Identifier. Every server has to take 23 bytes [MQTT-3.1.3-5].
        client_id_bytes_max: u16 = 1024, Count(23..=65_535);
        /// Most levels of a Topic Name or Topic Filter.
        topic_levels_max: u16 = 128, Count(1..=65_535);
        /// Longest Topic Name or Topic Filter. The default is the protocol's own limit.
        topic_bytes_max: u16 = 65_535, Count(1..=65_535);
        /// Most subscriptions of one session; more are refused with 0x97 (0x80 for 3.x).
        subscriptions_per_session_max: u32 = 10_000, Count(1..=u64::from(u32::MAX));
        /// Most Topic Filters in one SUBSCRIBE or UNSUBSCRIBE.
        filters_per_subscribe_max: u32 = 1024, Count(1..=65_536);
        /// QoS 1 and 2 messages that a client may have in flight towards us: the Receive Maximum we announce.
        receive_maximum: u16 = 1024, Count(1..=65_535);
        /// QoS 1 and 2 messages that we have in flight towards one client; its own Receive Maximum may lower it.
        inflight_max: u16 = 1024, Count(1..=65_535);
        /// Topic Aliases that a client may use: the Topic Alias Maximum we announce. Zero: none.
        topic_alias_maximum: u16 = 64, Count(0..=65_535);
        /// Topic Aliases that we use towards a client; its own Topic Alias Maximum may lower it. Zero: none.
        topic_alias_outgoing_max: u16 = 32, Count(0..=65_535);
        /// Longest Keep Alive in seconds. Clients of MQTT 5.0 that ask for more, or for none, are told this one;
        /// clients of 3.x cannot be told and keep theirs. 65535: as the client asks.
        keep_alive_max: u16 = 65_535, Count(1..=65_535);
        /// Highest QoS that clients may publish with; subscriptions are granted no more.
        maximum_qos: u8 = 2, Count(0..=2);
        /// Output that may wait for one connection. Above it QoS 0 messages are dropped and others stay queued.
        output_bytes_max: usize = MIB, Size(4 * KIB as u64..=GIB as u64);
        /// What becomes of a client whose output is at output_bytes_max: "drop" drops QoS 0 messages and lets others wait in the
        /// queue, "disconnect" ends the connection with 0x97.
        slow_reader: SlowReader = SlowReader::Drop, Choice;
        /// A connection whose waiting output makes no progress for so long is closed.
        write_timeout: Duration = 60 * SECOND, Span(SECOND..=DAY);
        /// Most Retained Messages of the broker; new topics are refused above it.
        retained_messages_max: u32 = 1_000_000, Count(0..=u64::from(u32::MAX));
        /// Most bytes of Retained Messages of the broker, by their payloads and topics.
        retained_bytes_max: usize = GIB, Size(0..=1024 * GIB as u64);
        /// Messages under way from one shard to another. When they are so many, connections that add to them are
        /// not read until there is room again.
        mesh_messages_max: u32 = 65_536, Count(64..=16_777_216);
    }
}

section! {
    /// `[admin]`
    Admin {
        /// Whether there is an HTTP server for operators.
        enabled: bool = true, Flag;
        /// Where it listens. Anything but a loopback address needs token_file or client_authorities, and certificate. Unset:
        /// 127.0.0.1:8080, or not at all where that is taken, which is logged.
        address: Option<SocketAddr> = None, Optional(SocketAddress);
        /// File with the tokens that requests must bring: a line for each, with a name, "read" or "write", and the token. It is read
        /// again when it changes. Unset: whoever reaches the address may do everything.
        token_file: Option<PathBuf> = None, Optional(Path);
        /// File with the certificate chain (PEM) for HTTPS.
        certificate: Option<PathBuf> = None, Optional(Path);
        /// File with its private key (PEM).
        key: Option<PathBuf> = None, Optional(Path);
        /// File with the authorities (PEM) that client certificates must come from. Whoever has one may do everything.
        client_authorities: Option<PathBuf> = None, Optional(Path);
        /// Connections of the HTTP server at a time; those above it wait.
        connections_max: u32 = 64, Count(1..=1024);
    }
}

section! {
    /// `[sys]`
    Sys {
        /// How often the messages below $SYS/broker are published. Zero: never.
        interval: Duration = 10 * SECOND, Span(Duration::ZERO..=DAY);
    }
}

section! {
    /// `[presence]`
    Presence {
        /// Whether a message tells of each client that connects or disconnects.
        enabled: bool = false, Flag;
        /// Topic below which they are published; the Client Identifier is the last level, with `%`, `/`, `+` and `#` percent-encoded.
        root: String = "$SYS/broker/presence".into(), Text;
        /// QoS of these messages.
        qos: u8 = 1, Count(0..=2);
        /// Whether they are retained as long as the session lives, so that who subscribes is told at once who is there.
        retain: bool = true, Flag;
    }
}

section! {
    /// `[drain]`
    Drain {
        /// Over how long clients are handed away, unless the order says otherwise.
        over: Duration = 60 * SECOND, Span(Duration::ZERO..=DAY);
        /// Where clients of MQTT 5.0 are sent: the Server Reference of their DISCONNECT, such as `other.example.org:1883`. Unset: they
        /// are told that the server shuts down.
        server_reference: Option<String> = None, Optional(Text);
        /// Whether they are to stay there: 0x9D (Server moved) instead of 0x9C (Use another server).
        permanent: bool = false, Flag;
    }
}

section! {
    /// `[features]`
    Features {
        /// Whether messages can be retained.
        retain: bool = true, Flag;
        /// Whether Topic Filters may hold + and #.
        wildcard_subscriptions: bool = true, Flag;
        /// Whether there are Shared Subscriptions ($share/name/filter).
        shared_subscriptions: bool = true, Flag;
        /// Whether there are Subscription Identifiers.
        subscription_identifiers: bool = true, Flag;
        /// Whether payloads that claim to be UTF-8 (Payload Format Indicator 1) are checked.
        validate_payload_format: bool = false, Flag;
        /// Whether clients may leave the Client Identifier empty and get one.
        assigned_client_ids: bool = true, Flag;
    }
}
